from __future__ import annotations

import json
from functools import cache
from importlib import import_module
from pathlib import Path

import matplotlib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from texts import texts_apart
from torch import Tensor, nn

from pyro_ssvae import plots
from pyro_ssvae.data.augment import unit_scale
from pyro_ssvae.errors import InputError
from pyro_ssvae.evaluation.evaluate import evaluate
from pyro_ssvae.labels import AttributeLabels, ClassLabels
from pyro_ssvae.plots import summary
from pyro_ssvae.plots.style import fit_names, fit_text, save_figure, say_lacking

DIGITS = load_digits()
LONG = (
    "walking upstairs with a heavy bag in each hand",
    "sitting",
    "standing still in the queue at the post office",
    "Pneumonoultramicroscopicsilicovolcanoconiosis",
    "a",
    "lying down, transition to standing",
    "cost in $ and £ per $",
    "snake_case_name_that_goes_on_and_on",
    "Übergröße",
    "running",
)


class PlainPca(nn.Module):
    """A stand-in for a trained model without a class head: principal components, and noise around class means."""

    def __init__(self, x: Tensor, y: Tensor, labels: ClassLabels | AttributeLabels, latent_dim: int = 5) -> None:
        super().__init__()
        self.labels, self.latent_dim, self.shape = labels, latent_dim, x.shape[1:]
        flat = unit_scale(x).flatten(1).float()
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("basis", torch.pca_lowrank(flat, latent_dim, niter=1)[2].T)
        if isinstance(labels, ClassLabels):
            means = [flat[y == k].mean(0) if (y == k).any() else flat.mean(0) for k in range(labels.num_classes)]
        else:
            means = [flat[y[:, a] == 1].mean(0) for a in range(labels.size)]
        self.register_buffer("means", torch.stack(means))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent_dim), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.basis + self.mean, 1.0).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encode(x).mean, 0.1).to_event(1))

    def encode(self, x: Tensor) -> torch.distributions.Normal:
        loc = (unit_scale(x).flatten(1) - self.mean) @ self.basis.T
        return torch.distributions.Normal(loc, torch.full_like(loc, 0.1))

    def reconstruct(self, x: Tensor) -> Tensor:
        return (self.encode(x).mean @ self.basis + self.mean).reshape(-1, *self.shape)

    def generate(self, n: int, y: Tensor | None = None) -> Tensor:
        if y is None:
            centre = self.mean.expand(n, -1)
        elif isinstance(self.labels, ClassLabels):
            centre = self.means[y]
        else:
            centre = torch.stack([self.means[a] * v[a] for v in y for a in (v >= 0).nonzero()[0]])
        return (centre + torch.randn(n, self.latent_dim) @ self.basis * 0.8).reshape(n, *self.shape)


class PcaModel(PlainPca):
    """The same with a head: nearest class means."""

    def predict_proba(self, x: Tensor) -> Tensor:
        distance = torch.cdist(unit_scale(x).flatten(1).float(), self.means)
        return self.labels.probs((distance.mean(-1, keepdim=True) - distance) * 4)

    def predict(self, x: Tensor) -> Tensor:
        return self.labels.mode(self.predict_proba(x))


class Classifier(nn.Module):
    """A head alone: its pair has no sites."""

    def __init__(self, full: PcaModel) -> None:
        super().__init__()
        self.labels, self.predict_proba, self.predict = full.labels, full.predict_proba, full.predict

    def model(self, x: Tensor, y: Tensor | None = None) -> None: ...

    def guide(self, x: Tensor, y: Tensor | None = None) -> None: ...


@cache
def digits(names: tuple[str, ...] = (), latent_dim: int = 5) -> tuple[PcaModel, Tensor, Tensor]:
    x = torch.tensor(DIGITS.images * 15.9, dtype=torch.uint8)[:, None]
    y = torch.tensor(DIGITS.target)
    return PcaModel(x, y, ClassLabels(10, names), latent_dim), x, y


