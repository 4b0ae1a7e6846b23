"""What is wrong with arguments, in one line, with the name that a person may have meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import nearest

RUN_IS_LACKING = "the run's folder is needed"
LACKING = {
    "study": (
        "a study's name is needed: sparse-labels, ablation, labels-and-bound, anomaly, semi-unsupervised, transfer or "
        "label-characteristics"
    )
}
"""What is lacking where a command has nothing but options."""
ELSEWHERE = {
    "Adam trains; in Python fit(..., optimizer=...) takes another": (
        "optimizer optimiser optim opt momentum adam sgd scheduler lr-scheduler"
    ),
    "--epochs says how long; an epoch is all rows once, in steps of --batch-size": (
        "steps max-steps num-steps iterations num-iterations iters n-iter max-iter"
    ),
    "a tenth of the training rows is held out by itself": "val val-split validation validation-split val-size holdout",
    "a fifth of the rows is the test where the data set has none; a column 'split', or x_test, says it otherwise": (
        "test test-size test-split test-fraction"
    ),
    "points are read without further processes; --devices 2 trains in two": "workers num-workers",
    "in Python models take networks of your own": "dropout activation batch-norm kernel-size channels",
}
"""What to say of options that other programs have, by their names."""
ALIKE = 0.7
"""How close a name must be to be offered in place of an unknown option."""


def complaint(command: str, options: Mapping[str, str], arguments: Sequence[str], words: str) -> str:
    """Return what is wrong with arguments that tyro refused in these words.

    :param options: the command's options and, in words, the values that they take.
    """
    see = f"see pyro-ssvae {command} --help"
    unknown = unknown_option(options, arguments)
    if unknown is not None:
        close = nearest(unknown, options, ALIKE).replace("'", "")
        fit = [said for said in ELSEWHERE if options.keys() >= set(re.findall("--[a-z-]+", said))]
        other = next((said for said in fit if unknown.lstrip("-") in ELSEWHERE[said].split()), see)
        return f"{command}: there is no option {unknown}{close if 'mean' in close else f'; {other}'}"
    option = next(iter(re.findall(r"(?:parsing|argument) '?(?:-[a-z]/)?(--[a-z][a-z-]*)", words)), None)
    if option is not None:
        given = re.findall(r"from \['(.*?)'\]|base 10: '(.*?)'|to float: '(.*?)'", words)
        value = next((group for groups in given for group in groups if group), None)
        kind = options.get(option) or "a value"
        return f"{option}: {kind} is needed; {see}" if value is None else f"{option}: {value!r}; {kind} is needed"
    if "Unrecognized" in words:
        first = re.sub(r".*?options:\s*", "", words).split(" ")[0].rstrip(",")
        extra = next((argument for argument in arguments if argument.split(" ")[0] == first), first)
        data = f" (did you mean --data {extra}?)" if "--data" in options else f"; {see}"
        return f"{command}: {extra!r} is one argument too many{data}"
    if "Missing" in words:
        lacking = re.search(r"Missing from pyro-ssvae \S+: (--[a-z][a-z-]*)", words)
        if lacking is not None:
            return f"{command}: {lacking[1]} is needed; {see}"
        return f"{command}: {LACKING.get(command, RUN_IS_LACKING)}; {see}"
    return f"{' '.join(words.split())[:300]}; {see}"


def unknown_option(options: Mapping[str, str], arguments: Sequence[str]) -> str | None:
    """Return the first argument that looks like an option and is none."""
    for argument in arguments:
        name = argument.split("=")[0].replace("_", "-")
        if re.match(r"--?[a-zA-Z]", name) and name not in [*options, "-n", "-h", "--help"]:
            return name
    return None
