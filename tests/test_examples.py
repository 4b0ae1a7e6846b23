"""Every script in examples/ runs, and does what it says, at a size that takes seconds."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
TESTED = {"plain_svi", "own_model", "interventions", "resuming"}


def example(name: str) -> Any:
    """The script's ``main``."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYRO_SSVAE_DATA", str(tmp_path / "data"))


def test_every_example_is_tested_and_the_readme_leads_to_it() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == TESTED
    readme = (EXAMPLES.parent / "README.md").read_text()
    assert all(f"(examples/{name}.py)" in readme for name in scripts)


def test_plain_svi() -> None:
    assert example("plain_svi")(steps=80) > 0.3  # chance is 0.1


def test_own_model(capsys: pytest.CaptureFixture[str]) -> None:
    found = example("own_model")(epochs=2)
    # A Student's t has at most the density of its mode, 3/8 a dimension of 4 degrees of freedom; N(0, 1) has 0.3989.
    assert "test accuracy" in capsys.readouterr().out
    assert found.table.loc["z", "kind"] == "latent"
    z = found.log_p["z"].mean()
    assert -20 * 2.5 < z < 20 * -0.98


def test_interventions() -> None:
    pytest.importorskip("python_avatars")
    path = example("interventions")(faces=60, epochs=1)
    with Image.open(path) as image:
        assert min(image.size) > 200


def test_resuming() -> None:
    assert example("resuming")(epochs=4) == 0
