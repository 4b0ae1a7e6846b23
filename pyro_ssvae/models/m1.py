"""M1: a VAE, and a classifier on its latents.

Source: Kingma, Mohamed, Rezende, Welling (2014), arXiv:1406.5298, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor, nn

from ..errors import whole_number
from ..infer.auxiliary import HeadTerms
from ..infer.batched import evaluating, need_numbers
from ..infer.expected import expected_x
from ..infer.label_prior import LabelPrior
from ..infer.traces import PARTS_OF_X, Site, Unobserved, is_computed, need_site, row_frame, sampled
from ..labels import Labels
from ..nn.networks import mlp, zeroed
from .base import given_labels
from .classifier_mixin import ClassifierMixin
from .config import VAEConfig, Weight
from .fixed_draws import mean_of
from .rewritten import overridden_since, probs_of
from .vae import VAE

HIDDEN = 256  # units of the classifier's one hidden layer
POOL = 1000  # draws of z that one of a given label is taken from


@dataclass(frozen=True, kw_only=True)
class M1Config(VAEConfig):
    """Options of M1."""

    alpha: Weight = 1.0
    """Weight of the classifier's term."""


class M1(VAE, ClassifierMixin):
    """The VAE's ELBO, and a classifier that reads its latents without moving them::

        L(x, y) = ELBO(x) + α E_q(z|x)[ 1[y known] log q(y | sg(z)) ]        q(y | z) = softmax(head(z))

    ``sg`` stops the gradient, so that the VAE is the one that no label had a part in. The paper trains the VAE first
    and a classifier on its features then; both at once have the same optimum (choice), and as the VAE ignores the
    classifier, α only scales the classifier's learning rate. The head is an MLP of one hidden layer (the paper's, a
    transductive SVM, has no q(y | z)). The joint is the VAE's, without y: ``elbo`` and ``log_likelihood`` bound
    log p(x) whatever y is given.

    :param encoder, decoder: as for :class:`~pyro_ssvae.VAE`.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param options: those of :class:`M1Config`; ``likelihood`` may be a module.

    Sites, all in the plate ``data`` over B: ``z`` (event [D]), ``x`` (event input_shape) and, in the guide alone, ``y``
    (event [] or [A]; known: a point mass, missing: a draw from q(y | z); it has no part in the objective) and the
    factor ``head``.
    """

    Config: ClassVar[type[M1Config]] = M1Config
    config: M1Config
    labels: Labels
    augmentation = "none"  # a VAE of moved pictures has latents of their position first, of the class last

    def __init__(self, encoder: nn.Module, decoder: nn.Module, labels: Labels, **options: Any) -> None:
        super().__init__(encoder, decoder, labels, **options)
        dim = self.config.dim
        self.head = nn.Sequential(*mlp([dim, HIDDEN], norm=False), zeroed(nn.Linear(HIDDEN, labels.size)))
        self.head_terms = HeadTerms(labels, LabelPrior(labels, "uniform"), self.config.alpha, 0.0, 0.0)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels | None, **options: Any) -> M1:
        encoder, decoder = cls.networks(input_shape, 0, options)
        assert labels is not None
        return cls(encoder, decoder, labels, **options)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z | x)``; beside it the classifier's term, and a draw of the missing labels."""
        x = self.begin(x)
        y = self.targets(y, x)
        with self.plate(x):
            with self.kl_scale():
                z = pyro.sample("z", self.q_z(x))
            logits = self.head(z.detach())
            self.head_terms.factor(logits, y)
            with poutine.mask(mask=False):
                pyro.sample("y", self.labels.clamped(logits.detach(), y), infer={"is_auxiliary": True})

    def q_y(self, x: Tensor) -> Tensor:
        """q(y | z) at the posterior's mean, of 100 draws where it knows none."""
        return self.labels.probs(self.head(mean_of(self.q_z(x), x.device)))

    def logits_given(self, z: Tensor, **others: Tensor) -> Tensor:
        """Logits of q(y | z), the head's, or a rewritten guide's given all latents: ``[B, K]`` or ``[B, A]``."""
        if not overridden_since(self, "guide", "logits_given"):
            logits: Tensor = self.head(z)
            return logits
        q = poutine.trace(poutine.condition(self.guide, {"z": z, **others})).get_trace(self.stand_in(len(z)), None)
        probs = probs_of(need_site(q, "y", "generate")["fn"])
        return probs.logit() if self.labels.event_shape else probs.log()

    def set_class_weights(self, weights: Tensor | None) -> None:
        """:meth:`HeadTerms.set_class_weights <pyro_ssvae.infer.auxiliary.HeadTerms.set_class_weights>`."""
        self.head_terms.set_class_weights(weights)

    def generate(self, n: int, y: ArrayLike | None = None) -> Tensor:
        """``n`` points ``E[x | z]`` of z ~ p(z), or of ``p(z | y) ∝ p(z) q(y | z)`` where labels are given.

        :param y: None, one label for all (a number, a class name, or A values), or labels a row, -1 where missing. z is
            then resampled from 1,000 draws by q(y | z).
        """
        if y is None:
            return super().generate(n)
        n = whole_number("generate", n, 0)
        need_numbers(self)
        with evaluating(self):
            known = given_labels(y, n, self.labels, self.device)
            if not n:
                return super().generate(0)
            model = poutine.condition(Unobserved()(self.model), self.shared_latents())
            pool = poutine.trace(model).get_trace(self.stand_in(POOL))
            need_site(pool, "z", "generate")
            latents = {name: site for name, site in sampled(pool).items() if name not in ("x", *PARTS_OF_X)}
            latents = {name: site for name, site in latents.items() if not is_computed(site)}
            logits = self.logits_given(**{name: site["value"] for name, site in latents.items()})
            logits = logits.unsqueeze(1).expand(-1, n, -1)
            weights = self.labels.observed(logits).log_prob(known)
            chosen = dist.Categorical(logits=weights.t()).sample()
            values = {name: rows_of(site, POOL, chosen) for name, site in latents.items()}
            return expected_x(self, self.unseen(n), values, (), "generate", stand_in=True)


def rows_of(site: Site, n: int, rows: Tensor) -> Tensor:
    """Some rows of a site's value; all of it where it is in no plate over the n rows."""
    value, frame = site["value"], row_frame(site, n)
    return value if frame is None else value.index_select(frame.dim - site["fn"].event_dim, rows)
