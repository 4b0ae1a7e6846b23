"""The one exception that bad input ends in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class InputError(ValueError):
    """What a person gave cannot be used; the message is one line that names the place and says what would be right.

    The command line prints the message and exits with status 2; in Python it is a ``ValueError``. To those Pyro adds
    the shapes of the trace that they arise in, by a second line; it is left out.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(re.split(r"\n\s*Trace Shapes:", str(message))[0])


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'mnist'?)"`` where ``word`` is close to a known one, else the known ones."""
    known = list(known)
    close = difflib.get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.5)
    if close:
        match = next(name for name in known if name.lower() == close[0])
        return f" (did you mean {match!r}?)"
    return f" (known: {', '.join(known)})"
