"""What a person sees of a study while it runs: cells done, failures, and the time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .cells import Cell
from .work import Outcome


def estimate(outcomes: Sequence[Outcome], missing: Sequence[Cell], jobs: int) -> float | None:
    """Return the seconds that the cells left will take; None before any is done.

    Each takes as long as those of its method and number of labels, else of its method, else as all.
    """
    done = [o for o in outcomes if o.seconds is not None]
    if not done:
        return None
    over = {outcome.cell for outcome in outcomes}
    total = 0.0
    for cell in missing:
        if cell not in over:
            here = [o for o in done if o.cell.data == cell.data] or done
            alike = [o for o in here if o.cell.method == cell.method]
            closest = [o for o in alike if o.cell.labels == cell.labels]
            some = closest or alike or here
            total += sum(o.seconds or 0.0 for o in some) / len(some)
    return total / min(jobs, max(1, len(missing)))


def duration(seconds: float) -> str:
    """Return ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def display(
    cells: int, done: int, visible: bool, several: bool = False
) -> Iterator[Callable[[Outcome, float | None], None]]:
    """Give a function that shows an outcome and the time left; failures are said even where nothing is shown.

    :param several: whether cells differ in their data, which is then named.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=console, disable=not visible, transient=True) as bar:
        task = bar.add_task("cells", total=cells, completed=done, words="")
        count = done

        def show(outcome: Outcome, left: float | None) -> None:
            nonlocal count
            count += 1
            words = "" if left is None else f"about {duration(left)} left"
            bar.update(task, completed=count, words=words)
            cell = outcome.cell
            data = [cell.data] if several else []
            name = " ".join([*data, cell.method, f"{cell.labels} labels", *cell.classes, f"seed {cell.seed}"])
            if outcome.error is not None:
                console.print(f"failed: {name}: {outcome.error}", markup=False)
            elif visible:
                took = duration(outcome.seconds or 0)
                console.print(f"{count}/{cells} {name}: {took}{', ' if words else ''}{words}", markup=False)

        yield show
