"""Words that name classes: which mean a missing label, which look alike, and what is said of them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor

from ..errors import InputError, counted
from ..label_arrays import CHUNK
from ..labels import MISSING, ClassLabels
from .checks import hint, shown
from .notices import say

MAX_CLASSES = 10_000
"""Largest number of classes; a larger one is more likely an identifier taken for a label."""
UNKNOWN_CLASSES = 10
"""Number of classes where the data names none: no label is known and there are no names."""
NO_LABEL = frozenset({"", "-1"})
"""What stands for a missing label by convention."""
LIKE_NO_LABEL = frozenset(
    {
        *("nan", "na", "n/a", "#n/a", "<na>", "nat", "none", "null", "nil", "-1.0", "-1.", "?", "-", "--", "."),
        *("missing", "(missing)", "unknown", "unk", "<unk>", "<none>", "undefined", "not available"),
        *("unlabeled", "unlabelled", "not labeled", "not labelled", "no label", "nolabel"),
        *("unassigned", "unannotated", "not annotated"),
    }
)
"""Words that mostly mean that a label is missing, in small letters; what they were taken for is said."""
MAYBE_NO_LABEL = frozenset(
    {
        *("tbd", "tba", "todo", "to do", "to be determined", "pending", "not done", "not yet", "skip", "skipped"),
        *("n.a.", "n.d.", "nd", "n.k.", "not known", "not determined", "undetermined", "indeterminate", "no data"),
        *("not applicable", "not specified", "unspecified", "not given", "not recorded", "not reported", "not tested"),
        *("empty", "blank", "invalid", "error", "??", "???", "...", "*", "_"),
    }
)
"""Words that may mean that a label is missing, in small letters; they are classes, which is said."""
NINES = re.compile(r"-?9+|-8+|8{2,}")
"""Numbers that stand for a missing one in many files: -9, 99, 888."""


def clean_word(word: str, where: str) -> str:
    """Return a label or name with each run of white space as one blank; refuse control characters and half pairs."""
    word = " ".join(word.split())
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in word):
        raise InputError(f"{where}: {shown(word)} has a character that cannot be printed; remove it")
    return word


def sort_words(words: Iterable[str]) -> list[str]:
    """Return the different words in order: by number where all are whole numbers ("2" before "10")."""
    different = set(words)
    if all(word.isascii() and word.isdecimal() for word in different):
        return sorted(different, key=lambda word: (len(word.lstrip("0")), word.lstrip("0"), word))
    return sorted(different)


def check_classes(classes: int, known: int, where: str, note: Callable[[str], None]) -> None:
    """Refuse a column of labels with too many different words for classes, names or amounts; say of fewer that
    they may be such."""
    if classes > MAX_CLASSES or (classes > 50 and classes > known / 2):
        raise InputError(f"{where}: {classes:,} different values in {known:,} rows; a column of classes is needed")
    if classes > 10 and classes > known / 2:
        note(f"{where}: {classes} different values in {known} rows are taken for classes; where they are amounts or "
             "names, another column is needed")  # fmt: skip


LOOKALIKES = str.maketrans("АВЕКМНОРСТУХІаеорсухіΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEKMHOPCTYXIaeopcyxiABEZHIKMNOPTYXo")
"""Cyrillic and Greek letters that look as Latin ones do."""


def case_variants(words: Iterable[str]) -> str:
    """Return, for a message, words that differ in capital letters alone, or in what nobody sees: invisible signs, and
    letters of other alphabets that look alike. An empty word where there are none."""
    alike: dict[str, list[str]] = {}
    for word in words:
        seen = unicodedata.normalize("NFKC", word).translate(LOOKALIKES)
        seen = "".join(sign for sign in " ".join(seen.split()) if unicodedata.category(sign) != "Cf")
        alike.setdefault(seen.lower(), []).append(word)
    groups = [sorted(group) for group in alike.values() if len(group) > 1]
    said = [
        " and ".join(shown(word) if len({each.lower() for each in group}) == 1 else ascii(word) for word in group)
        for group in groups
    ]
    return f"{', '.join(said[:3])} are different words; write them alike where they mean the same" if groups else ""


def encode_words(
    columns: Sequence[Sequence[str]], names: Sequence[str] | None, where: str, else_class: str = "rename it"
) -> tuple[list[Tensor], Sequence[str]]:
    """Return each column of words as int64 classes, ``-1`` where a cell is empty or ``-1``; and the classes' words.

    Words of :data:`LIKE_NO_LABEL` that are not among ``names`` are missing labels too, and a line on stderr says so.

    :param columns: one list of words a split, since classes are counted over all splits together.
    :param names: the classes in order; None takes the words themselves, in order of :func:`sort_words`.
    :param else_class: what makes a class of such a word, in words.
    :raises InputError: a word that is not among ``names``, or more than :data:`MAX_CLASSES` words.
    """
    stripped = [[clean_word(word, where) for word in column] for column in columns]
    forms = one_form({word for column in stripped for word in column})
    stripped = [[forms.get(word, word) for word in column] for column in stripped] if forms else stripped
    counts = Counter(word for column in stripped for word in column)
    missing = {word for word in counts if means_missing(word, names or ())} | NO_LABEL
    words = sort_words(word for word in counts if word not in missing)
    if len(words) > MAX_CLASSES:
        raise InputError(f"{where}: {len(words)} different words; at most {MAX_CLASSES} classes can be told apart")
    say_missing({word: counts[word] for word in missing - NO_LABEL}, where, else_class)
    if len(words) == 1 and words == ["1"] and counts["-1"]:
        say(f"{where}: {ONE_VALUE}")
    if names is None:
        say_classes(words, where, say)
    names = words if names is None else names
    classes = {word: k for k, word in enumerate(names)}
    for word in words:
        if word not in classes:
            raise InputError(f"{where}: {shown(word)} is not among the names{hint(word, names)}")
    classes.update(dict.fromkeys(missing - set(names), MISSING))
    return [torch.tensor([classes[word] for word in column], dtype=torch.long) for column in stripped], names


def one_form(words: Collection[str]) -> dict[str, str]:
    """Return ``1`` for each ``1.0`` that stands beside it: a whole number's forms are one word."""
    there = set(words)
    return {word: bare for word in there if (bare := word.removesuffix(".0")) != word
            and bare in there and bare.removeprefix("-").isdecimal()}  # fmt: skip


