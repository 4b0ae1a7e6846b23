"""The benchmark's tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from rich.table import Table

VARIANTS = ("eager", "captured", "compiled", "pyro SVI", "by hand", "by hand, compiled")


class Row(TypedDict):
    """What was measured of a case.

    ``milliseconds`` a step of each variant; ``points_per_second`` in whole compiled epochs, of whose time the share
    ``outside_steps`` is spent outside the steps.
    """

    model: str
    networks: str
    batch: int
    milliseconds: dict[str, float]
    points_per_second: float
    outside_steps: float
    peak_megabytes: float


def tables(title: str, rows: Sequence[Row]) -> Iterator[Table]:
    """Yield the milliseconds, then the ratios that matter."""
    hand = "by hand, compiled"
    shown = [name for name in VARIANTS if name != "by hand"]
    steps = [[f"{row['milliseconds'][name]:.2f}" for name in shown] for row in rows]
    yield table(title, shown, rows, steps)
    ratios = []
    for row in rows:
        ms = row["milliseconds"]
        shares = [f"{ms['pyro SVI'] / ms[name]:.2f}" for name in ("captured", "compiled")]
        shares.append(f"{ms['compiled'] / ms[hand]:.2f}")
        ratios.append([*shares, f"{row['points_per_second']:.0f}", f"{row['peak_megabytes']:.0f}"])
    columns = ("SVI / captured", "SVI / compiled", f"compiled / {hand}", "points a second", "MB")
    yield table("ratios of these; whole epochs, compiled; peak memory", columns, rows, ratios)


def table(title: str, columns: Sequence[str], rows: Sequence[Row], cells: list[list[str]]) -> Table:
    """Return a table of a line a case, narrow enough for 80 columns."""
    from rich.table import Table

    shown = Table(title=title, title_justify="left")
    shown.add_column("model\nnetworks, batch", no_wrap=True)
    for name in columns:
        shown.add_column(name, justify="right", max_width=10)
    for row, numbers in zip(rows, cells):
        shown.add_row(f"{row['model']}\n{row['networks']}, {row['batch']}", *numbers)
    return shown
