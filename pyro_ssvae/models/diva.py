"""DIVA without its domain latent: one latent that the label is a prior on and can be read from, and one for the rest.

Source: Ilse, Tomczak, Louizos, Welling (2020), arXiv:1905.10427.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ..errors import InputError
from ..infer.label_inference import Missing, MissingLabels, bound_over_labels
from ..infer.label_prior import ClassPrior, gaussian
from ..labels import MISSING, Labels
from ..nn.likelihoods import Likelihood
from ..nn.networks import AddClass, default_decoder, default_encoder, features, takes_class_input
from .base import deterministic, make_likelihood, mean_logits, positive, standard_normal
from .interventions import Interventions, repeated

MOST_VALUES = 1024  # of y that are enumerated by default; x is decoded once for all of them


class DIVA(Interventions, MissingLabels):
    """z = (z_c, z_s); the label is a conditional prior on z_c, and a classifier reads it from there::

        generative:  p(y) p(z_c | y) p(z_s) p(x | z_c, z_s)        p(z_s) = N(0, I)
        inference:   q(z_c | x) q(z_s | x) q(y | z_c)              q(y | z_c) = softmax(head(z_c))

        L(x, y) = E_q(z|x)[ log p(x | z) + β log p(z_c | y) p(z_s) / q(z | x) + α log q(y | z_c) ]      y known
        U(x)    = the same with α = 0, and Σ_y q(y | z_c) [ ... + log p(y) - log q(y | z_c) ]           y missing

    As x depends on y through z_c alone, one decode a point serves every value of y. ``p(z_c | y)`` is a diagonal
    Gaussian whose mean and log-scale are linear in the encoded y: one Gaussian a class; of attributes (choice) a sum
    of one term each, over the whole of z_c. A missing y is summed over exactly, attributes jointly up to 2^10 values;
    beyond that it is drawn with a straight-through gradient and its KL is summed attribute by attribute
    (:class:`~pyro_ssvae.infer.label_inference.StraightThroughBernoulli`).

    The paper has an encoder for each latent and a third for the domain; here one trunk serves both (choice), as in all
    models that this is compared with. The prior on π of :class:`~pyro_ssvae.infer.label_prior.LabelPrior` is not the
    paper's; weights of 0 leave it out.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``z [..., D]`` → ``[..., *input_shape]``.
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param latent_dim: D = width of z_c and z_s together.
    :param label_dim: width of z_c; half of D by default.
    :param missing: ``"enumerate"`` or ``"relax"``, see above.
    :param alpha: α, in nats a labelled row.
    :param beta: β.
    :param entropy_weight, balance_weight, class_prior: of :class:`~pyro_ssvae.infer.label_prior.LabelPrior`.
    :param likelihood: as for :class:`~pyro_ssvae.AugmentedVAE`.

    Sites, all in the plate ``data`` over B: ``z_c`` (event [D_c]; p(z_c | y) / q(z_c | x)), ``z_s`` (event [D_s];
    N(0, I) / q(z_s | x)), ``x`` (event input_shape), and those of :class:`~pyro_ssvae.M2` that concern y, with
    q(y | z_c) in the place of q(y | x). While enumerated, ``y_unobserved`` has a further dimension on the left.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        labels: Labels,
        *,
        latent_dim: int,
        label_dim: int | None = None,
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
        self.set_missing(missing, MOST_VALUES)
        d = label_dim or max(1, latent_dim // 2)
        if latent_dim <= d:
            raise InputError(f"latent_dim: {latent_dim}; z_c alone takes {d}, and z_s needs at least 1 more")
        self.latent_dim, self.label_dim = latent_dim, d
        self.alpha, self.beta = alpha, beta
        self.encoder = encoder
        self.decoder = decoder if takes_class_input(decoder) else AddClass(decoder, latent_dim, 0)
        self.likelihood, self.input_shape = make_likelihood(likelihood, self.decoder, latent_dim, 0)
        width = features(encoder)
        self.loc = nn.Linear(width, latent_dim)
        self.log_scale = nn.Linear(width, latent_dim)
        self.head = nn.Linear(d, labels.size)
        self.prior_loc = nn.Linear(labels.size, d)
        self.prior_log_scale = nn.Linear(labels.size, d)
        self.start_apart()
        self.noise: Tensor
        noise = torch.randn(100, 1, d, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", noise, persistent=False)

    @torch.no_grad()
    def start_apart(self) -> None:
        """Begin with p(z_c | y) at ±1 along a direction of z_c for each attribute, at 2 for each class, of scale 1, and
        with q(y | z_c) as its inverse (choice, as in the ReVAE): means that begin at random take far longer to part."""
        nn.init.orthogonal_(self.prior_loc.weight)
        self.head.weight.copy_(2 * self.prior_loc.weight.t())
        self.prior_loc.weight.mul_(2)
        self.prior_loc.bias.zero_()
        if self.labels.event_shape:
            self.prior_loc.bias.sub_(self.prior_loc.weight.sum(1) / 2)
        for p in (self.head.bias, *self.prior_log_scale.parameters()):
            p.zero_()

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, latent_dim: int, **options: Any) -> DIVA:
        """The model with the networks that suit the input's shape."""
        encoder, decoder = default_encoder(input_shape), default_decoder(input_shape, latent_dim, 0)
        return cls(encoder, decoder, labels, latent_dim=latent_dim, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z_c | y) p(z_s) p(x | z_c, z_s)``, and α log q(y | z_c) for the known y."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        with pyro.plate("data", len(x)):
            logits = self.handed_over(x)
            self.observe(logits, y, self.alpha)
            guess = self.p_missing(logits, y)
            deterministic("y", guess, logits, len(self.labels.event_shape))
            if self.entropy_weight or self.balance_weight:
                pyro.factor("class_prior", self.log_class_prior(logits, y))
            with poutine.scale(scale=self.beta):
                z_c = pyro.sample("z_c", self.p_z_c(self.class_inputs(guess, x)))
                z_s = pyro.sample("z_s", standard_normal(x, self.latent_dim - self.label_dim))
            out = self.decoder(torch.cat([z_c, z_s], -1), None)
            return pyro.sample("x", self.likelihood(out), obs=self.likelihood.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z_c | x) q(z_s | x) q(y | z_c)``."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        q_c, q_s = self.posterior(x)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.beta):
                z_c = pyro.sample("z_c", q_c)
                pyro.sample("z_s", q_s)
            logits = self.head(z_c)
            pyro.sample("logits", dist.Delta(logits, event_dim=1))
            self.q_missing(logits, y)
        if self.training and self.balance_weight:
            self.track(logits, y)

    def p_z_c(self, c: Tensor) -> dist.TorchDistribution:
        """p(z_c | y) of class inputs ``[..., K]`` or ``[..., A]``."""
        return dist.Normal(self.prior_loc(c), positive(self.prior_log_scale(c))).to_event(1)

    def posterior(self, x: Tensor) -> tuple[dist.TorchDistribution, dist.TorchDistribution]:
        """q(z_c | x) and q(z_s | x)."""
        h = self.encoder(self.likelihood.standardize(x))
        loc, scale, d = self.loc(h), positive(self.log_scale(h)), self.label_dim
        return dist.Normal(loc[:, :d], scale[:, :d]).to_event(1), dist.Normal(loc[:, d:], scale[:, d:]).to_event(1)

    def class_logits(self, x: Tensor) -> Tensor:
        """Logits of ``E_q(z_c|x)[ q(y | z_c) ]``, by 100 fixed draws."""
        q = self.posterior(x)[0].base_dist
        return mean_logits(self.labels, self.head(q.loc + q.scale * self.noise))

    def encode(self, x: Any) -> dist.TorchDistribution:
        """q(z | x), batch shape [B], event shape [D], z_c first."""

        def verb(x: Tensor) -> Tensor:
            q_c, q_s = self.posterior(x)
            return torch.stack([torch.cat([q_c.mean, q_s.mean], 1), torch.cat([q_c.stddev, q_s.stddev], 1)], 1)

        return gaussian(self.each(verb, x))

    def decode(self, z: Tensor) -> Tensor:
        """The mean image of latents ``[B, D]``, z_c first."""
        with self.inference():
            return self.likelihood.mean(self.decoder(torch.as_tensor(z).to(self.loc.weight), None))

    def reconstruct(self, x: Any) -> Tensor:
        """The mean image of the posterior's mean."""
        return self.decode(self.encode(x).mean)

    def reconstruction_log_prob(self, x: Any) -> Tensor:
        """``log p(x | z)`` at one draw of z: ``[B]`` nats."""

        def verb(x: Tensor) -> Tensor:
            z = torch.cat([q.sample() for q in self.posterior(x)], -1)
            return self.likelihood(self.decoder(z, None)).log_prob(self.likelihood.target(x))

        return self.each(verb, x)

    def generate(self, n: int, y: Any = None) -> Tensor:
        """``n`` mean images of ``p(z_c | y) p(z_s)``; missing labels are drawn from p(y).

        :param y: None, one label for all (a number, a class name, or A values), or labels a row, -1 where missing.
        """
        with self.inference():
            z_c = self.p_z_c(self.labels.encode(self.drawn_labels(n, y)).to(self.loc.weight)).sample()
            z_s = torch.randn(n, self.latent_dim - self.label_dim, device=self.device, dtype=z_c.dtype)
            return self.decode(torch.cat([z_c, z_s], -1))

    def elbo(self, x: Any, y: Any = None, *, num_samples: int = 1) -> Tensor:
        """Lower bound on log p(x), or log p(x, y_O), β = 1: ``[B]`` nats, the mean over draws of z.

        A missing y is summed over under q(y | z_c); more than 1,024 configurations are sampled instead.
        """
        return self.each(lambda x, y=None: self._bound(x, y, num_samples, importance=False), x, y, rows=250)

    def log_likelihood(self, x: Any, y: Any = None, *, num_samples: int = 100) -> Tensor:
        """Importance-weighted bound ``log 1/S Σ_s Σ_y p(x, y, z_s) / q(z_s | x)``: ``[B]`` nats."""
        return self.each(lambda x, y=None: self._bound(x, y, num_samples, importance=True), x, y, rows=250)

    def _bound(self, x: Tensor, y: Tensor | None, num_samples: int, importance: bool) -> Tensor:
        (q_c, q_s), target = self.posterior(x), self.likelihood.target(x)
        p_s = standard_normal(x, self.latent_dim - self.label_dim)

        def draw() -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            z_c, z_s = q_c.sample(), q_s.sample()
            log_w = self.likelihood(self.decoder(torch.cat([z_c, z_s], -1), None)).log_prob(target)
            log_w = log_w + p_s.log_prob(z_s) - q_s.log_prob(z_s) - q_c.log_prob(z_c)
            return self.head(z_c), lambda values: self.p_z_c(self.class_inputs(values, z_c)).log_prob(z_c) + log_w

        return bound_over_labels(self, self.targets(y, x), draw, num_samples, importance=importance, most=MOST_VALUES)

    def intervene(self, x: Any, values: Mapping[str, int] | str | int, *, num_samples: int | None = None) -> Tensor:
        """Encode ``x``, draw all of z_c from p(z_c | y), y as predicted but for the named values, keep z_s, decode.

        :param values: ``{"Smiling": 1}``; for class labels a class, by number or name.
        :param num_samples: S draws: ``[S, B, *input_shape]``; None for one without the first dimension.
        :raises InputError: an attribute or class that does not exist, or a value that is neither 0 nor 1.
        """
        asked = self._asked(values)
        z_s, y = self.encode(x).mean[:, self.label_dim :], self.predict(x)
        with self.inference():
            p = self.p_z_c(self.labels.encode(torch.where(asked == MISSING, y, asked)).to(z_s))
        return repeated(lambda: self.decode(torch.cat([p.sample(), z_s], -1)), num_samples)

    def swap(self, x: Any, donor: Any, name: str = "class") -> Tensor:
        """``x`` with the donor's z_c: ``[B, *input_shape]``. No attribute has a part of its own, so all of z_c moves.

        :param donor: as many points as ``x``, or one for all.
        """
        x, donor = self._pair(x, donor, name)
        z, d = self.encode(x).mean.clone(), self.label_dim
        z[:, :d] = self.encode(donor).mean[:, :d]
        return self.decode(z)
