"""The recipes for clusters are read: bash and Python take them, and what they type is there."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest

import pyro_ssvae as ps
from pyro_ssvae.cli.main import parse
from pyro_ssvae.cli.study import StudyOptions, executor_of
from pyro_ssvae.train.settings import FitSettings

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "examples" / "cluster"
SBATCH = sorted(RECIPES.glob("*.sbatch"))
OF_SBATCH = {
    "array", "cpus-per-task", "gpus-per-node", "job-name", "nodes", "ntasks", "ntasks-per-node", "output", "signal",
    "time",
}  # fmt: skip


def typed(text: str) -> list[list[str]]:
    """The arguments of this program in a script, wherever it stands in a line."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if "pyro" in line and not line.startswith("#")]
    found = []
    for line in words:
        names = [i for i, word in enumerate(line) if word in ("pyro-ssvae", "pyro_ssvae")]
        found += [line[i + 1 :] for i in names]
    return found


def test_there_are_recipes_and_the_guide_shows_them_all() -> None:
    guide = (ROOT / "docs" / "many_gpus.md").read_text()
    assert len(SBATCH) == 3
    assert all(f"../examples/cluster/{path.name}\n" in guide for path in RECIPES.iterdir() if path.is_file())


@pytest.mark.parametrize("path", SBATCH, ids=lambda path: path.name)
def test_a_script_for_sbatch(path: Path) -> None:
    text = path.read_text()
    subprocess.run(["bash", "-n", path], check=True)
    options = re.findall(r"^#SBATCH --([a-z-]+)=\S+$", text, re.M)
    assert len(options) == text.count("\n#SBATCH")
    assert {"time", "job-name"} <= set(options) <= OF_SBATCH
    last = text.index("#SBATCH", text.rindex("\n#SBATCH"))
    assert not re.search(r"^[^#\n]", text[:last], re.M), "sbatch reads no option after the first command"
    (arguments,) = typed(text)
    command, settings = parse(arguments)
    assert command.__name__.rpartition(".")[2] == arguments[0]
    assert settings is not None


def test_what_the_guides_type_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)  # as on a machine of a cluster
    for name in ("many_gpus", "studies"):
        blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / f"{name}.md").read_text(), re.S)
        lines = [arguments for block in blocks for arguments in typed(block)]
        assert len(lines) >= 4
        for arguments in lines:
            settings = parse(arguments)[1]
            if isinstance(settings, StudyOptions):
                executor_of(settings)


def test_the_recipe_for_ray() -> None:
    tree = ast.parse((RECIPES / "ray_train.py").read_text())
    calls = {ast.unparse(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    known = {*signature(ps.fit).parameters, *(field.name for field in fields(FitSettings))}
    assert {keyword.arg for keyword in calls["ps.fit"].keywords} <= known
    for name in ("create_model", "save", "data.load", "data.hide_labels"):
        there = ps.data if name.startswith("data.") else ps
        assert callable(getattr(there, name.removeprefix("data.")))
        assert f"ps.{name}" in calls
