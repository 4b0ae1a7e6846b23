"""A study on any engine: each cell once, a killed worker's once more, and one line for what is not there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest
from pretended import cell_of, pretend, times
from test_studies import corners
from tiny import mostly_slow

from pyro_ssvae import InputError
from pyro_ssvae.cli.main import main
from pyro_ssvae.studies import engines, executors
from pyro_ssvae.studies import run as running
from pyro_ssvae.studies.cells import Cell, read
from pyro_ssvae.studies.claims import ATTEMPTS, alone, claimed, is_claimed
from pyro_ssvae.studies.engines import settings_of
from pyro_ssvae.studies.executors import Executor, check, started
from pyro_ssvae.studies.processes import in_processes
from pyro_ssvae.studies.run import until_all_ended
from pyro_ssvae.studies.work import Outcome, Work


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cells").mkdir()
    return tmp_path


def test_a_claim_is_held_by_one_and_not_by_the_dead(folder: Path) -> None:
    path = folder / "cells" / "a.lock"
    with claimed(path, "run") as mine:
        assert mine == 0
        assert is_claimed(path)
        with claimed(path, "run") as other:  # as of another process: each opening of the file is apart
            assert other is None
    assert not path.exists()
    assert not is_claimed(path)
    for lost in range(3):
        child = os.fork()
        if child == 0:
            with claimed(path, "run"):
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert path.exists()
        assert not is_claimed(path)
        if lost == 1:
            with claimed(path, "another run") as mine:
                assert mine == 0
            assert not path.exists()
    with claimed(path, "run") as mine:
        assert mine == 1  # that of before was forgotten with the cell's end


def test_who_opened_a_file_that_was_removed_has_no_claim(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "cells" / "a.lock"
    opened = os.open

    def open_late(name: Any, *rest: Any) -> int:
        file = opened(name, *rest)
        path.unlink()  # by its holder, whose lock ends then
        return file

    monkeypatch.setattr("pyro_ssvae.studies.claims.os.open", open_late)
    with claimed(path, "run") as mine:
        assert mine is None


def test_a_cell_that_was_killed_twice_is_not_begun_again_by_an_engine_that_tries_by_itself(folder: Path) -> None:
    cell, work = cell_of("killed", folder), Work(folder, run="r")
    cell.claim(folder).write_text("r\nr\n")
    assert pretend(cell, work)
    assert times(cell) == 0
    assert cell.failure(folder).read_text().startswith("its process was lost 2 times; too little memory")


def engine_in_turn(cells: Sequence[Cell], work: Work) -> Iterator[Outcome]:
    for cell in cells:
        mine = pretend(cell, work)
        yield running.outcome_of(cell, work.folder, 0 if mine else running.BUSY)


def test_two_studies_on_one_folder_share_its_cells(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell is computed once, by whoever came first; both studies end with all of them."""
    monkeypatch.setattr(running, "PAUSE", 0.01)
    cells = [cell_of("slow", folder, seed) for seed in range(12)]
    found: list[list[Outcome]] = [[], []]

    def study(i: int) -> None:
        found[i] += until_all_ended(partial(engine_in_turn, work=Work(folder, run=str(i))), cells, folder)

    threads = [threading.Thread(target=study, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [times(cell) for cell in cells] == [1] * 12
    for outcomes in found:
        assert {outcome.cell for outcome in outcomes} == set(cells)
        assert all(outcome.error is None for outcome in outcomes)
    assert not list((folder / "cells").glob("*.lock"))


def test_a_cell_that_another_study_gives_up_is_computed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PAUSE", 0.01)
    mine, others = cell_of("fine", folder), cell_of("fine", folder, 1)
    outcomes = until_all_ended(partial(engine_in_turn, work=Work(folder)), [others, mine], folder)
    with claimed(others.claim(folder), "other"):
        assert next(outcomes).cell == mine
    assert next(outcomes) == Outcome(others, read(folder, others).seconds)  # type: ignore[union-attr]
    assert [*outcomes] == []


def test_tables_are_written_by_one_at_a_time(folder: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with alone(folder):
            order.append("second")

    with alone(folder):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


ENGINES = ["local", "joblib", "dask", "submitit-local"]


@contextlib.contextmanager
def engine(name: str, work: Work, jobs: int) -> Iterator[running.Engine]:
    if name == "local":
        yield partial(in_processes, work=work, jobs=jobs, compute=pretend)
    else:
        with started(Executor(name), work, jobs, pretend) as given:
            yield given


def lean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let submitit's processes find the test's modules, and not wait for what a killed one might have written."""
    submitit = pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0.5)


ALL = ["killed once", "killed", "fine", "fails"]


@pytest.mark.parametrize("name", mostly_slow(["local", *ENGINES[1:]], "local"))
def test_a_killed_worker_loses_only_its_cell(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried once more; killed again, it is named in one line. The others' results are there, computed once."""
    lean(folder, monkeypatch)
    cells = {method: cell_of(method, folder) for method in ALL}
    with engine(name, Work(folder), 2) as given:
        found = {outcome.cell.method: outcome for outcome in until_all_ended(given, [*cells.values()], folder)}
    assert found.keys() == set(ALL)
    wanted = {"killed once": 2, "killed": ATTEMPTS, "fine": 1, "fails": 1}
    assert {method: times(cell) for method, cell in cells.items()} == wanted
    assert {outcome.state for outcome in found.values()} == {"ended"}
    assert found["killed once"].error is found["fine"].error is None
    assert found["fails"].error == "RuntimeError: no memory"
    said = str(found["killed"].error)
    assert said.startswith("its process was lost 2 times; too little memory, or too little time? (")
    assert "\n" not in said


SEEN: list[tuple[str, int]] = []
INSIDE = Semaphore(0)


def watched(cell: Cell, work: Work) -> bool:
    """Note where a cell is computed, and how many are at that moment."""
    INSIDE.release()
    SEEN.append((os.getcwd(), INSIDE._value))
    made = pretend(cell, work)
    INSIDE.acquire()
    return made


def test_workers_of_a_dask_cluster_that_is_there_compute_one_cell_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder of who asks. Pyro's state is a process's, so that its threads take turns."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYRO_SSVAE_DATA", "there")
    SEEN.clear()
    cells = [cell_of("slow", folder, seed) for seed in range(4)]
    with (
        distributed.LocalCluster(1, processes=False, threads_per_worker=4, dashboard_address=None) as cluster,
        started(Executor("dask", cluster.scheduler_address), Work(folder), 4, watched) as given,
    ):
        outcomes = [*given(cells)]
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert [(str(folder), 1)] * 4 == SEEN


SBATCH = """#!/bin/bash
cp "$1" "$HERE/script"
n=$(grep -oP 'array=0-\\K\\d+' "$1")
for i in $(seq 0 $n); do
  SLURM_JOB_ID=77 SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$i SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 \\
    SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=localhost bash "$1" >> "$HERE/log" 2>&1 &
done
echo Submitted batch job 77
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do [[ $1 == --unbuffered ]] && shift || shift 2; done
exec "$@"
"""


def test_jobs_of_slurm_are_an_array_with_the_options_that_were_typed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sbatch`` and ``srun`` are stand-ins, which run the tasks of the array on this machine."""
    pytest.importorskip("submitit")
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", "#!/bin/sh\n"), ("scontrol", "#!/bin/sh\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(folder))
    lean(folder, monkeypatch)
    cells = [cell_of("fine", folder, seed) for seed in (0, 1)]
    options = {"partition": "gpu", "time": "30", "mem_gb": "8", "gpus_per_node": "1", "account": "me"}
    with started(Executor("slurm", options=options), Work(folder), 5, pretend) as given:
        outcomes = [*given(cells)]
    assert [outcome.error for outcome in outcomes] == [None, None], (folder / "log").read_text()
    script = (folder / "script").read_text()
    for line in ("partition=gpu", "time=30", "mem=8GB", "gpus-per-node=1", "account=me", "array=0-1%2",
                 "job-name=pyro-ssvae"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in script


REFUSALS: list[tuple[list[str], list[str]]] = [
    (["--executor", "dusk"], ["--executor: there is no 'dusk' (did you mean 'dask'?)", "slurm"]),
    (
        ["--executor", "joblib", "--address", "tcp://a:1"],
        ["--address tcp://a:1: --executor dask has one, joblib has not"],
    ),
    (["--executor-options", "time=3"], ["--executor-options: jobs of SLURM have options", "local has none"]),
    (["--executor", "submitit-local", "--executor-options", "time"], ["--executor-options time: NAME=VALUE is needed"]),
    (["--executor", "submitit-local", "--executor-options", "tim=3"], ["tim=3: no such option (did you mean 'time'?)"]),
    (["--executor", "submitit-local", "--executor-options", "time=soon"], ["time=soon: a number of minutes above 0"]),
    (["--executor", "submitit-local", "--executor-options", "mem_gb=-2"], ["mem_gb=-2: a number above 0 is needed"]),
]


@pytest.mark.parametrize(("arguments", "culprits"), REFUSALS)
def test_what_cannot_be_used_is_one_line(
    arguments: list[str], culprits: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    out = tmp_path / "out"
    assert main(["study", "sparse-labels", "--models", "vae", *arguments, "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1, said.err
    for culprit in culprits:
        assert culprit in said.err
    assert not out.exists()


def test_an_engine_that_is_not_there_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CONNECT", 0.3)
    nobody = started(Executor("dask", "tcp://127.0.0.1:1"), Work(folder), 1)
    with pytest.raises(InputError, match=r"--address tcp://127.0.0.1:1: no scheduler of dask answers there"), nobody:
        pass
    monkeypatch.setenv("PATH", str(folder))
    no_cluster = started(Executor("slurm"), Work(folder), 1)
    with pytest.raises(InputError, match=r"--executor slurm: srun is not found here; .*submitit-local"), no_cluster:
        pass
    out = folder / "out"
    assert main(["study", "sparse-labels", "--executor", "slurm", "--out", str(out)]) == 2
    assert not out.exists()
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    for name in ("joblib", "dask", "slurm"):
        with pytest.raises(
            InputError, match=rf"--executor {name}: \w+ is not installed; pip install .pyro_ssvae\[exec"
        ):
            check(Executor(name))
    check(Executor())


def test_a_job_has_four_hours_unless_it_is_said() -> None:
    assert settings_of({}) == {"timeout_min": 240, "name": "pyro-ssvae"}
    given = settings_of({"time": "9", "setup": "module load cuda", "qos": "low"})
    assert given == {"timeout_min": 9, "name": "pyro-ssvae", "slurm_setup": ["module load cuda"], "slurm_qos": "low"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES[1:])
def test_every_engine_gives_the_cells_of_a_process(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command itself, with models."""
    monkeypatch.chdir(tmp_path)
    corners(Path("own.npz"))
    typed = ["study", "sparse-labels", "--data", "own.npz", "--labels", "6", "--seeds", "1", "--steps", "4",
             "--models", "augmented-enumerate", "self-training", "--batch-size", "16", "--latent-dim", "4"]  # fmt: skip
    for executor in ("local", name):
        assert main([*typed, "--jobs", "2", "--executor", executor, "--out", executor]) == 0
    for path in (tmp_path / "local" / "cells").glob("*.json"):
        ours, theirs = (json.loads((tmp_path / each / "cells" / path.name).read_text()) for each in ("local", name))
        assert ours["metrics"] == theirs["metrics"]
