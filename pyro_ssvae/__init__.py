"""Semi-supervised variational autoencoders on Pyro, for many data points and few labels."""

from . import data, figures
from .errors import InputError
from .evaluate import anomaly_scores, evaluate
from .fit import FitSettings, fit
from .labels import MISSING, AttributeLabels, ClassLabels
from .models import VAE, AugmentedVAE, Classifier, Model, ReVAE, create_model
from .saving import load, save

__all__ = [
    "MISSING",
    "VAE",
    "AttributeLabels",
    "AugmentedVAE",
    "ClassLabels",
    "Classifier",
    "FitSettings",
    "InputError",
    "Model",
    "ReVAE",
    "anomaly_scores",
    "create_model",
    "data",
    "evaluate",
    "figures",
    "fit",
    "load",
    "save",
]
