"""The one exception that bad input ends in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What a person gave cannot be used; the message is one line that names the place and says what would be right.

    The command line prints the message and exits with status 2; in Python it is a ``ValueError``.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'mnist'?)"`` where ``word`` is close to a known one, else the known ones."""
    known = list(known)
    close = difflib.get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.5)
    if close:
        match = next(name for name in known if name.lower() == close[0])
        return f" (did you mean {match!r}?)"
    return f" (known: {', '.join(known)})"
