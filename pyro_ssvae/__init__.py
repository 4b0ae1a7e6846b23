"""Semi-supervised variational autoencoders on Pyro, for many data points and few labels."""

from .errors import InputError
from .labels import MISSING, AttributeLabels, ClassLabels
from .models import VAE, AugmentedVAE, Classifier, Model, create_model

__all__ = [
    "MISSING",
    "VAE",
    "AttributeLabels",
    "AugmentedVAE",
    "ClassLabels",
    "Classifier",
    "InputError",
    "Model",
    "create_model",
]
