"""What studies compare, by name: the library's models with their options, and what one would otherwise pick."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyro
from torch import nn

from ..data import Dataset, factors_of, known_rows
from ..errors import InputError, nearest
from ..labels import MISSING, ClassLabels
from ..models import MODELS, VAE, AugmentedVAE, Classifier, Model, create_model, model_name
from ..models.classifier import ClassifierConfig
from ..models.config import HeadConfig
from ..nn.networks import Encoder, default_decoder, mlp
from ..train.fit import fit
from .cells import Cell, Json

NETWORKS = ("default", "mlp")
"""By the input's shape; or 500-500 on either side of z, whatever the shape."""
HEAD = AugmentedVAE.Config()
"""AugVAE's defaults."""


@dataclass(frozen=True)
class Method:
    """A model of the library with its options; ``model`` None: one of scikit-learn's.

    :param augment: random changes of each batch, where they are not the study's.
    :param one_sided: whether attributes with nothing behind their 0 are declared so (:func:`one_sided_attributes`).
    """

    model: str | None
    options: Json = field(default_factory=dict)
    augment: str | None = None
    one_sided: bool = False


METHODS = {
    "augmented-probabilities": Method("augmented", {"label_inference": "plug-in"}),
    "augmented-enumerate": Method("augmented", {"label_inference": "enumerate"}),
    "augmented-sparse": Method("augmented", {"label_inference": "sparse"}),
    "m2": Method("m2"),
    "m1+m2": Method("m1+m2"),
    "mvae": Method("mvae"),
    "diva": Method("diva"),
    "revae": Method("revae", {"locality": 0.0}),
    "revae+locality": Method("revae", {"locality": 1.0}),
    "revae+one-sided": Method("revae", {"locality": 0.0}, one_sided=True),
    "revae+both": Method("revae", {"locality": 1.0}, one_sided=True),
    "classifier": Method("classifier"),
    "vae": Method("vae"),
    "paper": Method("augmented", {"entropy_weight": 0.0, "alignment_weight": 0.0}, augment="none"),
    "paper+entropy": Method("augmented", {"alignment_weight": 0.0}, augment="none"),
    "paper+entropy+alignment": Method("augmented", augment="none"),
    "augmented": Method("augmented"),
    "no-decoder": Method(
        "classifier",
        {
            "entropy_weight": HEAD.entropy_weight / HEAD.alpha,
            "alignment_weight": HEAD.alignment_weight / HEAD.alpha,
        },
    ),
    "logistic-regression": Method(None),
    "label-spreading": Method(None),
    "self-training": Method(None),
    "gradient-boosting": Method(None),
}


