"""AugVAE, the classifier-head VAE: a class layer beside the encoder's mean and scale, fed to the decoder with z.

Source: Berkhahn, Keys, Ouertani, Shetty, Geißler (2019), arXiv:1908.03015.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ..distributions.sparse import Scattered, SparseCategorical, sparsemax
from ..errors import InputError
from ..infer.label_inference import bound_over_labels
from ..infer.label_prior import ClassPrior, ToldDecoder, gaussian, zero_head
from ..labels import ClassLabels, Labels
from ..nn.likelihoods import Likelihood
from ..nn.networks import AddClass, default_decoder, default_encoder, features, takes_class_input
from .base import deterministic, make_likelihood, positive, standard_normal

ClassInput = Literal["probabilities", "enumerate", "sparse"]
MOST_CONFIGURATIONS = 1024  # of y that are enumerated; 2^A for A attributes


class AugmentedVAE(ToldDecoder):
    """A VAE whose encoder also classifies, and whose decoder is told the class::

        h = encoder(x)         q(z | x) = N(loc(h), scale(h)²)         π = softmax(head(h))

        -L(x, y) = E_q(z|x)[ log p(x | z, c) ] - β KL( q(z | x) || N(0, I) ) + α 1[y known] log π_y

    ``c`` is ``onehot(y)`` where y is known. Where it is missing, ``class_input`` decides:

    - ``"probabilities"``: c = π; one decode a point, and the reconstruction's gradient reaches the head.
    - ``"enumerate"``: y is a discrete latent, marginalised exactly:
      ``Σ_y π_y [ log p(x | z, y) + log p(y) - log π_y ]``; K decodes a point.
    - ``"sparse"``: the same sum with π = sparsemax(head(h)); only classes with π_y > 0 are decoded. The supervised
      term stays the softmax cross-entropy, which is finite where sparsemax gives the true class nothing.

    With few labels, a prior on π of the unlabelled rows keeps the classes apart
    (:class:`~pyro_ssvae.infer.label_prior.LabelPrior`, with the weights w_H and w_m; a choice). Set both to 0 for the
    paper's objective alone. The training objective has no log p(y) for known labels, a constant; :meth:`elbo` has it.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``(z, c)`` → ``[..., *input_shape]``, or of ``z`` alone, which is then extended
        (:class:`~pyro_ssvae.nn.networks.AddClass`). Its output is the likelihood's logits or mean.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param latent_dim: D, the width of z.
    :param class_input: see above.
    :param alpha: α, the weight of the supervised term, in nats a labelled row.
    :param beta: β, the weight of the KL term.
    :param entropy_weight: w_H.
    :param balance_weight: w_m.
    :param class_prior: p(y): ``"estimated"`` (from the known labels, by :meth:`prepare`) or ``"uniform"``.
    :param likelihood: ``"bernoulli"``, ``"normal"``, ``"laplace"`` or a module like these; by the data's shape if None.
    :ivar decodes: with ``"sparse"``, how many decodes a point the latest batch took.

    Sites (plate ``data`` over B; D latent dimensions, K classes):

    ================ ============ =============== ==========================================================
    site             batch shape  event shape     in the model / in the guide
    ================ ============ =============== ==========================================================
    ``z``            [B]          [D]             N(0, I) / q(z | x)
    ``logits``       [B]          [K]             the head's output, handed over by the guide; not scored
    ``y_observed``   [B]          [] or [A]       known labels under π, weighted by α / not in the guide
    ``y_unobserved`` [B]          [] or [A]       missing labels: p(y) (or π, "probabilities") / q(y | x)
    ``y``            [B]          [] or [A]       the two, interleaved
    ``class_prior``  [B]          [0]             the prior on π; only where a weight is not 0
    ``x``            [B]          input_shape     the likelihood / not in the guide
    ================ ============ =============== ==========================================================

    While enumerated, ``y_unobserved`` has a further dimension of size K (classes), 2^A (attributes, which are
    enumerated jointly because x depends on all of them at once), or of the largest sparsemax support, on the left.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        labels: Labels,
        *,
        latent_dim: int,
        class_input: ClassInput = "probabilities",
        alpha: float = 500.0,
        beta: float = 1.0,
        entropy_weight: float = 20.0,
        balance_weight: float = 50.0,
        class_prior: ClassPrior = "estimated",
        likelihood: str | Likelihood | None = None,
    ) -> None:
        super().__init__()
        if class_input not in ("probabilities", "enumerate", "sparse"):
            raise InputError(f"class_input: {class_input!r}; 'probabilities', 'enumerate' or 'sparse' is needed")
        if class_input == "sparse" and not isinstance(labels, ClassLabels):
            raise InputError("class_input: 'sparse' needs class labels; attributes take 'probabilities' or 'enumerate'")
        if class_input == "enumerate" and labels.num_configurations > MOST_CONFIGURATIONS:
            raise InputError(
                f"class_input: 'enumerate' over {labels.size} attributes means {labels.num_configurations} decodes "
                "a point; 'probabilities' needs one"
            )
        self.set_label_prior(labels, class_prior, entropy_weight, balance_weight)
        self.latent_dim = latent_dim
        self.class_input = class_input
        self.alpha, self.beta = alpha, beta
        self.encoder = encoder
        self.decoder = decoder if takes_class_input(decoder) else AddClass(decoder, latent_dim, labels.size)
        self.likelihood, self.input_shape = make_likelihood(likelihood, self.decoder, latent_dim, labels.size)
        width = features(encoder)
        self.loc = nn.Linear(width, latent_dim)
        self.log_scale = nn.Linear(width, latent_dim)
        self.head = zero_head(width, labels.size)
        if class_input == "sparse":
            self.decodes: Tensor
            self.register_buffer("decodes", torch.tensor(1.0), persistent=False)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, latent_dim: int, **options: Any) -> AugmentedVAE:
        """The model with the networks that suit the input's shape."""
        encoder, decoder = default_encoder(input_shape), default_decoder(input_shape, latent_dim, labels.size)
        return cls(encoder, decoder, labels, latent_dim=latent_dim, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(z) p(y) p(x | z, c)``, and α log π_y for the known y."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.beta):
                z = pyro.sample("z", standard_normal(x, self.latent_dim))
            logits = self.handed_over(x)
            self.observe(logits, y, self.alpha)
            if self.class_input == "probabilities":
                guess = pyro.sample("y_unobserved", self.labels.given(logits.detach(), y))
                out = self.decoder(z, self.labels.fill(self.annealed(self.labels.probs(logits)), y))
            else:
                guess = pyro.sample("y_unobserved", self.labels.given(self.prior_logits.expand_as(logits), y))
                sparse = self.class_input == "sparse"
                c = self.labels.encode(guess.long()).to(z)
                out = None if sparse else self.decoder(z, c)
            deterministic("y", guess, logits, len(self.labels.event_shape))
            if self.entropy_weight or self.balance_weight:
                pyro.factor("class_prior", self.log_class_prior(logits, y))
            p_x = self.decode_likely(z, guess, logits, y) if out is None else self.likelihood(out)
            return pyro.sample("x", p_x, obs=self.likelihood.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z | x) q(y | x)``."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        h = self.encoder(self.likelihood.standardize(x))
        logits = self.head(h)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.beta):
                pyro.sample("z", dist.Normal(self.loc(h), positive(self.log_scale(h))).to_event(1))
            pyro.sample("logits", dist.Delta(logits, event_dim=1))
            if self.class_input == "probabilities":
                # Nothing depends on this draw; detached, it adds no noise to the gradient.
                pyro.sample("y_unobserved", self.labels.given(logits.detach(), y))
            else:
                pyro.sample("y_unobserved", self.q_y(logits, y), infer={"enumerate": "parallel"})
        if self.training and self.balance_weight:
            self.track(logits, y)

    def q_y(self, logits: Tensor, y: Tensor) -> dist.TorchDistribution:
        """q(y | x) of the missing labels; known ones are point masses."""
        if self.class_input == "sparse":
            return SparseCategorical(self.labels.fill(sparsemax(logits), y))
        return self.labels.given(logits, y)

    def decode_likely(self, z: Tensor, guess: Tensor, logits: Tensor, y: Tensor) -> dist.TorchDistribution:
        """p(x | z, y) of only the enumerated classes ``guess [S, B]`` with a probability above 0; for a known y, of y.

        :returns: the likelihood, batch shape ``[S, B]``.
        """
        c = self.labels.encode(guess.long()).to(z)
        if guess.dim() < z.dim():  # drawn, not enumerated
            self.decodes.fill_(1.0)
            return self.likelihood(self.decoder(z, c))
        needed = (self.labels.fill(sparsemax(logits), y) * c).sum(-1) > 0
        place, row = needed.nonzero(as_tuple=True)
        self.decodes.copy_(needed.sum() / len(z))
        torch._check(row.shape[0] >= len(z))  # what a captured program may rely on
        return Scattered(self.likelihood(self.decoder(z[row], c[place, row])), place, row, needed.shape)

    def class_logits(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.likelihood.standardize(x)))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The encoder's mean ``[B, D]``, scale ``[B, D]`` and logits ``[B, K]``."""
        h = self.encoder(self.likelihood.standardize(x))
        return self.loc(h), positive(self.log_scale(h)), self.head(h)

    def encode(self, x: Any) -> dist.TorchDistribution:
        """q(z | x), batch shape [B], event shape [D]."""
        return gaussian(self.each(lambda rows: torch.stack(self.posterior(rows)[:2], 1), x))

    def reconstruct(self, x: Any, y: Any = None) -> Tensor:
        """The mean image of the posterior's mean; a missing label enters as its probabilities."""

        def verb(x: Tensor, y: Tensor | None = None) -> Tensor:
            loc, _, logits = self.posterior(x)
            c = self.labels.fill(self.labels.probs(logits), self.targets(y, x))
            return self.likelihood.mean(self.decoder(loc, c))

        return self.each(verb, x, y)

    def reconstruction_log_prob(self, x: Any) -> Tensor:
        """``log p(x | z, c)`` at one draw of z, with c = π: ``[B]`` nats."""

        def verb(x: Tensor) -> Tensor:
            loc, scale, logits = self.posterior(x)
            return self.likelihood(self.decoder(dist.Normal(loc, scale).sample(), self.labels.probs(logits))).log_prob(
                self.likelihood.target(x)
            )

        return self.each(verb, x)

    def elbo(self, x: Any, y: Any = None, *, num_samples: int = 1) -> Tensor:
        """Lower bound on log p(x), or on log p(x, y) for known labels, β = 1: ``[B]`` nats, the mean of draws of z.

        Whatever ``class_input`` the model was trained with, a missing y is summed over,
        ``E_q(z|x) Σ_y q(y|x) [log p(x|z,y) + log p(y) - log q(y|x)] - KL``: with c = π the training objective bounds
        no probability of x, as π tells the decoder something of x at no cost. More than 64 configurations of y
        (attributes) are sampled instead.
        """
        return self.each(lambda x, y=None: self._bound(x, y, num_samples, importance=False), x, y, rows=250)

    def log_likelihood(self, x: Any, y: Any = None, *, num_samples: int = 100) -> Tensor:
        """Importance-weighted bound ``log 1/S Σ_s p(x, y, z_s) / q(z_s | x)``, a missing y summed over: ``[B]``."""
        return self.each(lambda x, y=None: self._bound(x, y, num_samples, importance=True), x, y, rows=250)

    def _bound(self, x: Tensor, y: Tensor | None, num_samples: int, importance: bool) -> Tensor:
        loc, scale, logits = self.posterior(x)
        q_z, p_z = dist.Normal(loc, scale).to_event(1), standard_normal(x, self.latent_dim)
        target = self.likelihood.target(x)  # one black-and-white image for all draws: the bound is one of its density

        def draw() -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            z = q_z.sample()
            log_w = p_z.log_prob(z) - q_z.log_prob(z)

            def log_ratio(values: Tensor) -> Tensor:
                out = self.decoder(z, self.class_inputs(values, z))
                return self.likelihood(out).log_prob(target) + log_w

            return logits, log_ratio

        return bound_over_labels(self, self.targets(y, x), draw, num_samples, importance=importance)
