"""Edited models on disk: what was edited comes back, or one line says what is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_ssvae import AugmentedVAE, ClassLabels, Model, add_classes, create_model, elbo, fit, load, push_to_hub, save
from pyro_ssvae.models.identity import settings
from pyro_ssvae.nn.networks import ClassHead

LABELS = ClassLabels(3)


class LearntPrior(AugmentedVAE):
    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        centre = pyro.param("prior_centre", lambda: x.new_full((2,), 6.0))
        scale = pyro.param("prior_scale", lambda: x.new_full((2,), 2.0), constraint=constraints.positive)
        return dist.Normal(centre, scale).to_event(1)


def own(kind: type[AugmentedVAE] = LearntPrior) -> AugmentedVAE:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
    return kind(encoder, nn.Linear(2, 5), LABELS, latent_dim=2, likelihood="normal")


def rows() -> tuple[Tensor, Tensor]:
    return torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3


def bound(model: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(1)
    return elbo(model, x)


@pytest.mark.parametrize("weights", ["model.safetensors", "last-best.safetensors"])
def test_what_pyro_param_keeps_comes_back_in_a_new_process(tmp_path: Path, weights: str) -> None:
    x, y = rows()
    model = own()
    file = tmp_path / "last.safetensors"
    fit(model, x, y, epochs=6, batch_size=30, learning_rate=0.1, progress=False, checkpoint=file)
    trained = {name: p.detach().clone() for name, p in pyro.get_param_store().items() if "$$$" not in name}
    assert set(trained) == {"prior_centre", "prior_scale"}
    assert (trained["prior_centre"] - 6).abs().min() > 0.05
    save(model, tmp_path)
    before = bound(model, x)
    pyro.clear_param_store()  # what a new process has
    other = load(tmp_path, into=own(), weights=weights)
    if weights == "model.safetensors":
        for name, value in trained.items():
            assert torch.allclose(pyro.param(name), value, rtol=1e-6)
        assert torch.allclose(bound(other, x), before, rtol=1e-6)
    else:  # of the best epoch
        assert all((pyro.param(name) - value).abs().max() < 0.3 for name, value in trained.items())
        assert (pyro.param("prior_centre") - 6).abs().min() > 0.05


def test_a_model_without_them_or_with_others_is_refused(tmp_path: Path) -> None:
    model = own()
    bound(model, rows()[0])
    save(model, tmp_path)

    def renamed() -> AugmentedVAE:
        class LearntPrior(AugmentedVAE):
            def p_z(self, x: Tensor) -> dist.TorchDistribution:
                return dist.Normal(pyro.param("middle", x.new_zeros(2)), 1.0).to_event(1)

        return own(LearntPrior)

    pyro.clear_param_store()
    refused(lambda: load(tmp_path, into=renamed()), "model.safetensors", "pyro.param", "middle is missing", "into=")
    refused(lambda: load(tmp_path, into=own(AugmentedVAE)), "saved with the class LearntPrior", "AugmentedVAE")


class Free(nn.Module):
    """A pair of one's own, which does not say the shape of its points."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(5, 2)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            centre = self.centre()
            pyro.sample("x", dist.Normal(centre + z.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)

    def centre(self) -> Tensor:
        return torch.as_tensor(pyro.param("centre", torch.zeros(5)))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.network(x), 1.0).to_event(1))


class Plain(Free):
    def centre(self) -> Tensor:
        return torch.zeros(5)


def test_a_pair_that_cannot_be_run_for_it_is_refused_only_where_something_would_be_lost(tmp_path: Path) -> None:
    x = rows()[0]
    model, plain = Free(), Plain()
    fit(model, x, epochs=1, progress=False)
    words = ("save: 'centre' of pyro.param", "no part of the Free", "nn.Parameter or a PyroParam", "input_shape")
    refused(lambda: save(model, tmp_path / "a"), *words)
    assert not (tmp_path / "a").exists()
    refused(lambda: save(plain, tmp_path / "a"), "'centre'")  # by what is known of it, it may use this one
    fit(plain, x, epochs=1, progress=False)
    assert save(plain, tmp_path / "a")
    model.input_shape = (5,)  # type: ignore[assignment]
    save(model, tmp_path / "b")
    trained = pyro.param("centre").detach().clone()
    assert trained.abs().min() > 0
    pyro.clear_param_store()
    other = Free()
    refused(lambda: load(tmp_path / "b", into=other), "input shape")
    other.input_shape = (5,)  # type: ignore[assignment]
    load(tmp_path / "b", into=other)
    assert torch.equal(pyro.param("centre"), trained)


def test_a_network_that_the_store_alone_holds_is_refused(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)

    class Outside(AugmentedVAE):
        def p_z(self, x: Tensor) -> dist.TorchDistribution:
            return dist.Normal(pyro.module("prior", network)(x.new_ones(2)), 1.0).to_event(1)

    refused(lambda: save(own(Outside), tmp_path), "save: network 'prior' of pyro.module", "make it an attribute")


