from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import revae_toys
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pairs import GuidedMixture
from texts import texts_apart
from tiny import CASES, build, points

import pyro_ssvae as ps
from pyro_ssvae import plots
from pyro_ssvae.nn.likelihoods import Bernoulli
from pyro_ssvae.plots.posterior import latent_draws


def drawn(figure: Figure) -> np.ndarray:
    """The pixels; no label may lie outside of the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer: Any = canvas.get_renderer()
    for text in figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_text()):
        if text.get_visible() and text.axes is not None and text in [*text.axes.get_yticklabels(), text.axes.title]:
            box = text.get_window_extent(renderer)
            assert box.x0 >= -1, text
            assert box.y1 <= figure.bbox.y1 + 1, text
    return np.asarray(renderer.buffer_rgba())


def bars(figure: Figure) -> list[float]:
    return [patch.get_width() for patch in figure.axes[0].patches]  # type: ignore[attr-defined]


def test_label_bars() -> None:
    figure = plots.label_bars({"q": [0.2, 0.5, 0.3], "p": [0.1, 0.8, 0.1]}, ["cat", "dog", "owl"], [1])
    assert bars(figure) == [0.2, 0.5, 0.3, 0.1, 0.8, 0.1]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["cat", "★ dog", "owl"]
    drawn(figure)
    assert texts_apart(figure)
    q, p = figure.axes[0].containers
    assert q[0].get_hatch() != p[0].get_hatch()  # told apart without colour


def test_many_labels_are_cut_to_the_most_probable() -> None:
    p = np.arange(40.0) / 780
    figure = plots.label_bars({"q": p.tolist()}, [f"class {i}" for i in range(40)])
    words = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert words == [f"class {i}" for i in range(22, 40)]


def test_term_bars_leave_zeros_out_and_name_the_sum() -> None:
    figure = plots.term_bars({"z": -2.0, "y": 0.0, "x": -10.5})
    assert bars(figure) == [-2.0, -10.5]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["z", "x"]
    assert figure.axes[0].get_title(loc="left") == "objective -12.5 nats, by site"
    drawn(figure)


def test_latent_intervals_show_the_narrowest() -> None:
    generator = torch.Generator().manual_seed(0)
    scales = [3.0] * 4 + [0.5] * 16
    draws = {f"z[{i}]": scale * torch.randn(50, generator=generator) for i, scale in enumerate(scales)}
    figure = plots.latent_intervals(draws)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [f"z[{i}]" for i in range(4, 20)]
    assert "16 of 20" in figure.axes[0].get_title(loc="left")
    drawn(figure)


@pytest.mark.parametrize("case", CASES)
def test_inspection_of_every_model(case: str) -> None:
    model, x = (
        build(case, (1, 4, 4) if case == "enumerate" else (5,)),
        points(1, (1, 4, 4) if case == "enumerate" else (5,)),
    )
    data, terms = ps.posterior(model, x, num_samples=8), dict(ps.sites(model, x).terms.iloc[0])
    probs = {"q(y | x)": model.predict_proba(x)[0].tolist()} if case != "vae" else {}
    figure = plots.inspection(data, terms, probs, [0] if probs else [], "test point 3")
    assert drawn(figure).std() > 0
    assert texts_apart(figure)
    assert len(figure.axes) == (1 if case.startswith("classifier") else 3) + (case != "vae")


def test_panels_go_into_axes_of_ones_own_in_the_same_style() -> None:
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    probs = {"q(y | x)": [0.2, 0.5, 0.3], "p(y | x)": [0.1, 0.8, 0.1]}
    draws = {f"z[{i}]": torch.randn(50) for i in range(9)}
    assert plots.label_bars(probs, ["cat", "dog", "a long name of an owl"], [1], ax=axes[0]) is figure
    assert plots.term_bars({"z": -20.0, "y": -0.4, "head": -37.5, "x": 16.1}, ax=axes[1]) is figure
    assert plots.latent_intervals(draws, ax=axes[2]) is figure
    assert plots.expected_points(torch.rand(1, 8, 8), torch.rand(9, 1, 8, 8), ax=axes[3]) is figure
    assert plots.expected_points(torch.rand(1, 8, 8), torch.rand(9, 1, 8, 8), draws=9, ax=axes[4]) is figure
    assert plots.expected_points(torch.rand(20), torch.rand(9, 20), ax=axes[5]) is figure
    assert texts_apart(figure)
    for ax in axes[:3]:
        assert not ax.spines["top"].get_visible()
        for line in ax.get_xgridlines():
            assert line.get_color() == "#E0E0E0"


def test_a_sheet_of_points_has_room_for_its_titles() -> None:
    titles = [f"{i}: a long name of a class\nor another name as long" for i in range(12)]
    figure = plots.contact_sheet(torch.rand(12, 1, 8, 8), titles)
    assert len(figure.axes) == 12
    assert texts_apart(figure)


def test_names_of_latents_and_draws_of_images() -> None:
    model = revae_toys.toy(revae_toys.TWO, 4, label_dim=1)
    data = ps.posterior(model, revae_toys.points(1), num_samples=8)
    found = latent_draws(data)
    assert list(found) == ["z_s[0]", "z_s[1]", "z_c[hat, 0]", "z_c[beard, 0]"]
    np.testing.assert_array_equal(found["z_c[beard, 0]"], data["posterior"]["z_c"].values[..., 1, 0, 0].ravel())
    own = ps.posterior(GuidedMixture(), torch.randn(1, 2), num_samples=8)
    drawn(plots.inspection(own, {"x": -1.0}, {}))


def test_expected_points_are_on_the_scale_of_pixels() -> None:
    x, draws = torch.rand(1, 4, 4), Bernoulli((1, 4, 4))(torch.zeros(1, 4, 4)).sample((9,))
    figure = plots.expected_points(x, draws, draws=3)
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    np.testing.assert_allclose(shown[:4, :4], x[0], rtol=1e-6)
    np.testing.assert_allclose(shown[:4, 5:9], draws.mean(0)[0], rtol=1e-6)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()][:4] == ["point", "mean", "sd", "draw 1"]
