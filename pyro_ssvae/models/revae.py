"""The ReVAE (published as CCVAE): labels are auxiliary variables on the latents, which hold more than label values.

Source: Joy, Schmon, Torr, Siddharth, Rainforth (2020), arXiv:2006.10102; ICLR 2021 as "Capturing Label
Characteristics in VAEs".
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor, nn
from torch.nn import functional as F

from ..distributions.clamped import clamped_logits
from ..distributions.logistic_normal import log_sigmoid_normal
from ..errors import InputError, nearest
from ..infer.batched import evaluating, seeded
from ..infer.ccvae_bound import WHOLE, CCVAEBound, Detach
from ..infer.label_inference import MOST_VALUES
from ..infer.traces import need_site, plain, sampled
from ..label_arrays import value_counts
from ..labels import MISSING, AttributeLabels, Labels
from ..nn.networks import features, with_class_input
from .base import Model, given_labels
from .config import Range, Size, Weight
from .fixed_draws import fixed_draws, fixed_noise, fresh_draws, score_of
from .generative import moment_of, standard_normal
from .label_mixin import LabelMixin
from .local_guide import LocalGuide, LocalityConfig
from .rewritten import overridden_since, probs_of

FLOOR = 1e-3  # of every scale
CONSISTENCY = 20 / (3 * 64 * 64)  # a value of a point
SPIKE = 0.3  # scale of p(z_c^i | 0) of a one-sided attribute
BOUND_ALONE = {
    "intervention_consistency": 0.0, "entropy_weight": 0.0, "alignment_weight": 0.0, "z_c_gradient": 1.0,
    "locality": 0.0, "equal_rates": 0.0,
}  # fmt: skip
"""Options with which nothing but the bound is trained, under the paper's guide."""


@dataclass(frozen=True, kw_only=True)
class ReVAEConfig(LocalityConfig):
    """Options of the ReVAE."""

    label_inference: Literal["enumerate", "sample"] | None = None
    """A missing label is summed over (enumerate, the default) or drawn (sample, as released: far noisier)."""
    label_dim: Size | None = None
    """Latent dimensions an attribute (up to 4 by default), or of all classes together (as many as classes)."""
    intervention_consistency: Weight | None = None
    """Weight of the term that asks pictures of interventions to be read as they were meant; by the points' size."""
    z_c_gradient: Annotated[float, Range(0, 1)] | None = None
    """Share of the reconstruction's gradient that reaches the labels' latents; 1, with classes 0.3."""
    detach: Detach = "all"
    """What of the bound's weight carries no gradient."""
    integral: Literal["quadrature", "samples"] = "quadrature"
    """How q(y | x) is computed."""
    one_sided: tuple[str, ...] = ()
    """Attributes with nothing behind their 0, such as glasses: z_c^i is near 0 there."""
    equal_rates: Weight = 1.0
    """With one-sided attributes: weight that keeps the other latents from spending nats on them."""


