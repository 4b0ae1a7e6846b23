"""The API documentation builds from the docstrings without a warning, and names all that is public."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_ssvae as ps
from pyro_ssvae.models import MODELS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.mark.slow
def test_sphinx_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "dummy", str(DOCS), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_every_public_name_and_script_is_documented() -> None:
    api = (DOCS / "api.md").read_text()
    named = set(re.findall(r"auto(?:class|function|exception):: (\w+)", api))
    modules = {"data", "plots"}  # with pages of their own
    constants = {"MISSING"}
    models = {model.__name__ for model in MODELS.values()}
    assert named == (set(ps.__all__) | models) - modules - constants
    assert all(hasattr(ps, name) for name in named)
    assert "``MISSING``" in api or "`MISSING`" in api
    pages = "".join(path.read_text() for path in DOCS.glob("api_*.md"))
    assert all(f"automodule:: pyro_ssvae.{module}\n" in pages for module in modules)
    examples = (DOCS / "examples.md").read_text()
    assert all(f"../examples/{path.name}" in examples for path in (ROOT / "examples").glob("*.py"))
