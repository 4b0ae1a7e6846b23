"""The command ``explore``: a page on which a trained model can be seen and touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from ..errors import InputError
from ..experiment.run import OptionalInt
from ..models.saving import load
from .intervene import run_data


@dataclass(frozen=True)
class Explore:
    """Open a page in the browser on which a trained model can be seen and touched; only this machine can reach it.

    Example: pyro-ssvae explore runs/digits-augmented-50
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    index: int = 0
    """The point to begin with: a row of the run's test set."""
    port: OptionalInt = None
    """The page's port on 127.0.0.1; by default the first free one from 7860."""
    browser: bool = True
    """Open the page in the browser."""


def run_explore(command: Explore) -> None:
    """``pyro-ssvae explore``: serve the page until Ctrl-C."""
    if command.port is not None and not 1 <= command.port <= 65535:
        raise InputError(f"--port: {command.port}; a whole number from 1 to 65535 is needed")
    model = load(command.run)
    try:
        from ..explore import page as explore_page
    except ModuleNotFoundError as error:
        raise InputError(
            f'explore: the page needs gradio, and {error.name} is not there; pip install "pyro_ssvae[explore]"'
        ) from None
    whole = run_data(command.run, model)
    if not 0 <= command.index < len(whole.x_test):
        raise InputError(f"--index: {command.index}; a test point from 0 to {len(whole.x_test) - 1} is needed")
    socket = explore_page.listen(command.port)
    page = explore_page.make_page(model, whole, command.run.resolve().name, command.index)
    explore_page.serve(page, socket, browser=command.browser)
