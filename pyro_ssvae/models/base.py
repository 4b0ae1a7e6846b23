"""What every model shares: its name in Pyro's store, the checks of points and labels, and its summary in words."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import pyro
import torch
from numpy.typing import ArrayLike
from pyro.infer import ELBO, TraceEnum_ELBO
from pyro.infer.util import is_validation_enabled
from torch import Tensor, nn

from ..data.dataset import labels_in_words, times
from ..data.label_values import label_values
from ..data.schema import Schema
from ..distributions.observed import entrywise, joined
from ..errors import InputError, counted
from ..infer.batched import batched, opened
from ..infer.program_errors import program_errors
from ..label_arrays import plain_tensor
from ..labels import ClassLabels, Labels
from ..nn.likelihood_base import complain
from ..nn.likelihoods import Likelihood, encoder_for
from ..nn.networks import default_decoder, mixes_rows
from .config import Config as AnyConfig
from .config import make_config

_numbers = itertools.count()
Json = dict[str, Any]


class Model(nn.Module):
    """A Pyro ``model``/``guide`` pair: a plain ``nn.Module``.

    :ivar labels: what ``y`` means; None for a model without labels.
    :ivar input_shape: shape of one data point.
    :ivar config: its options.
    :ivar augmentation: what ``augment="auto"`` of :func:`pyro_ssvae.fit` means for this model; ``"auto"`` leaves it to
        the likelihood.
    :cvar by_columns: whether, where no width is said, z has no more dimensions than a table has columns. More only add
        noise to the decoder's input while it begins to learn, and z is given up (docs/recipe.md).
    :ivar column_names: of the table that it was trained on; None where its columns had none.
    :ivar schema: how tables become points, of a model made for a table: :func:`pyro_ssvae.data.read_table`.
    :ivar pixel_range: the least and the largest value of the pictures that it was trained on.
    :ivar white_level: the number that is white in the pictures that it was trained on, where these were of 16 bits, or
        black and white by 1 and 0; None for any others.
    :ivar recipe: how :func:`pyro_ssvae.create_model` made this model; None for one made from networks of one's own.
    """

    Config: ClassVar[type[AnyConfig]] = AnyConfig
    labels: Labels | None
    input_shape: tuple[int, ...]
    encoder: nn.Module
    likelihood: Likelihood
    config: AnyConfig
    augmentation: ClassVar[str] = "auto"
    by_columns: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.recipe: Json | None = None
        self.column_names: tuple[str, ...] | None = None
        self.pixel_range: tuple[float, float] | None = None
        self.white_level: int | None = None
        self.schema: Schema | None = None
        self._name = f"{type(self).__name__}{next(_numbers)}"

    def __getstate__(self) -> Json:
        for p in self.parameters():  # Pyro's store leaves a weak reference at each, which nothing can pickle
            vars(p).pop("unconstrained", None)
        return vars(self)

    def __setstate__(self, state: Json) -> None:
        # A copy is a model of its own: under its original's name Pyro would train the original.
        super().__setstate__(state)
        self._name = f"{type(self).__name__}{next(_numbers)}"

    def _save_to_state_dict(self, destination: Json, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        about = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if about is not None and self.labels is not None:  # where PyTorch keeps versions: no key, so that others load
            about["labels"] = list(self.labels.names)

    def _load_from_state_dict(self, state_dict: Json, prefix: str, local_metadata: Json, *more: object) -> None:
        saved = local_metadata.get("labels")
        own = [] if self.labels is None else list(self.labels.names)
        if saved is not None and saved != own and sorted(saved) == sorted(own):
            raise InputError(f"load_state_dict: weights of labels in the order {', '.join(saved)[:200]}, and the "
                             f"model's is {', '.join(own)[:200]}; a model of the same order is needed")  # fmt: skip
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *more)

    def __repr__(self) -> str:
        """Say what the model is, in a few lines; :meth:`architecture` lists its networks."""
        parts = vars(self)
        if not {"config", "input_shape", "labels"} <= parts.keys():  # not made whole yet
            return super().__repr__()
        name = "" if self.recipe is None else f" {self.recipe['name']!r}"
        count = sum(p.numel() for p in self.parameters())
        lines = [f"{type(self).__name__}{name}, {count:,} parameters on {self.device}", *self.about()]
        return "\n  ".join([*lines, "architecture() lists the networks"])

    def about(self) -> list[str]:
        """Return lines on what goes in and what comes out."""
        return [f"x: {times(self.input_shape)}", f"y: {labels_in_words(self.labels)}"]

    def architecture(self) -> str:
        """Return all modules as text, as PyTorch prints them: ``print(vae.architecture())``."""
        return super().__repr__()

    def set_options(self, options: Json) -> str | nn.Module | None:
        """Make :attr:`config` of the options, and return the likelihood: its name, or a module of one's own."""
        likelihood = options.get("likelihood")
        self.config = self.configured(options)
        return likelihood

    @classmethod
    def configured(cls, options: Json) -> AnyConfig:
        """Return :attr:`config` of the options, with the width of z."""
        config = make_config(cls.Config, options)
        few = cls.by_columns and config.columns and config.latent_dim is None
        return replace(config, latent_dim=min(config.dim, len(config.columns)) if few else config.dim)

    @classmethod
    def networks(cls, input_shape: tuple[int, ...], class_dim: int, options: Json) -> tuple[nn.Module, nn.Module]:
        """Return the encoder and decoder that suit points of a shape and what the likelihood makes of them."""
        config = cls.configured(options)
        deep = config.networks == "deep"
        encoder, out = encoder_for(options.get("likelihood"), input_shape, config.likelihood_options, deep)
        return encoder, default_decoder(out, config.dim, class_dim, deep)

    @classmethod
    def default(cls, input_shape: tuple[int, ...], labels: Labels, **options: Any) -> Model:
        """Return the model with the networks that suit the input's shape."""
        raise NotImplementedError

    def model(self, x: Tensor, y: Tensor | None = None) -> object:
        raise NotImplementedError

    def guide(self, x: Tensor, y: Tensor | None = None) -> object:
        raise NotImplementedError

    def objective(self) -> ELBO:
        """The ELBO to train the pair with: ``SVI(m.model, m.guide, optimiser, loss=m.objective())``."""
        return TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)

    def prepare(self, x: Tensor, y: Tensor) -> None:
        """Take from the training data what is not trained: the likelihood's units, the prior over labels.

        :raises InputError: black and white as 0 and 1 of uint8, whose white is 255.
        """
        if x.dtype == torch.uint8 and self.takes_pixels and len(x) and int(x.max()) == 1:
            raise InputError("x: uint8 pixels of 0 and 1 alone, where 255 is white; floats, or 255 * x, are needed")
        self.likelihood.fit(self.inputs(x))

    def check_points(self, x: Tensor) -> Tensor:
        """Return points as the programs take them; NaN is an entry that is missing.

        :raises InputError: naming the first entry that the likelihood does not take.
        """
        if isinstance(self.likelihood, Likelihood) and x.is_floating_point():
            self.likelihood.check(x)
        return x

    @property
    def takes_pixels(self) -> bool:
        """Whether uint8 values mean pixels in [0, 1]: of pictures, and where the likelihood takes numbers in [0, 1];
        else they are numbers as any others."""
        return not isinstance(self.likelihood, Likelihood) or self.likelihood.takes_pixels

    def begin(self, x: Tensor) -> Tensor:
        """Tell Pyro of the parameters, so that ``SVI`` trains them, and return :meth:`inputs`.

        Every instance has a name of its own. Without gradients nothing can be trained, and nothing is told.

        :raises InputError: in training, while Pyro validates, points that are infinite.
        """
        if torch.is_grad_enabled():
            pyro.module(self._name, self)
        x = self.inputs(x)
        if self.training and is_validation_enabled():  # as under plain SVI; fit has checked all points before
            complain(x, x.isinf(), "finite numbers are needed, or NaN where an entry is missing")
        return x

    def target(self, x: Tensor) -> Tensor:
        """What the site ``x`` observes of :meth:`inputs`.

        :raises InputError: in training, while Pyro validates, points that the likelihood does not take.
        """
        if self.training and is_validation_enabled():
            self.check_points(x)
        target: Tensor = self.likelihood.target(x)
        return target

    def inputs(self, x: Tensor) -> Tensor:
        """``x`` as this model computes with it: on its device, in its precision, pixels scaled to [0, 1]."""
        p = next(self.parameters())
        x = plain_tensor(x, "x", "a tensor [N, ...] is needed, and fit takes tables too", p.device)
        if tuple(x.shape[1:]) != self.input_shape:
            raise InputError(f"x: shape {list(x.shape)}; this model needs [N, {', '.join(map(str, self.input_shape))}]")
        if self.training and not len(x):
            raise InputError("x: no row; in training at least 1 is needed")
        if len(x) == 1 and self.training and mixes_rows(self):
            raise InputError("x: 1 row; in training mode batch normalisation needs at least 2")
        return x.to(p.dtype) / 255 if x.dtype == torch.uint8 and self.takes_pixels else x.to(p.dtype)

    def stand_in(self, n: int) -> Tensor:
        """``n`` points of zeros, for programs that need to know how many."""
        return next(self.parameters()).new_zeros(n, *self.input_shape)

    def targets(self, y: Tensor | None, x: Tensor) -> Tensor:
        """``y`` for the rows of ``x``, all missing where it is None; its values are checked while Pyro validates."""
        assert self.labels is not None
        return self.labels.check(y, len(x), x.device, values=is_validation_enabled())

    def plate(self, x: Tensor) -> AbstractContextManager[object]:
        """The plate ``data`` over the rows of ``x``."""
        plate: AbstractContextManager[object] = Rows("data", len(x), dim=-1)
        return plate

    def read(self, rows: Callable[..., Tensor], x: ArrayLike, y: ArrayLike | None = None) -> Tensor:
        """``rows(x)``, or ``rows(x, y)`` where labels are given, checked and some rows at a time."""
        return batched(self, rows, *opened(self, x, y))

    def features(self, x: Tensor) -> Tensor:
        """What the encoder makes of points: ``[B, H]``."""
        h: Tensor = self.encoder(self.likelihood.standardize(self.inputs(x)))
        return h

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class Rows(pyro.plate):
    """A plate in which the site ``x``, however it was edited, takes gaps: entries that are NaN do not count.

    Sites of other shapes than the plate's are named in a line.

    :raises InputError: while Pyro validates, gaps under a distribution whose entries depend on one another.
    """

    def _process_message(self, msg: Any) -> None:
        if msg["type"] == "sample" and msg["name"] == "x":
            msg["fn"] = entrywise(msg["fn"])
        with program_errors():
            super()._process_message(msg)

    def _postprocess_message(self, msg: Any) -> None:
        super()._postprocess_message(msg)
        scored = msg["type"] == "sample" and msg["name"] == "x" and msg["is_observed"] and is_validation_enabled()
        if scored and (name := joined(msg["fn"])) and bool(msg["value"].isnan().any()):
            raise InputError(
                f"x: entries are missing, and site x is a {name}, of which none can be left out; independent ones, "
                "such as Normal(...).to_event(1), are needed"
            )


def given_labels(y: ArrayLike, n: int, labels: Labels, device: torch.device) -> Tensor:
    """``y`` for ``n`` points, from labels a row, or from one label (a number or its name) for all."""
    if isinstance(y, str):
        if not isinstance(labels, ClassLabels):
            raise InputError(f"label: {y!r}; a value of each of {', '.join(labels.names)[:200]} is needed, in a list")
        if y not in labels.names:
            raise InputError(f"label: {y!r} is not one of {', '.join(labels.names)}")
        y = list(labels.names).index(y)
    y = label_values(y, labels)
    if y.shape == labels.event_shape:
        y = y.expand((n, *labels.event_shape))
    elif y.dim() == 1 + len(labels.event_shape) and len(y) != n:
        raise InputError(
            f"y: labels of {counted(len(y), 'row')}, for {counted(n, 'point')}; one label is for all of them"
        )
    return labels.check(y, n, device)
