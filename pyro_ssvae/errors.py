"""The one exception that bad input ends in, and the nearest name to one that is not known."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable
from typing import Protocol, SupportsIndex, runtime_checkable

PEOPLE_SAY = {
    # models
    "augmented": "augvae augmentedvae augmented-vae aug-vae classifier-head",
    "revae": "ccvae cc-vae re-vae characteristics capturing-label-characteristics",
    "m2": "ssvae ss-vae semi-supervised kingma m2vae m2-vae",
    "m1+m2": "m1m2 m1-m2 stacked m1m2vae",
    "vae": "beta-vae betavae autoencoder elbo unsupervised",
    "classifier": "mlp baseline supervised labels-alone logistic-regression",
    "mvae": "multimodal product-of-experts poe multimodal-vae",
    "adgm": "auxiliary sdgm skip-deep ladder auxiliary-deep-generative-model",
    # options
    "learning-rate": "lr rate learnrate step-size eta",
    "weight-decay": "wd",
    "batch-size": "batch bs batchsize mini-batch minibatch",
    "epochs": "epoch n-epochs num-epochs max-epochs iterations iters num-iterations",
    "device": "gpu cuda cpu accelerator use-gpu use-cuda",
    "devices": "gpus",
    "precision": "amp fp16 bf16",
    "clip-norm": "grad-clip gradient-clip clip",
    "early-stopping": "patience",
    "networks": "architecture hidden hidden-dim hidden-size layers num-layers depth",
    "average": "ema",
    "data": "dataset input path csv file table",
    "labels": "n-labels num-labels num-labelled n-labelled labelled",
    "classes": "n-classes num-classes k",
    "latent-dim": "latent latents latent-size z-dim zdim dim latent-dims z-size n-latent embedding-dim",
    "out": "output output-dir outdir o save save-dir folder dir",
    "seed": "random-state random-seed rng rng-seed",
    "model": "name arch architecture",
    "logger": "tensorboard log",
    "resume": "checkpoint",
    "alpha": "classification-weight classifier-weight supervised-weight label-weight ce-weight class-loss-weight",
    "beta": "kl-weight kl-scale kl-coefficient",
    "class-weights": "class-weight",
    "label-inference": "class-input inference",
    "label-prior": "class-prior prior",
    "alignment-weight": "balance-weight",
    "intervention-consistency": "steering",
    "n": "num num-samples samples number count",
    "label": "class",
    "target": "y label-column target-column outcome",
    "hide-classes": "unknown-classes novel",
    "layout": "channels-last data-format format",
    "image-size": "size resize img-size resolution",
    "likelihood": "loss decoder-distribution observation-model noise-model",
    "augment": "augmentation transforms transform",
    "quiet": "silent verbose no-progress",
    # values of options
    "normal": "gaussian mse l2 gauss squared",
    "laplace": "l1 mae absolute",
    "bernoulli": "bce binary cross-entropy",
    "student-t": "t robust studentt",
    "negative-binomial": "nb negbin count counts",
    "zero-inflated-negative-binomial": "zinb scvi zero-inflated",
    "zero-inflated-log-normal": "ziln hurdle two-part amount",
    "enumerate": "exact marginalise marginalize sum enumeration parallel",
    "straight-through": "gumbel gumbel-softmax concrete relaxed st",
    "plug-in": "probabilities pi soft mean-field plugin",
    "sample": "reinforce score-function monte-carlo mc",
    "sparse": "sparsemax",
    "proportional": "stratified natural random",
    "balanced": "even equal uniform-classes",
    "binarize": "binarise",
    # data sets
    "fashion-mnist": "fmnist fashionmnist fashion",
    "cifar10": "cifar cifar-10",
    "svhn": "house-numbers street-view-house-numbers",
    "har": "uci-har ucihar activity activities human-activity",
    "breast-cancer": "cancer wdbc breast bc",
    "avatars": "faces cartoons",
    "celeba": "celeb-a celeb celebs",
    # commands
    "train": "fit run learn main",
    "evaluate": "test eval score validate",
    "predict": "infer classify label-new inference embed embeddings encode transform impute fill",
    "generate": "sample draw synthesize synthesise",
    "intervene": "edit set counterfactual do",
    "walk": "interpolate traverse traversal",
    "suggest": "query active-learning annotate acquire",
    "explore": "ui gui serve app page view",
    "inspect": "explain show look",
    "benchmark": "bench speed",
}
"""What people say for a name, by that name. A word may stand for several: the one that is known where it is said."""
NO_SUCH = frozenset({"iris", "imagenet", "cifar100", "titanic", "adult", "penguins", "export"})
"""Words to which no name is near, however alike they are spelt."""


class InputError(ValueError):
    """What a person gave cannot be used; the message is one line that names the place and says what would be right.

    The command line prints the message and exits with status 2; in Python it is a ``ValueError``. To those Pyro adds
    the shapes of the trace that they arise in, by a second line; it is left out.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(re.sub(r"\s*\n\s*", " ", re.split(r"\n\s*Trace Shapes:", str(message))[0]))