class ReVAE(LocalGuide, LabelMixin):
    """z = (z_c, z_s): z_c carries the labelled characteristics, z_s the rest::

        generative:  p(y) p(z_c | y) p(z_s) p(x | z_c, z_s)        p(z_s) = N(0, I)
        inference:   q(z | x) q(y | z_c)                           q(z | x) a diagonal Gaussian

    Attributes, one part of z_c each: ``p(z_c|y) = Π_i N(z_c^i; μ_i(y_i), σ_i(y_i)²)``,
    ``q(y|z_c) = Π_i Bernoulli(logit = w_i · z_c^i + b_i)``. Classes: z_c is one block, ``p(z_c|y)`` one Gaussian a
    class, ``q(y|z_c)`` a softmax. The objective is :class:`~pyro_ssvae.infer.ccvae_bound.CCVAEBound`.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``.
    :param decoder: ``z [B, D]`` → ``[B, *input_shape]``.
    :param labels: A attributes or K classes.
    :param options: those of :class:`ReVAEConfig`; ``likelihood`` may be a module. Choices of this project:

        - ``label_dim``: the paper has 1 an attribute; by default up to 4, as long as z_s keeps at least 8, so that
          z_c^i can hold which kind it is.
        - ``alpha``: weight of ``log q(y_O | x)``. 1 is the paper's bound; but with w detached as a whole, the gradients
          of ``-E[w log q(y_O | z_c)]`` and ``log q(y_O | x)`` then cancel on labelled rows, so that the head would
          learn from missing labels alone. 500 lets few labels be heard beside thousands of pixels.
        - ``intervention_consistency``: in training alone, by default 20 for 3x64x64 values and in proportion to their
          number, as the bound is. It grows as the entropy's weight does.
        - ``z_c_gradient``: 1 is the bound's own, and the default for attributes: what z_c does not hold from the start
          of a training, z_s does (docs/revae.md). For classes 0.3, since thousands of pixels otherwise write into the
          one block that the head reads, and few labels are not heard (docs/baselines.md). A part of it grows to this
          share; with 0 the pixels shape z_s alone.
        - ``integral``: ``"quadrature"`` (attributes: one-dimensional, exact to 1e-3 nats) or ``"samples"`` (100 joint
          draws with the current z among them, as in the released code; always for classes).
        - ``locality``, ``locality_threshold``: q_S(z | x) of :class:`~.local_guide.LocalGuide`; 0 is the
          paper's.
        - ``one_sided``, ``equal_rates``: ``p(z_c^i | 0) = N(0, 0.3²)``, a spike, and ``p(z_c^i | 1)`` a slab, that
          begins at the unit scale; beside the bound, in training alone,
          :func:`~pyro_ssvae.infer.equal_rates.equal_rates`.
        - ``entropy_weight``, ``alignment_weight``: beside the bound, in training alone. ``BOUND_ALONE`` has the options
          with which nothing else is trained.

    Sites, in the plates ``data`` (dimension -1, B) and, for attributes, ``attributes`` (dimension -2, A):

    ======= ===================== =========== =====================================================
    site    batch shape           event shape in the model / in the guide
    ======= ===================== =========== =====================================================
    ``y``   [A, B], classes [B]   []          p(y) / known: a point mass; missing: q(y | z_c)
    ``z_c`` [A, B], classes [B]   [d]         p(z_c | y) / q(z_c | x)
    ``z_s`` [B]                   [D_s]       N(0, I) / q(z_s | x)
    ``x``   [B]                   input_shape p(x | z) / not in the guide
    ======= ===================== =========== =====================================================

    While enumerated, ``y`` has a further dimension on the left, of size 2 or K.
    """

    Config: ClassVar[type[ReVAEConfig]] = ReVAEConfig
    config: ReVAEConfig
    augmentation = "none"  # a moved picture would be reconstructed, and intervened on, as moved
    latents = ("z_c", "z_s")

    def __init__(self, encoder: nn.Module, decoder: nn.Module, labels: Labels, **options: Any) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        dim = self.config.dim
        self.set_label(labels, "enumerate", summed=MOST_VALUES, joint=False)
        self.multilabel = isinstance(labels, AttributeLabels)
        self.plates = 2 if self.multilabel else 1
        roomy = min(4, max(1, (dim - 8) // labels.size))
        self.label_dim = self.config.label_dim or (roomy if self.multilabel else labels.size)
        self.z_c_dim = labels.size * self.label_dim if self.multilabel else self.label_dim
        if dim <= self.z_c_dim:
            raise InputError(f"latent_dim: {dim}; z_c alone takes {self.z_c_dim}, and z_s needs at least 1 more")
        share = self.config.z_c_gradient
        self.z_c_gradient = share if share is not None else 1.0 if self.multilabel else 0.3
        self.encoder = encoder
        self.decoder = with_class_input(decoder, dim, 0)
        self.set_likelihood(likelihood, 0)
        weight = self.config.intervention_consistency
        self.consistency = CONSISTENCY * math.prod(self.input_shape) if weight is None else weight
        self.q_z = nn.Linear(features(encoder), 2 * dim)
        self.one_sided = sorted({self.attribute_of(name) for name in self.config.one_sided})
        self.start_apart()
        self.set_locality()

    def attribute_of(self, name: str) -> int:
        """The number of a one-sided attribute."""
        names = list(self.labels.names)
        if not self.multilabel:
            raise InputError(f"one_sided: {name!r}; the labels are classes, and attributes are needed")
        if name not in names:
            raise InputError(f"one_sided: there is no attribute {name!r}{nearest(name, names)}")
        return names.index(name)

    def start_apart(self) -> None:
        """Begin with p(z_c | y) at -1 and 1 (classes: twice the unit vectors), q(y | z_c) as its inverse (choice)."""
        d, size = self.label_dim, self.labels.size
        if self.multilabel:
            start = torch.tensor([-1.0, 1.0]).reshape(1, 2, 1).expand(size, 2, d) / math.sqrt(d)
            self.head_weight = nn.Parameter(2 * torch.ones(size, d) / math.sqrt(d))
        else:
            start = 2 * torch.eye(size, d)
            self.head_weight = nn.Parameter(start.clone())
        self.head_bias = nn.Parameter(torch.zeros(size))
        self.prior_loc = nn.Parameter(start.clone())
        self.spike: Tensor
        spike = torch.zeros(size, 2, 1, dtype=torch.bool)
        spike[self.one_sided, 0] = True
        self.register_buffer("spike", spike, persistent=False)
        self.prior_raw_scale = nn.Parameter(torch.full_like(start, math.log(math.expm1(1.0))))
        self.noise: Tensor
        self.register_buffer("noise", fixed_noise(d), persistent=False)
        with torch.no_grad():  # q(z | x) begins at a scale of 1, as in the other models
            for i in self.one_sided:  # as far from the spike as other attributes' means are from each other
                self.prior_loc[i, 1] *= 2
                self.head_bias[i] = -2
            self.q_z.bias[self.config.dim :] += math.log(math.expm1(1.0))

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> ReVAE:
        encoder, decoder = cls.networks(input_shape, 0, options)
        return cls(encoder, decoder, labels, **options)

    def objective(self) -> CCVAEBound:
        """One bound for any mix of labels and, in training, the prior on π and the consistency of interventions."""
        c = self.config
        bound = CCVAEBound(
            self, detach=c.detach, alpha=self.head_terms.alpha, consistency=self.consistency,
            equal_rates=c.equal_rates if self.one_sided else 0.0,
            head_terms=bool(c.entropy_weight or c.alignment_weight),
        )  # fmt: skip
        bound.max_plate_nesting = self.plate_dims(self.plates)
        return bound

    def bound(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The paper's bound, α = 1, at one draw: ``[B]``. With known labels it is not ``E_q[log p - log q]``."""
        return CCVAEBound(self).rows(self.model, self.guide, x, y)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z_c | y) p(z_s) p(x | z_c, z_s)``."""
        x = self.begin(x)
        data = self.plate(x)
        with data:
            z_s = pyro.sample("z_s", self.p_z_s(x))
        with self.label_plates(data):
            z_c = pyro.sample("z_c", self.p_z_c(pyro.sample("y", self.p_y())))
        with data:
            if self.z_c_gradient < 1:
                z_c = self.scale_gradient(z_c, self.z_c_gradient)
            out = self.decoder(self.join(self.heard(z_c), z_s), None)
            return pyro.sample("x", self.p_x(out), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(z | x) q(y_U | z_c)``, with ``locality`` in training q_S(z | x)."""
        x = self.begin(x)
        y = self.targets(y, x)
        q_c, q_s = self.q_z_given(x)
        seen: Any = {}
        if self.training and self.config.locality:
            seen = {WHOLE: q_c} if self.multilabel else {}  # of classes z_c is of the whole point anyway
            q_c, q_s = self.q_z_local(x, y, q_c, q_s)
        data = self.plate(x)
        with data:
            pyro.sample("z_s", q_s)
        with self.label_plates(data):
            z_c = pyro.sample("z_c", q_c, infer=seen)
            q_y = dist.Categorical(logits=clamped_logits(self.log_q_y(z_c), y))
            infer: Any = {"label_inference": self.label_inference.summed}
            if self.label_inference.how == "enumerate":
                infer["enumerate"] = "parallel"
            pyro.sample("y", q_y, infer=infer)

    def plate(self, x: Tensor) -> AbstractContextManager[object]:
        return Model.plate(self, x)  # nothing is relaxed here, and it is entered more than once

    def label_plates(self, data: AbstractContextManager[object]) -> ExitStack:
        """The plates of y and z_c."""
        stack = ExitStack()
        stack.enter_context(data)
        if self.multilabel:
            stack.enter_context(pyro.plate("attributes", self.labels.size, dim=-2))
        return stack

    def targets(self, y: Tensor | None, x: Tensor) -> Tensor:
        """``y`` as the sites have it: ``[A, B]`` or ``[B]``."""
        return self.as_site(super().targets(y, x))

    def prepare(self, x: Tensor, y: Tensor) -> None:
        """Take p(y) from the known labels; every attribute, or class, must have some of each value, or none any."""
        if bool((y != MISSING).any()):
            counts = value_counts(y, 2).tolist() if self.multilabel else []
            for name, count in zip(self.labels.names, counts):
                values = [k for k in (0, 1) if count[k]]
                if len(values) < 2:
                    found = f"only the value {values[0]}" if values else "no known label"
                    raise InputError(f"attribute {name!r}: {found} among the labels kept; it needs both 0 and 1")
        for i in self.one_sided:
            if not bool((y[:, i] == 1).any()):
                name = self.labels.names[i]
                raise InputError(f"one_sided: attribute {name!r} has no 1 among the labels kept; it needs some")
        super().prepare(x, y)
        self.check_head(x[:2])

    def check_head(self, x: Tensor) -> None:
        """Raise :class:`InputError` where a rewritten guide's q(y | z_c) is not the one that the objective trains."""
        if not overridden_since(self, "guide", "log_q_y"):
            return
        try:
            with seeded(self.device, 0), evaluating(self):
                q = sampled(poutine.trace(self.guide).get_trace(x, None))
                own, trained = probs_of(q["y"]["fn"]), self.log_q_y(q["z_c"]["value"]).exp()
        except Exception:  # of a program of one's own, without these sites, or that the training itself refuses
            return
        if own.shape != trained.shape or not torch.allclose(own, trained, atol=1e-4):
            raise InputError("guide: its q(y | z_c) is not log_q_y(z_c), which the objective trains and the guide must "
                             "use; override log_q_y")  # fmt: skip

    def p_y(self) -> dist.TorchDistribution:
        """p(y) of each value: attributes ``[A, 1]``, classes ``[]``."""
        log_p = self.labels.log_probs(self.label_prior.logits)
        return dist.Categorical(logits=log_p.unsqueeze(-2) if self.multilabel else log_p)

    def p_z_c(self, y: Tensor) -> dist.TorchDistribution:
        """p(z_c | y) for values ``[..., A, B]`` or ``[..., B]``, whole numbers of any type.

        :raises InputError: values of attributes ``[B, A]`` or ``[A]``.
        """
        y = torch.as_tensor(y, device=self.prior_loc.device).long()
        loc: Tensor = self.prior_loc
        scale = F.softplus(self.prior_raw_scale).clamp_min(FLOOR)
        if not self.multilabel:
            return dist.Normal(loc[y], scale[y]).to_event(1)
        if y.dim() and (y.dim() == 1 or y.shape[-2] not in (1, self.labels.size)):
            raise InputError(f"y: shape {list(y.shape)}; in the plates of a ReVAE attributes come before points, "
                             f"[{self.labels.size}, N]")  # fmt: skip
        if self.one_sided:
            loc, scale = torch.where(self.spike, 0.0, loc), torch.where(self.spike, SPIKE, scale)
        i = torch.arange(self.labels.size, device=y.device).unsqueeze(-1)
        return dist.Normal(loc[i, y], scale[i, y]).to_event(1)

    def p_z_s(self, x: Tensor) -> dist.TorchDistribution:
        """``N(0, I)``."""
        return standard_normal(x, self.config.dim - self.z_c_dim)

    def q_z_given(self, x: Tensor) -> tuple[dist.TorchDistribution, dist.TorchDistribution]:
        """q(z_c | x) and q(z_s | x)."""
        loc, raw = self.q_z(self.encoder(self.likelihood.standardize(x))).chunk(2, -1)
        scale = F.softplus(raw).clamp_min(FLOOR)
        n = self.z_c_dim
        q_c = dist.Normal(self.split(loc[:, :n]), self.split(scale[:, :n])).to_event(1)
        return q_c, dist.Normal(loc[:, n:], scale[:, n:]).to_event(1)

    def split(self, z_c: Tensor) -> Tensor:
        """``[B, A d]`` as the site has it: ``[A, B, d]``; classes: as it is."""
        return z_c.unflatten(-1, (-1, self.label_dim)).transpose(-3, -2) if self.multilabel else z_c

    def join(self, z_c: Tensor, z_s: Tensor) -> Tensor:
        """Sites z_c and z_s as the decoder's ``[..., B, D]``; in a further plate z_s has a 1 for the attributes."""
        if self.multilabel:
            z_c = z_c.transpose(-3, -2).flatten(-2)
            z_c = z_c.unsqueeze(-3) if z_c.dim() < z_s.dim() else z_c
        return torch.cat([z_c, z_s], -1)

    def log_q_y(self, z_c: Tensor) -> Tensor:
        """log q(y | z_c) of each value: ``[..., A, B, 2]`` or ``[..., B, K]``."""
        if self.multilabel:
            logits = (z_c * self.head_weight.unsqueeze(-2)).sum(-1) + self.head_bias.unsqueeze(-1)
            return self.labels.log_probs(logits)
        return self.labels.log_probs(z_c @ self.head_weight.t() + self.head_bias)

    def log_q_known_given_z(self, y: Tensor, z_c: Tensor) -> Tensor:
        """``log q(y_O | z_c)``, ``[B]``."""
        return self.sum_known(y, self.log_q_y(z_c))

    def log_q_known(self, y: Tensor, q_z_c: dist.TorchDistribution, z_c: Tensor) -> Tensor:
        """``log q(y_O | x) = log E_q(z|x)[ q(y_O | z_c) ]``, ``[B]``; samples are joined by the current z_c."""
        q = plain(q_z_c)
        if self.config.integral == "quadrature" and self.by_quadrature(q):
            mean, spread = self.head_given_x(q.loc, q.scale)
            picked = log_sigmoid_normal(torch.where(y == 0, -mean, mean), spread)
            return torch.where(y == MISSING, 0.0, picked).sum(-2)
        draws = torch.cat([z_c.unsqueeze(0), fresh_draws(q_z_c)])
        score = score_of(q_z_c, draws)
        log_q = self.log_q_known_given_z(y.expand(draws.shape[:-1]), draws)
        return (log_q + (score.sum(-2) if self.multilabel else score)).logsumexp(0) - math.log(len(draws))

    def sum_known(self, y: Tensor, log_q: Tensor) -> Tensor:
        """Pick the known values out of ``log_q``, and sum them over the attributes."""
        picked = log_q.gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        picked = torch.where(y == MISSING, 0.0, picked)
        return picked.sum(-2) if self.multilabel else picked

    def by_quadrature(self, q: object) -> bool:
        """Whether the head's logits under q(z_c | x) are Gaussian: of attributes, unless the head was rewritten."""
        linear = not overridden_since(self, "log_q_y", "head_given_x")
        return self.multilabel and isinstance(q, dist.Normal) and linear

    def head_given_x(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale ``[A, B]`` of the head's logits under q(z_c | x)."""
        w = self.head_weight.unsqueeze(-2)
        return (w * loc).sum(-1) + self.head_bias.unsqueeze(-1), (w * scale).square().sum(-1).sqrt()

    def log_q_y_given_x(self, q_z_c: dist.TorchDistribution) -> Tensor:
        """``log q(y | x)`` of each value: ``[A, B, 2]`` by quadrature, ``[B, K]`` by 100 fixed draws."""
        q = plain(q_z_c)
        if self.by_quadrature(q):
            mean, spread = self.head_given_x(q.loc, q.scale)
            return torch.stack([log_sigmoid_normal(-mean, spread), log_sigmoid_normal(mean, spread)], -1)
        draws = fixed_draws(q_z_c, self.noise)
        log_q = self.log_q_y(draws) + score_of(q_z_c, draws).unsqueeze(-1)
        return log_q.logsumexp(0) - math.log(len(draws))

    def forward(self, x: Tensor) -> Tensor:
        """log q(y | x) of each value: ``[A, B, 2]`` or ``[B, K]``, under the q(z_c | x) of the guide as it is."""
        if not overridden_since(self, "guide", "q_z_given"):
            return self.log_q_y_given_x(self.q_z_given(x)[0])
        with poutine.block():
            q = sampled(poutine.trace(self.guide).get_trace(x, None))
        return self.log_q_y_given_x(q["z_c"]["fn"])

    def logits(self, q_z_c: dist.TorchDistribution) -> Tensor:
        """Logits of q(y | x): ``[B, A]`` or ``[B, K]``."""
        log_q = self.log_q_y_given_x(q_z_c)
        return (log_q[..., 1] - log_q[..., 0]).t() if self.multilabel else log_q

    def q_y(self, x: Tensor) -> Tensor:
        return self.labels.probs(self.logits(self.q_z_given(x)[0]))

    def joined(self, sites: dict[str, Any], moment: str) -> Tensor:
        return self.join(*(moment_of(site["fn"], moment) for site in self.latent_sites(sites)))

    def parts(self, z: Tensor) -> dict[str, Tensor]:
        return {"z_c": self.split(z[..., : self.z_c_dim]), "z_s": z[..., self.z_c_dim :]}

    def read_off(self, parts: dict[str, Tensor]) -> Tensor:
        return self.as_site(self.log_q_y(parts["z_c"]).argmax(-1))

    def as_site(self, y: Tensor) -> Tensor:
        """Attributes the other way round, ``[n, A]`` as ``[A, n]``."""
        return y.t() if self.multilabel else y

    def drawn_labels(self, n: int, y: ArrayLike | None) -> dict[str, Tensor]:
        if y is None:
            return {}
        known = self.as_site(given_labels(y, n, self.labels, self.device))
        self.check_labels_first(n)
        if not n or not bool((known == MISSING).any()):
            return {"y": known}
        site = need_site(poutine.trace(self.model).get_trace(self.stand_in(n), None), "y", "generate")
        return {"y": torch.where(known == MISSING, site["value"], known)}
