"""Labels, missing or not: what ``y`` means, as numbers, as a network's input, and as a distribution.

One convention everywhere, scikit-learn's: integers, with ``-1`` (:data:`MISSING`) for a label nobody gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from .distributions.clamped import MISSING, ClampedBernoulli, ObservedLabels, clamped_logits
from .errors import InputError, plain_value
from .label_arrays import check_labels, value_counts


@dataclass(frozen=True, init=False)
class ClassLabels:
    """One label a point out of K classes: ``y`` is int64 ``[B]`` with values ``-1, 0 .. K-1``.

    :param num_classes: K, or the names alone. K may exceed the number of classes that have labels
        (semi-unsupervised).
    :param names: K words, one a class; ``"0" .. "K-1"`` by default.

    Example::

        labels = ClassLabels(3, names=["cat", "dog", "owl"])
        labels.encode(torch.tensor([2]))  # [[0., 0., 1.]]
    """

    num_classes: int
    names: Sequence[str] = ()

    def __init__(self, num_classes: int | Sequence[str], names: Sequence[str] = ()) -> None:
        num_classes, names = plain_value(num_classes), plain_value(names)  # type: ignore[assignment]
        if isinstance(num_classes, str):
            raise InputError(f"ClassLabels: a number or a list of names is needed, not the word {num_classes!r}")
        if isinstance(num_classes, Sequence):
            names, num_classes = names or num_classes, len(num_classes)
        if not isinstance(num_classes, int) or isinstance(num_classes, bool):
            raise InputError(f"ClassLabels: {num_classes!r}; a number of classes or a list of names is needed")
        object.__setattr__(self, "num_classes", num_classes)
        object.__setattr__(self, "names", names)
        self._check_names()

    def _check_names(self) -> None:
        if self.num_classes < 1:
            raise InputError(f"ClassLabels: {self.num_classes} classes; at least 1 is needed")
        names = tuple(str(name) for name in self.names) or tuple(str(k) for k in range(self.num_classes))
        if len(names) != self.num_classes or len(set(names)) != len(names):
            raise InputError(f"ClassLabels: {self.num_classes} classes need as many different names, not {names}")
        object.__setattr__(self, "names", names)

    @property
    def size(self) -> int:
        """Width of the head's logits and of the decoder's class input: K."""
        return self.num_classes

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one point's ``y``: ``()``."""
        return ()

    @property
    def num_configurations(self) -> int:
        """How many values one point's ``y`` can have: K."""
        return self.num_classes

    def configurations(self, device: torch.device | None = None) -> Tensor:
        """All values of one point's ``y``: int64 ``[K]``."""
        return torch.arange(self.num_classes, device=device)

    def check(
        self,
        y: ArrayLike | None,
        n: int | None = None,
        device: torch.device | None = None,
        values: bool = True,
        narrow: bool = False,
    ) -> Tensor:
        """Return ``y`` as int64 ``[n]``, all missing where it is None; raise :class:`InputError` naming a wrong row.

        :param values: False leaves the values unchecked, which spares a GPU the wait for them.
        :param narrow: above :data:`~pyro_ssvae.label_arrays.MANY` rows, return them in as few bytes as hold them, int8
            up to 128 classes.
        """
        return check_labels(y, n, device, self.event_shape, self.num_classes, "classes", values, narrow)

    def encode(self, y: Tensor) -> Tensor:
        """One-hot ``[..., K]`` of classes ``[...]``; a missing label gives zeros."""
        classes = torch.arange(self.num_classes, device=y.device)  # F.one_hot would look at the numbers
        return (y.unsqueeze(-1) == classes).to(torch.get_default_dtype())

    def impute(self, probs: Tensor, y: Tensor) -> Tensor:
        """The decoder's class input ``[B, K]``: one-hot where ``y`` is known, ``probs`` where it is missing."""
        return torch.where((y == MISSING).unsqueeze(-1), probs, self.encode(y).to(probs))

    def probs(self, logits: Tensor) -> Tensor:
        """``softmax(logits)``."""
        return logits.softmax(-1)

    def log_probs(self, logits: Tensor) -> Tensor:
        """Log-probabilities of the values of each label: ``[..., K]``."""
        return logits.log_softmax(-1)

    def logits_of(self, probs: Tensor) -> Tensor:
        """Logits ``[..., K]`` whose probabilities of the values are ``[..., K]``; below 1e-8 they count as this."""
        return probs.clamp_min(1e-8).log()

    def mode(self, probs: Tensor) -> Tensor:
        """The most probable class ``[...]`` of probabilities ``[..., K]``."""
        return probs.argmax(-1)

    def observed(self, logits: Tensor) -> dist.TorchDistribution:
        """``Categorical(logits)``, batch shape ``[...]`` from logits ``[..., K]``, of which -1 counts 0."""
        return ObservedLabels(dist.Categorical(logits=logits))

    def prior_logits(self, y: Tensor, plus: float = 1.0) -> Tensor:
        """log p(y) estimated from the known labels ``y``: counts plus one; a class without any label has 1/K."""
        counts = value_counts(y, self.num_classes)[0].double()
        seen = counts > 0
        share = (counts + plus) * seen / ((counts + plus) * seen).sum().clamp_min(1)
        return torch.where(seen, share * seen.double().mean(), 1 / self.num_classes).log()

    def log_left(self, prior_logits: Tensor, y: Tensor) -> Tensor:
        """log of the classes' shares among the N_U rows without a label, less log p(y), ``[K]``::

            log( (N p_k - N_k) / N_U ) - log p_k          N rows, N_k known of class k

        At least one row is left to each class. 0 where all rows, or none, have a label.
        """
        counts, p = value_counts(y, self.num_classes)[0], self.probs(prior_logits.double())
        left = (len(y) * p - counts).clamp_min(1)
        log_left = (left / left.sum()).log() - p.log()
        return (log_left if 0 < int(counts.sum()) < len(y) else torch.zeros_like(p)).to(prior_logits)

    def clamped(self, logits: Tensor, y: Tensor) -> dist.TorchDistribution:
        """``Categorical(logits)`` where ``y`` is missing, a point mass on ``y`` where it is known.

        Enumeration then counts a known row once: ``poutine.mask`` would count it K times, since TraceEnum_ELBO takes
        a masked guide site's weight to be 1 at every enumerated value.
        """
        return dist.Categorical(logits=clamped_logits(logits, y))

    def prior(self, logits: Tensor) -> dist.TorchDistribution:
        """p(y) of log-probabilities ``[..., K]``."""
        return dist.Categorical(logits=logits)

    def inputs(self, y: Tensor, like: Tensor) -> Tensor:
        """What a network takes for a label, ``[..., K]``: one-hot of an integer; a relaxed label is passed on."""
        return y.to(like) if y.is_floating_point() and y.dim() else self.encode(y.long()).to(like)