@cache
def sensors(classes: int, features: tuple[int, ...]) -> tuple[PcaModel, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(400) % classes
    centres = torch.randn(classes, int(np.prod(features)), generator=generator).cumsum(-1) / 10
    x = centres[y] + 0.3 * torch.randn(400, centres.shape[1], generator=generator)
    return PcaModel(x.reshape(400, *features), y, ClassLabels(classes, LONG[:classes]), 5), x.reshape(400, *features), y


@cache
def faces(attributes: int, size: int = 16) -> tuple[PcaModel, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(200, attributes, generator=generator) < 0.3).long()
    patterns = (
        torch.rand(attributes, 3, 8, 8, generator=generator)
        .repeat_interleave(size // 8, 2)
        .repeat_interleave(size // 8, 3)
    )
    x = (torch.einsum("na,achw->nchw", y.float(), patterns) / 3 + 0.1).clamp(0, 1)
    names = [LONG[i % 10] + ("" if i < 10 else f" {i}") for i in range(attributes)]
    return PcaModel(x, y, AttributeLabels(names)), (x * 255).byte(), y


def tick_words(ax: matplotlib.axes.Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def history(epochs: int = 12) -> dict[str, list[float]]:
    e = np.arange(1, epochs + 1.0)
    validation = np.where(e % 5 == 0, 1 - 0.5 / e, np.nan)
    return {
        "epoch": e.tolist(),
        "train_loss": (100 / e).tolist(),
        "validation_loss": (110 / e).tolist(),
        "train_accuracy": (1 - 0.6 / e).tolist(),
        "validation_accuracy": validation.tolist(),
        "train_reconstruction": (80 / e).tolist(),
        "train_kl_divergence": (20 - 10 / e).tolist(),
        "baseline": [float("nan")] * epochs,
        "seconds": e.tolist(),
    }


def test_learning_curves_pair_training_with_validation_and_bridge_gaps() -> None:
    columns = history()
    figure = plots.learning_curves(columns)
    assert [ax.get_title() for ax in figure.axes] == [
        "loss, nats a point",
        "accuracy",
        "reconstruction, nats a point (train)",
        "KL, nats a point (train)",
    ]
    assert figure.get_suptitle() == "training over 12 epochs"
    train, validation = figure.axes[1].lines
    np.testing.assert_array_equal(train.get_ydata(), columns["train_accuracy"])
    np.testing.assert_array_equal(validation.get_xdata(), [5, 10])
    assert train.get_linestyle() != validation.get_linestyle()
    assert train.get_marker() != validation.get_marker()
    assert texts_apart(figure)


def test_learning_curves_need_few_columns() -> None:
    figure = plots.learning_curves({"loss": [3.0, 2.0, 1.0]})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [1, 2, 3])
    with pytest.raises(InputError, match="no column"):
        plots.learning_curves({"epoch": [1.0], "loss": [float("nan")]})


@pytest.mark.parametrize("passes", [1, 3, 40])
def test_learning_curves_share_their_epochs(passes: int) -> None:
    gaps = [float("nan")] * (passes - 1) + [2.0]
    figure = plots.learning_curves({"loss": [1.0] * passes, "kl": gaps, "active_units": [*gaps[:-1], 0.0]})
    loss, kl, units = figure.axes
    assert loss.get_xlim() == kl.get_xlim() == units.get_xlim()
    for axis in (loss.xaxis, kl.xaxis, units.yaxis):
        assert all(tick == round(tick) for tick in axis.get_majorticklocs())
    assert 1 in loss.get_xticks() or passes == 40


def test_image_pairs_are_the_images_given() -> None:
    model, x, y = digits(LONG)
    x_hat = model.reconstruct(x[:13])
    figure = plots.reconstructions(x[:13], x_hat, [LONG[k] for k in y[:13]])
    assert len(figure.axes) == 2
    first = figure.axes[0].images[0].get_array()
    for i in (0, 9):
        expected = torch.stack([x[i, 0] / 255, x_hat[i, 0].clamp(0, 1)])  # every picture on one scale
        np.testing.assert_allclose(first[:8, 9 * i : 9 * i + 8], expected[0], atol=1e-6)
        np.testing.assert_allclose(first[9:17, 9 * i : 9 * i + 8], expected[1], atol=1e-6)
    assert (figure.axes[1].images[0].get_array()[:, 27:] == 1).all()  # three pairs in the second row, the rest white
    assert tick_words(figure.axes[0]) == ["input", "reconstruction"]
    assert texts_apart(figure)


def test_colour_images_keep_their_colours() -> None:
    _, x, _ = faces(4)
    shown = plots.reconstructions(x[:2], x[:2] / 255).axes[0].images[0].get_array()
    np.testing.assert_allclose(shown[:16, 17:33], x[1].permute(1, 2, 0) / 255, atol=1e-6)


def test_vectors_are_lines_with_the_reconstruction_on_the_input() -> None:
    _, x, y = sensors(6, (561,))
    figure = plots.reconstructions(x[:4], x[:4] + 1, [LONG[k] for k in y[:4]])
    lines = figure.axes[0].lines
    assert len(lines) == 8
    same, moved = lines[0].get_ydata(), lines[4].get_ydata()
    assert np.corrcoef(same, x[0])[0, 1] > 0.999
    assert np.ptp(moved - same) < 1e-5
    assert (moved > same).all()
    assert [line.get_linestyle() for line in lines[::4]] == ["-", "--"]
    assert lines[0].get_linewidth() > 2 * lines[4].get_linewidth()
    assert texts_apart(figure)


def test_series_show_their_channels() -> None:
    _, x, _ = sensors(6, (9, 32))
    ax = plots.reconstructions(x[:2], x[:2]).axes[0]
    at, line = ax.lines[0].get_data()
    np.testing.assert_array_equal(at[np.isfinite(at)], np.arange(9 * 32))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(line)), np.arange(32, 9 * 33 - 1, 33))  # no line joins two
    assert "channel" in ax.get_xlabel()
    assert len(ax.lines) == 4 + 8


def test_lines_have_no_columns_to_speak_of() -> None:
    model, _, _ = sensors(6, (9, 32))
    assert plots.samples_by_class(model).get_suptitle().replace("\n", " ") == "10 draws of each label, a row each"


def test_samples_have_a_named_row_a_class() -> None:
    model, _, _ = digits(LONG)
    figure = plots.samples_by_class(model, n_per_class=7)
    ax = figure.axes[0]
    words = [word.replace("\n", " ") for word in tick_words(ax)]
    assert words[1] == "sitting"
    assert words[9] == "running"
    assert words[0].startswith("walking upstairs")
    assert ax.images[0].get_array().shape == (10 * 9 - 1, 7 * 9 - 1)
    # the rows are the classes asked for: each resembles its own class mean the most
    rows = ax.images[0].get_array()
    means = model.means.reshape(10, 8, 8).numpy()
    for k in range(10):
        cells = [rows[9 * k : 9 * k + 8, 9 * i : 9 * i + 8] for i in range(7)]
        scores = [np.corrcoef(np.mean(cells, 0).ravel(), mean.ravel())[0, 1] for mean in means]
        assert np.argmax(scores) == k
    assert texts_apart(figure)


def test_samples_by_attribute_have_a_row_a_value() -> None:
    model, _, _ = faces(3)
    figure = plots.samples_by_class(model, n_per_class=4)
    assert [word.replace("\n", " ")[-4:] for word in tick_words(figure.axes[0])] == [" = 0", " = 1"] * 3
    assert figure.axes[0].images[0].get_array().shape == (6 * 17 - 1, 4 * 17 - 1, 3)
    assert texts_apart(figure)


def test_a_model_without_classes_shows_plain_samples() -> None:
    full, x, y = digits(LONG)
    plain = PlainPca(x, y, full.labels)
    assert set(tick_words(plots.samples_by_class(plain).axes[0])) == {""}

    class Refuses(PcaModel):
        def generate(self, n: int, y: Tensor | None = None) -> Tensor:
            if y is not None:
                raise InputError("no label can be asked for")
            return super().generate(n)

    assert set(tick_words(plots.samples_by_class(Refuses(x, y, full.labels)).axes[0])) == {""}


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_latent_space_shows_each_class_by_colour_and_marker(latent_dim: int) -> None:
    model, x, y = digits(LONG, latent_dim)
    y = y.clone()
    y[:300] = -1
    figure = plots.latent_space(model, x, y)
    ax = figure.axes[0]
    legend = [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]
    assert len(legend) == 11
    assert legend[1] == "sitting"
    assert legend[-1] == "unknown"
    assert sum(len(dots.get_offsets()) for dots in ax.collections) == len(x)
    drawn = {dots.get_label(): dots for dots in ax.collections}
    if latent_dim == 2:
        np.testing.assert_allclose(drawn["sitting"].get_offsets(), model.encode(x[y == 1]).mean, atol=1e-5)
    shapes = {dots.get_paths()[0].vertices.tobytes() for dots in ax.collections[1:]}
    assert len(shapes) == 10  # told apart without colour
    assert texts_apart(figure)


def test_latent_space_draws_a_panel_an_attribute() -> None:
    model, x, y = faces(6)
    figure = plots.latent_space(model, x, y)
    assert len(figure.axes) == 6
    assert figure.axes[1].get_title() == "sitting"
    assert texts_apart(figure)
    ax = Figure().add_subplot()
    assert plots.latent_space(model, x, y, attribute="sitting", ax=ax) is ax.figure
    assert sorted(len(dots.get_offsets()) for dots in ax.collections) == sorted(torch.bincount(y[:, 1]).tolist())
    with pytest.raises(InputError, match="attribute="):
        plots.latent_space(model, x, y, ax=ax)
    with pytest.raises(InputError, match="none of"):
        plots.latent_space(model, x, y, attribute="standing")


def test_latent_space_draws_at_most_2000_points() -> None:
    model, x, _ = digits()
    figure = plots.latent_space(model, x.repeat(3, 1, 1, 1))
    assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) == 2000


