"""``import pyro_ssvae`` is cheap: names are looked up when they are first used, and heavy packages where they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pyro_ssvae as ps
from pyro_ssvae import models, plots

HEAVY = (
    *("PIL", "arviz", "fastapi", "gradio", "lightning", "matplotlib", "pandas", "rich", "scipy", "sklearn"),
    *("torchmetrics", "torchvision", "tyro", "uvicorn", "xarray"),
)


def heavy_after(code: str) -> list[str]:
    """The heavy packages that a new process has imported after some lines."""
    code += f"\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_import_takes_no_heavy_package() -> None:
    assert heavy_after("import pyro_ssvae") == []


def test_nor_does_the_first_use_of_any_name() -> None:
    """Neither a model, nor fit: a data set, a table, a plot or a training bar brings its package when it is made."""
    names = "(name for name in ps.__all__ if name != 'SSVAEClassifier')"  # it is a class of scikit-learn's
    assert heavy_after(f"import pyro_ssvae as ps\nfor name in {names}: getattr(ps, name)") == []
    make = "ps.create_model('m2', input_shape=(4,), labels=ps.ClassLabels(2), latent_dim=2)"
    use = "vae.predict_proba(torch.randn(3, 4)); vae.elbo(torch.randn(3, 4)); vae.generate(2)"
    assert heavy_after(f"import torch, pyro_ssvae as ps\nvae = {make}\n{use}") == []


def typed(module: ModuleType) -> set[str]:
    """The names that a module imports for type checkers alone."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}


@pytest.mark.parametrize("module", [ps, plots], ids=["ps", "ps.plots"])
def test_every_public_name_is_there(module: ModuleType) -> None:
    assert typed(module) - {"*"} == set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_every_model_is_there_by_its_class() -> None:
    """Also one that only ``pyro_ssvae.models`` names: a new model costs no line here."""
    assert all(getattr(ps, model.__name__) is model for model in models.MODELS.values())


def test_names_of_a_room_s_own_words() -> None:
    from pyro_ssvae.evaluation import active_learning, uncertainty

    assert ps.suggest is active_learning.query
    assert ps.doubts is uncertainty.uncertainty
    assert ps.least_sure is uncertainty.most_uncertain
