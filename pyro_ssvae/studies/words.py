"""Answers in words, computed from differences and their intervals; what does not hold is said like what holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from .intervals import Interval

Verdict = Literal["yes", "opposite", "open", "one seed"]
VERDICTS: dict[Verdict, str] = {
    "yes": "yes",
    "opposite": "no, the opposite",
    "open": "not shown",
    "one seed": "not judged (one seed has no interval)",
}
Finding = tuple[str, Interval | None]
"""Where something was compared ("at 100 labels"), and the difference; None where metrics are missing."""


def at_labels(labels: str) -> str:
    """Return ``at 100 labels``."""
    return "at all labels" if labels == "all" else "without labels" if labels == "0" else f"at {labels} labels"


def verdict(difference: Interval, better: str = "higher") -> Verdict:
    """Whether a difference is on the better side as far as its whole interval goes.

    An interval that includes 0 shows neither side. One without any width claims nothing either: seeds that agree to
    the last digit are too few, or a metric too coarse, to tell how far others would lie apart.
    """
    if difference.low is None or difference.high is None:
        return "one seed"
    if difference.low <= 0 <= difference.high or math.isclose(difference.low, difference.high, rel_tol=1e-9):
        return "open"
    return "yes" if (difference.low > 0) == (better == "higher") else "opposite"


def number(value: float, digits: int) -> str:
    """Return a signed number; a rounded zero has no sign."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def amount(difference: Interval, digits: int) -> str:
    """Return a difference with its interval: ``+0.101 [+0.080, +0.122]``."""
    text = number(difference.mean, digits)
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{number(difference.low, digits)}, {number(difference.high, digits)}]"


def summary(findings: Sequence[Finding], better: str = "higher", digits: int = 4) -> str:
    """Return one sentence on differences in several places, verdict by verdict.

    Example: ``Yes at 50 labels (+0.101 [+0.080, +0.122]); not shown at all labels (+0.001 [−0.004, +0.006]).``
    """
    groups: dict[str, list[str]] = {}
    for place, found in findings:
        if found is not None:
            said = VERDICTS[verdict(found, better)]
            groups.setdefault(said, []).append(f"{place} ({amount(found, digits)})")
    missing = [place for place, found in findings if found is None]
    if missing:
        groups["no metrics"] = missing
    parts = [f"{said} {', '.join(groups[said])}" for said in [*VERDICTS.values(), "no metrics"] if said in groups]
    text = "; ".join(parts) or "nothing was compared"
    return f"{text[0].upper()}{text[1:]}."


def tally(findings: Sequence[tuple[Interval | None, str]]) -> str:
    """Return how many of the comparisons (difference, better side) hold, in a few words."""
    found = [verdict(difference, better) for difference, better in findings if difference is not None]
    if not found:
        return "nothing was compared"
    held = {said: found.count(said) for said in VERDICTS}
    words = {"yes": "yes", "opposite": "the opposite", "open": "not shown", "one seed": "with one seed, not judged"}
    parts = [f"{count} {words[said]}" for said, count in held.items() if count]
    overall = next((VERDICTS[said] for said, count in held.items() if count == len(found)), "in part")
    return f"{overall} ({', '.join(parts)}, of {len(found)} comparisons)"
