"""Errors of Pyro and PyTorch in a pair's programs, in one line that says what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InputError

EVENT = ".to_event(1) of the distribution, or a plate over its entries, is needed"
IN_WORDS = (
    (r"Shape mismatch inside plate\('(.*?)'\) at site (\S+) dim -\d+, (\d+) vs (\d+)",
     "site '{2}': {4} entries where plate '{1}' has {3}; " + EVENT),
    (r"at site \"(.*?)\", invalid log_prob shape\s+Expected (\[.*?\]), actual (\[.*?\])",
     "site '{1}': a log-probability of shape {3}, where its plates have {2}; " + EVENT),
    (r"Error while packing tensors at site '(.*?)':\s+Invalid tensor shape",
     "site '{1}': a log-probability of which not all is in plates; " + EVENT),
    (r"Model and guide event_dims disagree at site '(.*?)': (\d+) vs (\d+)",
     "site '{1}': events of {2} dimensions in the model, of {3} in the guide; both must be alike, as by .to_event(1)"),
    (r"Enumeration dim conflict at site \"(.*?)\"",
     "site '{1}': it depends on a latent that the guide draws anew for each value of it, which Pyro does not "
     "enumerate; drawn values, as by label_inference='sample', or a latent that does not hear it, are needed"),
    (r"Model and guide shapes disagree at site '(.*?)': torch.Size\((.*?)\) vs torch.Size\((.*?)\)",
     "site '{1}': shape {2} in the model, {3} in the guide; both must be alike"),
    (r"at site '(.*?)':\s+(?:Value is not broadcastable with batch_shape\+event_shape|"
     r"The right-most size of value must match event_shape): torch.Size\((.*?)\) vs torch.Size\((.*?)\)",
     "site '{1}': values of shape {2}, under a distribution of shape {3}; both must be alike"),
    (r"Expected parameter (\w+) \(.*? of distribution (\w+)\([^\n]* to satisfy the constraint ([^\n]*), but found "
     r"invalid values:\s+(?:tensor\(|Parameter containing:)?",
     "a {2} of the model or guide: its {1} breaks the constraint {3}; numbers that satisfy it, none NaN, are needed"),
    (r"at site '(.*?)':.*?Expected value argument \(.*? to be within the support \((.*?)\) of the distribution (\w+)\(",
     "site '{1}': values outside of {2}, the support of its {3}; others, or another distribution, are needed"),
)  # fmt: skip
"""What an error says, and the words instead: ``{n}`` is the n-th group."""


def in_words(error: str) -> str | None:
    """Return what an error says in one line; None for any other error."""
    for pattern, words in IN_WORDS:
        if found := re.search(pattern, error, re.DOTALL):
            return words.format(error, *found.groups())
    return None


@contextmanager
def program_errors() -> Iterator[None]:
    """Errors that Pyro raises of a pair's distributions and shapes become an :class:`InputError`; others stay."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        if words := in_words(str(error)):
            raise InputError(words) from error
        raise
