"""Every notebook runs from its first cell to its last, and its saved outputs are fit to be read.

By default two with few steps, put into a copy of their source; ``pytest -m slow`` runs each as it stands.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = {
    *("quickstart", "own_table", "edit_the_generative_model", "the_revae", "posterior_traces"),
    "from_notebook_to_script",
}
FEWER = (
    (r"\bepochs=\d+( if .* else )\d+", r"epochs=2\g<1>2"),
    (r"\bepochs=\d+", "epochs=2"),
    (r"\bEPOCHS = \d+", "EPOCHS = 2"),
    (r"\b(num_samples|draws)=\d{2,}", r"\g<1>=2"),
)
FEW = {"quickstart", "edit_the_generative_model"}
MOST_SECONDS = 120  # on two cores


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(notebook: Any, folder: Path) -> float:
    """Execute all cells in a new folder and return the seconds they took; an error in one is raised."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYRO_SSVAE_DATA": str(folder / "data")}
    env.pop("MPLBACKEND", None)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    started = time.monotonic()
    client.execute(env=env)
    return time.monotonic() - started


def test_every_notebook_is_here_and_the_readme_leads_to_it() -> None:
    assert {path.stem for path in NOTEBOOKS} == NAMES
    readme = (ROOT / "README.md").read_text()
    assert all(f"(notebooks/{path.name})" in readme for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_saved_and_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= (path.stem != "from_notebook_to_script")
    for output in outputs:
        assert output.output_type in ("execute_result", "display_data", "stream")
        assert output.get("name") != "stderr"
        words = str(output.get("text", "")) + str({**output.get("data", {}), "image/png": ""})
        assert not re.search(r"/(tmp|home|root|work|usr)/|Warning|\x1b|━", words), words
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem in FEW], ids=lambda path: path.stem)
def test_it_runs_with_few_steps(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    changed = 0
    for cell in code(notebook):
        for pattern, fewer in FEWER:
            cell.source, n = re.subn(pattern, fewer, cell.source)
            changed += n
    assert changed  # else it would take as long as it takes
    run(notebook, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_as_it_stands_in_two_minutes(path: Path, tmp_path: Path) -> None:
    assert run(nbformat.read(path, as_version=4), tmp_path) < MOST_SECONDS