@pytest.mark.parametrize("k", [2, 20, 40])
def test_confusion_matrix_reads_at_any_size(k: int) -> None:
    generator = np.random.default_rng(0)
    counts = np.diag(generator.integers(1000, 10000, k)) + generator.integers(0, 300, (k, k))
    counts[0, 1] = 0
    names = [LONG[i % 10] + f" {i}" for i in range(k)]
    figure = plots.confusion_matrix(counts.tolist(), names)
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), counts / counts.sum(1, keepdims=True))
    numbers = [text.get_text() for text in ax.texts]
    assert numbers == ([str(v) for v in counts.ravel() if v] if k <= 20 else [])
    assert [label.get_rotation() for label in ax.get_xticklabels()] == [90] * k
    assert texts_apart(figure)


def test_confusion_matrix_with_an_empty_row() -> None:
    ax = plots.confusion_matrix([[0, 0], [1, 3]]).axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[0, 0], [0.25, 0.75]])
    assert tick_words(ax) == ["0", "1"]


def test_attribute_bars_stand_beside_the_majority_guess() -> None:
    one = {"accuracy": 0.9, "majority_accuracy": 0.8}
    none = {"accuracy": None, "majority_accuracy": None}
    metrics = {"per_attribute": {**dict.fromkeys(LONG, one), "never known": none}}
    figure = plots.attribute_bars(metrics)
    ax = figure.axes[0]
    model, majority = ax.containers
    assert [bar.get_width() for bar in model] == [0.9] * 10
    assert [bar.get_width() for bar in majority] == [0.8] * 10
    assert model[0].get_hatch() != majority[0].get_hatch()
    assert ax.get_xlim() == (0, 1)
    assert "never known" not in tick_words(ax)
    assert texts_apart(figure)


