"""What every model shares: its name in Pyro's parameter store, its inputs and labels, and the everyday verbs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import ELBO, TraceEnum_ELBO
from pyro.infer.util import torch_backward, torch_item
from torch import Tensor, nn

from ..errors import InputError, nearest
from ..labels import ClassLabels, Labels
from ..nn.likelihoods import LIKELIHOODS, Likelihood
from ..nn.networks import AddClass

_numbers = itertools.count()
ROWS = 1000  # rows that the verbs below process at a time, which bounds their memory


class Model(nn.Module):
    """A Pyro ``model``/``guide`` pair with the verbs of INTERFACE: a plain ``nn.Module``.

    :ivar labels: what ``y`` means; None for a model without labels.
    :ivar input_shape: shape of one data point.
    :ivar augmentation: what ``augment="auto"`` of :func:`pyro_ssvae.fit` means for this model.
    :ivar config: how :func:`pyro_ssvae.create_model` made this model; None for one made from networks of one's own.
    """

    labels: Labels | None
    input_shape: tuple[int, ...]
    likelihood: Likelihood
    augmentation = "auto"

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] | None = None
        self._name = f"{type(self).__name__}{next(_numbers)}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy is a model of its own: under its original's name Pyro would train the original.
        super().__setstate__(state)
        self._name = f"{type(self).__name__}{next(_numbers)}"

    def model(self, x: Any, y: Any = None) -> Any:
        raise NotImplementedError

    def guide(self, x: Any, y: Any = None) -> Any:
        raise NotImplementedError

    def register(self) -> None:
        """Tell Pyro of the parameters, so that ``SVI`` trains them. Every instance has a name of its own."""
        pyro.module(self._name, self)

    def objective(self) -> ELBO:
        """The ELBO to train the pair with: ``SVI(m.model, m.guide, optimiser, loss=m.objective())``."""
        return TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)

    def prepare(self, x: Tensor, y: Tensor) -> None:
        """Take from the training data what is not trained: the likelihood's units, the prior over labels."""
        if hasattr(self, "likelihood"):
            self.likelihood.fit(self.inputs(x))

    def inputs(self, x: Any) -> Tensor:
        """``x`` as this model computes with it: on its device, in its precision, uint8 pixels scaled to [0, 1]."""
        p = next(self.parameters())
        x = torch.as_tensor(x, device=p.device)
        if tuple(x.shape[1:]) != self.input_shape:
            raise InputError(f"x: shape {list(x.shape)}; this model needs [N, {', '.join(map(str, self.input_shape))}]")
        return x.to(p.dtype) / 255 if x.dtype == torch.uint8 else x.to(p.dtype)

    def targets(self, y: Any, x: Tensor) -> Tensor:
        """``y`` for the rows of ``x``, all missing where it is None, its values unchecked."""
        assert self.labels is not None
        return self.labels.check(y, len(x), x.device, values=False)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Evaluation mode and no gradients, for a while."""
        with evaluation(self), torch.no_grad():
            yield

    def each(self, verb: Callable[..., Tensor], x: Any, y: Any = None, *, rows: int = ROWS) -> Tensor:
        """Apply ``verb(x)`` or ``verb(x, y)`` to some rows at a time, in evaluation mode and without gradients."""
        x = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
        if self.labels is not None and y is not None:
            y = self.labels.check(y, len(x))
        with self.inference():
            parts = [
                verb(self.inputs(x[i : i + rows]), *([] if y is None else [y[i : i + rows].to(self.device)]))
                for i in range(0, max(len(x), 1), rows)
            ]
        return torch.cat(parts)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class Classifying(Model):
    """A model with a class head: its ``class_logits(x)`` gives ``[B, K]`` or ``[B, A]``."""

    labels: Labels

    def predict_proba(self, x: Any) -> Tensor:
        """q(y | x): ``[B, K]`` class or ``[B, A]`` attribute probabilities."""
        return self.each(lambda rows: self.labels.probs(self.class_logits(rows)), x)

    def class_logits(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def handed_over(self, like: Tensor) -> Tensor:
        """Model site ``logits``: what the guide computed, not scored."""
        with poutine.mask(mask=False):  # a distribution's own .mask(False) would be float32 beside float64
            logits: Tensor = pyro.sample("logits", standard_normal(like, self.labels.size))
        return logits

    def observe(self, logits: Tensor, y: Tensor, weight: float = 1.0) -> None:
        """Model site ``y_observed``: ``weight · log π_y`` of the known labels."""
        with poutine.scale(scale=weight):
            pyro.sample("y_observed", self.labels.observed(logits, y), obs=self.labels.values(y, logits))

    def predict(self, x: Any) -> Tensor:
        """The most probable labels: int64 ``[B]`` or ``[B, A]``."""
        return self.labels.decide(self.predict_proba(x))


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; each part then has the mode it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


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


def make_likelihood(
    likelihood: str | Likelihood | None, decoder: nn.Module, latent_dim: int, class_dim: int
) -> tuple[Likelihood, tuple[int, ...]]:
    """The likelihood by name, by default Bernoulli for images and Normal for the rest, and the decoder's shape."""
    p = next(decoder.parameters())
    with torch.no_grad():
        z, c = p.new_zeros(2, latent_dim), p.new_zeros(2, class_dim)
        training = decoder.training
        input_shape = tuple(decoder.eval()(z, c).shape[1:])
        decoder.train(training)
    if likelihood is None:
        likelihood = "bernoulli" if len(input_shape) == 3 else "normal"
    made = named_likelihood(likelihood, input_shape) if isinstance(likelihood, str) else likelihood
    inner = decoder.decoder if isinstance(decoder, AddClass) else decoder
    shaping = (nn.Flatten, nn.Unflatten, nn.Identity)
    last = [None, *(module for module in inner.modules() if not isinstance(module, shaping))][-1]
    if isinstance(last, nn.Sigmoid):
        raise InputError("decoder: it ends in a Sigmoid, but likelihoods take its output before that; leave it out")
    return made, input_shape


