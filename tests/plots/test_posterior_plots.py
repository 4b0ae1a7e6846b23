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
from tiny import CASES, build, mostly_slow, points

import pyro_ssvae as ps
from pyro_ssvae import plots
from pyro_ssvae.evaluation.posterior import expected_draws
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
    assert figure.axes[0].get_xlabel() == "probability"
    for known, said in ([3], "probability; ★ its label"), ([-1], "probability"):  # the own label is always seen
        figure = plots.label_bars({"q": p.tolist()}, [f"class {i}" for i in range(40)], known)
        words = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        assert (words[0] == "★ class 3") == (known == [3])
        assert len(words) == 18
        assert figure.axes[0].get_xlabel() == said


def test_term_bars_leave_zeros_out_and_name_the_sum() -> None:
    figure = plots.term_bars({"z": -2.0, "y": 0.0, "x": -7.5})
    assert bars(figure) == [-2.0, -7.5]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["z", "x"]
    assert figure.axes[0].get_title(loc="left") == "objective -9.5 nats, by site"
    drawn(figure)


def test_terms_of_both_signs_have_room_for_their_numbers() -> None:
    _, ax = (figure := Figure(figsize=(3.1, 2.0), layout="constrained")), figure.add_subplot()
    assert texts_apart(plots.term_bars({"z": -0.2159, "x": 44.06, "head": -37.04}, ax=ax))


def test_a_large_term_is_cut_so_that_the_others_are_seen() -> None:
    figure = plots.term_bars({"z": -2.0, "x": -1000.0, "head": 1.0})
    assert bars(figure) == [-2.0, -8.0, 1.0]
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["-2", "-1000, cut", "1"]
    z, x, _ = figure.axes[0].patches
    assert (z.get_hatch(), x.get_hatch()) == (None, "//")
    assert figure.axes[0].get_title(loc="left") == "objective -1001 nats, by site"
    assert texts_apart(figure)


def test_latent_intervals_show_the_narrowest() -> None:
    generator = torch.Generator().manual_seed(0)
    scales = [3.0] * 4 + [0.5] * 16
    draws = {f"z[{i}]": scale * torch.randn(50, generator=generator) for i, scale in enumerate(scales)}
    figure = plots.latent_intervals(draws)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [f"z[{i}]" for i in range(4, 20)]
    assert "16 of 20" in figure.axes[0].get_title(loc="left")
    drawn(figure)


@pytest.mark.parametrize("case", mostly_slow(CASES, "vae", "enumerate", "revae-attributes", "m1+m2", "diva"))
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
    most = float(draws.std(0).max())
    np.testing.assert_allclose(shown[:4, 10:14], draws.std(0)[0] / most, rtol=1e-6)
    words = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert words == ["point", "mean", f"sd, to {most:.2g}", "draw 1", "draw 2", "draw 3"]


def test_an_inspection_shows_no_single_draws_of_noise() -> None:
    model, x = (
        ps.create_model("vae", input_shape=(1, 4, 4), latent_dim=2, likelihood="bernoulli"),
        torch.rand(1, 1, 4, 4),
    )
    data = ps.posterior(model, x, num_samples=8)
    words = [tick.get_text() for tick in plots.inspection(data, {"x": -1.0}, {}).axes[0].get_xticklabels()]
    assert words[:2] == ["point", "mean"]
    assert len(words) == 3
    expected = expected_draws(model, x, num_samples=8)[:, 0]
    figure = plots.inspection(data, {"x": -1.0}, {}, expected=expected)
    shown = np.asarray(figure.axes[0].get_images()[0].get_array())
    np.testing.assert_allclose(shown[:4, 15:19], expected[0, 0], rtol=1e-5)  # the fourth picture is the first draw


def test_expected_draws_are_decoded_from_the_posterior() -> None:
    model, x = (
        ps.create_model("vae", input_shape=(1, 4, 4), latent_dim=2, likelihood="bernoulli"),
        torch.rand(3, 1, 4, 4),
    )
    draws = expected_draws(model, x, num_samples=5, seed=1)
    assert draws.shape == (5, *x.shape)
    assert torch.equal(draws, expected_draws(model, x, num_samples=5, seed=1))
    assert ((draws > 0) & (draws < 1)).all()  # means of a Bernoulli, no draws of it
    assert len({float(draw.sum()) for draw in draws}) == 5  # z differs


def test_vectors_and_series_have_a_band_of_two_deviations() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = 3 * torch.randn(200, 2, 6, generator=generator)
    ax = plots.expected_points(torch.zeros(2, 6), draws).axes[0]
    (band,) = ax.collections
    edge = np.unique(np.concatenate([path.vertices[:, 1] for path in band.get_paths()]))  # a path a channel
    low, high = float((draws.mean(0) - 2 * draws.std(0)).min()), float((draws.mean(0) + 2 * draws.std(0)).max())
    assert edge.min() == pytest.approx(-0.45, abs=1e-5)  # the band is what reaches furthest
    assert edge.max() == pytest.approx(0.45, abs=1e-5)
    assert f"from {low:.3g} to {high:.3g}" in ax.get_xlabel()
