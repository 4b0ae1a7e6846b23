"""Semi-supervised variational autoencoders on Pyro, for many data points and few labels.

Every public name is imported from its room when it is first used, so that ``import pyro_ssvae`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import data, plots
    from .data.streaming import stream
    from .errors import InputError
    from .evaluation.active_learning import query as suggest
    from .evaluation.calibration import calibrate
    from .evaluation.evaluate import anomaly_scores, evaluate
    from .evaluation.novelty import novelty
    from .evaluation.posterior import posterior
    from .evaluation.sites import Sites, sites
    from .evaluation.uncertainty import class_posterior
    from .evaluation.uncertainty import most_uncertain as least_sure
    from .evaluation.uncertainty import uncertainty as doubts
    from .infer.bounds import elbo, log_likelihood
    from .infer.imputation import impute
    from .labels import MISSING, AttributeLabels, ClassLabels
    from .models import *  # noqa: F403
    from .models import DIVA, M1, M1M2, M2, MVAE, VAE, AugmentedVAE, Classifier, Model, ReVAE, create_model
    from .models.add_classes import add_classes
    from .models.export import export
    from .models.publish import push_to_hub
    from .models.saving import load, save
    from .scikit_learn import SSVAEClassifier
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
    "SSVAEClassifier",
    "Sites",
    "add_classes",
    "anomaly_scores",
    "calibrate",
    "class_posterior",
    "create_model",
    "data",
    "doubts",
    "elbo",
    "evaluate",
    "export",
    "fit",
    "impute",
    "least_sure",
    "load",
    "log_likelihood",
    "novelty",
    "plots",
    "posterior",
    "push_to_hub",
    "save",
    "sites",
    "stream",
    "suggest",
]

_ROOMS = {
    "data.streaming": ["stream"],
    "errors": ["InputError"],
    "evaluation.active_learning": ["suggest"],
    "evaluation.calibration": ["calibrate"],
    "evaluation.evaluate": ["anomaly_scores", "evaluate"],
    "evaluation.novelty": ["novelty"],
    "evaluation.posterior": ["posterior"],
    "evaluation.sites": ["Sites", "sites"],
    "evaluation.uncertainty": ["class_posterior", "doubts", "least_sure"],
    "infer.bounds": ["elbo", "log_likelihood"],
    "infer.imputation": ["impute"],
    "labels": ["MISSING", "AttributeLabels", "ClassLabels"],
    "models": [
        *("DIVA", "M1", "M1M2", "M2", "MVAE", "VAE", "AugmentedVAE", "Classifier", "Model", "ReVAE"),
        "create_model",
    ],
    "models.add_classes": ["add_classes"],
    "models.export": ["export"],
    "models.publish": ["push_to_hub"],
    "models.saving": ["load", "save"],
    "scikit_learn": ["SSVAEClassifier"],
    "train.fit": ["FitSettings", "fit"],
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}
_NAME_THERE = {"doubts": "uncertainty", "least_sure": "most_uncertain", "suggest": "query"}
"""Names that their rooms have other words for."""


def __getattr__(name: str) -> object:
    if name in ("data", "plots"):
        return import_module(f"{__name__}.{name}")
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = import_module(f"{__name__}.{_ROOM_OF.get(name, 'models')}")  # a further model is known there
    if name not in _ROOM_OF and name not in room.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(room, _NAME_THERE.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
