"""What the verbs on characteristics do to z, seen at the decoder's door, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from data_makers import refused
from revae_toys import CLASSES, THREE, points, toy
from torch import Tensor
from torch.nn import functional as F

from pyro_ssvae import AttributeLabels, ReVAE, create_model
from pyro_ssvae.models.interventions import asked


@pytest.fixture(params=[1, 2], ids=["d=1", "d=2"])
def model(request: pytest.FixtureRequest) -> ReVAE:
    made = toy(THREE, 3 * request.param + 2, label_dim=request.param)
    with torch.no_grad():  # an attribute whose 1 lies below its 0
        made.prior_loc.copy_(torch.tensor([-4.0, 5.0])[:, None].expand_as(made.prior_loc))
        made.prior_loc[1].neg_()
    return made


@pytest.fixture
def decoded(model: ReVAE, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every z that is decoded."""
    return spy(model, monkeypatch)


def spy(model: ReVAE, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    seen: list[Tensor] = []
    decode = model.decode

    def watched(z: Tensor, **more: Tensor) -> Tensor:
        seen.append(z.clone())
        return decode(z, **more)

    monkeypatch.setattr(model, "decode", watched)
    return seen


def changed(model: ReVAE, before: Tensor, after: Tensor) -> list[str]:
    """Names of the characteristics that differ; z_s under its own name. Unchanged ones are so to the last bit."""
    at = {name: place(model, name) for name in model.labels.names}
    names = [name for name in at if not torch.equal(before[:, at[name]], after[:, at[name]])]
    s = slice(model.z_c_dim, None)
    return names + (["z_s"] if not torch.equal(before[:, s], after[:, s]) else [])


def place(model: ReVAE, name: str) -> slice:
    i = list(model.labels.names).index(name)
    return slice(i * model.label_dim, (i + 1) * model.label_dim)


def test_place_is_where_the_attribute_lies(model: ReVAE) -> None:
    for name in THREE.names:
        assert model.place(name) == place(model, name)
    refused(lambda: model.place("beerd"), "beerd", "'beard'")
    refused(lambda: model.place("zzz"), "hat, beard, scarf")
    assert toy(CLASSES, 4).place("class") == slice(0, 3)


def test_place_agrees_with_the_head_and_the_prior(model: ReVAE) -> None:
    """Moving the part of z that `place` names moves that attribute's logit and density, no other's."""
    z = torch.randn(1, model.z_c_dim, dtype=torch.float64)
    for i, name in enumerate(THREE.names):
        moved = z.clone()
        moved[:, model.place(name)] += 1
        for score in (model.log_q_y, model.p_z_c(torch.zeros(3, 1, dtype=torch.long)).log_prob):
            differs = (score(model.split(moved)) != score(model.split(z))).reshape(3, -1).any(1)
            assert differs.tolist() == [j == i for j in range(3)]


def test_conditional_is_the_prior_of_that_value(model: ReVAE) -> None:
    for i, name in enumerate(THREE.names):
        for value in (0, 1):
            loc, scale = model.conditional(name, value)
            assert loc.shape == scale.shape == (model.label_dim,)
            torch.testing.assert_close(loc, model.prior_loc[i, value].detach())
            torch.testing.assert_close(scale, F.softplus(model.prior_raw_scale[i, value]).detach())
            assert not loc.requires_grad
    refused(lambda: model.conditional("scraf", 1), "scraf", "'scarf'")
    refused(lambda: model.conditional("hat", 2), "hat: 2", "0 or 1")
    classes = toy(CLASSES, 4)
    loc, scale = classes.conditional("class", 2)
    torch.testing.assert_close(loc, classes.prior_loc[2].detach())
    torch.testing.assert_close(scale, F.softplus(classes.prior_raw_scale[2]).detach())


# --- intervene


def test_intervening_changes_the_named_and_no_other(model: ReVAE, decoded: list[Tensor]) -> None:
    x = points(4)
    z = model.encode(x).mean
    for values in ({"hat": 1}, {"beard": 0}, {"scarf": 1, "hat": 0}):
        images = model.intervene(x, values)
        assert images.shape == x.shape
        assert not images.requires_grad
        assert sorted(changed(model, z, decoded[-1])) == sorted(values)
        torch.testing.assert_close(images, model.decode(decoded[-1]))
    assert torch.equal(model.intervene(x, {}), model.reconstruct(x))


def test_intervening_draws_from_the_prior_of_the_value(model: ReVAE, decoded: list[Tensor]) -> None:
    x = points(3000)
    model.intervene(x, {"beard": 1})
    drawn = decoded[-1][:, place(model, "beard")]
    loc, scale = model.conditional("beard", 1)
    torch.testing.assert_close(drawn.mean(0), loc, rtol=0, atol=4 * scale.max().item() / 3000**0.5)
    torch.testing.assert_close(drawn.std(0), scale, rtol=0.06, atol=0)


def test_several_interventions_differ_from_one_another(model: ReVAE, decoded: list[Tensor]) -> None:
    x = points(2)
    images = model.intervene(x, {"hat": 1}, num_samples=5)
    assert images.shape == (5, 2, 3)
    assert len({tuple(z[0, place(model, "hat")].tolist()) for z in decoded}) == 5
    assert model.intervene(x, {"hat": 1}, num_samples=1).shape == (1, 2, 3)


def test_interventions_that_cannot_be_are_refused(model: ReVAE) -> None:
    x = points(2)
    refused(lambda: model.intervene(x, {"scraf": 1}), "scraf", "'scarf'")
    for value in (2, -1, 0.5, "2", None):
        refused(lambda value=value: model.intervene(x, {"hat": value}), "hat", repr(value), "0 or 1")
    refused(lambda: model.intervene(x, "hat"), "'hat'", "{'Smiling': 1}")
    refused(lambda: model.intervene(x, 1), "1")


def test_intervening_on_classes_by_number_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy(CLASSES, 5)
    decoded, x = spy(model, monkeypatch), points(2000)
    z = model.encode(x).mean
    for value in (2, "owl"):
        assert model.intervene(x, value).shape == x.shape
        assert torch.equal(decoded[-1][:, 3:], z[:, 3:])
        loc, scale = model.conditional("class", 2)
        torch.testing.assert_close(decoded[-1][:, :3].mean(0), loc, rtol=0, atol=5 * scale.max().item() / 2000**0.5)
    assert model.intervene(x[:2], 0, num_samples=3).shape == (3, 2, 3)
    refused(lambda: model.intervene(x, "owls"), "owls", "'owl'")
    for wrong in (3, -1, 0.5, None, {"cat": 1}):
        refused(lambda wrong=wrong: model.intervene(x, wrong), "intervene", "cat, dog, owl")


# --- swap


def test_swapping_takes_the_donor_s_characteristic_alone(model: ReVAE, decoded: list[Tensor]) -> None:
    x, donor = points(4), points(4)
    z, other = model.encode(x).mean, model.encode(donor).mean
    for name in THREE.names:
        images = model.swap(x, donor, name)
        assert images.shape == x.shape
        assert changed(model, z, decoded[-1]) == [name]
        assert torch.equal(decoded[-1][:, place(model, name)], other[:, place(model, name)])
    torch.testing.assert_close(model.swap(x, x, "hat"), model.reconstruct(x))


def test_one_donor_serves_all(model: ReVAE, decoded: list[Tensor]) -> None:
    x, donor = points(4), points(1)
    model.swap(x, donor.numpy(), "hat")
    hat = place(model, "hat")
    assert torch.equal(decoded[-1][:, hat], model.encode(donor).mean[:, hat].expand(4, -1))


def test_swaps_that_cannot_be_are_refused(model: ReVAE) -> None:
    x = points(4)
    refused(lambda: model.swap(x, points(3), "hat"), "4 points", "3 donors")
    refused(lambda: model.swap(x, torch.zeros(4, 2), "hat"), "[4, 2]")
    refused(lambda: model.swap(x, x, "hats"), "hats", "'hat'")
    refused(lambda: model.swap(x, x), "class", "hat, beard, scarf")


def test_swap_between_images_of_different_sizes_is_refused() -> None:
    images: Any = create_model("revae", input_shape=(1, 8, 8), labels=THREE, latent_dim=5)
    refused(lambda: images.swap(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 10, 8), "hat"), "[1, 1, 10, 8]")