def test_figures_draw_into_an_axes_of_ones_own() -> None:
    model, x, y = digits()
    axes = Figure(figsize=(14, 8), layout="constrained").subplots(2, 2).ravel()
    assert plots.latent_space(model, x, y, ax=axes[0]) is axes[0].figure
    assert plots.confusion_matrix(np.eye(10, dtype=int).tolist(), LONG, ax=axes[1]) is axes[0].figure
    assert plots.samples_by_class(model, ax=axes[2]) is axes[0].figure
    assert plots.reconstructions(x[:10], model.reconstruct(x[:10]), ax=axes[3]) is axes[0].figure
    assert texts_apart(axes[0].figure)
    assert not axes[0].spines["top"].get_visible()
    assert axes[0].xaxis.label.get_fontsize() == plots.STYLE["axes.labelsize"]


def test_names_are_cut_in_the_middle() -> None:
    assert fit_text("short", 10) == "short"
    assert fit_text("", 10) == ""
    short = fit_text("a long common beginning 17", 16)
    assert len(short) <= 16
    assert short.startswith("a long")
    assert short.endswith("17")
    assert "…" in short
    lines = fit_text("one two three four five six seven eight 9", 9, lines=2).split("\n")
    assert len(lines) == 2
    assert max(map(len, lines)) <= 9
    assert lines[1].endswith("9")
    assert fit_text("x" * 10_000, 8) == "xxxxx…xx"


def test_names_that_would_look_alike_are_whole_where_they_differ() -> None:
    grades = [f"Gastric adenocarcinoma, {grade} differentiated" for grade in ("moderately", "poorly")]
    for width, lines in ((24, 1), (22, 2), (18, 1)):
        short = fit_names(grades, width, lines)
        assert short[0] != short[1]
        assert all(len(line) <= width for word in short for line in word.split("\n"))
    assert fit_names([f"class of number {k} long" for k in (1, 2, 11)], 18) == [
        *("class of nu…1 long", "class of nu…2 long", "class of n…11 long"),
    ]
    same = ["walking upstairs with a bag"] * 2  # titles of two points of one class
    assert fit_names(same, 12) == [fit_text(same[0], 12)] * 2
    assert fit_names(LONG, 12, 2) == [fit_text(name, 12, 2) for name in LONG]


