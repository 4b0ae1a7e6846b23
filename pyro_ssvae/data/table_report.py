"""The kinds of a table's columns, as a person sees them before training."""

from __future__ import annotations

from collections import Counter

from .dataset import Table
from .schema import Column

MOST_LINES = 40
"""Columns up to which each has a line."""
WORDS = {
    "normal": "number", "student-t": "number (heavy tails: Student's t)", "log-normal": "number (skewed: log-normal)",
    "zero-inflated-log-normal": "amount (0 or log-normal)", "laplace": "number (Laplace)",
    "poisson": "count (Poisson)", "negative-binomial": "count (negative binomial)",
    "zero-inflated-negative-binomial": "count (zero-inflated)", "bernoulli": "yes-no",
}  # fmt: skip


def in_words(column: Column) -> str:
    """Return a column's kind in words."""
    if column.reads == "date":
        return "date (in days)"
    name, _, number = column.kind.partition(":")
    return f"category of {number}" if number else WORDS.get(name, name)


def show_kinds(table: Table) -> None:
    """Print what each column is taken for on stderr; of a wide table how many are of each kind."""
    from rich.console import Console
    from rich.table import Table as Grid

    columns, targets = table.schema.columns, table.schema.targets
    grid, console = Grid(), Console(stderr=True, markup=False)
    if len(columns) > MOST_LINES:
        for name in ("kind", "columns"):
            grid.add_column(name)
        for kind, number in Counter(map(in_words, columns)).most_common():
            grid.add_row(kind, str(number))
    else:
        for name in ("column", "kind", "values", "missing"):
            grid.add_column(name, overflow="fold")
        for column, values in zip(columns, table.ranges):
            grid.add_row(column.name, in_words(column), values, percent(column.missing))
    for target in targets:
        words = ", ".join(target.words[:6]) + (" …" if len(target.words) > 6 else "")
        cells = [f"{target.name}: {words}"] if len(columns) > MOST_LINES else [words, percent(target.missing)]
        grid.add_row(*(["target"] if len(columns) > MOST_LINES else [target.name, "target"]), *cells)
    console.print("columns (another kind: --columns NAME=number|count|category|yes-no|date|leave-out)", style="italic")
    console.print(grid)


def percent(share: float) -> str:
    """Return a share in percent, empty where it is 0."""
    return f"{100 * share:.3g} %" if share else ""
