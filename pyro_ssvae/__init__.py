"""Semi-supervised variational autoencoders on Pyro, for many data points and few labels."""

from . import data
from .errors import InputError
from .evaluation.active_learning import suggest
from .evaluation.evaluate import anomaly_scores, evaluate
from .evaluation.posterior import posterior
from .evaluation.sites import Sites, sites
from .evaluation.uncertainty import class_posterior, doubts, least_sure
from .labels import MISSING, AttributeLabels, ClassLabels
from .models import DIVA, M1, M1M2, M2, MVAE, VAE, AugmentedVAE, Classifier, Model, ReVAE, create_model
from .models.saving import load, save
from .plots import summary as figures
from .train.fit import FitSettings, fit

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
