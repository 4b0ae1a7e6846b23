"""Rows of tables in pictures: the columns' names, standardised units, words, gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from texts import texts_apart

import pyro_ssvae as ps
from pyro_ssvae import plots
from pyro_ssvae.data import Dataset
from pyro_ssvae.models import Model
from pyro_ssvae.plots.points import generated
from pyro_ssvae.plots.tables import IN_UNITS

TABLE = """height,weight,colour,smokes,kind
1.5,50000,red,yes,a
1.7,60000,blue,no,b
1.9,,green,yes,a
,70000,red,no,b
1.6,55000,,no,a
1.8,65000,blue,yes,b
1.5,52000,green,no,
1.9,69000,red,yes,
"""


@pytest.fixture
def table(tmp_path: Path) -> tuple[Model, Dataset]:
    rows = TABLE.splitlines()
    (tmp_path / "t.csv").write_text("\n".join([rows[0] + ",split", *(row + ",train" for row in rows[1:]), *(
        row + ",test" for row in rows[1:])]) + "\n")  # fmt: skip
    data = ps.data.load(str(tmp_path / "t.csv"), target=("kind",), quiet=True)
    return ps.create_model("m2", latent_dim=2, **data.model_options()), data


def test_units_are_those_of_the_rows_without_the_gaps(table: tuple[Model, Dataset]) -> None:
    model, data = table
    units = plots.units_of(model, data.x_test)
    assert units is not None
    assert units.names == ("height", "weight", "colour", "smokes")
    assert units.words == ((), (), ("blue", "green", "red"), ("no", "yes"))
    heights = np.array([1.5, 1.7, 1.9, 1.6, 1.8, 1.5, 1.9])
    assert float(units.scale[0]) == pytest.approx(heights.std(), rel=1e-5)
    z = units.standardised(data.x_test)[:, 0]
    assert float(z[0]) == pytest.approx((1.5 - heights.mean()) / heights.std(), rel=1e-4)
    assert bool(z[3].isnan())


def test_pictures_and_long_vectors_are_no_tables() -> None:
    images = ps.create_model("vae", input_shape=(1, 8, 8), latent_dim=2)
    assert plots.units_of(images, torch.rand(4, 1, 8, 8)) is None
    spectra = ps.create_model("vae", input_shape=(40,), latent_dim=2)
    assert plots.units_of(spectra, torch.rand(4, 40)) is None
    short = ps.create_model("vae", input_shape=(3,), latent_dim=2)
    units = plots.units_of(short, torch.rand(4, 3))
    assert units is not None
    assert units.names == ("feature 0", "feature 1", "feature 2")


def test_reconstructions_of_rows_show_cells_gaps_and_words(table: tuple[Model, Dataset]) -> None:
    model, data = table
    x, units = data.x_test[:4], plots.units_of(model, data.x_test)
    assert units is not None
    x_hat = x.nan_to_num(1.0)
    x_hat[0, 2] = 0.0
    figure = plots.reconstructions(x, x_hat, ["a", "b", "a", "b"], units=units, title="rows")
    assert figure.get_suptitle() == "rows"
    assert len(figure.axes) == 4
    first, _, third, fourth = figure.axes
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["height", "weight", "colour", "smokes"]
    assert [text.get_text() for text in first.texts] == ["red → blue", "yes; yes 100%"]
    gaps = {ax: [line for line in ax.lines if line.get_label() == "of a missing cell"] for ax in figure.axes}
    assert [len(gaps[ax]) for ax in (first, third, fourth)] == [0, 1, 1]
    assert list(gaps[third][0].get_ydata()) == [1]
    seen = next(line for line in first.lines if line.get_label() == "input")
    expected = units.standardised(x)[0, :2]
    np.testing.assert_allclose(seen.get_xdata(), expected, rtol=1e-6)
    assert texts_apart(figure)


def test_samples_of_a_table_are_means_by_label(table: tuple[Model, Dataset]) -> None:
    model, data = table
    units = plots.units_of(model, data.x_test)
    assert units is not None
    figure = plots.samples_by_class(model, n_per_class=20, units=units)
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["height", "weight", "colour", "smokes: yes"]
    shown = np.ma.filled(ax.images[0].get_array(), np.nan)
    drawn = generated(model, 20, torch.tensor([0] * 20), 0)
    np.testing.assert_allclose(shown[0, :2], units.standardised(drawn).mean(0)[:2], rtol=1e-5)
    assert np.isnan(shown[:, 2:]).all()  # words have no shade
    assert figure.get_suptitle().replace("\n", " ") == f"mean of 20 draws of each label, in {IN_UNITS}"
    assert texts_apart(figure)


def test_a_wide_table_says_how_much_of_it_is_shown() -> None:
    model = ps.create_model("vae", input_shape=(45,), latent_dim=2)
    model.column_names = tuple(f"column number {i}" for i in range(45))
    x = torch.randn(8, 45, generator=torch.Generator().manual_seed(0))
    x[0, 1] = 1e6  # far beyond all others, at the panel's edge
    units = plots.units_of(model, x)
    assert units is not None
    figure = plots.reconstructions(x[:2], x[:2], units=units, title="two rows")
    assert figure.get_suptitle() == "two rows; the first 30 of 45 columns"
    assert max(abs(value) for ax in figure.axes for value in ax.get_xlim()) < 6
    assert texts_apart(figure)
    assert texts_apart(plots.samples(model, 3, units=units))
    assert texts_apart(plots.contact_sheet(x[:3], ["1\na 0.9", "2\nb 0.8", "3"], units=units, title="to be labelled"))


def test_an_inspection_of_a_row_has_a_bar_of_two_deviations(table: tuple[Model, Dataset]) -> None:
    model, data = table
    units = plots.units_of(model, data.x_test)
    posterior = ps.posterior(model, data.x_test[3:4], num_samples=20)
    figure = plots.inspection(posterior, {"x": -1.0}, {}, units=units, title="point 3")
    cells = figure.axes[0]
    assert [tick.get_text() for tick in cells.get_yticklabels()] == ["height", "weight", "colour", "smokes"]
    assert "of a missing cell" in [text.get_text() for text in cells.get_legend().get_texts()]
    assert texts_apart(figure)


def test_a_run_draws_its_table_by_columns(table: tuple[Model, Dataset], tmp_path: Path) -> None:
    model, data = table
    metrics = ps.evaluate(model, data.x_test, data.y_test, num_samples=2)
    paths = plots.save_all(model, None, metrics, data.x_test, data.y_test, tmp_path)
    assert {path.stem for path in paths} >= {"reconstructions", "samples_by_class"}
