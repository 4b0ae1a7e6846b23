"""Labels, missing or not: what ``y`` means, as numbers, as a network's input, and as a distribution.

One convention everywhere, scikit-learn's: integers, with ``-1`` (:data:`MISSING`) for a label nobody gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from .errors import InputError

MISSING = -1


@dataclass(frozen=True)
class ClassLabels:
    """One label a point out of K classes: ``y`` is int64 ``[B]`` with values ``-1, 0 .. K-1``.

    :param num_classes: K. It may exceed the number of classes that have labels (semi-unsupervised).
    :param names: K words, one a class; ``"0" .. "K-1"`` by default.

    Example::

        labels = ClassLabels(3, names=["cat", "dog", "owl"])
        labels.encode(torch.tensor([2]))  # [[0., 0., 1.]]
    """

    num_classes: int
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
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

    def check(self, y: Any, n: int | None = None, device: torch.device | None = None, values: bool = True) -> Tensor:
        """Return ``y`` as int64 ``[n]``, all missing where it is None; raise :class:`InputError` naming a wrong row.

        :param values: False leaves the values unchecked, which spares a GPU the wait for them.
        """
        return _check(y, n, device, self.event_shape, self.num_classes, "classes", values)

    def encode(self, y: Tensor) -> Tensor:
        """One-hot ``[..., K]`` of classes ``[...]``; a missing label gives zeros."""
        classes = torch.arange(self.num_classes, device=y.device)  # F.one_hot would look at the numbers
        return (y.unsqueeze(-1) == classes).to(torch.get_default_dtype())

    def values(self, y: Tensor, like: Tensor) -> Tensor:
        """``y`` as :meth:`observed` takes it, with some class where it is missing."""
        return y.clamp_min(0)

    def fill(self, probs: Tensor, y: Tensor) -> Tensor:
        """The decoder's class input ``[B, K]``: one-hot where ``y`` is known, ``probs`` where it is missing."""
        return torch.where((y == MISSING).unsqueeze(-1), probs, self.encode(y).to(probs))

    def probs(self, logits: Tensor) -> Tensor:
        """``softmax(logits)``."""
        return logits.softmax(-1)

    def log_probs(self, logits: Tensor) -> Tensor:
        """Log-probabilities of the values of each label: ``[..., K]``."""
        return logits.log_softmax(-1)

    def decide(self, probs: Tensor) -> Tensor:
        """The most probable class ``[...]`` of probabilities ``[..., K]``."""
        return probs.argmax(-1)

    def observed(self, logits: Tensor, y: Tensor) -> dist.TorchDistribution:
        """``Categorical(logits)``, batch shape ``[...]`` from logits ``[..., K]``, that counts known rows of y only."""
        return dist.Categorical(logits=logits).mask(y != MISSING)

    def prior_logits(self, y: Tensor) -> Tensor:
        """log p(y) estimated from the known labels ``y``: counts plus one; a class without any label has 1/K."""
        counts = torch.bincount(y[y != MISSING], minlength=self.num_classes).double()
        seen = counts > 0
        share = (counts + 1) * seen / ((counts + 1) * seen).sum().clamp_min(1)
        return torch.where(seen, share * seen.double().mean(), 1 / self.num_classes).log()

    def log_left(self, prior_logits: Tensor, y: Tensor) -> Tensor:
        """log of the classes' shares among the N_U rows without a label, less log p(y), ``[K]``::

            log( (N p_k - N_k) / N_U ) - log p_k          N rows, N_k known of class k

        At least one row is left to each class. 0 where all rows, or none, have a label.
        """
        known, p = y[y != MISSING], self.probs(prior_logits.double())
        left = (len(y) * p - torch.bincount(known, minlength=self.num_classes)).clamp_min(1)
        log_left = (left / left.sum()).log() - p.log()
        return (log_left if 0 < len(known) < len(y) else torch.zeros_like(p)).to(prior_logits)

    def given(self, logits: Tensor, y: Tensor) -> dist.TorchDistribution:
        """``Categorical(logits)`` where ``y`` is missing, a point mass on ``y`` where it is known.

        Enumeration then counts a known row once: ``poutine.mask`` would count it K times, since TraceEnum_ELBO takes
        a masked guide site's weight to be 1 at every enumerated value.
        """
        known_logits = torch.zeros_like(logits).masked_fill(self.encode(y) == 0, -torch.inf)
        return dist.Categorical(logits=torch.where((y != MISSING).unsqueeze(-1), known_logits, logits))


