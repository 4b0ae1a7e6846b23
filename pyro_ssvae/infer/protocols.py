"""What a pair can do beyond ``model`` and ``guide``: a few protocols, and one function that words a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar, runtime_checkable

import pyro.distributions as dist
from numpy.typing import ArrayLike
from pyro.infer import ELBO
from torch import Tensor

from ..errors import InputError, kind_of
from ..labels import Labels

Intervention = Mapping[str, int | str] | str | int
"""Attributes and their values, ``{"Smiling": 1}``, or a class by number or name."""


@runtime_checkable
class HasObjective(Protocol):
    """A pair that is trained by an objective of its own."""

    def objective(self) -> ELBO: ...


@runtime_checkable
class TellsAdded(Protocol):
    """An objective that knows itself what rows added to a batch for their labels count in: its last ``added`` ones."""

    added: int


@runtime_checkable
class Prepares(Protocol):
    """A pair that takes something from the training data before the first step: units, the prior over labels."""

    def prepare(self, x: Tensor, y: Tensor) -> None: ...


@runtime_checkable
class Schedules(Protocol):
    """A pair that changes as the training goes on.

    :meth:`set_progress` gets the share that is done, 0 to 1.
    """

    def set_progress(self, progress: float) -> None: ...


@runtime_checkable
class Hurries(Protocol):
    """A pair some of whose parameters should learn faster than the others, where the training passes few times over
    the rows."""

    def hurried(self) -> list[Tensor]: ...


@runtime_checkable
class Remarks(Protocol):
    """A pair that may have something to say once it is trained: a line each."""

    def remarks(self) -> list[str]: ...


@runtime_checkable
class WeighsClasses(Protocol):
    """A pair whose supervised term has a weight for each class; None lets every one count alike again."""

    def set_class_weights(self, weights: Tensor | None) -> None: ...


@runtime_checkable
class CountsDecodes(Protocol):
    """A pair that notes how many decodes a point its latest batch took; None for one that always takes as many."""

    def count_decodes(self) -> Tensor | None: ...


@runtime_checkable
class Classifies(Protocol):
    """A pair that predicts labels."""

    labels: Labels

    def predict_proba(self, x: ArrayLike) -> Tensor: ...

    def predict(self, x: ArrayLike) -> Tensor: ...


@runtime_checkable
class Encodes(Protocol):
    """A pair with a posterior over its latents."""

    def encode(self, x: ArrayLike) -> dist.TorchDistribution: ...


@runtime_checkable
class HasFeatures(Protocol):
    """A pair whose encoder's output can be had, the trunk that its heads share."""

    def features(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Generates(Protocol):
    """A pair that draws new points."""

    def generate(self, n: int, y: ArrayLike | None = None) -> Tensor: ...


@runtime_checkable
class Reconstructs(Protocol):
    """A pair that reconstructs points."""

    def reconstruct(self, x: ArrayLike) -> Tensor: ...


@runtime_checkable
class Intervenes(Protocol):
    """A pair whose labels can be set, and taken from another point."""

    labels: Labels

    def intervene(self, x: ArrayLike, values: Intervention, *, num_samples: int | None = None) -> Tensor: ...

    def swap(self, x: ArrayLike, donor: ArrayLike, name: str = "class") -> Tensor: ...


@runtime_checkable
class Walks(Protocol):
    """A pair whose attributes can be walked along."""

    def walk(
        self, x: ArrayLike, first: str, second: str | None = None, *, steps: int = 7, k: float = 2.0
    ) -> Tensor: ...


LACKS = {
    Classifies: "predicts no labels; a model with a class head is needed",
    Encodes: "has no posterior over latents; a model with an encoder is needed",
    Generates: "generates nothing; a model with a decoder is needed",
    Reconstructs: "reconstructs nothing; a model with a decoder is needed",
    Intervenes: "has no interventions; revae, m2, mvae or diva is needed",
    Walks: "has no attributes to walk along; revae is needed",
}

Ability = TypeVar("Ability")


def require(model: object, ability: type[Ability]) -> Ability:
    """Return the model as one that has the ability; raise :class:`InputError` in words where it has not."""
    if not isinstance(model, ability):
        raise InputError(f"{kind_of(model)} {LACKS[ability]}")
    return model
