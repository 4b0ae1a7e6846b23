"""One function of a model as a module of its own, which can be traced: tensors in, tensors out, nothing drawn."""

from __future__ import annotations

from typing import Literal

import torch
from pyro import poutine
from torch import Tensor, nn

from ..errors import InputError
from ..infer.batched import evaluating
from ..infer.expected import Means, expected_x
from ..infer.protocols import Classifies, Encodes, Reconstructs, require
from ..infer.traces import Site, is_factor, sampled
from . import Model
from .classifier_mixin import ClassifierMixin
from .conditional_decoder import ConditionalDecoder
from .generative import GenerativeModel

What = Literal["predict_proba", "encode", "decode"]
ROWS = 3  # of the example that the program is traced with


def program_of(model: Model, what: What, dtype: torch.dtype) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the program, and inputs to trace it with."""
    x = torch.zeros(ROWS, *model.input_shape, dtype=dtype)
    if what == "predict_proba":
        require(model, Classifies)
        assert isinstance(model, ClassifierMixin)
        return Probabilities(model), (x,)
    if what == "encode":
        require(model, Encodes)
        if isinstance(model, GenerativeModel):
            return Posterior(model, model.inputs(x)), (x,)
        encoder = model.get_submodule("encoder")
        return Features(model, encoder), (x,)
    require(model, Reconstructs)
    assert isinstance(model, GenerativeModel)
    example: tuple[Tensor, ...] = (torch.zeros(ROWS, model.encode(x).event_shape[-1], dtype=torch.float32),)
    program: nn.Module = Expected(model)
    if isinstance(model, ConditionalDecoder):  # one known label, so that what a missing one makes random is seen
        y = model.labels.check(None, ROWS).index_fill(0, torch.tensor(0), 0)
        program, example = ExpectedGiven(model), (*example, y)
    program(*example)  # a model that reads x itself is refused
    return program, example


class Probabilities(nn.Module):
    """``x [B, *input_shape]`` → q(y | x), ``[B, K]`` or ``[B, A]``."""

    inputs, outputs = ("x",), ("probabilities",)

    def __init__(self, model: ClassifierMixin) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.class_probs(self.model.inputs(x))


class Posterior(nn.Module):
    """``x [B, *input_shape]`` → mean and scale of the latents' posterior, ``[B, D]`` each."""

    inputs, outputs = ("x",), ("mean", "scale")

    def __init__(self, model: GenerativeModel, example: Tensor) -> None:
        super().__init__()
        self.model = model
        with Means(), evaluating(model):
            trace = poutine.trace(model.guide).get_trace(example, model.point_labels(example, None))
        self.known = {name for name, site in sampled(trace).items() if has_mean(site)}
        for name in model.latents:
            if name not in self.known:
                raise InputError(f"what='encode': the guide's site {name!r} has no mean, and draws cannot be exported")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.model.inputs(x)
        y = self.model.point_labels(x, None)
        sites = sampled(poutine.trace(Fixed(self.known, y)(self.model.guide)).get_trace(x, y))
        return self.model.joined(sites, "mean"), self.model.joined(sites, "stddev")


class Features(nn.Module):
    """``x [B, *input_shape]`` → the features ``[B, H]`` of a classifier without latents."""

    inputs, outputs = ("x",), ("features",)

    def __init__(self, model: Model, encoder: nn.Module) -> None:
        super().__init__()
        self.model, self.encoder = model, encoder

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.encoder(self.model.likelihood.standardize(self.model.inputs(x)))
        return features


class Expected(nn.Module):
    """``z [B, D]`` → E[x | z], ``[B, *input_shape]``."""

    inputs: tuple[str, ...] = ("z",)
    outputs = ("x",)

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return expected_x(self.model, self.model.unseen(z.shape[0]), self.model.parts(z), stand_in=True)


class ExpectedGiven(nn.Module):
    """``z [B, D]`` and labels, -1 where missing, → E[x | z, y]; a missing label enters as its probabilities."""

    inputs, outputs = ("z", "y"), ("x",)

    def __init__(self, model: ConditionalDecoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        n, parts = z.shape[0], self.model.parts(z)
        labels = self.model.labels.impute(self.model.prior_probs(n, parts), y)
        return expected_x(self.model, self.model.unseen(n), {**parts, "y": labels}, stand_in=True)


class Fixed(poutine.messenger.Messenger):
    """Take the mean at sites that are known to have one, and labels as given: nothing is looked at, or drawn.

    :param known: names of sites with a mean.
    :param y: labels; None has each label at its most probable value.
    """

    def __init__(self, known: set[str], y: Tensor | None) -> None:
        super().__init__()
        self.known, self.y = known, y

    def _pyro_sample(self, msg: Site) -> None:
        if msg["done"] or msg["is_observed"]:
            return
        if msg["name"] in self.known:
            msg["value"], msg["done"] = msg["fn"].mean, True
        elif "label_inference" in msg["infer"] and self.y is not None:
            msg["value"], msg["done"] = self.y, True


def has_mean(site: Site) -> bool:
    """Whether a site of a trace under :class:`~pyro_ssvae.infer.expected.Means` is at its mean."""
    value = site["value"]
    if is_factor(site) or site["is_observed"] or not value.is_floating_point():
        return False
    try:
        mean = site["fn"].mean
    except (AttributeError, NotImplementedError):
        return False
    return bool(torch.equal(mean, value))