def choose_methods(study: str, has: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    """Return those of the study's methods that are named, by themselves or by a model that is no method's name; all
    where none is.

    :raises InputError: a name that the study does not have, or a model that the library lacks.
    """
    known = list(dict.fromkeys([*has, *(model for name in has if (model := METHODS[name].model) is not None)]))
    named = [name if name in known else as_written(name) for name in named]
    for name in named:
        if name not in known:
            raise InputError(f"--models: study {study} has no {name!r}{nearest(name, known)}")
    models = {name for name in named if name not in has}
    chosen = tuple(name for name in has if not named or name in named or METHODS[name].model in models)
    lacking = list(dict.fromkeys(m for name in chosen if (m := METHODS[name].model) not in {None, *MODELS}))
    if lacking:
        there = " ".join(name for name in has if METHODS[name].model in {None, *MODELS})
        what = f"model {lacking[0]!r}" if len(lacking) == 1 else f"models {', '.join(map(repr, lacking))}"
        raise InputError(f"study {study}: the library has no {what}; --models {there} would run those that are there")
    return chosen


def as_written(name: str) -> str:
    """Return a model's name as the library has it, the word itself where it is none."""
    try:
        return model_name(name)
    except InputError:
        return name


def check_networks(networks: str, methods: Sequence[str]) -> None:
    """Raise :class:`InputError` where there are no such networks, or a method's model does not take them."""
    if networks not in NETWORKS:
        raise InputError(f"--networks: there are no {networks!r}{nearest(networks, NETWORKS)}")
    other = [name for name in methods if METHODS[name].model not in ("augmented", "vae", "classifier", None)]
    if networks != "default" and other:
        raise InputError(f"--networks {networks}: of augmented, vae and classifier alone, not of {other[0]}")


def trained(cell: Cell, split: Dataset, device: str) -> Model:
    """Return the cell's model, trained on a training part for the cell's steps.

    The classifier learns from the labelled rows alone, in as many steps as the others take on all rows.
    """
    model = make_model(cell, split)
    learn(model, cell, split, device)
    return model


def make_model(cell: Cell, split: Dataset) -> Model:
    """Return the cell's model for data like ``split``, its weights drawn by the cell's seed."""
    method = METHODS[cell.method]
    assert method.model is not None
    pyro.set_rng_seed(cell.seed)
    options = {**method.options, "latent_dim": cell.latent_dim}
    if cell.likelihood is not None:
        options["likelihood"] = cell.likelihood
    if isinstance(split.labels, ClassLabels) and issubclass(
        MODELS[method.model].Config, (HeadConfig, ClassifierConfig)
    ):
        options = {"label_prior": "proportional", **options}  # labels are hidden in proportion
    if method.one_sided:
        options["one_sided"] = one_sided_attributes(cell.data)
    if cell.networks == "mlp":
        return mlp_model(method.model, split, options)
    return create_model(method.model, **{**split.model_options(), **options})


def one_sided_attributes(data: str) -> tuple[str, ...]:
    """Return the attributes with nothing behind their 0, whose factors all apply where they are 1 alone.

    :param data: what ``--data`` names; where its factors are not known, there are none.
    """
    train, _ = factors_of(data) or (None, None)
    sides: dict[str, bool] = {}
    for factor, owner in train.attributes.items() if train is not None else ():
        if owner is not None and train is not None:
            sides[owner] = sides.get(owner, True) and bool((train.values[factor] == MISSING).any())
    return tuple(owner for owner, one in sides.items() if one)


def mlp_model(name: str, split: Dataset, options: Json) -> Model:
    """Return a model of two hidden layers of 500 on either side of z, with batch normalisation in the encoder.

    The decoder is the default one of vectors and of images up to 32 x 32 pixels.
    """
    shape, labels = split.input_shape, split.labels
    encoder = Encoder(nn.Flatten(), *mlp([split.x[0].numel(), 500, 500]), out_features=500)
    if name == "classifier":
        return Classifier(encoder, labels, input_shape=shape, **options)
    if name == "vae":
        return VAE(encoder, default_decoder(shape, options["latent_dim"], 0), labels, **options)
    return AugmentedVAE(encoder, default_decoder(shape, options["latent_dim"], labels.size), labels, **options)


def learn(model: Model, cell: Cell, split: Dataset, device: str) -> int:
    """Train a model on a training part for the cell's steps, and return how many these were."""
    x, y = split.x, split.y
    steps = round_steps(cell.steps, len(x), cell.batch_size)
    if cell.method == "classifier":
        rows = known_rows(y)
        x, y = x[rows], y[rows]
        if len(x) < 2:
            raise InputError(f"--labels {cell.labels}: a classifier needs at least 2 labels")
    per_epoch = len(x) // min(cell.batch_size, len(x))
    epochs = max(1, steps // per_epoch)
    fit(
        model, x, y, epochs=epochs, batch_size=cell.batch_size, augment=cell.augment, seed=cell.seed, device=device,
        compile=cell.compile or None, progress=False, devices=1,
    )  # fmt: skip
    return epochs * per_epoch


def round_steps(steps: int, rows: int, batch_size: int) -> int:
    """Return the number of steps that whole epochs of ``rows`` rows take, as near to ``steps`` as can be."""
    per_epoch = rows // min(batch_size, rows)
    return max(1, round(steps / per_epoch)) * per_epoch


def facts(split: Dataset) -> Json:
    """Return ``train``: what a cell was trained on, to see that methods had the same."""
    mark = hashlib.sha256(split.y.contiguous().numpy().tobytes()).hexdigest()[:12]
    return {"train": {"rows": len(split.x), "labelled": int(known_rows(split.y).sum()), "label_set": mark}}
