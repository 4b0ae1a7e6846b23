"""The options of the models: their words, ranges and defaults, and how a wrong one is refused."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import pytest
import torch
from data_makers import refused
from tiny import ATTRIBUTES, CLASSES

from pyro_ssvae import ClassLabels, create_model
from pyro_ssvae.models import MODELS
from pyro_ssvae.models.config import Config, option_names

HEAD = {"label_inference", "label_prior", "alpha", "entropy_weight", "alignment_weight", "label_smoothing"}
ALL = {"latent_dim", "likelihood", "networks", "columns", "categories", "missing", "library_size"}
KL = {"beta", "kl_warmup"}
LOCAL = {"locality", "locality_threshold", "one_sided", "equal_rates"}
OPTIONS = {
    "augmented": KL | HEAD,
    "m2": KL | HEAD,
    "m1+m2": KL | HEAD,
    "adgm": KL | HEAD,
    "diva": {"label_dim"} | KL | HEAD,
    "revae": {"label_dim", "intervention_consistency", "z_c_gradient", "detach", "integral"} | HEAD | LOCAL,
    "vae": KL,
    "m1": {"alpha"} | KL,
    "mvae": {"alpha", "subsets"} | KL,
    "classifier": {"label_prior", "entropy_weight", "alignment_weight"},
}
every_option = pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in MODELS for option in option_names(MODELS[name].Config)]
)


def made(name: str = "augmented", labels: Any = CLASSES, **options: Any) -> Any:
    return create_model(name, input_shape=(6,), labels=labels, **{"latent_dim": 5, **options})


@pytest.mark.parametrize("name", MODELS)
def test_options_of_each_model(name: str) -> None:
    assert set(option_names(MODELS[name].Config)) == ALL | OPTIONS[name]
    model = made(name)
    assert type(model.config) is MODELS[name].Config
    assert model.config.latent_dim == 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.config.latent_dim = 3
    assert model.recipe == {
        "name": name,
        "input_shape": [6],
        "options": dataclasses.asdict(model.config),
    }


@every_option
def test_an_option_out_of_its_range_is_refused_by_name(name: str, option: str) -> None:
    """Of no sensible kind; below 0; infinite; not a number; a bool; None where a value is needed."""
    config = MODELS[name].Config
    wrong: list[Any] = [object(), -1, math.inf, math.nan, True, -0.5]
    if getattr(config(), option) is False:
        wrong.remove(True)
    if getattr(config(), option) is not None:
        wrong.append(None)
    if option in ("latent_dim", "label_dim"):
        wrong += [0, 2.5, "many"]
    if option == "subsets":
        wrong += [1.5]
    if option == "z_c_gradient":
        wrong += [1.5]
    for value in wrong:
        refused(lambda value=value: config(**{option: value}), f"{option}: {value!r}"[:60])


@pytest.mark.parametrize(("name", "option"), [(name, o) for name in MODELS for o in ("alpha", "beta", "gamma")])
def test_another_model_s_option_is_refused_with_those_that_have_it(name: str, option: str) -> None:
    if option in OPTIONS[name]:
        assert getattr(made(name, **{option: 0.5}).config, option) == 0.5
        return
    message = refused(lambda: made(name, **{option: 0.5}), option, repr(name), "no such option")
    for other, options in OPTIONS.items():
        if option in options:
            assert other in message


def test_messages() -> None:
    refused(lambda: made(alpha=-1), "alpha: -1; a number of at least 0 is needed")
    refused(lambda: made(latent_dim=0), "latent_dim: 0; a whole number of at least 1 is needed")
    refused(lambda: made("revae", z_c_gradient=2), "z_c_gradient: 2", "a number from 0 to 1")
    refused(lambda: made("revae", detach="al"), "detach", "'al'", "did you mean 'all'?")
    refused(lambda: made(likelihood="norml"), "likelihood", "norml", "did you mean 'normal'?")
    refused(lambda: made(label_inference="enumerat"), "label_inference", "did you mean 'enumerate'?")
    refused(lambda: made(label_inference=3), "label_inference: 3", "one of enumerate, sparse")
    refused(lambda: made("revae", label_inference="sparse"), "label_inference", "there is no 'sparse'")
    refused(lambda: made("m2", label_infer="sample"), "label_infer", "did you mean 'label_inference'?")
    refused(lambda: made("diva", label_dim=5), "latent_dim: 5", "z_c alone takes 5")
    refused(lambda: create_model("m2", input_shape=(6,), labels=3), "labels: 3", "ClassLabels(3)")
    refused(lambda: create_model("m2", input_shape=(6,), labels=["a", "b"]), "labels", "AttributeLabels")
    assert create_model("m2", input_shape=6, labels=CLASSES).input_shape == (6,)


# --- p(y) as it is given


@pytest.mark.parametrize("name", [name for name in MODELS if OPTIONS[name] >= HEAD])
def test_a_prior_that_is_given_is_kept(name: str) -> None:
    x = torch.randn(8, 6)
    y = torch.tensor([0, 0, 0, 1, 1, 2, -1, -1])
    model = made(name, label_prior=(0.2, 0.3, 0.5))
    for _ in range(2):
        torch.testing.assert_close(model.label_prior.logits.softmax(-1), torch.tensor([0.2, 0.3, 0.5]))
        assert model.generate(3).shape == (3, 6)
        model.prepare(x, y)
    model = made(name, ATTRIBUTES, label_prior=(0.2, 0.3, 0.9))
    y = torch.tensor([[0, 1, 1], [1, 0, 0]] * 4)
    for _ in range(2):
        torch.testing.assert_close(model.label_prior.logits.sigmoid(), torch.tensor([0.2, 0.3, 0.9]))
        model.prepare(x, y)
    model = made(name, label_prior="uniform")
    model.prepare(x, torch.tensor([0, 0, 0, 1, 1, 2, -1, -1]))
    assert torch.equal(model.label_prior.logits, torch.zeros(3))


def test_what_known_labels_leave_of_a_prior_that_is_given() -> None:
    """20 rows at (.2, .3, .5) are 4, 6 and 10 of each class, of which 3, 1 and 0 are known."""
    model = made(label_prior=(0.2, 0.3, 0.5))
    y = torch.tensor([0] * 3 + [1] + [-1] * 16)
    model.prepare(torch.randn(20, 6), y)
    torch.testing.assert_close(model.head_terms.shares.log_shares.exp(), torch.tensor([1.0, 5, 10]) / 16)


def test_priors_that_cannot_be_are_refused() -> None:
    for wrong in ((0.5, 0.5), (0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (1.0, 0.0, 0.0), (0.2, 0.9, -0.1), (math.nan,) * 3):
        refused(lambda wrong=wrong: made(label_prior=wrong), "label_prior", "probabilities")
    refused(lambda: made(label_prior="even"), "label_prior", "'even'", "uniform")
    refused(lambda: made(labels=ATTRIBUTES, label_prior=(0.5, 1.0, 0.5)), "label_prior", "below 1")
    made(labels=ATTRIBUTES, label_prior=(0.5, 0.9, 0.5))
    made(label_prior=(0.3333, 0.3333, 0.3334))


def test_a_plain_config_checks_itself() -> None:
    assert Config(latent_dim=3).latent_dim == 3
    refused(lambda: Config(latent_dim=-3), "latent_dim: -3")
    with pytest.raises(TypeError):
        Config(3)


@pytest.mark.parametrize(("name", "width"), [("augmented", 3), ("vae", 3), ("m1", 3), ("m2", 50), ("revae", 50)])
def test_the_latents_of_a_table_are_no_more_than_its_columns(name: str, width: int) -> None:
    """Of AugVAE and the VAE, where nothing is said; what is said counts, and a run's config.json says it."""
    made = partial(create_model, name, input_shape=3, labels=ClassLabels(2))
    table = {"columns": ("normal", "bernoulli", "poisson")}
    for model, wanted in ((made(**table), width), (made(**table, latent_dim=7), 7), (made(), 50)):
        assert model.config.latent_dim == wanted
        assert model.recipe is not None
        assert model.recipe["options"]["latent_dim"] == wanted
        assert model.encode(torch.ones(2, 3)).mean.shape == (2, wanted)
    sixty = create_model(name, input_shape=60, labels=ClassLabels(2), columns=("normal",) * 60)
    assert sixty.config.latent_dim == 50