def test_swapping_classes_takes_the_whole_block(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy(CLASSES, 5)
    decoded, x, donor = spy(model, monkeypatch), points(2), points(2)
    model.swap(x, donor)
    assert torch.equal(decoded[-1][:, :3], model.encode(donor).mean[:, :3])
    assert torch.equal(decoded[-1][:, 3:], model.encode(x).mean[:, 3:])


# --- walk


def ends(model: ReVAE, name: str, k: float) -> tuple[Tensor, Tensor]:
    (loc_0, scale_0), (loc_1, scale_1) = model.conditional(name, 0), model.conditional(name, 1)
    side = 1 if loc_1[0] > loc_0[0] else -1
    return loc_0 - side * k * scale_0, loc_1 + side * k * scale_1


@pytest.mark.parametrize("name", ["hat", "beard"])
def test_a_walk_goes_from_beyond_one_value_to_beyond_the_other(model: ReVAE, decoded: list[Tensor], name: str) -> None:
    """Also where the value 1 lies below the value 0 (`beard`)."""
    x = points(2)
    images = model.walk(x, name, steps=5, k=1.5)
    assert images.shape == (2, 5, 3)
    path = decoded[-1].reshape(2, 5, -1)
    first, last = ends(model, name, 1.5)
    for row in range(2):
        z = model.encode(x).mean[row].expand(5, -1)
        assert changed(model, z, path[row]) == [name]
        along = path[row, :, place(model, name)]
        torch.testing.assert_close(along[0], first)
        torch.testing.assert_close(along[-1], last)
        torch.testing.assert_close(along[2], (first + last) / 2)
    torch.testing.assert_close(images.reshape(10, 3), model.decode(decoded[-1]))
    first, last = ends(model, name, 2.0)  # where nothing is said, seven steps between two standard deviations
    by_default = [model.walk(x, name).shape[1], *decoded[-1].reshape(2, 7, -1)[0, [0, -1]][:, place(model, name)]]
    assert by_default[0] == 7
    torch.testing.assert_close(by_default[1:], [first, last])


def test_a_walk_of_two_attributes_is_a_grid(model: ReVAE, decoded: list[Tensor]) -> None:
    """The released code sets the first attribute on both axes."""
    x = points(2)
    images = model.walk(x, "beard", "scarf", steps=4)
    assert images.shape == (2, 4, 4, 3)
    path = decoded[-1].reshape(2, 4, 4, -1)
    for row in range(2):
        assert changed(model, model.encode(x).mean[row].expand(16, -1), path[row].flatten(0, 1)) == ["beard", "scarf"]
        for i in range(4):
            for j in range(4):
                for name, at in (("scarf", i), ("beard", j)):
                    first, last = ends(model, name, 2.0)
                    expected = first + (last - first) * at / 3
                    torch.testing.assert_close(path[row, i, j, place(model, name)], expected)


def test_walks_that_cannot_be_are_refused(model: ReVAE) -> None:
    x = points(1)
    refused(lambda: model.walk(x, "hatt"), "hatt", "'hat'")
    refused(lambda: model.walk(x, "hat", "berd"), "berd", "'beard'")
    refused(lambda: model.walk(x, "hat", "hat"), "walk: 'hat'", "the first attribute too")
    refused(lambda: toy(CLASSES, 4).walk(x, "cat"), "walk", "class labels")
    for k in (torch.nan, float("inf"), "2"):
        refused(lambda k=k: model.walk(x, "hat", k=k), "k: ", "a number of standard deviations")


# --- all of them


def test_precision_and_mode_are_kept() -> None:
    for dtype in (torch.float32, torch.float64):
        model = toy(AttributeLabels(["hat", "beard"])).to(dtype).train()
        x = points(2).numpy()
        for image in (
            model.intervene(x, {"hat": 1}),
            model.swap(x, x, "beard"),
            model.walk(x, "hat", "beard"),
            model.generate(2),
        ):
            assert image.dtype == dtype
            assert not image.requires_grad
        assert model.training


# --- counts given how many a row holds


@pytest.mark.parametrize("name", ["revae", "m2", "mvae", "diva"])
def test_a_row_of_counts_stays_as_large_as_it_was(name: str) -> None:
    """The encoder sees counts relative to the row's size alone, so that ten times a row is ten times the answer."""
    torch.manual_seed(0)
    options: Any = {"likelihood": "poisson", "library_size": True, "latent_dim": 12}
    model: Any = create_model(name, input_shape=5, labels=THREE, **options).eval()
    x, y = torch.poisson(torch.full((40, 5), 9.0)), torch.randint(2, (40, 3))
    model.prepare(x, y)
    x, donor = x[:4], x[4:8]
    verbs: dict[str, Any] = {
        "intervene": lambda x: model.intervene(x, {"hat": 1, "scarf": 0}, num_samples=2),
        "swap": lambda x: model.swap(x, donor, "beard"),
        "reconstruct": model.reconstruct,
    }
    if name == "revae":
        verbs |= {"walk": lambda x: model.walk(x, "hat"), "plane": lambda x: model.walk(x, "hat", "beard", steps=3)}
        torch.testing.assert_close(model.intervene(x, {}), model.reconstruct(x))
    for verb, fn in verbs.items():
        answers = []
        for rows in (x, 10 * x):
            torch.manual_seed(1)
            answers.append(fn(rows))
        torch.testing.assert_close(answers[1], 10 * answers[0], rtol=1e-4, atol=1e-4, msg=verb)


def test_values_may_be_given_in_the_labels_own_words() -> None:
    labels = AttributeLabels(["ill", "sex"], [("no", "yes"), ("female", "male")])
    assert asked(labels, {"ill": "Yes", "sex": "female"}) == {"ill": 1, "sex": 0}
    assert asked(labels, {"ill": True, "sex": False}) == {"ill": 1, "sex": 0}
    other = {"hat": torch.tensor(False), "bow": torch.tensor(True)}
    assert asked(AttributeLabels(["hat", "bow"]), other) == {"hat": 0, "bow": 1}
    assert asked(AttributeLabels(["hat"]), {"hat": "1"}) == {"hat": 1}
    assert asked(AttributeLabels(["left"], [("True", "False")]), {"left": False}) == {"left": 1}  # its own word for 1
    refused(lambda: asked(AttributeLabels(["side"], [("1", "2")]), {"side": True}), "side: True", "1 or 2")
    refused(lambda: asked(labels, {"sex": "mail"}), "sex: 'mail'", "0 or 1, female or male, is needed")
    refused(lambda: asked(AttributeLabels(["hat"]), {"hat": 2}), "hat: 2; 0 or 1 is needed")
