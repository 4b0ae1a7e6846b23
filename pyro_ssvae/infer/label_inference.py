"""How a missing label is inferred: the guide's site ``y``, one option with the same words in every model."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pyro
import pyro.distributions as dist
from pyro import poutine
from torch import Tensor

from ..distributions.clamped import RepeatKnown, SkipKnown
from ..distributions.relaxed import AcceptRelaxed, PlugIn, StraightThrough
from ..distributions.sparse import SparseCategorical, sparsemax
from ..errors import InputError, nearest
from ..labels import MISSING, ClassLabels, Labels

How = Literal["enumerate", "sparse", "plug-in", "straight-through", "sample"]
Known = Literal["own", "repeat", "skip"]
MOST_VALUES = 1024  # of y that are enumerated in training
MOST_SUMMED = 64  # of y that a bound sums over where each is a decode; more are drawn


class LabelInference:
    """``y ~ q(y | x)`` in the guide: a point mass where a label is known; where it is missing as ``how`` says.

    - ``"enumerate"``: every value in turn, summed over exactly (K of a class, 2^A of A attributes).
    - ``"sparse"``: the same with q = sparsemax(logits): only classes with q > 0 are summed over.
    - ``"plug-in"``: the probabilities π take the label's place; log p(y) - log q(y | x) is left out.
    - ``"straight-through"``: one draw, with the gradient of a relaxed one; KL(q(y|x) || p(y)) is exact, attribute by
      attribute: the entropy is a term of the guide (:meth:`negative_entropy`), and E_q log p(y) the model's site's.
    - ``"sample"``: one draw, with the score function's gradient.

    :param labels: what y means.
    :param how: one of these words.
    :param summed: values of y that a bound (:func:`~pyro_ssvae.infer.bounds.elbo`) sums over at most.
    :param joint: whether attributes are enumerated together; a plate over them has each by itself.
    """

    def __init__(self, labels: Labels, how: How, *, summed: int = MOST_SUMMED, joint: bool = True) -> None:
        if how not in get_args(How):
            raise InputError(f"label_inference: there is no {how!r}{nearest(str(how), get_args(How))}")
        if how == "sparse" and not isinstance(labels, ClassLabels):
            raise InputError("label_inference: 'sparse' needs class labels; attributes take any other word")
        if joint and how == "enumerate" and labels.event_shape and labels.num_configurations > MOST_VALUES:
            raise InputError(
                f"label_inference: 'enumerate' over {labels.size} attributes means {labels.num_configurations} values "
                "of y; 'plug-in', 'straight-through' and 'sample' need one"
            )
        self.labels, self.how, self.summed = labels, how, summed

    def __call__(self, name: str, logits: Tensor, y: Tensor, *, known: Known = "own") -> Tensor:
        """Sample the site: its value is an integer, or floating where it is relaxed.

        :param known: what an enumeration has at a row whose label is known: every value, with -inf at the others
            (``"own"``); that label at every place (:class:`~pyro_ssvae.distributions.clamped.RepeatKnown`), for
            networks in which rows meet; or that label once (:class:`~pyro_ssvae.distributions.clamped.SkipKnown`).
        """
        infer: Any = {"label_inference": self.summed}
        if self.relaxed:
            infer["known"] = y != MISSING
        if self.how == "straight-through":
            infer["log_q"] = self.labels.log_probs(logits)
        if self.how in ("enumerate", "sparse"):
            infer["enumerate"] = "parallel"
        fn = self.distribution(logits, y)
        if self.how == "enumerate" and known != "own":
            fn = RepeatKnown(fn, y) if known == "repeat" else SkipKnown(fn, y)
        if isinstance(fn, PlugIn) and poutine.get_mask() is False:  # ``Predictive`` asks for labels; nothing is scored
            fn = fn.exact
        value: Tensor = pyro.sample(name, fn, infer=infer)
        return value

    @property
    def relaxed(self) -> bool:
        """Whether the site's value has a gradient of its own."""
        return self.how in ("plug-in", "straight-through")

    def probs(self, logits: Tensor) -> Tensor:
        """The probabilities that q(y | x) gives, ``[..., K]`` or ``[..., A]``."""
        return sparsemax(logits) if self.how == "sparse" else self.labels.probs(logits)

    def distribution(self, logits: Tensor, y: Tensor) -> dist.TorchDistribution:
        """q(y | x) of the missing labels; known ones are point masses."""
        if self.how == "sparse":
            return SparseCategorical(self.labels.impute(sparsemax(logits), y))
        exact = self.labels.clamped(logits, y)
        if self.how == "plug-in":
            return PlugIn(exact, self.labels.impute(self.labels.probs(logits), y))
        return StraightThrough(exact, logits, y) if self.how == "straight-through" else exact

    def negative_entropy(self, logits: Tensor, y: Tensor) -> Tensor | float:
        """Return ``Σ_y q(y|x) log q(y|x)`` of the missing labels ``[B]`` where the site does not score it, else 0."""
        if self.how != "straight-through":
            return 0.0
        log_q = self.labels.log_probs(logits)
        total = (log_q.exp() * log_q).sum(-1) * (y == MISSING)
        return total.sum(-1) if self.labels.event_shape else total


