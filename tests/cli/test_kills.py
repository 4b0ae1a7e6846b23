from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kills import Count, Killer, alike, best, kill_many
from test_fit import layered, pictures, same, train

from pyro_ssvae import files as checkpoint
from pyro_ssvae.train.checkpoints import checkpoints, load_newest


class Killed(BaseException):
    """What SIGKILL does to a training, in this process."""


@contextmanager
def dying(at: int) -> Iterator[list[int]]:
    """Raise :class:`Killed` at the call of that number of all that write, sync and rename, a half of them done."""
    calls = [0]

    def wrapped(real: Any) -> Any:
        def call(*rest: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == at:
                raise Killed
            result = real(*rest, **options)
            return result

        return call

    class Torn:
        """A file of which the process dies after half of a write."""

        def __init__(self, *rest: Any) -> None:
            self.file = open(*rest)  # noqa: SIM115

        def __enter__(self) -> Torn:
            return self

        def __exit__(self, *rest: Any) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            calls[0] += 1
            if calls[0] == at:
                raise Killed
            self.file.write(data[len(data) // 2 :])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", wrapped(os.fsync))
        patch.setattr(os, "replace", wrapped(os.replace))
        patch.setattr(checkpoint, "open", Torn, raising=False)
        yield calls


def test_a_training_may_die_at_every_single_write(tmp_path: Path) -> None:
    """Every write, sync and rename of a whole training in turn: what is there then is good, and goes on bit for bit."""
    data = pictures()
    # With this seed the second epoch is the better one, so that the best weights are written twice.
    options: dict[str, Any] = {"epochs": 2, "checkpoint_epochs": 1, "keep_checkpoints": 2, "seed": 4}
    with dying(0) as calls:
        whole = layered()
        history = train(whole, **data, checkpoint=tmp_path / "whole.x", **options)
    wanted = best(tmp_path / "whole.x")
    assert calls[0] > 25
    for at in range(1, calls[0] + 1):
        file = tmp_path / f"{at}.x"
        with pytest.raises(Killed), dying(at):
            train(layered(), **data, checkpoint=file, **options)
        done = load_newest(file)[1]["done"] if checkpoints(file) else 0
        assert done >= 3 * ((at - 10) // 17), "a checkpoint that was complete is lost"
        model = layered()
        again = train(model, **data, checkpoint=file, resume=bool(checkpoints(file)), **options)
        assert same(whole, model), at
        assert again["loss"] == history["loss"]
        assert alike(best(file), wanted)


def check(count: Count, kills: int) -> None:
    assert count.kills >= kills
    assert (count.lost, count.differing) == (0, 0), "\n".join(count.told)


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    check(kill_many(Killer(tmp_path, epochs=4, options=("--no-baseline",)), 10), 10)


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "options"), [(200, ()), (20, ("--compile",))])
def test_a_run_that_is_killed_two_hundred_times(tmp_path: Path, kills: int, options: tuple[str, ...]) -> None:
    check(kill_many(Killer(tmp_path, options=options), kills), kills)