def kind_of(thing: object) -> str:
    """Return the name of what a thing is, with its article as it is spoken: ``an AugmentedVAE``, ``an M2``."""
    name = type(thing).__name__
    spelt = name[1:2].isupper() or name[1:2].isdigit()  # letter by letter: em two
    return f"{'an' if name[0].upper() in ('AEFHILMNORSX' if spelt else 'AEIO') else 'a'} {name}"


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return a number and what it counts: ``1 row``, ``3 rows``."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def nearest(word: str, known: Iterable[str], alike: float = 0.5) -> str:
    """Return ``" (did you mean 'mnist'?)"`` for the name that people mean by a word (:data:`PEOPLE_SAY`), or that it is
    close to; else the known names.

    :param alike: how close at least, from 0 to 1.
    """
    names = {plain(name): name for name in known}
    said = plain(word)
    meant = [names[name] for name, words in PEOPLE_SAY.items() if name in names and said in words.split()]
    if said in names:
        meant = [names[said]]
    if not meant and said not in NO_SUCH:
        meant = [names[name] for name in difflib.get_close_matches(said, names, n=1, cutoff=alike)]
    return f" (did you mean {meant[0]!r}?)" if meant else f" (known: {', '.join(names.values())})"


def plain(word: str) -> str:
    """Return a name in small letters, without the dashes before it, and with dashes for what else divides it."""
    return re.sub(r"[_ ]", "-", word.lower().lstrip("-"))


@runtime_checkable
class Array(Protocol):
    """A number or numbers of NumPy, PyTorch or pandas."""

    @property
    def dtype(self) -> object: ...
    def tolist(self) -> object: ...


@runtime_checkable
class Named(Protocol):
    """Numbers that have a name each, as pandas' Series."""

    @property
    def index(self) -> object: ...


def plain_value(value: object) -> object:
    """Return an option's value as Python has it: numbers of NumPy, PyTorch and pandas as its own, lists and arrays as
    tuples; anything else as it is, also numbers whose names do not count from 0: their order may mean nothing."""
    if isinstance(value, Array) and type(found := value.tolist()) is not type(value):
        names = list(value.index) if isinstance(value, Named) and isinstance(value.index, Iterable) else []
        value = found if names == list(range(len(names))) else value
    return tuple(map(plain_value, value)) if isinstance(value, (list, tuple)) else value


def whole_number(name: str, value: object, least: int = 1) -> int:
    """Return an option that counts something, also of NumPy's and PyTorch's numbers, as an int.

    :raises InputError: it is none, or less than ``least``.
    """
    try:
        number = operator.index(value) if isinstance(value, SupportsIndex) and not isinstance(value, bool) else None
    except (TypeError, ValueError, RuntimeError):  # several numbers, or a tensor of others
        number = None
    if number is None or number < least:
        raise InputError(f"{name}: {value!r}; a whole number of at least {least} is needed")
    return number