def test_letters_that_no_font_has_are_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    say_lacking.cache_clear()
    for i in range(2):
        figure = plots.confusion_matrix([[1, 0], [0, 1]], ["\ue000\ue001", "b"])
        save_figure(figure, tmp_path / f"{i}.png")
        assert (tmp_path / f"{i}.png").stat().st_size > 500
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: figures: no font here has \ue000\ue001; ")
    assert not recwarn.list


def test_nothing_leaks_and_the_random_state_stays() -> None:
    before, state = dict(matplotlib.rcParams), torch.get_rng_state()
    model, x, y = digits()
    model.train()
    plots.samples_by_class(model)
    plots.latent_space(model, x, y)
    assert dict(matplotlib.rcParams) == before
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for file in plots._FILES:
        assert "plt" not in vars(import_module(f"pyro_ssvae.plots.{file}"))


def test_save_all_writes_what_applies(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model, x, y = digits(LONG)
    metrics = json.loads(json.dumps(evaluate(model, x, y)))
    paths = plots.save_all(model, history(), metrics, x, y, tmp_path / "new" / "figures")
    names = ["learning_curves", "reconstructions", "samples_by_class", "latent_space", "confusion_matrix"]
    names.append("reliability")
    assert [path.name for path in paths] == [f"{name}.png" for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    short = Classifier(model)
    paths = plots.save_all(short, {"epoch": [], "loss": []}, evaluate(short, x, y), x, y, tmp_path)
    assert [path.name for path in paths] == ["confusion_matrix.png", "reliability.png"]


@pytest.mark.parametrize("n", [1, 2])
def test_titles_of_few_draws_are_whole(n: int, recwarn: pytest.WarningsRecorder) -> None:
    model, _, _ = digits(LONG)
    draws = plots.samples(model, n, 3, title=f"{n} draws of {LONG[0]}")
    for figure in (draws, plots.samples_by_class(model, n_per_class=n)):
        page = figure.bbox
        figure.draw_without_rendering()
        title = figure.get_suptitle() and figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
        assert title.x1 < page.x1
        assert all(ax.get_window_extent().y1 <= title.y0 + 1 for ax in figure.axes)
    assert not recwarn.list


def test_reconstructions_are_of_points_all_over_the_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of classes come class by class."""
    model, x, y = digits(LONG)
    order, titles = torch.as_tensor(y).argsort(), []
    monkeypatch.setattr(summary, "reconstructions", lambda *parts, **more: titles.extend(parts[2]))
    summary.some_reconstructions(model, torch.as_tensor(x)[order], torch.as_tensor(y)[order], 0)
    assert len(titles) == 20
    assert set(titles) == set(LONG)
    titles.clear()
    summary.some_reconstructions(model, torch.as_tensor(x)[:3], torch.as_tensor(y)[:3], 0)
    assert titles == [LONG[k] for k in torch.as_tensor(y)[:3]]


def test_save_all_of_attributes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model, x, y = faces(4)
    paths = plots.save_all(model, None, evaluate(model, x, y), x, None, str(tmp_path))
    names = ["reconstructions", "samples_by_class", "latent_space", "attribute_bars"]
    assert [path.name for path in paths] == [f"{name}.png" for name in names]


@pytest.mark.parametrize("k", [61, 300, 1000])
def test_a_confusion_of_many_classes_stays_small(k: int) -> None:
    figure = plots.confusion_matrix(np.eye(k, dtype=int), [f"class number {i}" for i in range(k)])
    assert max(figure.get_size_inches()) * 120 <= 2000
    assert len(figure.axes[0].get_xticks()) == 40


def test_a_confusion_of_many_classes_shows_those_with_the_most_errors() -> None:
    counts = 9 * np.eye(100, dtype=int)
    counts[70, 3], counts[5, 99] = 4, 2
    figure = plots.confusion_matrix(counts, [f"c{i}" for i in range(100)])
    words = tick_words(figure.axes[0])
    assert {"c3", "c5", "c70", "c99"} <= set(words)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert shown[words.index("c70"), words.index("c3")] == pytest.approx(4 / 13)
    assert figure.get_suptitle() == "900 of 906 points are right; the 40 of 100 classes with the most errors"


def test_of_many_classes_the_most_frequent_have_colours() -> None:
    _, x, _ = digits()
    y = torch.arange(len(x)) % 50
    y[:300] = 7
    many = PcaModel(x, y, ClassLabels(50))
    figure = plots.latent_space(many, x, y)
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(legend) == 11
    assert "7" in legend
    assert legend[-1] == "another class"
    assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) == len(x)
    assert max(figure.get_size_inches()) < 12
