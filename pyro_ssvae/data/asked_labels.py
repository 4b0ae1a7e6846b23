"""Labels as a person types them behind an option: a class, or attributes as ``Smiling=1,Male=no``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import InputError, nearest
from ..labels import AttributeLabels, ClassLabels
from .label_words import attribute_value, class_places


def asked_class(option: str, word: str, labels: ClassLabels) -> int:
    """Return the number of a class that a person named, ``owl`` or ``class=owl``.

    :param option: where it was typed, such as ``--label``.
    :raises InputError: no such class.
    """
    found = class_places([word, word.removeprefix("class=")], labels.names)
    place = next((k for k in found if k is not None), None)
    if place is None:
        name = word.removeprefix("class=")
        raise InputError(f"{option} {word}: there is no class {name!r}{nearest(name, labels.names)}")
    return place


def asked_attributes(option: str, given: Sequence[str], labels: AttributeLabels, bare: str = "1") -> dict[str, int]:
    """Return the values of the attributes that a person named, one or several with commas in a word.

    :param option: where they were typed, such as ``--label``.
    :param bare: the value of a name alone.
    :raises InputError: no such attribute, a word that means neither value, or both values of one attribute.
    """
    values: dict[str, int] = {}
    for part in (part for text in given for part in divided(text, labels)):
        name, word = name_and_word(part, labels)
        if name not in labels.names:
            raise InputError(f"{option} {part}: there is no attribute {name!r}{nearest(name, labels.names)}")
        pair = labels.words[list(labels.names).index(name)]
        value = attribute_value(bare if word is None else word, pair)
        if value is None:
            raise InputError(f"{option} {part}: {name}={pair[0]} or {name}={pair[1]} is needed")
        if values.setdefault(name, value) != value:
            raise InputError(f"{option} {part}: {name}={pair[1 - value]} is given too; one of the two is needed")
    return values


def divided(text: str, labels: AttributeLabels) -> Iterator[str]:
    """Yield the parts of a list with commas; those in a name or a word of the labels' own divide nothing."""
    pieces = text.split(",")
    while pieces:
        joined = (n for n in range(len(pieces), 1, -1) if is_one(",".join(pieces[:n]).strip(), labels))
        n = next(joined, 1)
        yield ",".join(pieces[:n]).strip()
        pieces = pieces[n:]


def is_one(part: str, labels: AttributeLabels) -> bool:
    """Whether a part is an attribute's name, alone or with one of its words."""
    name, word = name_and_word(part, labels)
    if name not in labels.names:
        return False
    return word is None or attribute_value(word, labels.words[list(labels.names).index(name)]) is not None


def name_and_word(part: str, labels: AttributeLabels) -> tuple[str, str | None]:
    """Return an attribute's name and its word, None of a name alone; the longest name that is known."""
    ends = [len(part), *(i for i in range(len(part) - 1, -1, -1) if part[i] == "=")]
    end = next((i for i in ends if part[:i] in labels.names), None)
    if end is None:
        name, equals, word = part.partition("=")
        return name, word if equals else None
    return part[:end], part[end + 1 :] if end < len(part) else None
