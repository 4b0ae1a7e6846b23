"""What a study's folder shows of its cells: every run as CSV, means with intervals as Markdown, answers in words."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from ..files import write_atomically
from ..plots.style import save_figure
from .cells import Json, Result
from .figure import figure
from .intervals import Interval, Where, by_data, by_seed, interval, rows
from .plan import Column, Study

FILES = ("runs.csv", "table.md", "figure.png")


def check_folder(folder: Path) -> None:
    """Raise :class:`InputError` for a folder whose files of the same names are not a study's."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: it is a file; a folder is needed")
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there and not (folder / "cells").is_dir():
        raise InputError(f"--out {folder}: it holds a {there[0]} that is no study's; another folder is needed")


def write_all(study: Study, results: Sequence[Result], folder: Path, *, command: str, lacking: int = 0) -> list[Path]:
    """Write ``runs.csv``, ``table.md`` and ``figure.png``, and return their paths.

    :param command: what was typed, to stand beside the table.
    :param lacking: cells of the plan without a result.
    """
    paths = [folder / name for name in FILES]
    write_atomically(paths[0], runs_csv(results).encode())
    write_atomically(paths[1], markdown(study, results, command, lacking).encode())
    picture = io.BytesIO()
    drawn = figure(study, results) if study.picture is None else study.picture(results)
    save_figure(drawn, picture)
    write_atomically(paths[2], picture.getvalue())
    return paths


def flat(metrics: Mapping[str, object], above: str = "") -> Json:
    """Return numbers and words of nested metrics by their path, without lists such as a confusion matrix."""
    found: Json = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        elif isinstance(value, (int, float, str)):
            found[f"{above}{key}"] = value
    return found


def runs_csv(results: Sequence[Result]) -> str:
    """Return one line a cell: its settings, its seconds, all its metrics."""
    lines = []
    for result in results:
        settings = {k: " ".join(v) if isinstance(v, tuple) else v for k, v in result.cell.settings.items()}
        lines.append({**settings, "seconds": round(result.seconds, 2), **flat(result.metrics)})
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def shown(value: Interval | None, digits: int) -> str:
    """Return ``0.9835 ± 0.0025``; the mean alone of one seed; empty of none."""
    if value is None:
        return ""
    text = f"{value.mean:.{digits}f}"
    return text if value.half is None else f"{text} ± {value.half:.{digits}f}"


def markdown(study: Study, results: Sequence[Result], command: str, lacking: int = 0) -> str:
    """Return the table with what it compares, and the answers below it; of several data sets one after another."""
    sets = by_data(results)
    columns = [
        column
        for column in study.columns
        if any(by_seed(some, column.path, at) for some in sets.values() for at in rows(some))
    ]
    lines = [f"# {study.title}", "", f"`{command}`", "", *comparison(results), *(f"- {note}" for note in study.notes)]
    if lacking:
        what = "one cell of the plan has" if lacking == 1 else f"{lacking} cells of the plan have"
        lines.append(f"- **Incomplete**: {what} no result; the command above goes on.")
    data = "| data " if len(sets) > 1 else ""
    lines += ["", f"{data}| labels | method | seeds | {' | '.join(column.words for column in columns)} |"]
    lines.append(("|---" if data else "") + "|---|---|---" + "|---:" * len(columns) + "|")
    for name, some in sets.items():
        for at in rows(some):
            cells = [shown(interval(some, column.path, at), column.digits) for column in columns]
            row = f"| {at.labels} | {at.method} | {seeds(some, columns, at)} | {' | '.join(cells)} |"
            lines.append(f"| {name} {row}" if data else row)
    lines += ["", *study.answers(results), ""]
    return "\n".join(lines)


def seeds(results: Sequence[Result], columns: Sequence[Column], at: Where) -> int:
    """Return the most seeds that a metric of the row has."""
    return max((len(by_seed(results, column.path, at)) for column in columns), default=0)


CHANGES = {
    "affine": "moved, turned and stretched at random",
    "noise": "with noise added",
    "hide": "with three tenths of the cells hidden",
    "none": "as they are",
    "binarize": "black or white, drawn afresh for each batch",
}
"""A batch's augmentation in words."""


def comparison(results: Sequence[Result]) -> list[str]:
    """Return what all rows of the table share; of several data sets, what those of each share."""
    sets = by_data(results)
    one = results[0].cell
    length = "" if len(sets) > 1 else f"{one.steps:,} steps"
    if one.gain is not None:
        length += f", then twice as many until that raises the validation rows' bound by less than {one.gain:g} nats,"
    changed = "" if len(sets) > 1 else f", points {changes(results)}"
    return [
        *(rows_used(some, several=len(sets) > 1) for some in sets.values()),
        f"- Identical for all methods: rows, label sets (drawn by the seed), trunks, width of z ({one.latent_dim}), "
        f"{length or 'steps'} of {one.batch_size} rows{changed}; all else is each model's own default.",
        "- Test set; mean ± half of Student's 95 % interval over seeds. Differences are taken seed by seed. "
        "Not shown: the interval includes 0, or has no width. Intervals are not corrected for how many there are.",
    ]


def rows_used(results: Sequence[Result], several: bool) -> str:
    """Return a line on a data set's training rows."""
    one = results[0].cell
    counts = sorted({int(result.metrics["train"]["rows"]) for result in results})
    span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    size = "" if one.image_size is None else f" at {one.image_size} × {one.image_size} pixels"
    more = f"; {one.steps:,} steps, points {changes(results)}" if several else ""
    return (
        f"- {one.data}{size}, {span} training rows of which a method sees all or (the classifier) the labelled "
        f"ones{more}."
    )


def changes(results: Sequence[Result]) -> str:
    """Return how the points of a batch are changed."""
    names = list(dict.fromkeys(result.cell.augment for result in results))
    words = [CHANGES.get(name, name) for name in sorted(names, key=lambda name: name == "none")]
    return " or, where the method says so, ".join(words)