def means_missing(word: str, names: Sequence[str]) -> bool:
    """Whether a clean word that is no class's name mostly means that a label is missing."""
    return word not in names and (word in NO_LABEL or word.lower() in LIKE_NO_LABEL)


def maybe_missing(words: Sequence[str]) -> str:
    """Return, for a message, which classes may mean that a label is missing; an empty word where none may.

    Words of :data:`MAYBE_NO_LABEL`, and numbers of nines among words, or further from the others than these lie from
    each other.
    """
    numbers = {float(word): word for word in words if re.fullmatch(r"-?\d+", word)}
    found = [word for word in words if word.lower() in MAYBE_NO_LABEL]
    for number in {min(numbers), max(numbers)} if numbers else ():
        others = numbers.keys() - {number}
        spread = max(others) - min(others) if others else 0
        apart = len(numbers) < len(words) - len(found) or all(abs(number - other) > spread + 1 for other in others)
        if len(words) > 1 and apart and NINES.fullmatch(numbers[number]):
            found.append(numbers[number])
    return ", ".join(map(shown, sorted(found)))


def say_classes(words: Sequence[str], where: str, note: Callable[[str], None]) -> None:
    """Say of words that were taken for classes which may mean the same, and which that a label is missing."""
    if variants := case_variants(words):
        note(f"{where}: {variants}")
    if maybe := maybe_missing(words):
        note(f"{where}: {maybe} is taken for a class; where it means a missing label, leave it empty")


def untaught(y: Tensor, y_test: Tensor, names: Sequence[str]) -> str:
    """Return, as a line's end, which classes have labels in the test alone; nothing where training has none, or all."""
    taught = set(y.unique().tolist()) - {MISSING}
    alone = sorted(set(y_test.unique().tolist()) - taught - {MISSING})
    if not taught or not alone or y.dim() > 1:
        return ""
    words = ", ".join(shown(names[k]) for k in alone[:5]) + (" …" if len(alone) > 5 else "")
    return f"{words} {'is' if len(alone) == 1 else 'are'} in the test alone: no label teaches it"


def say_missing(counts: dict[str, int], where: str, else_class: str) -> None:
    """Say which words were taken for missing labels, and in how many rows."""
    if counts:
        words = ", ".join(f"{shown(word)} ({counted(n, 'row')})" for word, n in sorted(counts.items()))
        say(f"{where}: {words[:300]} is taken as a missing label; to make a class of it, {else_class}")


ONE_VALUE = (
    "the values are -1 and 1 alone: -1 is taken as a missing label, so that every known one is 1; "
    "where -1 is a value of its own, write 0 for it"
)


LEAST = 8
"""Rows of each of two values, from which on something is said of what they may mean."""


def say_meaning(y: Tensor, where: str, names: Sequence[str] | None = None) -> None:
    """Say where numbers as labels have two common meanings: -1 beside nothing but 1, or classes counted from 1.

    :param y: int64 ``[N]``, or ``[N, A]`` with the attributes' ``names``.
    """
    parts = y.reshape(len(y), -1).split(CHUNK) if y.numel() else ()
    ones = [sum(int((part[:, i] == 1).sum()) for part in parts) for i in range(math.prod(y.shape[1:]))]
    signs = [
        i
        for i, n in enumerate(ones)
        if LEAST <= n <= len(y) - LEAST
        and all(bool(((part[:, i] == MISSING) | (part[:, i] == 1)).all()) for part in parts)
    ]
    if signs:
        which = "" if y.dim() == 1 else f", {', '.join(shown((names or range(len(ones)))[i]) for i in signs[:5])}"
        say(f"{where}{which}: {ONE_VALUE}")
    elif y.dim() == 1 and names is None and len(y) and y.max() > 1 and not any(bool((p == 0).any()) for p in parts):
        say(f"{where}: no label is 0; classes are counted from 0, so that class 0 has no label of its own")


def say_one_hot(y: Tensor, where: str) -> None:
    """Say of a file's attributes ``[N, A]``, A above 1, where each row has a single 1: they may be meant as classes."""
    missing = (y == MISSING).all(-1)
    single = ((y == 1).sum(-1) == 1) & (y >= 0).all(-1)
    if y.shape[1] > 1 and bool((missing | single).all()) and bool((y == 1).any(0).all()):
        say(f"{where}: each row has a single 1; read as {y.shape[1]} attributes, where classes are one number or word "
            "a row")  # fmt: skip


def class_labels(names: Sequence[str]) -> ClassLabels:
    """Return labels of these classes; of :data:`UNKNOWN_CLASSES` where there is none."""
    return ClassLabels(len(names), names) if names else ClassLabels(UNKNOWN_CLASSES)
