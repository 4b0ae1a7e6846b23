"""M2: the label is a latent of the generative model, beside z.

Source: Kingma, Mohamed, Rezende, Welling (2014), arXiv:1406.5298, equations 6 to 9.
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..infer.batched import checked
from ..infer.label_inference import default_how
from ..infer.protocols import Intervention
from ..labels import MISSING, Labels
from ..nn.networks import ClassHead, features, with_class_input
from .conditional_decoder import ConditionalDecoder
from .generative import gaussian_head, positive, standard_normal
from .interventions import asked_labels, swapped_labels, times

MOST_DECODES = 16  # of attributes' values a point, where nobody says how missing labels are inferred


class M2(ConditionalDecoder):
    """``p(y) p(z) p(x | z, y)`` with the guide ``q(y | x) q(z | x, y)``, and a classifier's loss where y is known::

        h = encoder(x)     q(y | x) = softmax(head(h))     q(z | x, y) = N(loc(r), scale(r)²),  r = relu(h + W y)

        L(x, y) = E_q(z|x,y)[ log p(x | z, y) ] - β KL( q(z | x, y) || N(0, I) ) + log p(y) + α log q(y | x)   y known
        U(x)    = Σ_y q(y | x) [ L'(x, y) - log q(y | x) ] + head terms of q(y | x)                            y missing

    with L' = L at α = 0. The encoder sees a point once, whatever the number of classes; y enters at its topmost layer
    (choice: a layer more between h and z cost up to 28 nats in one epoch of MNIST, docs/baselines.md).

    The sum over a missing y is done as ``label_inference`` says
    (:class:`~pyro_ssvae.infer.label_inference.LabelInference`): by default every value is decoded, up to 1,024 classes
    and 16 values of attributes; more attributes are straight-through, more classes drawn.

    The prior on π of :class:`~pyro_ssvae.infer.auxiliary.HeadTerms`, and the late start of what reaches the head
    beside the labels, are not the paper's. They are AugVAE's, so that the two are compared with the same means; set the
    weights to 0 for the paper's objective.

    :param encoder: ``x [B, *input_shape]`` → features ``[B, H]``; H is its ``out_features``.
    :param decoder: ``(z, c)`` → ``[..., *input_shape]``, or of ``z`` alone, which is then extended
        (:class:`~pyro_ssvae.nn.networks.AddClass`).
    :param labels: :class:`~pyro_ssvae.ClassLabels` or :class:`~pyro_ssvae.AttributeLabels`.
    :param options: those of :class:`~pyro_ssvae.models.config.LabelConfig`; ``likelihood`` may be a module.

    Sites (plate ``data`` over B):

    ======== =========== ============ =====================================================
    site     batch shape event shape  in the model / in the guide
    ======== =========== ============ =====================================================
    ``y``    [B]         [] or [A]    p(y) / known: a point mass; missing: q(y | x)
    ``z``    [B]         [D]          N(0, I) / q(z | x, y)
    ``x``    [B]         input_shape  p(x | z, y) / not in the guide
    ``head`` [B]         [0]          not in the model / a factor: what trains the head
    ======== =========== ============ =====================================================

    While enumerated, ``y``, ``z`` and ``x`` have a further dimension on the left, of size K or 2^A.
    """

    hears_label = True

    def __init__(self, encoder: nn.Module, decoder: nn.Module, labels: Labels, **options: Any) -> None:
        super().__init__()
        likelihood = self.set_options(options)
        dim = self.config.dim
        self.set_label(labels, default_how(labels, MOST_DECODES))
        self.encoder = encoder
        self.decoder = with_class_input(decoder, dim, labels.size)
        self.set_likelihood(likelihood, labels.size)
        width = features(encoder)
        self.head = ClassHead(encoder, labels.size)
        self.from_c = nn.Linear(labels.size, width, bias=False)
        self.loc, self.log_scale = gaussian_head(width, dim)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> M2:
        encoder, decoder = cls.networks(input_shape, labels.size, options)
        return cls(encoder, decoder, labels, **options)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``p(y) p(z) p(x | z, y)``."""
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            with self.kl_scale():
                z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """``q(y | x) q(z | x, y)``."""
        x = self.begin(x)
        y = self.targets(y, x)
        h = self.encoder(self.likelihood.standardize(x))
        with self.plate(x):
            y = self.infer_label(self.head(h), y)
            with self.kl_scale():
                pyro.sample("z", self.q_z(h, self.class_input(y, h)))

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        """``N(0, I)``."""
        return standard_normal(x, self.config.dim)

    def q_z(self, h: Tensor, c: Tensor) -> dist.TorchDistribution:
        """q(z | x, y) of features ``[B, H]`` and class inputs ``[..., B, K]``."""
        r = (h + self.from_c(c)).relu()
        return dist.Normal(self.loc(r), positive(self.log_scale(r))).to_event(1)

    def q_y(self, x: Tensor) -> Tensor:
        return self.label_inference.probs(self.head(self.encoder(self.likelihood.standardize(x))))

    def intervene(self, x: ArrayLike, values: Intervention, *, num_samples: int | None = None) -> Tensor:
        """Encode ``x`` to the mean of q(z | x, y), set y, decode.

        :param values: ``{"Smiling": 1}``, the other attributes staying as predicted; for class labels a class, by
            number or name.
        :param num_samples: S repetitions: ``[S, B, *input_shape]``; None for one without the first dimension. They are
            the same: a label's value is all that this model's y holds.
        :raises InputError: an attribute or class that does not exist, or a value that is neither 0 nor 1.
        """
        asked, (x, _) = asked_labels(self.labels, values, self.device), checked(self, x)
        z, y = self.encode(x).mean, self.predict(x)
        images = self.decode(z, torch.where(asked == MISSING, y, asked), like=x)
        return times(lambda: images, num_samples)

    def swap(self, x: ArrayLike, donor: ArrayLike, name: str = "class") -> Tensor:
        """``x`` with the value that the donor's attribute (or class) is predicted to have: ``[B, *input_shape]``.

        :param donor: as many points as ``x``, or one for all.
        """
        x, _ = checked(self, x)
        y = swapped_labels(self.labels, self.predict(x), self.predict(donor), name)
        return self.decode(self.encode(x).mean, y, like=x)