@dataclass(frozen=True)
class AttributeLabels:
    """A binary labels a point: ``y`` is int64 ``[B, A]`` with values ``-1, 0, 1``, each missing on its own.

    :param names: A words, one an attribute.
    :param words: of each attribute what 0 and 1 are called, such as ``("female", "male")``; ``("0", "1")`` by default.
    """

    names: Sequence[str]
    words: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not isinstance(self.names, Iterable):
            raise InputError(f"AttributeLabels: a list of names is needed, not {self.names!r}")
        names = tuple(str(name) for name in self.names)
        if not names or len(set(names)) != len(names):
            raise InputError(f"AttributeLabels: at least one name is needed and no name twice, not {names}")
        object.__setattr__(self, "names", names)
        words = tuple((str(zero), str(one)) for zero, one in self.words) or (("0", "1"),) * len(names)
        if len(words) != len(names) or any(zero.lower() == one.lower() for zero, one in words):
            raise InputError(f"AttributeLabels: two different words for each of {len(names)} are needed, not {words}")
        object.__setattr__(self, "words", words)

    @property
    def size(self) -> int:
        """Width of the head's logits and of the decoder's class input: A."""
        return len(self.names)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one point's ``y``: ``(A,)``."""
        return (len(self.names),)

    @property
    def num_configurations(self) -> int:
        """How many values one point's ``y`` can have: 2^A."""
        return int(2 ** len(self.names))

    def configurations(self, device: torch.device | None = None) -> Tensor:
        """All values of one point's ``y``: int64 ``[2^A, A]``, the first attribute changing fastest."""
        a = len(self.names)
        return (torch.arange(2**a, device=device).unsqueeze(-1) >> torch.arange(a, device=device)) & 1

    def check(
        self,
        y: ArrayLike | None,
        n: int | None = None,
        device: torch.device | None = None,
        values: bool = True,
        narrow: bool = False,
    ) -> Tensor:
        """Return ``y`` as int64 ``[n, A]``; as :meth:`ClassLabels.check`."""
        return check_labels(y, n, device, self.event_shape, 2, "attribute values", values, narrow)

    def encode(self, y: Tensor) -> Tensor:
        """Attributes as numbers ``0.`` and ``1.``; a missing one gives ``0.5``."""
        dtype = torch.get_default_dtype()
        return torch.where(y == MISSING, torch.tensor(0.5, dtype=dtype, device=y.device), y.to(dtype))

    def impute(self, probs: Tensor, y: Tensor) -> Tensor:
        """The decoder's class input ``[B, A]``: 0 or 1 where ``y`` is known, ``probs`` where it is missing."""
        return torch.where(y == MISSING, probs, y.to(probs))

    def probs(self, logits: Tensor) -> Tensor:
        """``sigmoid(logits)``."""
        return logits.sigmoid()

    def log_probs(self, logits: Tensor) -> Tensor:
        """Log-probabilities of the values of each label: ``[..., A, 2]``, for 0 and 1."""
        return F.logsigmoid(torch.stack([-logits, logits], -1))

    def logits_of(self, probs: Tensor) -> Tensor:
        """Logits ``[..., A]`` whose probabilities of the values are ``[..., A, 2]``; below 1e-8 they count as this."""
        zero, one = probs.clamp_min(1e-8).log().unbind(-1)
        return one - zero

    def mode(self, probs: Tensor) -> Tensor:
        """1 where the probability exceeds a half."""
        return (probs > 0.5).long()

    def observed(self, logits: Tensor) -> dist.TorchDistribution:
        """A independent ``Bernoulli(logits)`` as one event, of which entries of -1 count 0."""
        return ObservedLabels(dist.Bernoulli(logits=logits)).to_event(1)

    def prior_logits(self, y: Tensor, plus: float = 1.0) -> Tensor:
        """logit p(y = 1) estimated from the known labels, counts plus one; at least plus a hundredth."""
        plus = max(plus, 0.01)
        counts = value_counts(y, 2).double()
        ones, known = counts[:, 1], counts.sum(1)
        return torch.logit((ones + plus) / (known + 2 * plus))

    def log_left(self, prior_logits: Tensor, y: Tensor) -> Tensor:
        """0: of an attribute, missing values are taken to be as frequent as known ones; ``[A, 1]``."""
        return torch.zeros_like(prior_logits).unsqueeze(-1)

    def clamped(self, logits: Tensor, y: Tensor) -> dist.TorchDistribution:
        """:class:`ClampedBernoulli`: point masses on the known attributes, Bernoulli on the missing ones."""
        return ClampedBernoulli(logits, y)

    def prior(self, logits: Tensor) -> dist.TorchDistribution:
        """p(y) of logits ``[..., A]``."""
        return ClampedBernoulli(logits, torch.full_like(logits, MISSING, dtype=torch.long))

    def inputs(self, y: Tensor, like: Tensor) -> Tensor:
        """What a network takes for attributes, ``[..., A]``: 0 and 1 of integers; relaxed ones are passed on."""
        return y.to(like) if y.is_floating_point() else self.encode(y).to(like)


