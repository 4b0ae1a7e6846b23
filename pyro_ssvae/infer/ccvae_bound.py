"""The ReVAE's objective: one bound on log p(x, y_O) for any mix of known and missing labels.

Source: Joy, Schmon, Torr, Siddharth, Rainforth (2020), arXiv:2006.10102; the weight's detachment as a whole: MEME
(ICLR 2022). The exact sum over missing labels is a choice of this project.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..models.base import DifferentiableELBO
from .intervention_consistency import steering

if TYPE_CHECKING:
    from ..models.revae import ReVAE

Detach = Literal["none", "numerator", "all"]


class ReVAEBound(DifferentiableELBO):
    """With O the observed labels of a row, U the missing ones::

        L(x, y_O) = E_q(z|x)[ w(z) Σ_{y_U} q(y_U|z_c) log( p(x|z) p(z_c|y) p(z_s) p(y)
                              / ( q(z|x) q(y_O|z_c) q(y_U|z_c) ) ) ] + α log q(y_O|x)

        w(z) = q(y_O|z_c) / q(y_O|x),        q(y_O|x) = E_q(z|x)[ q(y_O|z_c) ]

    At α = 1 it is a lower bound on log p(x, y_O). The sum over y_U splits by attribute, and z enters x alone, so that
    one decode a point serves all values of y. Log-ratios stand inside w, not an analytic KL, as w depends on z.

    :param vae: the model whose head is q(y | z_c).
    :param detach: what of w carries no gradient: ``"none"``, ``"numerator"`` (z_c inside the numerator, as in the
        authors' released code), ``"all"`` (MEME).
    :param alpha: α; 1 is the paper's.
    :param steering: weight, in training, of :func:`~pyro_ssvae.infer.intervention_consistency.steering` on an eighth of the rows.
    :param label_prior: add, in training, the prior on π = q(y | x) of
        :class:`~pyro_ssvae.infer.label_prior.LabelPrior`, with the model's weights.
    """

    def __init__(
        self,
        vae: ReVAE,
        *,
        detach: Detach = "all",
        alpha: float = 1.0,
        steering: float = 0.0,
        label_prior: bool = False,
    ) -> None:
        super().__init__(max_plate_nesting=vae.plates, strict_enumeration_warning=False)
        self.vae = vae
        self.detach = detach
        self.alpha = alpha
        self.steering, self.label_prior = steering, label_prior

    def rows(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The bound at one draw of z: ``[B]`` nats."""
        return self._rows(*self._draw(model, guide, *args, **kwargs))

    def _draw(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, Tensor, Any]:
        """The traces of model and guide, x and y."""
        with warnings.catch_warnings():
            # Pyro warns that x may depend on the enumerated y; it depends on z_c alone.
            warnings.filterwarnings("ignore", 'at model site "x", possibly invalid dependency')
            ((p, q),) = self._get_traces(model, guide, args, kwargs)
        return p, q, args[0], args[1] if len(args) > 1 else kwargs.get("y")

    def _rows(self, p: Any, q: Any, x: Tensor, y: Any) -> Tensor:
        parts, w, log_q_x = self._parts(p, q, x, y)
        weighted = w * sum(parts.values())
        log_q_y = q.nodes["y_unobserved"]["log_prob"] if "y_unobserved" in q.nodes else torch.zeros(())
        if log_q_y.dim() == self.max_plate_nesting:
            # y is drawn, not enumerated: the score function's part of the gradient, of value 0
            score = log_q_y.sum(-2) if self.max_plate_nesting == 2 else log_q_y
            weighted = weighted + weighted.detach() * (score - score.detach())
        return weighted + self.alpha * log_q_x

    def terms(self, p: Any, q: Any, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """What :meth:`rows` sums at one draw: w(z) times each site's share, and α log q(y_O | x); ``[B]`` nats each.

        ``q(y_O|z_c)`` counts with the site ``y_observed``.

        :param p: the model's trace.
        :param q: the guide's, both with their log-probabilities.
        """
        parts, w, log_q_x = self._parts(p, q, x, y)
        return {**{name: w * part for name, part in parts.items()}, "log q(y_observed | x)": self.alpha * log_q_x}

    def _parts(self, p: Any, q: Any, x: Tensor, y: Tensor | None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Each site's share ``[B]`` of what w(z) weighs, w(z), and log q(y_O | x)."""
        log_q_y = q.nodes["y_unobserved"]["log_prob"] if "y_unobserved" in q.nodes else torch.zeros(())
        weights, nest = log_q_y.exp(), self.max_plate_nesting

        def expected(log_prob: Tensor) -> Tensor:
            if log_prob.dim() > nest:  # one value of y after another on the left
                log_prob = (weights * torch.where(weights > 0, log_prob, 0.0)).sum(0)
            return log_prob.sum(-2) if log_prob.dim() == 2 else log_prob

        x = self.vae.inputs(x)
        parts: dict[str, Tensor] = {}
        for trace, sign in ((p, 1), (q, -1)):
            for name, site in trace.nodes.items():
                if site["type"] == "sample" and site["log_prob"].dim() > 0:  # the plates' own have none
                    parts[name] = parts.get(name, 0.0) + sign * expected(site["log_prob"])
        z_c, q_z_c = q.nodes["z_c"]["value"], q.nodes["z_c"]["fn"].base_dist
        y = self.vae.targets(y, x)
        log_q_x = self.vae.log_q_known(y, q_z_c.loc, q_z_c.scale, z_c)
        log_q_z = self.vae.log_q_known_given_z(y, z_c)
        numerator = self.vae.log_q_known_given_z(y, z_c.detach()) if self.detach == "numerator" else log_q_z
        w = (numerator - log_q_x).exp()
        w = w.detach() if self.detach == "all" else w
        parts["y_observed"] = parts["y_observed"] - log_q_z
        return parts, w, log_q_x

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The negative bound, summed over the batch, less what stands beside it in training."""
        p, q, x, y = self._draw(model, guide, *args, **kwargs)
        loss = -self._rows(p, q, x, y).sum()
        if not self.vae.training or not (self.label_prior or self.steering):
            return loss
        y = self.vae.targets(y, self.vae.inputs(x))
        if self.label_prior:
            q_z_c = q.nodes["z_c"]["fn"].base_dist
            logits = self.vae.as_logits(self.vae.log_q_y_given_x(q_z_c.loc, q_z_c.scale))
            rows = y.t() if self.vae.factorised else y
            self.vae.track(logits, rows)
            loss = loss - self.vae.log_class_prior(logits, rows).sum()
        if self.steering:
            n = y.shape[-1]
            some = torch.randperm(n, device=y.device)[: max(1, n // 8)]
            z_c, z_s = (q.nodes[site]["value"] for site in ("z_c", "z_s"))
            z_c = z_c[:, some] if self.vae.factorised else z_c[some]
            said = steering(self.vae, z_c, z_s[some], y[..., some])
            loss = loss - self.steering * self.vae.warmth * said.mean() * n
        return loss
