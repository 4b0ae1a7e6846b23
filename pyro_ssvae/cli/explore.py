"""Open a page in the browser to see and touch a trained model.

Only this machine can reach it.

Example: pyro-ssvae explore runs/digits-augmented-50
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..errors import InputError
from .arguments import read


@dataclass(frozen=True)
class Explore:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    index: int = 0
    """The point to begin with: a row of the run's test set."""
    port: int | None = None
    """The page's port on 127.0.0.1; by default the first free one from 7860."""
    browser: bool = True
    """Open the page in the browser."""


def parse(arguments: Sequence[str]) -> Explore:
    """Return the options that were typed."""
    return read("explore", Explore, arguments, __doc__)


def run(options: Explore) -> None:
    """Serve the page until Ctrl-C."""
    from ..experiment.data import run_data
    from ..models.saving import load

    if options.port is not None and not 1 <= options.port <= 65535:
        raise InputError(f"--port: {options.port}; a whole number from 1 to 65535 is needed")
    model = load(options.run)
    try:
        from ..explore import page as explore_page
    except ModuleNotFoundError as error:
        raise InputError(
            f'explore: the page needs gradio, and {error.name} is not there; pip install "pyro_ssvae[explore]"'
        ) from None
    dataset = run_data(options.run, model)
    if not 0 <= options.index < len(dataset.x_test):
        last = len(dataset.x_test) - 1
        raise InputError(f"--index: {options.index}; a test point from 0 to {last} is needed")
    name, port = options.run.resolve().name, options.port
    explore_page.open_page(model, dataset, name, options.index, port=port, browser=options.browser)
