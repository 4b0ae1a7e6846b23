"""The ReVAE's objective: one bound on log p(x, y_O) for any mix of known and missing labels.

Source: Joy, Schmon, Torr, Siddharth, Rainforth (2020), arXiv:2006.10102; the weight's detachment as a whole: MEME
(ICLR 2022). The exact sum over missing labels is a choice of this project.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, Protocol

import torch
from pyro.distributions import TorchDistribution
from pyro.infer import TraceEnum_ELBO
from pyro.infer.util import torch_backward, torch_item
from torch import Tensor

from ..errors import InputError
from .auxiliary import HeadTerms, supervised
from .equal_rates import equal_rates
from .intervention_consistency import ReadsInterventions, intervention_consistency
from .pairs import Program
from .terms import Draw
from .traces import Site, Trace, parallel

Detach = Literal["none", "numerator", "all"]
WHOLE = "q_z_c_of_the_whole_point"
"""Key of the site z_c's ``infer``: q(z_c | x), where the guide is a narrower one that sees a part of x."""


class DifferentiableELBO(TraceEnum_ELBO):
    """An objective that says what it is in ``differentiable_loss`` alone."""

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        with torch.no_grad():
            return float(torch_item(self.differentiable_loss(model, guide, *args, **kwargs)))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        torch_backward(loss)
        return float(loss.detach().item())


class CapturesLabels(ReadsInterventions, Protocol):
    """A pair whose labels are auxiliary variables on z_c, with the head q(y | z_c)."""

    training: bool
    plates: int
    head_terms: HeadTerms
    one_sided: list[int]

    def inputs(self, x: Tensor) -> Tensor: ...

    def targets(self, y: Tensor | None, x: Tensor) -> Tensor: ...

    def log_q_known_given_z(self, y: Tensor, z_c: Tensor) -> Tensor: ...

    def log_q_known(self, y: Tensor, q_z_c: TorchDistribution, z_c: Tensor) -> Tensor: ...

    def log_q_y_given_x(self, q_z_c: TorchDistribution) -> Tensor: ...

    def logits(self, q_z_c: TorchDistribution) -> Tensor: ...


