"""What the words of a split mean, in folders' names, ``labels.csv`` and tables alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from .checks import shown

Part: TypeAlias = Literal["train", "test", "all"]
"""Which points of a source with parts are wanted."""
TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation", "dev")


def parts_of(words: Iterable[str]) -> dict[str, str]:
    """Return ``train`` or ``test`` for those of some words, in small letters, that name a part of the data.

    Validation is the test where there is no other, else part of the training, which holds out rows of its own.
    """
    there = {word.lower() for word in words}
    validation = "train" if there & set(TEST) else "test"
    parts = dict.fromkeys(TRAIN, "train") | dict.fromkeys(TEST, "test") | dict.fromkeys(VALIDATION, validation)
    return {word: part for word, part in parts.items() if word in there}


def said_of_validation(parts: dict[str, str]) -> str:
    """Return, for a message, what validation was taken for; an empty word where there is none."""
    word = next((word for word in VALIDATION if word in parts), None)
    if word is None:
        return ""
    return f"{shown(word)} is taken for {'the test' if parts[word] == 'test' else 'part of the training'}"
