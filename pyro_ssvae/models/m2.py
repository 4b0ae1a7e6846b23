"""M2: the label is a latent of the generative model, beside z.

Source: Kingma, Mohamed, Rezende, Welling (2014), arXiv:1406.5298, equations 6 to 9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ..infer.label_inference import Missing, MissingLabels, bound_over_labels
from ..infer.label_prior import ClassPrior, ToldDecoder, gaussian, zero_head
from ..labels import MISSING, Labels
from ..nn.likelihoods import Likelihood
from ..nn.networks import AddClass, default_decoder, default_encoder, features, takes_class_input
from .base import deterministic, make_likelihood, positive, standard_normal
from .interventions import Interventions, repeated

MOST_DECODES = 16  # a point, where nobody says how missing labels are dealt with


class M2(Interventions, ToldDecoder, MissingLabels):
    """``p(y) p(z) p(x | z, y)`` with the guide ``q(y | x) q(z | x, y)``, and a classifier's loss where y is known::

        h = encoder(x)     q(y | x) = softmax(head(h))     q(z | x, y) = N(loc(r), scale(r)²),  r = relu(h + W y)

        L(x, y) = E_q(z|x,y)[ log p(x | z, y) ] - β KL( q(z | x, y) || N(0, I) ) + α log q(y | x)          y known
        U(x)    = Σ_y q(y | x) [ L'(x, y) + log p(y) - log q(y | x) ] + log class_prior(q(y | x))          y missing

    with L' = L at α = 0. The encoder sees a point once, whatever the number of classes; y enters at its topmost layer
    (choice: a layer more between h and z cost up to 28 nats in one epoch of MNIST, docs/baselines.md). The training
    objective has no log p(y) for known labels, a constant; :meth:`elbo` has it.

    ``missing`` says how the sum over a missing y is done: ``"enumerate"`` is exact and decodes every value, K of a
    class, 2^A of A attributes (of which known ones count only at their known value). ``"relax"``, for attributes
    (choice), draws y with a straight-through gradient
    (:class:`~pyro_ssvae.infer.label_inference.StraightThroughBernoulli`), one decode a point, and has
    KL(q(y|x) || p(y)) exactly, attribute by attribute. By default attributes are enumerated up to 16 values.

    The prior on π of :class:`~pyro_ssvae.infer.label_prior.LabelPrior`, and the late start of what reaches the head
    beside the labels, are not the paper's. They are AugVAE's, so that the two are compared with the same means; set the
    weights to 0 for the paper's objective.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``(z, c)`` → ``[..., *input_shape]``, or of ``z`` alone, which is then extended
        (:class:`~pyro_ssvae.nn.networks.AddClass`).
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param latent_dim: D.
    :param missing: ``"enumerate"`` or ``"relax"``, see above.
    :param alpha: α, in nats a labelled row.
    :param beta: β.
    :param entropy_weight, balance_weight, class_prior: of :class:`~pyro_ssvae.infer.label_prior.LabelPrior`.
    :param likelihood: as for :class:`~pyro_ssvae.AugmentedVAE`.

    Sites (plate ``data`` over B):

    ================ =============== ============ ========================================================
    site             batch shape     event shape  in the model / in the guide
    ================ =============== ============ ========================================================
    ``logits``       [B]             [K]          the head's output, handed over by the guide; not scored
    ``y_observed``   [B]             [] or [A]    known labels under q(y | x), weighted by α / not there
    ``y_unobserved`` [B]             [] or [A]    missing labels: p(y) / q(y | x)
    ``y``            [B]             [] or [A]    the two, interleaved
    ``class_prior``  [B]             [0]          the prior on π; only where a weight is not 0
    ``y_divergence`` [B]             [0]          ``relax`` only: -KL(q(y | x) || p(y)), y itself is not scored
    ``z``            [B]             [D]          N(0, I) / q(z | x, y)
    ``x``            [B]             input_shape  the likelihood / not in the guide
    ================ =============== ============ ========================================================

    While enumerated, ``y_unobserved``, ``y``, ``z`` and ``x`` have a further dimension on the left, of size K or 2^A.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        labels: Labels,
        *,
        latent_dim: int,
        missing: Missing | None = None,
        alpha: float = 500.0,
        beta: float = 1.0,
        entropy_weight: float = 20.0,
        balance_weight: float = 50.0,
        class_prior: ClassPrior = "estimated",
        likelihood: str | Likelihood | None = None,
    ) -> None:
        super().__init__()
        self.set_label_prior(labels, class_prior, entropy_weight, balance_weight)
        self.set_missing(missing, MOST_DECODES)
        self.latent_dim = latent_dim
        self.alpha, self.beta = alpha, beta
        self.encoder = encoder
        self.decoder = decoder if takes_class_input(decoder) else AddClass(decoder, latent_dim, labels.size)
        self.likelihood, self.input_shape = make_likelihood(likelihood, self.decoder, latent_dim, labels.size)
        width = features(encoder)
        self.head = zero_head(width, labels.size)
        self.from_c = nn.Linear(labels.size, width, bias=False)
        self.loc = nn.Linear(width, latent_dim)
        self.log_scale = nn.Linear(width, latent_dim)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, latent_dim: int, **options: Any) -> M2:
        """The model with the networks that suit the input's shape."""
        encoder, decoder = default_encoder(input_shape), default_decoder(input_shape, latent_dim, labels.size)
        return cls(encoder, decoder, labels, latent_dim=latent_dim, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z) p(x | z, y)``, and α log q(y | x) for the known y."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            out = self.decoder(*self.p_latents(x, y))
            return pyro.sample("x", self.likelihood(out), obs=self.likelihood.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(y | x) q(z | x, y)``."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            self.q_latents(x, y)

    def p_latents(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The model's sites of y and z; z and y's class input."""
        logits = self.handed_over(x)
        self.observe(logits, y, self.alpha)
        guess = self.p_missing(logits, y)
        deterministic("y", guess, logits, len(self.labels.event_shape))
        if self.entropy_weight or self.balance_weight:
            pyro.factor("class_prior", self.log_class_prior(logits, y))
        with poutine.scale(scale=self.beta):
            z = pyro.sample("z", standard_normal(x, self.latent_dim))
        return z, self.class_inputs(guess, x)

    def q_latents(self, x: Tensor, y: Tensor, logits: Tensor | None = None) -> None:
        """The guide's sites of y and z; the logits are the head's where none are given."""
        lead = x.shape[: x.dim() - len(self.input_shape)]  # M1+M2 draws its x, and Pyro may draw many at once
        h = self.encoder(self.likelihood.standardize(x).reshape(-1, *self.input_shape)).reshape(*lead, -1)
        logits = self.head(h) if logits is None else logits
        pyro.sample("logits", dist.Delta(logits, event_dim=1))
        guess = self.q_missing(logits, y)
        with poutine.scale(scale=self.beta):
            pyro.sample("z", self.q_z(h, self.class_inputs(guess, x)))
        if self.training and self.balance_weight:
            self.track(logits, y)

    def q_z(self, h: Tensor, c: Tensor) -> dist.TorchDistribution:
        """q(z | x, y) of features ``[B, H]`` and class inputs ``[..., B, K]``."""
        r = (h + self.from_c(c)).relu()
        return dist.Normal(self.loc(r), positive(self.log_scale(r))).to_event(1)

    def class_logits(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.likelihood.standardize(x)))

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[dist.TorchDistribution, Tensor]:
        """q(z | x, y) and y, the most probable one where it is missing."""
        h, y = self.encoder(self.likelihood.standardize(x)), self.targets(y, x)
        y = torch.where(y == MISSING, self.labels.decide(self.labels.probs(self.head(h))), y)
        return self.q_z(h, self.labels.encode(y).to(h)), y

    def encode(self, x: Any, y: Any = None) -> dist.TorchDistribution:
        """q(z | x, y), batch shape [B], event shape [D]; y is the most probable one where it is missing."""

        def verb(x: Tensor, y: Tensor | None = None) -> Tensor:
            q, _ = self.posterior(x, y)
            return torch.stack([q.mean, q.stddev], 1)

        return gaussian(self.each(verb, x, y))

    def reconstruct(self, x: Any, y: Any = None) -> Tensor:
        """The mean image of the mean of q(z | x, y); y is the most probable one where it is missing."""

        def verb(x: Tensor, y: Tensor | None = None) -> Tensor:
            q, y = self.posterior(x, y)
            return self.likelihood.mean(self.decoder(q.mean, self.labels.encode(y).to(x)))

        return self.each(verb, x, y)

    def reconstruction_log_prob(self, x: Any) -> Tensor:
        """``log p(x | z, y)`` at one draw of y and z: ``[B]`` nats."""

        def verb(x: Tensor) -> Tensor:
            h = self.encoder(self.likelihood.standardize(x))
            c = self.class_inputs(self.labels.given(self.head(h), self.targets(None, x)).sample(), h)
            return self.likelihood(self.decoder(self.q_z(h, c).sample(), c)).log_prob(self.likelihood.target(x))

        return self.each(verb, x)

    def elbo(self, x: Any, y: Any = None, *, num_samples: int = 1) -> Tensor:
        """Lower bound on log p(x), or on log p(x, y) for known labels, β = 1: ``[B]`` nats, the mean of draws of z.

        A missing y is summed over; more than 64 configurations of y (attributes) are sampled instead.
        """
        return self.each(lambda x, y=None: self._bound(x, y, num_samples, importance=False), x, y, rows=250)

    def log_likelihood(self, x: Any, y: Any = None, *, num_samples: int = 100) -> Tensor:
        """Importance-weighted bound ``log 1/S Σ_s Σ_y p(x, y, z_s^y) / q(z_s^y | x, y)``: ``[B]``."""
        return self.each(lambda x, y=None: self._bound(x, y, num_samples, importance=True), x, y, rows=250)

    def _bound(self, x: Tensor, y: Tensor | None, num_samples: int, importance: bool) -> Tensor:
        h, target = self.encoder(self.likelihood.standardize(x)), self.likelihood.target(x)
        logits = self.head(h)

        def draw() -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            return logits, lambda values: self.log_ratio(target, h, values)

        return bound_over_labels(self, self.targets(y, x), draw, num_samples, importance=importance)

    def log_ratio(self, target: Tensor, h: Tensor, values: Tensor) -> Tensor:
        """``log p(x, z | y) - log q(z | x, y)`` at a draw of z for each value of y: ``[V, B]``."""
        c = self.class_inputs(values, h)
        q = self.q_z(h, c)
        z = q.sample()
        log_p = self.likelihood(self.decoder(z, c)).log_prob(target)
        return log_p + standard_normal(h, self.latent_dim).log_prob(z) - q.log_prob(z)

    def intervene(self, x: Any, values: Mapping[str, int] | str | int, *, num_samples: int | None = None) -> Tensor:
        """Encode ``x`` to the mean of q(z | x, y), set y, decode.

        :param values: ``{"Smiling": 1}``, the other attributes staying as predicted; for class labels a class, by
            number or name.
        :param num_samples: S repetitions: ``[S, B, *input_shape]``; None for one without the first dimension. They are
            the same: a label's value is all that this model's y holds.
        :raises InputError: an attribute or class that does not exist, or a value that is neither 0 nor 1.
        """
        asked = self._asked(values)
        z, y = self.encode(x).mean, self.predict(x)
        images = self.decode(z, torch.where(asked == MISSING, y, asked))
        return repeated(lambda: images, num_samples)

    def swap(self, x: Any, donor: Any, name: str = "class") -> Tensor:
        """``x`` with the value that the donor's attribute (or class) is predicted to have: ``[B, *input_shape]``.

        :param donor: as many points as ``x``, or one for all.
        """
        x, donor = self._pair(x, donor, name)
        return self.decode(self.encode(x).mean, self._given(self.predict(x), self.predict(donor), name))
