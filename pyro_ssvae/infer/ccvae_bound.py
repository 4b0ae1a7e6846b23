"""The ReVAE's objective: one bound on log p(x, y_O) for any mix of known and missing labels.

Source: Joy, Schmon, Torr, Siddharth, Rainforth (2020), arXiv:2006.10102; the weight's detachment as a whole: MEME
(ICLR 2022). The exact sum over missing labels is a choice of this project.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, Protocol

import torch
from pyro.infer import TraceEnum_ELBO
from pyro.infer.util import torch_backward, torch_item
from torch import Tensor

from .auxiliary import HeadTerms, supervised
from .equal_rates import equal_rates
from .intervention_consistency import ReadsInterventions, intervention_consistency
from .traces import Site, Trace, is_factor, sampled

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

    def log_q_known(self, y: Tensor, q_z_c: Any, z_c: Tensor) -> Tensor: ...

    def log_q_y_given_x(self, q_z_c: Any) -> Tensor: ...

    def logits(self, q_z_c: Any) -> Tensor: ...


class CCVAEBound(DifferentiableELBO):
    """With O the observed labels of a row, U the missing ones::

        L(x, y_O) = E_q(z|x)[ w(z) Σ_{y_U} q(y_U|z_c) log( p(x|z) p(z_c|y) p(z_s) p(y)
                              / ( q(z|x) q(y_O|z_c) q(y_U|z_c) ) ) ] + α log q(y_O|x)

        w(z) = q(y_O|z_c) / q(y_O|x),        q(y_O|x) = E_q(z|x)[ q(y_O|z_c) ]

    At α = 1 it is a lower bound on log p(x, y_O). The sum over y_U splits by attribute, and z enters x alone, so that
    one decode a point serves all values of y. Log-ratios stand inside w, not an analytic KL, as w depends on z. All of
    it is read off the traces, so that an edited model is followed. Where classes have weights ω, training adds
    ``α Σ_O (ω_y - 1) log q(y | x)``.

    Where the guide of z_c sees a part of x alone (:data:`WHOLE`), w and one of the α are that guide's, so that at
    α = 1 the bound is one still; the other α - 1, and all that stands beside the bound, take q(z_c | x) of the whole.

    :param vae: the model whose head is q(y | z_c).
    :param detach: what of w carries no gradient: ``"none"``, ``"numerator"`` (z_c inside the numerator, as in the
        authors' released code), ``"all"`` (MEME).
    :param alpha: α; 1 is the paper's.
    :param consistency: weight, in training, of
        :func:`~pyro_ssvae.infer.intervention_consistency.intervention_consistency` on an eighth of the rows.
    :param equal_rates: weight, in training, of :func:`~pyro_ssvae.infer.equal_rates.equal_rates`, a row.
    :param head_terms: add, in training, the prior on π = q(y | x) of
        :class:`~pyro_ssvae.infer.auxiliary.HeadTerms`, with the model's weights.
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
        self.vae, self.detach, self.alpha = vae, detach, alpha
        self.consistency, self.equal_rates, self.head_terms = consistency, equal_rates, head_terms

    def rows(self, model: Any, guide: Any, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The bound at one draw of z: ``[B]`` nats."""
        return self._rows(*self._draw(model, guide, x, y), x, y)

    def terms(self, p: Trace, q: Trace, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """What :meth:`rows` sums at one draw: w(z) times each site's share, and α log q(y_O | x); ``[B]`` nats each.

        ``q(y_O|z_c)`` counts with the site ``y``.

        :param p: the model's trace.
        :param q: the guide's, both with their log-probabilities.
        """
        parts, w, log_q_x = self._parts(p, q, x, y)
        return {**{name: w * part for name, part in parts.items()}, "log q(y_O | x)": self._labels(q, log_q_x, x, y)}

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The negative bound, summed over the batch, less what stands beside it in training."""
        x, y = args[0], args[1] if len(args) > 1 else kwargs.get("y")
        p, q = self._draw(model, guide, x, y)
        loss = -self._rows(p, q, x, y).sum()
        beside = (self.head_terms, self.consistency, self.equal_rates, self.vae.head_terms.weighted)
        if self.vae.training and any(beside):
            loss = loss - self._beside(p, q, self.vae.targets(y, self.vae.inputs(x)))
        return loss

    def _draw(self, model: Any, guide: Any, x: Tensor, y: Tensor | None) -> tuple[Trace, Trace]:
        with warnings.catch_warnings():
            # Pyro warns that x may depend on the enumerated y; it depends on z_c alone.
            warnings.filterwarnings("ignore", 'at model site "x", possibly invalid dependency')
            ((p, q),) = self._get_traces(model, guide, (x, y), {})
        return p, q

    def _rows(self, p: Trace, q: Trace, x: Tensor, y: Tensor | None) -> Tensor:
        parts, w, log_q_x = self._parts(p, q, x, y)
        weighted = w * sum(parts.values())
        log_q_y = q.nodes["y"]["log_prob"]
        if log_q_y.dim() == self.max_plate_nesting:
            # y is drawn, not enumerated: the score function's part of the gradient, of value 0
            score = log_q_y.sum(-2) if self.max_plate_nesting == 2 else log_q_y
            weighted = weighted + weighted.detach() * (score - score.detach())
        return weighted + self._labels(q, log_q_x, x, y)

    def _labels(self, q: Trace, log_q_x: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """``α log q(y_O | x)``, ``[B]``."""
        whole = q.nodes["z_c"]["infer"].get(WHOLE)
        if whole is None:
            return self.alpha * log_q_x
        y = self.vae.targets(y, self.vae.inputs(x))
        return log_q_x + (self.alpha - 1) * self.vae.log_q_known(y, whole, q.nodes["z_c"]["value"])

    def _parts(self, p: Trace, q: Trace, x: Tensor, y: Tensor | None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Each site's share ``[B]`` of what w(z) weighs, w(z), and log q(y_O | x)."""
        weights, nest = q.nodes["y"]["log_prob"].exp(), self.max_plate_nesting

        def expected(site: Site) -> Tensor:
            log_prob: Tensor = site["log_prob"]
            if log_prob.dim() > nest:  # one value of y after another on the left
                log_prob = (weights * torch.where(weights > 0, log_prob, 0.0)).sum(0)
            return log_prob.sum(-2) if log_prob.dim() == 2 else log_prob

        parts: dict[str, Tensor] = {}
        for trace, sign in ((p, 1), (q, -1)):
            for name, site in sampled(trace).items():
                if not (trace is q and is_factor(site)):
                    parts[name] = parts.get(name, 0.0) + sign * expected(site)
        z_c, q_z_c = q.nodes["z_c"]["value"], q.nodes["z_c"]["fn"]
        y = self.vae.targets(y, self.vae.inputs(x))
        log_q_x = self.vae.log_q_known(y, q_z_c, z_c)
        log_q_z = self.vae.log_q_known_given_z(y, z_c)
        numerator = self.vae.log_q_known_given_z(y, z_c.detach()) if self.detach == "numerator" else log_q_z
        w = (numerator - log_q_x).exp()
        w = w.detach() if self.detach == "all" else w
        parts["y"] = parts["y"] - log_q_z
        return parts, w, log_q_x

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
            some = torch.randperm(n, device=y.device)[: max(2, n // 8)]  # batch normalisation needs two
            z_c, z_s = (q.nodes[site]["value"] for site in ("z_c", "z_s"))
            z_c = z_c[:, some] if self.vae.multilabel else z_c[some]
            said = intervention_consistency(self.vae, z_c, z_s[some], y[..., some])
            added = added + self.consistency * terms.warmup * said.mean() * n
        if self.equal_rates:
            q_s, p_s = q.nodes["z_s"]["fn"], p.nodes["z_s"]["fn"]
            log_q_y = self.vae.log_q_y_given_x(whole)
            apart = equal_rates(self.vae.one_sided, log_q_y, y, q_c, q_s, self.vae.p_z_c, p_s)
            added = added - self.equal_rates * apart * y.shape[-1]
        return added