class CCVAEBound(DifferentiableELBO):
    """With O the observed labels of a row, U the missing ones::

        L(x, y_O) = E_q(z|x)[ w(z) Σ_{y_U} q(y_U|z_c) log( p(x|z) p(z_c|y) p(z_s) p(y)
                              / ( q(z|x) q(y_O|z_c) q(y_U|z_c) ) ) ] + α log q(y_O|x)

        w(z) = q(y_O|z_c) / q(y_O|x),        q(y_O|x) = E_q(z|x)[ q(y_O|z_c) ]

    At α = 1 it is a lower bound on log p(x, y_O). The sum over y_U splits by attribute, and z enters x alone, so that
    one decode a point serves all values of y. Log-ratios stand inside w, not an analytic KL, as w depends on z. All of
    it is read off the traces (:class:`~pyro_ssvae.infer.terms.Draw`), so that an edited model is followed: further
    discrete sites are summed over where they are marked for it, and a site outside of the plate over rows counts once
    for all of them. A drawn site without a gradient of its own has the score function's. A ``poutine.scale`` counts in
    training and in :meth:`terms`, not in :meth:`rows`. Where classes have weights ω, training adds
    ``α Σ_O (ω_y - 1) log q(y | x)``.

    Where the guide of z_c sees a part of x alone (:data:`WHOLE`), w and one of the α are that guide's, so that at
    α = 1 the bound is one still; the other α - 1, and what stands beside the bound, take q(z_c | x) of the whole. The
    nats that equal rates are of are those that the bound pays, under the narrower guide.

    :param vae: the model whose head is q(y | z_c).
    :param detach: what of w carries no gradient: ``"none"``, ``"numerator"`` (z_c inside the numerator, as in the
        authors' released code), ``"all"`` (MEME).
    :param alpha: α; 1 is the paper's.
    :param consistency: weight, in training, of
        :func:`~pyro_ssvae.infer.intervention_consistency.intervention_consistency` on an eighth of the rows.
    :param equal_rates: weight, in training, of :func:`~pyro_ssvae.infer.equal_rates.equal_rates`, a row.
    :param head_terms: add, in training, the prior on π = q(y | x) of
        :class:`~pyro_ssvae.infer.auxiliary.HeadTerms`, with the model's weights.
    :ivar added: rows at a batch's end that count in training by ``α log q(y_O | x)`` alone; :func:`pyro_ssvae.fit` sets
        it.
    """

    def __init__(
        self,
        vae: CapturesLabels,
        *,
        detach: Detach = "all",
        alpha: float = 1.0,
        consistency: float = 0.0,
        equal_rates: float = 0.0,
        head_terms: bool = False,
    ) -> None:
        super().__init__(max_plate_nesting=vae.plates, strict_enumeration_warning=False)
        self.added = 0
        self.vae, self.detach, self.alpha = vae, detach, alpha
        self.consistency, self.equal_rates, self.head_terms = consistency, equal_rates, head_terms

    def rows(self, model: Program, guide: Program, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The bound at one draw of z: ``[B]`` nats; scales do not count."""
        return self._rows(*self._draw(model, guide, x, y), x, y)

    def terms(self, p: Trace, q: Trace, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """What training sums at one draw: w(z) times each site's share, and α log q(y_O | x); ``[B]`` nats each.

        ``q(y_O|z_c)`` counts with the site ``y``. What depends on sites that the model alone enumerates is one share,
        under their names.

        :param p: the model's trace.
        :param q: the guide's, both with their log-probabilities.
        """
        draw, w, log_q_z, log_q_x = self._parts(p, q, x, y)
        alone = {dim: name for dim, name in draw.dims.items() if dim not in draw.in_guide}
        parts: dict[str, Tensor] = {}
        for sites, sign in ((draw.p, 1), (draw.q, -1)):
            for name, site in sites.items():
                if draw.from_prior(site):
                    parts[name] = torch.zeros_like(w)
                elif not draw.term(site).enumerated & alone.keys():
                    parts[name] = parts.get(name, 0.0) + sign * draw.mean(draw.term(times_scale(site)))
        if alone:
            parts[", ".join(alone.values())] = scaled_elbo(draw) - sum(parts.values())
        parts["y"] = parts["y"] - log_q_z
        return {**{name: w * part for name, part in parts.items()}, "log q(y_O | x)": self._labels(q, log_q_x, x, y)}

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The negative bound, summed over the batch, less what stands beside it in training."""
        x, y = args[0], args[1] if len(args) > 1 else kwargs.get("y")
        p, q = self._draw(model, guide, x, y)
        loss = -self._rows(p, q, x, y, scaled=True).sum()
        beside = (self.head_terms, self.consistency, self.equal_rates, self.vae.head_terms.weighted)
        if self.vae.training and any(beside):
            loss = loss - self._beside(p, q, self.vae.targets(y, self.vae.inputs(x)))
        return loss

    def _draw(self, model: Program, guide: Program, x: Tensor, y: Tensor | None) -> tuple[Trace, Trace]:
        with warnings.catch_warnings():
            # Pyro warns that x may depend on the enumerated y; it depends on z_c alone.
            warnings.filterwarnings("ignore", 'at model site "x", possibly invalid dependency')
            ((p, q),) = self._get_traces(parallel(model), parallel(guide), (x, y), {})
        return p, q

    def _rows(self, p: Trace, q: Trace, x: Tensor, y: Tensor | None, *, scaled: bool = False) -> Tensor:
        draw, w, log_q_z, log_q_x = self._parts(p, q, x, y)
        weighted = w * ((scaled_elbo(draw) if scaled else draw.elbo()) - log_q_z)
        if scaled and self.vae.training and self.added:
            weighted = torch.where(torch.arange(len(x), device=w.device) < len(x) - self.added, weighted, 0.0)
        return with_scores(draw, weighted) + self._labels(q, log_q_x, x, y)

    def _labels(self, q: Trace, log_q_x: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """``α log q(y_O | x)``, ``[B]``."""
        whole = q.nodes["z_c"]["infer"].get(WHOLE)
        if whole is None:
            return self.alpha * log_q_x
        y = self.vae.targets(y, self.vae.inputs(x))
        return log_q_x + (self.alpha - 1) * self.vae.log_q_known(y, whole, q.nodes["z_c"]["value"])

    def _parts(self, p: Trace, q: Trace, x: Tensor, y: Tensor | None) -> tuple[Draw, Tensor, Tensor, Tensor]:
        """The sites at one draw, w(z), log q(y_O | z_c) and log q(y_O | x)."""
        draw = Draw(p, q, len(x))
        for name in ("y", "z_c"):
            if name not in draw.p or name not in draw.q:
                raise InputError(f"the ReVAE's bound needs a site {name!r} in the model and in the guide")
        z_c, q_z_c = q.nodes["z_c"]["value"], q.nodes["z_c"]["fn"]
        if joined := draw.term(draw.q["z_c"]).enumerated:
            names = ", ".join(draw.dims[dim] for dim in joined)
            raise InputError(
                f"site 'z_c' of the guide depends on the enumerated {names}; q(y | x) is of one q(z_c | x)"
            )
        y = self.vae.targets(y, self.vae.inputs(x))
        log_q_x = self.vae.log_q_known(y, q_z_c, z_c)
        log_q_z = self.vae.log_q_known_given_z(y, z_c)
        numerator = self.vae.log_q_known_given_z(y, z_c.detach()) if self.detach == "numerator" else log_q_z
        w = (numerator - log_q_x).exp()
        w = w.detach() if self.detach == "all" else w
        return draw, w, log_q_z, log_q_x

    def _beside(self, p: Trace, q: Trace, y: Tensor) -> Tensor:
        """What training adds: the prior on π, weights of classes, interventions that are read as they were meant, and
        equal rates."""
        added = torch.zeros((), device=y.device)
        terms, q_c = self.vae.head_terms, q.nodes["z_c"]["fn"]
        whole = q.nodes["z_c"]["infer"].get(WHOLE, q_c)
        if self.head_terms or terms.weighted:
            logits, rows = self.vae.logits(whole), y.t() if self.vae.multilabel else y
            if self.head_terms:
                terms.track(logits, rows)
                added = added + terms.regularizer(logits, rows).sum()
            if terms.weighted:
                added = added + self.alpha * supervised(terms.labels, logits, rows, terms.class_weights - 1).sum()
        if self.consistency:
            n = y.shape[-1]
            if (z_s := q.nodes["z_s"]["value"]).dim() > 2:
                raise InputError("site 'z_s' depends on an enumerated site; intervention_consistency=0 trains it so")
            some = torch.randperm(n, device=y.device)[: max(2, n // 8)]  # batch normalisation needs two
            z_c = q.nodes["z_c"]["value"]
            z_c = z_c[:, some] if self.vae.multilabel else z_c[some]
            said = intervention_consistency(self.vae, z_c, z_s[some], y[..., some])
            added = added + self.consistency * terms.warmup * said.mean() * n
        if self.equal_rates:
            q_s, p_s, z_s = q.nodes["z_s"]["fn"], p.nodes["z_s"]["fn"], q.nodes["z_s"]["value"]
            log_q_y = self.vae.log_q_y_given_x(whole)

            def p_c(y: Tensor) -> TorchDistribution:
                return self.vae.z_c_given(y, z_s)

            apart = equal_rates(self.vae.one_sided, log_q_y, y, q_c, q_s, p_c, p_s)
            added = added - self.equal_rates * apart * y.shape[-1]
        return added


def times_scale(site: Site, less: float = 0.0) -> Site:
    """A site whose log-probability is ``scale - less`` times what it was."""
    if isinstance(site["scale"], float) and site["scale"] - less == 1:
        return site
    return {**site, "unscaled_log_prob": site["unscaled_log_prob"] * (site["scale"] - less)}


def scaled_elbo(draw: Draw) -> Tensor:
    """``Σ s_p E[log p] - Σ s_q E[log q]``, s the sites' ``poutine.scale``: ``[B]``.

    :raises InputError: a scaled site under a sum over values inside the logarithm, which no scale goes into.
    """
    total = draw.elbo()
    for sites, sign in ((draw.p, 1), (draw.q, -1)):
        for name, site in sites.items():
            if draw.from_prior(site) or (isinstance(site["scale"], (int, float)) and site["scale"] == 1):
                continue
            alone = draw.term(site).enumerated - draw.in_guide
            if alone:
                of = ", ".join(draw.dims[dim] for dim in alone)
                raise InputError(
                    f"site {name!r} has a scale and depends on {of}, which the guide would have to sum over"
                )
            total = total + sign * draw.mean(draw.term(times_scale(site, less=1.0)))
    return total


def with_scores(draw: Draw, rows: Tensor) -> Tensor:
    """``rows`` with the score function's part of the gradient, of value 0, of each drawn site that has no other.

    :raises InputError: a site that is drawn anew for each value of an enumerated one.
    """
    found = rows
    for name, site in draw.q.items():
        if name in draw.dims.values() or site["fn"].has_rsample:
            continue
        term = draw.term(site)
        if term.enumerated:
            of = ", ".join(draw.dims[dim] for dim in term.enumerated)
            raise InputError(f"site {name!r} of the guide is drawn for each value of {of}; enumerate it too")
        score = draw.over_plates(term.value).expand(len(rows))
        reward = rows.detach() if draw.row_dim(site) is not None else rows.detach().sum()
        found = found + reward * (score - score.detach())
    return found
