"""What is wrong with arguments, in one line, with the name that a person may have meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import nearest

MODELS_BY_OTHER_NAMES = {
    "augvae": "augmented",
    "augmentedvae": "augmented",
    "ssvae": "m2",
    "ccvae": "revae",
    "characteristics": "revae",
    "m1m2": "m1+m2",
    "m1-m2": "m1+m2",
    "beta-vae": "vae",
    "betavae": "vae",
    "mlp": "classifier",
    "baseline": "classifier",
}
"""What people call a model, and its name here."""

OPTIONS_BY_OTHER_NAMES = {
    "lr": "learning-rate",
    "rate": "learning-rate",
    "wd": "weight-decay",
    "batch": "batch-size",
    "bs": "batch-size",
    "epoch": "epochs",
    "n-epochs": "epochs",
    "num-epochs": "epochs",
    "max-epochs": "epochs",
    "gpu": "device",
    "gpus": "devices",
    "cuda": "device",
    "cpu": "device",
    "accelerator": "device",
    "amp": "precision",
    "fp16": "precision",
    "bf16": "precision",
    "grad-clip": "clip-norm",
    "gradient-clip": "clip-norm",
    "clip": "clip-norm",
    "patience": "early-stopping",
    "ema": "average",
    "dataset": "data",
    "input": "data",
    "n-labels": "labels",
    "num-labels": "labels",
    "n-classes": "classes",
    "num-classes": "classes",
    "k": "classes",
    "latent": "latent-dim",
    "latents": "latent-dim",
    "latent-size": "latent-dim",
    "z-dim": "latent-dim",
    "zdim": "latent-dim",
    "output": "out",
    "output-dir": "out",
    "outdir": "out",
    "o": "out",
    "random-state": "seed",
    "random-seed": "seed",
    "name": "model",
    "arch": "model",
    "architecture": "model",
    "tensorboard": "logger",
    "log": "logger",
    "checkpoint": "resume",
    "kl-weight": "beta",
    "class-weight": "class-weights",
    "class-input": "label-inference",
    "inference": "label-inference",
    "class-prior": "label-prior",
    "prior": "label-prior",
    "balance-weight": "alignment-weight",
    "steering": "intervention-consistency",
    "num-samples": "n",
    "samples": "n",
    "class": "label",
}
"""What people type for an option, and its name here."""


RUN_IS_LACKING = "the run's folder is needed"
LACKING = {
    "study": "a study's name is needed: sparse-labels, anomaly, semi-unsupervised, transfer or label-characteristics"
}
"""What is lacking where a command has nothing but options."""


def meant(word: str, known: Sequence[str], others: Mapping[str, str]) -> str:
    """Return ``" (did you mean 'revae'?)"`` for a name that people use, else as :func:`~pyro_ssvae.errors.nearest`."""
    other = others.get(word.lower().replace("_", "-"))
    return f" (did you mean {other!r}?)" if other in known else nearest(word, known)


def complaint(command: str, options: Mapping[str, str], arguments: Sequence[str], words: str) -> str:
    """Return what is wrong with arguments that tyro refused in these words.

    :param options: the command's options and, in words, the values that they take.
    """
    see = f"see pyro-ssvae {command} --help"
    unknown = unknown_option(options, arguments)
    if unknown is not None:
        others = {f"--{word}": f"--{option}" for word, option in OPTIONS_BY_OTHER_NAMES.items()}
        close = meant(f"--{unknown.lstrip('-')}", list(options), others).replace("'", "")
        return f"{command}: there is no option {unknown}{close if 'mean' in close else f'; {see}'}"
    option = next(iter(re.findall(r"(?:parsing|argument) '?(--[a-z-]+)", words)), None)
    if option is not None:
        given = re.findall(r"from \['(.*?)'\]|base 10: '(.*?)'|to float: '(.*?)'", words)
        value = next((group for groups in given for group in groups if group), None)
        kind = options.get(option) or "a value"
        return f"{option}: {kind} is needed; {see}" if value is None else f"{option}: {value!r}; {kind} is needed"
    if "Unrecognized" in words:
        extra = re.sub(r".*?options:\s*", "", words).split(" ")[0].rstrip(",")
        return f"{command}: {extra!r} is one argument too many; {see}"
    if "Missing" in words:
        return f"{command}: {LACKING.get(command, RUN_IS_LACKING)}; {see}"
    return f"{' '.join(words.split())[:300]}; {see}"


def unknown_option(options: Mapping[str, str], arguments: Sequence[str]) -> str | None:
    """Return the first argument that looks like an option and is none."""
    for argument in arguments:
        name = argument.split("=")[0].replace("_", "-")
        if re.match(r"--?[a-zA-Z]", name) and name not in [*options, "-n", "-h", "--help"]:
            return name
    return None