def made() -> AugmentedVAE:
    torch.manual_seed(0)
    model = create_model("augmented", input_shape=4, labels=LABELS, latent_dim=2, likelihood="normal")
    assert isinstance(model, AugmentedVAE)
    return model.eval()


def far(x: Tensor) -> dist.TorchDistribution:
    return dist.Normal(8 * x.new_ones(2), 1.0).to_event(1)


class Edited(AugmentedVAE):
    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return far(x)


def with_method(model: AugmentedVAE) -> None:
    model.p_z = far  # type: ignore[method-assign]


def with_class(model: AugmentedVAE) -> None:
    model.__class__ = Edited


def with_activations(model: AugmentedVAE) -> None:
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(part, name, nn.Tanh())


def with_forward(model: AugmentedVAE) -> None:
    forward = model.encoder.forward
    model.encoder.forward = lambda x: forward(x).square()


EDITS = [
    (with_method, "p_z is replaced", "replaced methods p_z"),
    (with_class, "its class is Edited", "saved with the class Edited"),
    (with_activations, "not activation.ReLU", "is ReLU, not Tanh as it was saved"),
    (with_forward, "encoder.forward is replaced", "replaced methods encoder.forward"),
]


@pytest.mark.parametrize(("edit", "words", "unlike"), EDITS)
def test_an_edit_of_a_model_of_create_model_is_not_lost(
    tmp_path: Path, edit: Callable[[AugmentedVAE], None], words: str, unlike: str
) -> None:
    model, like, x = made(), made(), torch.randn(4, 4)
    edit(model)
    assert not torch.allclose(bound(model, x), bound(like, x), atol=1e-3), "it is an edit"
    save(model, tmp_path)
    refused(lambda: load(tmp_path), str(tmp_path), "edited", words, "into=it")
    refused(lambda: load(tmp_path, into=like), "model.safetensors", unlike)
    refused(lambda: add_classes(model, ["new"]), "add_classes: an edited model", words)
    refused(lambda: push_to_hub(model, "ada/digits"), "hub: an edited model", words)
    edit(like)
    with torch.no_grad():
        for p in like.parameters():
            p.zero_()
    assert torch.equal(bound(load(tmp_path, into=like), x), bound(model, x))


def test_another_option_is_an_edit_too(tmp_path: Path) -> None:
    from dataclasses import replace

    model = made()
    model.config = replace(model.config, beta=4.0)
    save(model, tmp_path)
    refused(lambda: load(tmp_path), "its option beta is 4.0, not 1.0")


def test_another_number_or_word_of_a_part_is_an_edit_too(tmp_path: Path) -> None:
    """They lie in no file: what was trained without the class head's term came back with it, in silence."""
    model = made()
    model.head_terms.alpha = 0
    save(model, tmp_path)
    refused(lambda: load(tmp_path), "its head_terms.alpha is 0, not", "into=it")
    model = made()
    model.label_inference.how = "sparse"
    save(model, tmp_path)
    refused(lambda: load(tmp_path), "its label_inference.how is sparse, not plug-in")


@pytest.mark.parametrize("name", ["augmented", "revae", "m1+m2", "adgm", "diva"])
def test_what_a_training_sets_is_no_edit(tmp_path: Path, name: str) -> None:
    model = create_model(name, input_shape=5, labels=LABELS, latent_dim=5, likelihood="normal")
    fit(model, *rows(), epochs=1, progress=False, class_weights="balanced", on_epoch=lambda _: save(model, tmp_path))
    load(tmp_path)


@pytest.mark.parametrize("name", ["augmented", "m2", "classifier"])
def test_what_the_rows_of_a_table_set_is_no_edit(tmp_path: Path, name: str) -> None:
    model = create_model(name, input_shape=5, labels=LABELS, columns=["normal"] * 5, likelihood="mixed")
    before = settings(model)
    for head in (part for part in model.modules() if isinstance(part, ClassHead)):
        head.lean_on_input(0.3, 0.67, 30)
    assert settings(model) == before
    save(model, tmp_path)
    load(tmp_path)


def test_a_folder_of_before_loads(tmp_path: Path) -> None:
    """Its signature had the likelihood's name and the shape of a point."""
    model = made()
    save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"] is not None
    config["signature"] = {name: config["signature"][name] for name in ("likelihood", "input_shape")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    x = torch.randn(4, 4)
    loaded: list[Model] = [load(tmp_path), load(tmp_path, into=made())]
    assert all(torch.equal(bound(other, x), bound(model, x)) for other in loaded)
    torch.manual_seed(3)
    before = torch.rand(())
    torch.manual_seed(3)
    save(model, tmp_path / "again")
    assert torch.rand(()) == before, "global random numbers are left alone"