def named_likelihood(name: str, input_shape: tuple[int, ...], **options: Any) -> Likelihood:
    """The likelihood of that name; raise :class:`InputError` where there is none."""
    if name not in LIKELIHOODS:
        raise InputError(f"likelihood: there is no {name!r}{nearest(name, LIKELIHOODS)}")
    likelihood: Likelihood = LIKELIHOODS[name](input_shape, **options)
    return likelihood


def deterministic(name: str, value: Tensor, like: Tensor, event_dim: int) -> Tensor:
    """``pyro.deterministic`` in the precision of ``like``: Pyro's own scores a float32 zero, which TraceEnum_ELBO
    cannot add up with float64."""
    zero = like.new_zeros(value.shape[: value.dim() - event_dim])
    delta = dist.Delta(value, log_density=zero, event_dim=event_dim).mask(zero == 0)
    result: Tensor = pyro.sample(name, delta, obs=value, infer={"_deterministic": True})
    return result


def mean_logits(labels: Labels, logits: Tensor) -> Tensor:
    """Logits of the mean over the first dimension of the probabilities of ``logits [S, B, K]``: ``[B, K]``."""
    log_p = labels.log_probs(logits).logsumexp(0) - math.log(len(logits))
    return log_p[..., 1] - log_p[..., 0] if labels.event_shape else log_p


def positive(log_scale: Tensor, most: float = 15.0) -> Tensor:
    """A scale from its logarithm, which is kept within ±``most``: far from all training points it would be 0 or ∞."""
    return log_scale.clamp(-most, most).exp()


def standard_normal(like: Tensor, dim: int) -> dist.TorchDistribution:
    """N(0, I) over ``dim`` dimensions as one event."""
    return dist.Normal(like.new_zeros(dim), like.new_ones(dim)).to_event(1)


def labels_of(y: Any, n: int, labels: Labels, device: torch.device) -> Tensor:
    """``y`` for ``n`` points, from labels a row, or from one label (a number or its name) for all."""
    if isinstance(y, str):
        if not isinstance(labels, ClassLabels) or y not in labels.names:
            raise InputError(f"label: {y!r} is not one of {', '.join(labels.names)}")
        y = list(labels.names).index(y)
    y = torch.as_tensor(y)
    if y.shape == labels.event_shape:
        y = y.expand((n, *labels.event_shape))
    return labels.check(y, n, device)
