"""The ReVAE (published as CCVAE): labels are auxiliary variables on the latents, which hold more than label values.

Source: Joy, Schmon, Torr, Siddharth, Rainforth (2020), arXiv:2006.10102; ICLR 2021 as "Capturing Label
Characteristics in VAEs".
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..distributions.logistic_normal import log_sigmoid_normal
from ..errors import InputError
from ..infer.ccvae_bound import Detach, ReVAEBound
from ..infer.label_prior import ClassPrior, LabelPrior
from ..labels import MISSING, AttributeLabels, Labels
from ..nn.likelihoods import Likelihood
from ..nn.networks import AddClass, default_decoder, default_encoder, features, takes_class_input
from .base import deterministic, make_likelihood, standard_normal
from .interventions import Characteristics

FLOOR = 1e-3  # of every scale
STEERING = 20 / (3 * 64 * 64)  # a value of a point
BOUND_ALONE = {"steering": 0.0, "entropy_weight": 0.0, "balance_weight": 0.0, "z_c_gradient": 1.0}
"""Options with which nothing but the bound is trained."""


class ReVAE(Characteristics, LabelPrior):
    """z = (z_c, z_s): z_c carries the labelled characteristics, z_s the rest::

        generative:  p(y) p(z_c | y) p(z_s) p(x | z_c, z_s)        p(z_s) = N(0, I)
        inference:   q(z | x) q(y | z_c)                           q(z | x) a diagonal Gaussian

    Attributes, one part of z_c each: ``p(z_c|y) = Π_i N(z_c^i; μ_i(y_i), σ_i(y_i)²)``,
    ``q(y|z_c) = Π_i Bernoulli(logit = w_i · z_c^i + b_i)``. Classes: z_c is one block, ``p(z_c|y)`` one Gaussian a
    class, ``q(y|z_c)`` a softmax. The objective is :class:`~pyro_ssvae.infer.ccvae_bound.ReVAEBound`.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``.
    :param decoder: ``z [B, D]`` → ``[B, *input_shape]``.
    :param labels: A attributes or K classes.
    :param latent_dim: D = width of z_c and z_s together.
    :param label_dim: d, latent dimensions an attribute, or the width of z_c for classes (K by default). The paper has
        1; by default (choice) up to 4, as long as z_s keeps at least 8, so that z_c^i can hold which kind it is.
    :param alpha: weight of ``log q(y_O | x)``. 1 is the paper's bound; but with w detached as a whole, the gradients of
        ``-E[w log q(y_O | z_c)]`` and ``log q(y_O | x)`` then cancel on labelled rows, so that the head would learn
        from missing labels alone. 500 (choice, as in AugVAE) lets few labels be heard beside thousands of pixels.
    :param steering: weight of a term beside the bound, in training alone, that asks of the decoder that pictures of
        interventions be read as they were meant (:func:`~pyro_ssvae.infer.intervention_consistency.steering`; choice). By default 20
        for 3x64x64 values, and in proportion to their number, as the bound is. It grows like the entropy's weight:
        :meth:`anneal`.
    :param entropy_weight, balance_weight, class_prior: of :class:`~pyro_ssvae.infer.label_prior.LabelPrior`, whose
        prior on π = q(y | x) stands beside the bound, in training alone (choice). ``BOUND_ALONE`` has the options with
        which nothing else is trained.
    :param z_c_gradient: the share of the gradient of ``log p(x | z)`` that reaches q(z_c | x) (choice). 1 is the
        bound's own, and the default for attributes: what z_c does not hold from the start of a training, z_s does
        (docs/revae.md). For classes it is 0.3 by default, since thousands of pixels otherwise write into the one block
        that the head reads, and few labels are not heard (docs/baselines.md). A part of it grows to this share:
        :meth:`anneal`; with 0 the pixels shape z_s alone.
    :param detach: what of w(z) carries no gradient, see :class:`~pyro_ssvae.infer.ccvae_bound.ReVAEBound`.
    :param integral: how q(y | x) is computed: ``"quadrature"`` (attributes: one-dimensional, exact to 1e-3 nats) or
        ``"samples"`` (100 joint draws with the current z among them, as in the released code; always for classes).
    :param missing: a missing y is summed over (``"enumerate"``) or drawn (``"sample"``, as released, for comparison:
        its gradient is far noisier).
    :param likelihood: ``"bernoulli"``, ``"normal"``, ``"laplace"`` or a module like these; by the data's shape if None.

    Sites, in the plates ``data`` (dimension -1, B) and, for attributes, ``attributes`` (dimension -2, A):

    ================ ===================== =========== ============================================
    site             batch shape           event shape in the model / in the guide
    ================ ===================== =========== ============================================
    ``y_observed``   [A, B], classes [B]   []          known labels under p(y) / not in the guide
    ``y_unobserved`` [A, B], classes [B]   []          missing labels: p(y) / q(y | z_c), enumerated
    ``y``            [A, B], classes [B]   []          the two, interleaved
    ``z_c``          [A, B], classes [B]   [d]         p(z_c | y) / q(z_c | x)
    ``z_s``          [B]                   [D_s]       N(0, I) / q(z_s | x)
    ``x``            [B]                   input_shape the likelihood / not in the guide
    ================ ===================== =========== ============================================

    While enumerated, ``y_unobserved`` has a further dimension on the left, of size 2 or K.
    """

    augmentation = "none"  # a moved picture would be reconstructed, and intervened on, as moved

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        labels: Labels,
        *,
        latent_dim: int,
        label_dim: int | None = None,
        alpha: float = 500.0,
        steering: float | None = None,
        entropy_weight: float = 20.0,
        balance_weight: float = 50.0,
        class_prior: ClassPrior = "estimated",
        z_c_gradient: float | None = None,
        detach: Detach = "all",
        integral: Literal["quadrature", "samples"] = "quadrature",
        missing: Literal["enumerate", "sample"] = "enumerate",
        likelihood: str | Likelihood | None = None,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("detach", detach, ("none", "numerator", "all")),
            ("integral", integral, ("quadrature", "samples")),
            ("missing", missing, ("enumerate", "sample")),
        ):
            if value not in known:
                raise InputError(f"{name}: {value!r}; one of {', '.join(known)} is needed")
        if z_c_gradient is None:
            z_c_gradient = 1.0 if isinstance(labels, AttributeLabels) else 0.3
        if not 0 <= z_c_gradient <= 1:
            raise InputError(f"z_c_gradient: {z_c_gradient}; a share from 0 to 1 is needed")
        self.set_label_prior(labels, class_prior, entropy_weight, balance_weight)
        self.factorised = isinstance(labels, AttributeLabels)
        self.plates = 2 if self.factorised else 1
        roomy = min(4, max(1, (latent_dim - 8) // labels.size))
        d = label_dim or (roomy if self.factorised else labels.size)
        self.label_dim = d
        self.characteristic_dim = labels.size * d if self.factorised else d
        if latent_dim <= self.characteristic_dim:
            raise InputError(
                f"latent_dim: {latent_dim}; z_c alone takes {self.characteristic_dim}, and z_s needs at least 1 more"
            )
        self.latent_dim = latent_dim
        self.alpha, self.z_c_gradient = alpha, z_c_gradient
        self.detach, self.integral, self.missing = detach, integral, missing
        self.encoder = encoder
        self.decoder = decoder if takes_class_input(decoder) else AddClass(decoder, latent_dim, 0)
        self.likelihood, self.input_shape = make_likelihood(likelihood, self.decoder, latent_dim, 0)
        self.steering = STEERING * math.prod(self.input_shape) if steering is None else steering
        self.q_z = nn.Linear(features(encoder), 2 * latent_dim)
        # p(z_c | y): attributes begin at -1 and 1, classes at twice the unit vectors; q(y | z_c) begins as its inverse.
        if self.factorised:
            start = torch.tensor([-1.0, 1.0]).reshape(1, 2, 1).expand(labels.size, 2, d) / math.sqrt(d)
            self.head_weight = nn.Parameter(2 * torch.ones(labels.size, d) / math.sqrt(d))
        else:
            start = 2 * torch.eye(labels.size, d)
            self.head_weight = nn.Parameter(start.clone())
        self.head_bias = nn.Parameter(torch.zeros(labels.size))
        self.prior_loc = nn.Parameter(start.clone())
        self.prior_raw_scale = nn.Parameter(torch.full_like(start, math.log(math.expm1(1.0))))
        self.noise: Tensor
        noise = torch.randn(100, 1, d, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", noise, persistent=False)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, latent_dim: int, **options: Any) -> ReVAE:
        """The model with the networks that suit the input's shape."""
        encoder, decoder = default_encoder(input_shape), default_decoder(input_shape, latent_dim, 0)
        return cls(encoder, decoder, labels, latent_dim=latent_dim, **options)

    def objective(self) -> ReVAEBound:
        """One bound for any mix of labels and, in training, the prior on π and the steering of interventions."""
        label_prior = bool(self.entropy_weight or self.balance_weight)
        return ReVAEBound(self, detach=self.detach, alpha=self.alpha, steering=self.steering, label_prior=label_prior)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z_c | y) p(z_s) p(x | z_c, z_s)``."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        log_p_y = self.log_p_y(len(x))
        data = pyro.plate("data", len(x), dim=-1)
        with data:
            z_s = pyro.sample("z_s", standard_normal(x, self.latent_dim - self.characteristic_dim))
        with self.label_plates(data):
            known = dist.Categorical(logits=log_p_y).mask(y != MISSING)
            pyro.sample("y_observed", known, obs=y.clamp_min(0))
            values = pyro.sample("y_unobserved", dist.Categorical(logits=known_values(log_p_y, y)))
            deterministic("y", values, x, 0)
            z_c = pyro.sample("z_c", self.p_z_c(values))
        with data:
            if self.z_c_gradient < 1:
                z_c = self.annealed(z_c, self.z_c_gradient)
            out = self.decoder(self.join(z_c, z_s), None)
            return pyro.sample("x", self.likelihood(out), obs=self.likelihood.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z | x) q(y_U | z_c)``."""
        self.register()
        x = self.inputs(x)
        y = self.targets(y, x)
        q_c, q_s = self.posterior(x)
        data = pyro.plate("data", len(x), dim=-1)
        infer: Any = {"enumerate": "parallel"} if self.missing == "enumerate" else {}
        with data:
            pyro.sample("z_s", q_s)
        with self.label_plates(data):
            z_c = pyro.sample("z_c", q_c)
            pyro.sample("y_unobserved", dist.Categorical(logits=known_values(self.log_q_y(z_c), y)), infer=infer)

    def label_plates(self, data: Any) -> ExitStack:
        """The plates of y and z_c."""
        stack = ExitStack()
        stack.enter_context(data)
        if self.factorised:
            stack.enter_context(pyro.plate("attributes", self.labels.size, dim=-2))
        return stack

    def targets(self, y: Any, x: Tensor) -> Tensor:
        """``y`` as the sites have it: ``[A, B]`` or ``[B]``."""
        checked = super().targets(y, x)
        return checked.t() if self.factorised else checked

    def prepare(self, x: Tensor, y: Tensor) -> None:
        """Take p(y) from the known labels; every attribute, or class, must have some of each value, or none any."""
        if bool((y != MISSING).any()):
            for i, name in enumerate(self.labels.names if self.factorised else ()):
                values = y[:, i][y[:, i] != MISSING].unique().tolist()
                if len(values) < 2:
                    found = f"only the value {values[0]}" if values else "no known label"
                    raise InputError(f"attribute {name!r}: {found} among the labels kept; it needs both 0 and 1")
        super().prepare(x, y)

    def posterior(self, x: Tensor) -> tuple[dist.TorchDistribution, dist.TorchDistribution]:
        """q(z_c | x) and q(z_s | x)."""
        loc, raw = self.q_z(self.encoder(self.likelihood.standardize(x))).chunk(2, -1)
        scale = F.softplus(raw).clamp_min(FLOOR)
        n = self.characteristic_dim
        q_c = dist.Normal(self.split(loc[:, :n]), self.split(scale[:, :n])).to_event(1)
        return q_c, dist.Normal(loc[:, n:], scale[:, n:]).to_event(1)

    def split(self, z_c: Tensor) -> Tensor:
        """``[B, A d]`` as the site has it: ``[A, B, d]``; classes: as it is."""
        return z_c.unflatten(-1, (-1, self.label_dim)).transpose(-3, -2) if self.factorised else z_c

    def join(self, z_c: Tensor, z_s: Tensor) -> Tensor:
        """Sites z_c and z_s as the decoder's ``[..., B, D]``; in a further plate z_s has a 1 for the attributes."""
        if self.factorised:
            z_c = z_c.transpose(-3, -2).flatten(-2)
            z_c = z_c.unsqueeze(-3) if z_c.dim() < z_s.dim() else z_c
        return torch.cat([z_c, z_s], -1)

    def log_p_y(self, n: int) -> Tensor:
        """log p(y) of each value: ``[A, n, 2]`` or ``[n, K]``."""
        log_p = self.labels.log_probs(self.prior_logits)
        return log_p.unsqueeze(-2).expand(-1, n, -1) if self.factorised else log_p.expand(n, -1)

    def log_q_y(self, z_c: Tensor) -> Tensor:
        """log q(y | z_c) of each value: ``[..., A, B, 2]`` or ``[..., B, K]``."""
        if self.factorised:
            logits = (z_c * self.head_weight.unsqueeze(-2)).sum(-1) + self.head_bias.unsqueeze(-1)
            return self.labels.log_probs(logits)
        return self.labels.log_probs(z_c @ self.head_weight.t() + self.head_bias)

    def p_z_c(self, y: Tensor) -> dist.TorchDistribution:
        """p(z_c | y) for values ``[..., A, B]`` or ``[..., B]``."""
        scale = F.softplus(self.prior_raw_scale).clamp_min(FLOOR)
        if not self.factorised:
            return dist.Normal(self.prior_loc[y], scale[y]).to_event(1)
        i = torch.arange(self.labels.size, device=y.device).unsqueeze(-1)
        return dist.Normal(self.prior_loc[i, y], scale[i, y]).to_event(1)

    def log_q_known_given_z(self, y: Tensor, z_c: Tensor) -> Tensor:
        """``log q(y_O | z_c)``, ``[B]``."""
        return self.sum_known(y, self.log_q_y(z_c))

    def log_q_known(self, y: Tensor, loc: Tensor, scale: Tensor, z_c: Tensor) -> Tensor:
        """``log q(y_O | x) = log E_q(z|x)[ q(y_O | z_c) ]``, ``[B]``; samples are joined by the current z_c."""
        if self.factorised and self.integral == "quadrature":
            mean, spread = self.head_given_x(loc, scale)
            picked = log_sigmoid_normal(torch.where(y == 0, -mean, mean), spread)
            return torch.where(y == MISSING, 0.0, picked).sum(-2)
        draws = torch.cat([z_c.unsqueeze(0), loc + scale * torch.randn((100, *loc.shape)).to(loc)])
        return self.log_q_known_given_z(y.expand(draws.shape[:-1]), draws).logsumexp(0) - math.log(len(draws))

    def sum_known(self, y: Tensor, log_q: Tensor) -> Tensor:
        """Pick the known values out of ``log_q``, and sum them over the attributes."""
        picked = log_q.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        picked = torch.where(y == MISSING, 0.0, picked)
        return picked.sum(-2) if self.factorised else picked

    def head_given_x(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale ``[A, B]`` of the head's logits under q(z_c | x)."""
        w = self.head_weight.unsqueeze(-2)
        return (w * loc).sum(-1) + self.head_bias.unsqueeze(-1), (w * scale).square().sum(-1).sqrt()

    def log_q_y_given_x(self, loc: Tensor, scale: Tensor) -> Tensor:
        """``log q(y | x)`` of each value: ``[A, B, 2]`` by quadrature, ``[B, K]`` by 100 fixed draws."""
        if self.factorised:
            mean, spread = self.head_given_x(loc, scale)
            return torch.stack([log_sigmoid_normal(-mean, spread), log_sigmoid_normal(mean, spread)], -1)
        return self.log_q_y(loc + scale * self.noise).logsumexp(0) - math.log(len(self.noise))

    def forward(self, x: Tensor) -> Tensor:
        """log q(y | x) of each value: ``[A, B, 2]`` or ``[B, K]``."""
        q_c = self.posterior(x)[0].base_dist
        return self.log_q_y_given_x(q_c.loc, q_c.scale)

    def class_logits(self, x: Tensor) -> Tensor:
        """Logits of q(y | x)."""
        return self.as_logits(self(x))

    def as_logits(self, log_q: Tensor) -> Tensor:
        """Log-probabilities of each value, ``[A, B, 2]`` or ``[B, K]``, as logits ``[B, A]`` or ``[B, K]``."""
        return (log_q[..., 1] - log_q[..., 0]).t() if self.factorised else log_q

    def encode(self, x: Any) -> dist.TorchDistribution:
        """q(z | x), batch shape [B], event shape [D], z_c first."""

        def verb(x: Tensor) -> Tensor:
            q_c, q_s = self.posterior(x)
            return torch.stack([self.join(q_c.mean, q_s.mean), self.join(q_c.stddev, q_s.stddev)], 1)

        parts = self.each(verb, x)
        return dist.Normal(parts[:, 0], parts[:, 1]).to_event(1)

    def decode(self, z: Tensor) -> Tensor:
        """The mean image of latents ``[..., D]``, z_c first."""
        with self.inference():
            z = torch.as_tensor(z).to(self.q_z.weight)
            return self.likelihood.mean(self.decoder(z, None))

    def reconstruct(self, x: Any) -> Tensor:
        """The mean image of the posterior's mean."""
        return self.decode(self.encode(x).mean)

    def reconstruction_log_prob(self, x: Any) -> Tensor:
        """``log p(x | z)`` at one draw of z: ``[B]`` nats."""

        def verb(x: Tensor) -> Tensor:
            z = self.join(*(q.sample() for q in self.posterior(x)))
            return self.likelihood(self.decoder(z, None)).log_prob(self.likelihood.target(x))

        return self.each(verb, x)

    def generate(self, n: int, y: Any = None) -> Tensor:
        """``n`` mean images of ``p(z_c | y) p(z_s)``; missing labels are drawn from p(y).

        :param y: None, one label for all (a number, a class name, or A values), or labels a row, -1 where missing.
        """
        with self.inference():
            labels = self.drawn_labels(n, y)
            values = self.targets(labels, labels)
            z_s = torch.randn(n, self.latent_dim - self.characteristic_dim).to(self.q_z.weight)
            return self.decode(self.join(self.p_z_c(values).sample(), z_s))

    def elbo(self, x: Any, y: Any = None, *, num_samples: int = 1) -> Tensor:
        """The bound on log p(x), or log p(x, y_O), at α = 1: ``[B]`` nats, the mean over draws of z."""
        bound = ReVAEBound(self)

        def verb(x: Tensor, y: Tensor | None = None) -> Tensor:
            return torch.stack([bound.rows(self.model, self.guide, x, y) for _ in range(num_samples)]).mean(0)

        return self.each(verb, x, y)

    def log_likelihood(self, x: Any, y: Any = None, *, num_samples: int = 100) -> Tensor:
        """Importance-weighted bound on log p(x), or log p(x, y_O), missing labels summed over: ``[B]`` nats."""

        def verb(x: Tensor, y: Tensor | None = None) -> Tensor:
            known, (q_c, q_s) = self.targets(y, x), self.posterior(x)
            log_p_y = self.log_p_y(len(x))
            log_p_y = log_p_y.masked_fill((known_values(log_p_y, known) == -torch.inf), -torch.inf)
            values = torch.arange(log_p_y.shape[-1], device=x.device).reshape(-1, *[1] * self.plates)
            values = values.expand(-1, *known.shape)
            draws = []
            for _ in range(num_samples):
                z_c, z_s = q_c.sample(), q_s.sample()
                log_p_c = (self.p_z_c(values).log_prob(z_c) + log_p_y.movedim(-1, 0)).logsumexp(0)
                log_w = log_p_c - q_c.log_prob(z_c)
                log_w = log_w.sum(0) if self.factorised else log_w
                log_w = log_w + standard_normal(x, z_s.shape[-1]).log_prob(z_s) - q_s.log_prob(z_s)
                out = self.decoder(self.join(z_c, z_s), None)
                draws.append(log_w + self.likelihood(out).log_prob(self.likelihood.target(x)))
            return torch.stack(draws).logsumexp(0) - math.log(num_samples)

        return self.each(verb, x, y, rows=250)


def known_values(log_probs: Tensor, y: Tensor) -> Tensor:
    """``log_probs`` of each value where ``y`` is missing; 0 at the known value and -inf at the others elsewhere."""
    value = torch.arange(log_probs.shape[-1], device=y.device)
    point = torch.zeros_like(log_probs).masked_fill(value != y.unsqueeze(-1), -torch.inf)
    return torch.where((y == MISSING).unsqueeze(-1), log_probs, point)