Labels = ClassLabels | AttributeLabels


@runtime_checkable
class HasLabels(Protocol):
    """A module that says what its labels mean; None for one without labels."""

    labels: Labels | None


def labels_of(module: object) -> Labels | None:
    """Return what a module's labels mean; None where it does not say so."""
    labels = module.labels if isinstance(module, HasLabels) else None
    return labels if isinstance(labels, (ClassLabels, AttributeLabels)) else None


class _Named(TypedDict):
    kind: str
    names: list[str]


class LabelDescription(_Named, total=False):
    """Labels ready for JSON; the words of attributes where they are others than 0 and 1."""

    words: list[list[str]]


def describe(labels: Labels) -> LabelDescription:
    """Return what :func:`restore` needs, ready for JSON."""
    if isinstance(labels, ClassLabels):
        return {"kind": "classes", "names": list(labels.names)}
    found: LabelDescription = {"kind": "attributes", "names": list(labels.names)}
    if set(labels.words) != {("0", "1")}:
        found["words"] = [list(pair) for pair in labels.words]
    return found


def restore(description: LabelDescription) -> Labels:
    """Return the labels that :func:`describe` described."""
    names = description["names"]
    if description["kind"] == "classes":
        return ClassLabels(len(names), names)
    return AttributeLabels(names, [(zero, one) for zero, one in description.get("words", [])])
