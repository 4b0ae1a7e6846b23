"""The options of a model: a frozen dataclass each, whose ranges are checked once, when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from torch import nn

from ..errors import InputError, nearest, plain_value
from ..infer.label_inference import How
from ..nn.likelihoods import LikelihoodName, LikelihoodOptions


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both included, or with ``inside`` neither."""

    low: float = 0.0
    high: float = math.inf
    inside: bool = False

    def __str__(self) -> str:
        if self.inside:
            return f"between {self.low:g} and {self.high:g}"
        return f"of at least {self.low:g}" if self.high == math.inf else f"from {self.low:g} to {self.high:g}"


Weight = Annotated[float, Range(0)]
Size = Annotated[int, Range(1)]
WIDTH = 50
"""Of z, where nothing else is said."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options that every model has; one of another model is refused, and so is a value out of range."""

    latent_dim: Size | None = None
    """Width of the latent z; by default 50, of AugVAE, the VAE and M1 of a table at most its columns."""
    likelihood: LikelihoodName | None = None
    """What x is taken to be; by the data's shape where it is not given."""
    networks: Literal["standard", "deep"] = "standard"
    """Networks that are made by the data's shape: standard, or deep (more layers, convolutions in decoders too)."""
    columns: tuple[str, ...] = ()
    """The kind of each column, for likelihood mixed: normal, categorical:3, bernoulli, poisson, student-t, ..."""
    categories: Size | None = None
    """The number of values that an entry may have, for likelihood categorical."""
    missing: bool = False
    """Show the encoder which entries of x are there; missing entries (NaN) are left out of the bound either way."""
    library_size: bool = False
    """Take counts relative to how many a row holds in all."""

    @property
    def dim(self) -> int:
        """The width of z."""
        return WIDTH if self.latent_dim is None else self.latent_dim

    @property
    def likelihood_options(self) -> LikelihoodOptions:
        """What a likelihood that is made by name needs to know."""
        return LikelihoodOptions(
            missing=self.missing, columns=self.columns, categories=self.categories, library_size=self.library_size
        )

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            check(name, getattr(self, name), hint)


@dataclass(frozen=True, kw_only=True)
class VAEConfig(Config):
    """Options of a model with a latent z."""

    beta: Weight = 1.0
    """Weight of the KL term."""
    kl_warmup: Annotated[float, Range(0, 1)] = 0.0
    """Share of the training over which beta grows from 0 to its value; 0 has it whole from the start."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Config):
    """Options of a model with a class head and a label in its joint."""

    label_inference: How | None = None
    """How a missing label is inferred; by the model and the number of values where it is not given."""
    label_prior: str | tuple[float, ...] = "estimated"
    """p(y): estimated (from the known labels, as far as the other rows agree), proportional (the same, of labels that
    keep the classes' proportions), unlabelled (from the rows without a label alone), uniform, or probabilities."""
    alpha: Weight = 500.0
    """Weight of the supervised term, in nats a labelled row; of a continuous Bernoulli it and the next two count ten
    times, as z gains ten times the nats."""
    entropy_weight: Weight = 20.0
    """Weight of the entropy of the missing labels' probabilities (entropy minimisation)."""
    alignment_weight: Weight = 50.0
    """Weight that keeps the classes as frequent as the prior over labels says (distribution alignment)."""
    label_smoothing: Annotated[float, Range(0, 1)] | None = None
    """Confidence that is withheld from the head, of all values evenly; by default by the number of labels, and 0
    without an entropy weight."""


@dataclass(frozen=True, kw_only=True)
class LabelConfig(VAEConfig, HeadConfig):
    """Options of a model with a class head and a latent label."""


def check(name: str, value: object, hint: object) -> None:
    """Raise :class:`InputError` naming the option where a value is not of its kind or out of its range."""
    if has_type(value, hint):
        return
    kinds = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if words and isinstance(value, str):
        raise InputError(f"{name}: there is no {value!r}{nearest(value, words)}")
    raise InputError(f"{name}: {value!r}; {' or '.join(filter(None, map(wanted, kinds)))} is needed")


def has_type(value: object, kind: object) -> bool:
    """Whether a value is of a field's type: a plain one, a ``tuple[..., ...]``, a literal, one in a range, or a union.

    A whole number is a float too; a bool is no number.
    """
    if get_origin(kind) in (Union, UnionType):
        return any(has_type(value, each) for each in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is Annotated:
        base, *bounds = get_args(kind)
        limits = [bound for bound in bounds if isinstance(bound, Range)]
        inside = all(isinstance(value, (int, float)) and r.low <= value <= r.high for r in limits)
        inside = inside and not any(r.inside and value in (r.low, r.high) for r in limits)
        return has_type(value, base) and inside and value != math.inf
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(has_type(part, get_args(kind)[0]) for part in value)
    if kind in (None, NoneType):
        return value is None
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)  # type: ignore[arg-type]


def wanted(kind: object) -> str:
    """A field's kind in words."""
    if get_origin(kind) is Annotated:
        base, *bounds = get_args(kind)
        return " ".join([wanted(base), *(str(bound) for bound in bounds if isinstance(bound, Range))])
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        return "probabilities" if get_args(kind)[0] is float else "a list of words"
    return {int: "a whole number", float: "a number", str: "a word", bool: "True or False"}.get(kind, "")  # type: ignore[call-overload]


Options = TypeVar("Options", bound=Config)


def make_config(kind: type[Options], options: dict[str, Any]) -> Options:
    """Return the options as a model's ``Config``; a likelihood that is a module of one's own stays outside of it."""
    known = option_names(kind)
    for name in options:
        if name not in known:
            raise InputError(f"options: there is no {name!r}{nearest(name, known)}")
    own = isinstance(options.get("likelihood"), nn.Module)
    given: dict[str, Any] = {key: plain_value(value) for key, value in options.items()}
    return kind(**{name: value for name, value in given.items() if not (own and name == "likelihood")})


def option_names(config: type[Config]) -> list[str]:
    """The names of a model's options."""
    return [field.name for field in fields(config)]