@dataclass(frozen=True)
class AttributeLabels:
    """A binary labels a point: ``y`` is int64 ``[B, A]`` with values ``-1, 0, 1``, each missing on its own.

    :param names: A words, one an attribute.
    """

    names: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.names, str):
            raise InputError(f"AttributeLabels: a list of names is needed, not the word {self.names!r}")
        names = tuple(str(name) for name in self.names)
        if not names or len(set(names)) != len(names):
            raise InputError(f"AttributeLabels: at least one name is needed and no name twice, not {names}")
        object.__setattr__(self, "names", names)

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

    def check(self, y: Any, n: int | None = None, device: torch.device | None = None, values: bool = True) -> Tensor:
        """Return ``y`` as int64 ``[n, A]``; as :meth:`ClassLabels.check`."""
        return _check(y, n, device, self.event_shape, 2, "attribute values", values)

    def encode(self, y: Tensor) -> Tensor:
        """Attributes as numbers ``0.`` and ``1.``; a missing one gives ``0.5``."""
        dtype = torch.get_default_dtype()
        return torch.where(y == MISSING, torch.tensor(0.5, dtype=dtype, device=y.device), y.to(dtype))

    def values(self, y: Tensor, like: Tensor) -> Tensor:
        """``y`` as :meth:`observed` takes it, with some value where it is missing."""
        return y.clamp_min(0).to(like)

    def fill(self, probs: Tensor, y: Tensor) -> Tensor:
        """The decoder's class input ``[B, A]``: 0 or 1 where ``y`` is known, ``probs`` where it is missing."""
        return torch.where(y == MISSING, probs, y.to(probs))

    def probs(self, logits: Tensor) -> Tensor:
        """``sigmoid(logits)``."""
        return logits.sigmoid()

    def log_probs(self, logits: Tensor) -> Tensor:
        """Log-probabilities of the values of each label: ``[..., A, 2]``, for 0 and 1."""
        return F.logsigmoid(torch.stack([-logits, logits], -1))

    def decide(self, probs: Tensor) -> Tensor:
        """1 where the probability exceeds a half."""
        return (probs > 0.5).long()

    def observed(self, logits: Tensor, y: Tensor) -> dist.TorchDistribution:
        """A independent ``Bernoulli(logits)`` as one event that counts known entries of ``y`` only."""
        return dist.Bernoulli(logits=logits).mask(y != MISSING).to_event(1)

    def prior_logits(self, y: Tensor) -> Tensor:
        """logit p(y = 1) estimated from the known labels, counts plus one."""
        ones, known = (y == 1).sum(0).double(), (y != MISSING).sum(0).double()
        return torch.logit((ones + 1) / (known + 2))

    def log_left(self, prior_logits: Tensor, y: Tensor) -> Tensor:
        """0: of an attribute, missing values are taken to be as frequent as known ones; ``[A, 1]``."""
        return torch.zeros_like(prior_logits).unsqueeze(-1)

    def given(self, logits: Tensor, y: Tensor) -> dist.TorchDistribution:
        """:class:`PartlyKnownBernoulli`: point masses on the known attributes, Bernoulli on the missing ones."""
        return PartlyKnownBernoulli(logits, y)


Labels = ClassLabels | AttributeLabels


class PartlyKnownBernoulli(dist.TorchDistribution):
    """A binary entries as one event, some of them known: ``Π_known 1[v = y] Π_missing Bernoulli(v; logits)``.

    Its support is enumerated jointly (2^A values), because what depends on the attributes (the decoder) depends on
    all of them at once.

    :param logits: ``[..., A]``.
    :param y: int64 ``[..., A]``, -1 where missing.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.independent(constraints.real, 1)}
    support = constraints.independent(constraints.boolean, 1)
    has_enumerate_support = True

    def __init__(self, logits: Tensor, y: Tensor, validate_args: bool | None = None) -> None:
        self.logits, self.y = torch.broadcast_tensors(logits, y)
        super().__init__(self.logits.shape[:-1], self.logits.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PartlyKnownBernoulli:
        shape = torch.Size(batch_shape) + self.event_shape
        return PartlyKnownBernoulli(self.logits.expand(shape), self.y.expand(shape), validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        drawn = torch.distributions.Bernoulli(logits=self.logits).sample(sample_shape)
        return torch.where(self.y == MISSING, drawn, self.y.to(drawn.dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        free = -F.binary_cross_entropy_with_logits(
            self.logits.expand(torch.broadcast_shapes(self.logits.shape, value.shape)),
            value.expand(torch.broadcast_shapes(self.logits.shape, value.shape)),
            reduction="none",
        )
        fixed = torch.zeros_like(free).masked_fill(value != self.y, -torch.inf)
        return torch.where(self.y == MISSING, free, fixed).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        a = self.event_shape[0]
        bits = (torch.arange(2**a).unsqueeze(-1) >> torch.arange(a)) & 1
        values = bits.to(self.logits).reshape((-1,) + (1,) * len(self.batch_shape) + (a,))
        return values.expand((-1, *self.batch_shape, -1)) if expand else values


def _check(
    y: Any, n: int | None, device: Any, event_shape: tuple[int, ...], size: int, what: str, values: bool
) -> Tensor:
    if y is None:
        if n is None:
            raise InputError("y: labels are needed, not None")
        return torch.full((n, *event_shape), MISSING, dtype=torch.long, device=device)
    raw = torch.as_tensor(y, device=device)
    if raw.dim() != 1 + len(event_shape) or tuple(raw.shape[1:]) != event_shape:
        raise InputError(f"y: shape {list(raw.shape)}; {['N', *event_shape]} is needed".replace("'", ""))
    if n is not None and len(raw) != n:
        raise InputError(f"y: {len(raw)} rows, but x has {n}; both need the same number")
    if not values:
        return raw.long()
    if raw.is_floating_point() and not bool((raw == raw.round()).all()):
        row = int((raw != raw.round()).reshape(len(raw), -1).any(1).nonzero()[0])
        raise InputError(f"y: row {row} is not a whole number; {what} are 0 to {size - 1}, and -1 for missing")
    checked = raw.long()
    if checked.numel() and bool(((checked < MISSING) | (checked >= size)).any()):
        row = int(((checked < MISSING) | (checked >= size)).reshape(len(checked), -1).any(1).nonzero()[0])
        raise InputError(f"y: row {row} is {checked[row].tolist()}; {what} are 0 to {size - 1}, and -1 for missing")
    return checked


def describe(labels: Labels) -> dict[str, Any]:
    """Return what :func:`restore` needs, ready for JSON."""
    kind = "classes" if isinstance(labels, ClassLabels) else "attributes"
    return {"kind": kind, "names": list(labels.names)}


def restore(description: dict[str, Any]) -> Labels:
    """Return the labels that :func:`describe` described."""
    names = description["names"]
    return ClassLabels(len(names), names) if description["kind"] == "classes" else AttributeLabels(names)
