"""Semi-supervised variational autoencoders on Pyro, for many data points and few labels."""

from . import data, figures
from .doubt import class_posterior, doubts, least_sure
from .errors import InputError
from .evaluate import anomaly_scores, evaluate
from .fit import FitSettings, fit
from .labels import MISSING, AttributeLabels, ClassLabels
from .models import DIVA, M1, M1M2, M2, MVAE, VAE, AugmentedVAE, Classifier, Model, ReVAE, create_model
from .posterior import posterior
from .saving import load, save
from .sites import Sites, sites
from .suggest import suggest

__all__ = [
    "DIVA",
    "M1",
    "M1M2",
    "M2",
    "MISSING",
    "MVAE",
    "VAE",
    "AttributeLabels",
    "AugmentedVAE",
    "ClassLabels",
    "Classifier",
    "FitSettings",
    "InputError",
    "Model",
    "ReVAE",
    "Sites",
    "anomaly_scores",
    "class_posterior",
    "create_model",
    "data",
    "doubts",
    "evaluate",
    "figures",
    "fit",
    "least_sure",
    "load",
    "posterior",
    "save",
    "sites",
    "suggest",
]