def default_how(labels: Labels, most: int) -> How:
    """Return how a missing label is inferred where nobody says: enumerated up to ``most`` values of attributes, and
    up to 1,024 classes; beyond, attributes are straight-through and classes drawn."""
    if labels.event_shape:
        return "enumerate" if labels.num_configurations <= most else "straight-through"
    return "enumerate" if labels.size <= MOST_VALUES else "sample"


def observe_label(labels: Labels, logits: Tensor, y: Tensor) -> Tensor:
    """Sample the site ``y`` of a model that observes it: known labels count, missing ones are -1.

    Under ``Predictive``, which scores nothing and asks what y would be, missing ones are drawn.
    """
    if poutine.get_mask() is False:
        value: Tensor = pyro.sample("y", labels.clamped(logits, y))
        return value
    return pyro.sample("y", labels.observed(logits), obs=y)


class ExactLabels(poutine.messenger.Messenger):
    """Take missing labels as labels, never relaxed: summed over where their values are few, else drawn.

    Bounds and posteriors are of the pair under this handler, however it was trained: with a relaxed label the
    objective bounds no probability of x, as π tells the decoder something of x at no cost. Other sites stay as they
    are.

    :param enumerate_most: values of y that are summed over at most; by default as the site says.
    """

    def __init__(self, enumerate_most: int | None = None) -> None:
        super().__init__()
        self.most = enumerate_most

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        infer, fn = msg["infer"], msg["fn"]
        if "label_inference" not in infer or msg["done"]:
            return
        fn = fn.exact if isinstance(fn, PlugIn) else fn
        most = infer["label_inference"] if self.most is None else self.most
        msg["fn"], msg["infer"] = fn, {**infer, "enumerate": "parallel" if 1 < values_of(fn) <= most else None}


class AcceptLabels(poutine.messenger.Messenger):
    """Let p(y) take what the guide hands over at the site ``y``: relaxed labels, of which the known ones count, and
    places that no label takes.

    See :class:`~pyro_ssvae.distributions.relaxed.AcceptRelaxed`.
    """

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        own = "label_inference" in msg["infer"] or msg["infer"].get("_deterministic")  # the guide's, or computed
        if msg["name"] == "y" and not own and not isinstance(msg["fn"], AcceptRelaxed):
            msg["fn"] = AcceptRelaxed(msg["fn"])

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        if isinstance(msg["fn"], AcceptRelaxed):  # replayed, the site has the guide's ``infer``
            msg["fn"].set_known(msg["infer"].get("known"), msg["infer"].get("log_q"))


def values_of(fn: dist.TorchDistribution) -> int:
    """Return how many values a distribution of labels is enumerated at; 1 where all labels are known."""
    if isinstance(fn, SparseCategorical):
        return int((fn.probs > 0).sum(-1).max())
    known = (fn.probs == 1) | (fn.probs == 0)
    if bool(known.all()):
        return 1
    return int(2 ** fn.event_shape[0] if fn.event_shape else fn.probs.shape[-1])
