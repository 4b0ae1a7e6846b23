"""What a person sees of a training, and how they stop it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

Row = dict[str, float]  # an epoch's row of the history
Show = Callable[[int, str], None]  # of the steps done, and a few words
SMALLEST_BAR = 20  # letters, with the time left


class Interrupted(Exception):  # noqa: N818
    """Training was asked to stop, and has written its state to a checkpoint."""


@dataclass(frozen=True)
class Callbacks:
    """Functions that a training calls: with its progress, to learn whether to stop, and with each epoch's row."""

    show: Show
    stop_requested: Callable[[], bool]
    on_epoch: Callable[[Row], None] | None = None


@contextmanager
def progress_bar(steps: int, visible: bool, name: str = "training") -> Iterator[Show]:
    """Yield a function that shows the steps done and a few words, from its first call on.

    On stderr where that is a terminal, or in a notebook. Words are apart by two spaces; the last ones are left out
    where a line has no room for them.
    """
    if not visible:
        yield lambda done, words: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn(name), BarColumn(None), TextColumn("{task.fields[words]}"), TimeRemainingColumn()
    shown = console.is_terminal or console.is_jupyter
    bar = Progress(*columns, console=console, expand=True, disable=not shown)
    task = bar.add_task(name, total=steps, words="")

    def show(done: int, words: str) -> None:
        bar.start()
        bar.update(task, completed=done, words=fitting(words, console.width - len(name) - SMALLEST_BAR))

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def fitting(words: str, width: int) -> str:
    """Return as many of the words, which two spaces divide, as ``width`` letters have room for; one at least."""
    parts = words.split("  ")
    while len(parts) > 1 and len("  ".join(parts)) > width:
        parts.pop()
    return "  ".join(parts)


@contextmanager
def stop_requests(listen: bool) -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question to ask between two steps; a second SIGINT stops at once."""
    asked: list[int] = []
    if not listen:
        yield lambda: False
        return

    def note(number: int, frame: FrameType | None) -> None:
        if signal.SIGINT in asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where Python takes no signals
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
