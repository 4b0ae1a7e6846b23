"""What the page computes; the page itself is test_explore_page.py's, and in a browser test_explore_browser.py's."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
import torch
from data_makers import refused
from tiny import ATTRIBUTES, CASES, CLASSES, augmented, build, points, tiny_decoder, tiny_encoder

from pyro_ssvae import AttributeLabels, ReVAE, create_model
from pyro_ssvae.data.label_words import answers
from pyro_ssvae.data.schema import Column
from pyro_ssvae.explore import grids, view
from pyro_ssvae.explore.sliders import axes, inferred, moved, redrawn, taken
from pyro_ssvae.infer.batched import evaluating

WITH_SLIDERS = ("revae", "augmented", "m2", "adgm")  # where the labels are attributes
HEARS = ("augmented", "adgm")  # decoders that hear the label, of models without interventions


def wide_revae() -> Any:
    """A ReVAE of two dimensions an attribute whose p(z_c | y) is written by hand."""
    model = ReVAE(tiny_encoder((5,)), tiny_decoder((5,), 8, 0), ATTRIBUTES, latent_dim=8, label_dim=2)
    with torch.no_grad():
        model.prior_loc.copy_(torch.tensor([[0.0, 1.0], [3.0, 5.0]]))
        model.prior_raw_scale.copy_(torch.tensor([[1.0, 2.0], [0.5, 1.0]]).expm1().log())
    return model.eval()


@pytest.mark.parametrize("case", [case for case in CASES if "classifier" not in case])
def test_the_encoded_sliders_give_the_reconstruction(case: str) -> None:
    """Pixel by pixel, and again after a slider has come back."""
    model: Any = build(case)
    x = points(3)[1:2]
    code, sliders = view.encoded(model, x), axes(model)
    assert torch.equal(view.decoded(model, code), model.reconstruct(x)[0])
    name, labels, _ = CASES[case]
    assert bool(sliders) == (labels is ATTRIBUTES and name in WITH_SLIDERS)
    start = [axis.at(code) for axis in sliders]
    for values in (start, [value + 0.4 * axis.step for axis, value in zip(sliders, start)]):
        assert torch.equal(moved(sliders, code, start, values), code)
    for i, axis in enumerate(sliders):
        values = [*start]
        values[i] = axis.high if start[i] < axis.high - 2 * axis.step else axis.low
        there = moved(sliders, code, start, values)
        assert not torch.equal(view.decoded(model, there), model.reconstruct(x)[0])
        rest = torch.ones(len(code), dtype=torch.bool)
        rest[axis.place] = False
        assert torch.equal(there[rest], code[rest])
        assert abs(axis.at(there) - values[i]) < 2 * axis.step


def test_sliders_go_from_mu_0_minus_to_mu_1_plus_4_sigma() -> None:
    model = wide_revae()
    sliders = axes(model)
    assert [axis.name for axis in sliders] == list(ATTRIBUTES.names)
    # u = (3, 4) / 5; u · μ = 0.8 and 5.8; u · σ: sqrt(0.36 · 1 + 0.64 · 4) and sqrt(0.36 · 0.25 + 0.64 · 1)
    low, high = 0.8 - 4 * math.sqrt(2.92), 5.8 + 4 * math.sqrt(0.73)
    for i, axis in enumerate(sliders):
        torch.testing.assert_close(axis.direction, torch.tensor([0.6, 0.8]))
        assert axis.marks == pytest.approx((0.8, 5.8), abs=1e-5)
        assert axis.low <= low < axis.low + axis.step
        assert axis.high - axis.step < high <= axis.high
        assert axis.place == slice(2 * i, 2 * i + 2)
    one = axes(build("revae-attributes"))[0]
    assert one.direction.abs().tolist() == [1.0]
    told = axes(augmented(ATTRIBUTES))[1]
    assert (told.low, told.high, told.marks, told.place) == (0.0, 1.0, (0.0, 1.0), slice(3, 4))


def test_a_slider_moves_along_the_line_alone() -> None:
    """The part at right angles to the line, which kind of the attribute it is, stays."""
    model = wide_revae()
    sliders, code = axes(model), torch.arange(8.0) / 4
    start = [axis.at(code) for axis in sliders]
    there = moved(sliders, code, start, [start[0], start[1] + 2.5, start[2]])
    torch.testing.assert_close(there - code, torch.tensor([0, 0, 1.5, 2.0, 0, 0, 0, 0]))


def test_a_value_outside_its_slider_is_refused() -> None:
    sliders, code = axes(wide_revae()), torch.zeros(8)
    start = [axis.at(code) for axis in sliders]
    for wrong, *culprits in (
        (math.nan, "beard", "nan", "a number"),
        (math.inf, "beard", "inf"),
        ("1", "beard", "'1'"),
        (True, "beard", "True"),
        (None, "beard", "None"),
        (99.0, "beard", "99", "from -6.1"),
    ):
        values: list[Any] = [start[0], wrong, start[2]]
        refused(lambda values=values: moved(sliders, code, start, values), *culprits)
    refused(lambda: moved(sliders, code, start, start[:2]), "2 values for 3")


def test_draws_are_of_the_conditional_prior() -> None:
    model = wide_revae()
    axis, code, before = axes(model)[1], torch.arange(8.0), torch.get_rng_state()
    for value, mean, scale in ((0, [0.0, 1.0], [1.0, 2.0]), (1, [3.0, 5.0], [0.5, 1.0])):
        draws = torch.stack([redrawn(axis, code, value, seed) for seed in range(1000)])
        assert torch.equal(draws[:, :2], code[:2].expand(1000, -1))
        assert torch.equal(draws[:, 4:], code[4:].expand(1000, -1))
        z = (draws[:, 2:4] - torch.tensor(mean)) / torch.tensor(scale)
        assert z.mean(0).abs().max() < 4 / math.sqrt(1000)
        assert (z.std(0) - 1).abs().max() < 4 / math.sqrt(2000)
    assert torch.equal(torch.get_rng_state(), before)
    told = axes(augmented(ATTRIBUTES))[0]
    assert redrawn(told, torch.full((5,), 0.3), 1, 0).tolist() == pytest.approx([0.3, 0.3, 1, 0.3, 0.3])


@pytest.mark.parametrize("case", ["revae-attributes", "revae-local"])
def test_taking_a_part_is_the_model_s_swap(case: str) -> None:
    """Under the guide that a swap takes, of the parts that are no longer as encoded."""
    model: Any = build(case)
    x, sliders = points(2), axes(model)
    if case == "revae-local":
        model.range_high.copy_(model.range_low + 1e-3)  # all that moves is touched
        assert not torch.allclose(model.encode_for(x, ["hat"]), model.encode(x).mean)
    whole, donor = (view.encoded(model, some) for some in (x[:1], x[1:]))
    assert torch.equal(inferred(model, sliders, x[:1], whole), whole)
    for axis in sliders:
        code = inferred(model, sliders, x[:1], taken(axis, whole, donor))
        torch.testing.assert_close(view.decoded(model, code), model.swap(x[:1], x[1:], axis.name)[0])
    both = inferred(model, sliders, x[:1], taken(sliders[2], taken(sliders[0], whole, donor), donor))
    expected = model.encode_for(x[:1], ["scarf", "hat"])[0].clone()
    expected[0], expected[2] = donor[0], donor[2]
    torch.testing.assert_close(both, expected)


def test_counts_given_a_row_s_size_are_drawn_as_large_as_the_row() -> None:
    options: Any = {"likelihood": "poisson", "library_size": True, "latent_dim": 12}
    model: Any = create_model("revae", input_shape=5, labels=ATTRIBUTES, **options).eval()
    x = torch.full((1, 5), 30.0)
    torch.testing.assert_close(view.decoded(model, view.encoded(model, x), x), model.reconstruct(x)[0])


def test_a_grid_has_a_class_a_column_and_a_style_a_row() -> None:
    model: Any = augmented()
    x = points(1)
    found = grids.grid(model, x, styles=3, seed=5)
    assert found is not None
    assert found.columns == list(CLASSES.names)
    assert found.rows == ["this point", "style 1", "style 2", "style 3"]
    z = model.encode(x).mean
    for k in range(3):
        torch.testing.assert_close(found.images[0, k], model.decode(z, k)[0])
    with evaluating(model, 5):
        model.drawn_labels(3, 0)
        z = torch.randn(3, 2)
    for k in range(3):  # one z a row, whatever the class
        torch.testing.assert_close(found.images[1:, k], model.decode(z, k))
    again, other = grids.grid(model, x, 3, 5), grids.grid(model, x, 3, 6)
    assert torch.equal(again.images, found.images)  # type: ignore[union-attr]
    assert not torch.equal(other.images[1:], found.images[1:])  # type: ignore[union-attr]


@pytest.mark.parametrize("case", CASES)
def test_every_model_has_what_makes_sense_of_it(case: str) -> None:
    model, x = build(case), points(2)
    name, labels, _ = CASES[case]
    columns = 8 if name == "vae" else 3 if labels is CLASSES else 6
    found, swap = grids.grid(model, x[:1], 2), grids.swapped(model, x[:1], x[1:])
    if name == "classifier":
        assert found is None
        assert view.latents(model, x[:1]) is None
    else:
        assert found is not None
        assert found.images.shape == (len(found.rows), columns, 5)
        assert len(found.columns) == columns
        names, loc, scale = view.latents(model, x[:1]) or ([], [], [])
        assert len(names) == len(set(names)) == len(loc) == len(scale) == model.encode(x[:1]).mean.shape[1]
        own = name not in ("vae", "m1") and not (name in HEARS and labels is ATTRIBUTES)
        assert (found.rows[0] == "this point") == own
    swaps = name in ("revae", "m2", "mvae", "diva") or (name in HEARS and labels is CLASSES)
    assert (swap is not None) == swaps
    probs = view.probabilities(model, x[:1])
    assert (probs is None) == (name == "vae")


def test_a_swap_of_classes() -> None:
    x = points(2)
    m2: Any = build("m2")
    torch.testing.assert_close(grids.swapped(m2, x[:1], x[1:]).images[0, 0], m2.swap(x[:1], x[1:])[0])  # type: ignore[union-attr]
    vae: Any = augmented()
    expected = vae.decode(vae.encode(x[:1]).mean, vae.predict_proba(x[1:]))
    torch.testing.assert_close(grids.swapped(vae, x[:1], x[1:]).images[0], expected)  # type: ignore[union-attr]


def test_latents_have_their_names() -> None:
    names = (view.latents(wide_revae(), points(1)) or [[]])[0]
    assert names[:3] == ["z_c[hat, 0]", "z_c[hat, 1]", "z_c[beard, 0]"]
    assert names[6:] == ["z_s[0]", "z_s[1]"]
    assert (view.latents(build("diva"), points(1)) or [[]])[0] == ["z_c[0]", "z_s[0]"]
    assert (view.latents(build("m1+m2"), points(1)) or [[]])[0] == ["z_1[0]", "z_1[1]"]


def test_two_at_once_draw_what_each_draws_alone() -> None:
    """Without the lock of :func:`evaluating` they would take numbers from one generator, in turns that nobody knows."""
    model, x, before = build("vae"), points(1), torch.get_rng_state()
    expected = {seed: grids.grid(model, x, seed=seed).images for seed in range(4)}  # type: ignore[union-attr]
    wrong: list[int] = []

    def visit(seed: int) -> None:
        for _ in range(40):
            if not torch.equal(grids.grid(model, x, seed=seed).images, expected[seed]):  # type: ignore[union-attr]
                wrong.append(seed)

    visitors = [threading.Thread(target=visit, args=(seed,)) for seed in expected]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert not wrong
    assert torch.equal(torch.get_rng_state(), before)


def test_it_says_what_a_point_is() -> None:
    assert view.described((1, 8, 8)) == "images of 8 × 8 grey pixels, enlarged"
    assert view.described((3, 64, 48)) == "images of 64 × 48 colour pixels, enlarged"
    assert "mean of their 2 channels" in view.described((2, 8, 8))
    assert view.described((561,)).startswith("no images: vectors of 561 features")
    assert view.described((9, 128)).startswith("no images: series of 9 channels × 128 time steps")


@pytest.mark.parametrize(
    ("value", "words"),
    [(52812.4, "52812"), (9999.7, "10000"), (-123456.0, "-123456"), (21.25, "21.25"), (0.000123, "0.000123")],
)
def test_a_cell_is_a_number_as_people_write_it(value: float, words: str) -> None:
    assert view.cell(value, Column("income")) == words


def test_attributes_are_shown_in_their_own_words() -> None:
    labels = AttributeLabels(["ill", "sex"], [("no", "yes"), ("female", "male")])
    assert answers(labels) == ["ill", "sex = male"]
    said = [view.label_words(labels, torch.tensor(y)) for y in ([1, 0], [0, 1], [0, -1], [-1, -1])]
    assert said == ["ill, sex = female", "sex = male", "ill = no", ""]
    assert view.label_words(AttributeLabels(["hat", "bow"]), torch.tensor([0, 0])) == "hat = 0, bow = 0"
    assert grids.columns(labels)[0] == ["ill = no", "ill = yes", "sex = female", "sex = male"]
    model = create_model("revae", input_shape=(4,), labels=labels, latent_dim=4)
    assert [axis.words for axis in axes(model)] == [("no", "yes"), ("female", "male")]
