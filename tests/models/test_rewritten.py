"""What was rewritten is what verbs answer for: p(y), the guide's q(y | x), a model's own site y."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from formulas import NO_REGULARIZER
from pair_suite import loss_of
from pyro import poutine
from tiny import ATTRIBUTES, CLASSES, make, points, some_labels, tiny_decoder, tiny_encoder
from torch import Tensor, nn
from torch.nn import functional as F

import pyro_ssvae as ps
from pyro_ssvae.infer.draws import enumerated
from pyro_ssvae.infer.traces import plain
from pyro_ssvae.models.rewritten import overridden_since, probs_of
from pyro_ssvae.nn.likelihood_base import Likelihood

P_Y = torch.tensor([0.9, 0.08, 0.02]).double()
JOINT = torch.tensor([[0.49, 0.01], [0.01, 0.49]]).double()
PAIR = ps.AttributeLabels(["hat", "beard"])


class RareM2(ps.M2):
    def p_y(self) -> dist.TorchDistribution:
        return dist.Categorical(P_Y)


class TwoAlike(dist.TorchDistribution):
    """Two attributes that are mostly alike; it has no mean."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    support = dist.constraints.independent(dist.constraints.boolean, 1)

    def __init__(self, table: Tensor, batch_shape: torch.Size = torch.Size()) -> None:
        self.table = table
        super().__init__(batch_shape, torch.Size([2]), validate_args=False)

    def expand(self, batch_shape: Any, _instance: object = None) -> TwoAlike:
        return TwoAlike(self.table, torch.Size(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        log_p = self.table[value[..., 0].long(), value[..., 1].long()].log()
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        k = dist.Categorical(self.table.flatten()).sample(shape)
        return torch.stack([k // 2, k % 2], -1)


class AlikeAugmented(ps.AugmentedVAE):
    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.table = nn.Parameter(JOINT.log().flatten())

    def p_y(self) -> dist.TorchDistribution:
        return TwoAlike(self.table.softmax(0).reshape(2, 2))


def alike(how: str) -> Any:
    parts = tiny_encoder((5,)), tiny_decoder((5,), 2, 2), PAIR
    return AlikeAugmented(*parts, latent_dim=2, label_inference=how, **NO_REGULARIZER).double()


def test_a_relaxed_label_is_compared_with_p_y_as_it_was_rewritten() -> None:
    """As with the same probabilities as ``label_prior``; not with the prior that is not p(y) any more."""
    x = points(6).double()
    losses = []
    for kind, prior in ((RareM2, "uniform"), (ps.M2, tuple(P_Y.tolist()))):
        torch.manual_seed(0)
        parts = tiny_encoder((5,)), tiny_decoder((5,), 2, 3), CLASSES
        model = kind(*parts, latent_dim=2, label_inference="straight-through", label_prior=prior, **NO_REGULARIZER)
        torch.manual_seed(1)
        losses.append(loss_of(model.double(), model.guide, x, None).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


class LabelOfModel(ps.AugmentedVAE):
    """The model's own p(y | z), another than the method's: classes, or attributes."""

    def log_p(self, z: Tensor) -> Tensor:
        return self.labels.log_probs(torch.cat([3 * z, z[..., :1]], -1)[..., : self.labels.size])

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            p = self.log_p(z)
            attributes = self.labels.event_shape
            p_y = dist.Bernoulli(p[..., 1].exp()).to_event(1) if attributes else dist.Categorical(logits=p)
            y = pyro.sample("y", p_y)
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.target(x))


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES])
def test_a_relaxed_label_is_compared_with_the_model_s_p_y(labels: Any) -> None:
    """KL(q(y | x) || p(y | z)); it was to the method's p(y), which the model has no more."""
    x, y = points(6).double(), some_labels(labels, 6)
    losses = []
    for kind in (LabelOfModel, ps.AugmentedVAE):
        torch.manual_seed(0)
        parts = tiny_encoder((5,)), tiny_decoder((5,), 2, labels.size), labels
        model = kind(*parts, latent_dim=2, label_inference="straight-through", label_prior="uniform", **NO_REGULARIZER)
        torch.manual_seed(1)
        losses.append(loss_of(model.double(), model.guide, x, y).item())
    torch.manual_seed(1)
    trace = poutine.trace(model.guide).get_trace(x, y)
    log_p = LabelOfModel.log_p(model, trace.nodes["z"]["value"])
    log_q = labels.log_probs(model.head(model.encoder(model.likelihood.standardize(x))))
    known = F.one_hot(y.clamp_min(0), log_p.shape[-1])
    q = torch.where((y == -1).unsqueeze(-1), log_q.exp(), known)
    uniform = -math.log(log_p.shape[-1])
    assert losses[0] - losses[1] == pytest.approx(-(q * (log_p - uniform)).sum().item(), rel=1e-6)


@pytest.mark.parametrize("how", ["plug-in", "straight-through"])
def test_attributes_that_depend_on_one_another_score_their_joint_probability(how: str) -> None:
    """All known, the loss and the joint table's gradient are those of the sum; what cannot be scored is refused."""
    x, y = points(4).double(), torch.tensor([[0, 0], [1, 1], [1, 1], [0, 1]])
    found = []
    for word in (how, "enumerate"):
        torch.manual_seed(0)
        model = alike(word)
        torch.manual_seed(1)
        loss = loss_of(model, model.guide, x, y)
        loss.backward()
        found.append((loss.item(), model.table.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    torch.testing.assert_close(found[0][1], found[1][1])
    assert float(found[0][1].abs().max()) > 0.9
    y[0, 0] = -1
    refused(lambda: loss_of(model_of(how), model_of(how).guide, x, y), "TwoAlike", "'enumerate' or 'sample'")


def model_of(how: str) -> Any:
    torch.manual_seed(0)
    return alike(how)


def test_a_missing_attribute_is_generated_given_the_known_one() -> None:
    model, seen = alike("enumerate"), []
    model.decoder.register_forward_hook(lambda module, inputs, out: seen.append(inputs[1]))
    torch.manual_seed(0)
    model.generate(4000, [1, -1])
    c = seen[-1]
    assert bool((c[:, 0] == 1).all())
    assert float(c[:, 1].mean()) == pytest.approx(0.98, abs=4.5 * (0.98 * 0.02 / 4000) ** 0.5)
    model.generate(4000, [-1, -1])
    same = (seen[-1][:, 0] == seen[-1][:, 1]).double()
    assert float(same.mean()) == pytest.approx(0.98, abs=4.5 * (0.98 * 0.02 / 4000) ** 0.5)


class RareInModel(ps.M2):
    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", dist.Categorical(P_Y.to(x)))
            z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.likelihood.target(x))


def test_a_missing_class_is_generated_as_the_model_has_it() -> None:
    model = RareInModel(tiny_encoder((5,)), tiny_decoder((5,), 2, 3), CLASSES, latent_dim=2)
    seen: list[Tensor] = []
    model.decoder.register_forward_hook(lambda module, inputs, out: seen.append(inputs[1]))
    torch.manual_seed(0)
    model.generate(4000, -1)
    assert float(seen[-1][:, 0].mean()) == pytest.approx(0.9, abs=4.5 * (0.09 / 4000) ** 0.5)


class OwnHead(ps.AugmentedVAE):
    """Another q(y | x), of the points themselves; ``noisy``: of z."""

    noisy = False

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.own = nn.Linear(5, self.labels.size)
        self.of_z = nn.Linear(2, self.labels.size)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        with self.plate(x):
            z = pyro.sample("z", self.q_z(self.encoder(x)))
            self.infer_label(self.of_z(z) if self.noisy else self.own(x), y)


@pytest.mark.parametrize("how", ["enumerate", "sparse", "plug-in", "straight-through", "sample"])
@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES])
def test_a_rewritten_guide_predicts(how: str, labels: Any) -> None:
    if how == "sparse" and labels is ATTRIBUTES:
        return
    vae = OwnHead(tiny_encoder((5,)), tiny_decoder((5,), 2, 3), labels, latent_dim=2, label_inference=how).eval()
    x = points(6)
    expected = vae.label_inference.probs(vae.own(x)).detach()
    torch.testing.assert_close(vae.predict_proba(x), expected)
    y = labels.mode(expected)
    assert ps.evaluate(vae, x, y, num_samples=2)["accuracy"] == 1
    least = ps.least_sure(vae, x, n=6).sort_index()
    if labels is CLASSES and how != "sparse":
        entropy = -(expected * expected.log()).sum(-1)
        torch.testing.assert_close(torch.tensor(least["label_entropy"].to_numpy()).float(), entropy)


def test_a_guide_whose_y_depends_on_a_draw_predicts_the_mean_of_its_draws_always_the_same() -> None:
    vae = OwnHead(tiny_encoder((5,)), tiny_decoder((5,), 2, 3), CLASSES, latent_dim=2, label_inference="enumerate")
    vae.noisy, x = True, points(6)
    vae.eval()
    state = torch.random.get_rng_state()
    found = vae.predict_proba(x)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(vae.predict_proba(x), found)
    with torch.no_grad():
        z = vae.q_z(vae.encoder(x)).sample((20_000,))
        probs = vae.of_z(z).softmax(-1)
    margin = 4.5 * probs.std(0) * (1 / 100 + 1 / 20_000) ** 0.5
    assert bool(((found - probs.mean(0)).abs() <= margin).all())


def test_which_method_was_overridden_last() -> None:
    class Both(OwnHead):
        def q_y(self, x: Tensor) -> Tensor:
            return super().q_y(x)

    assert overridden_since(OwnHead.__new__(OwnHead), "guide", "q_y")
    assert not overridden_since(Both.__new__(Both), "guide", "q_y")
    model = make("augmented")
    assert not overridden_since(model, "guide", "q_y")
    model.guide = model.guide
    assert overridden_since(model, "guide", "q_y")
    refused(lambda: probs_of(dist.Normal(0.0, 1.0)), "Normal", "override q_y")


class OwnM1(ps.M1):
    """Another q(z | x), and another q(y | z)."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.own, self.of_z = nn.Linear(5, 2), nn.Linear(2, self.labels.size)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        with self.plate(x):
            z = pyro.sample("z", dist.Normal(self.own(x), 1e-4).to_event(1))
            with pyro.poutine.mask(mask=False):  # type: ignore[call-overload]
                pyro.sample("y", self.labels.clamped(self.of_z(z), y), infer={"is_auxiliary": True})


class OwnMVAE(ps.MVAE):
    """Another q(z | x), which is at the mean of y's expert without x, and another p(y | z)."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.own, self.of_z = nn.Linear(5, 2), nn.Linear(2, self.labels.size)

    def model(self, x: Tensor, y: Tensor | None = None, seen: Tensor | bool = True) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            pyro.sample("y", self.labels.observed(self.of_z(z)), obs=y)
            if seen is not False:
                pyro.sample("x", self.p_x(self.decoder(z, None)), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None, seen: Tensor | bool = True) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        with self.plate(x):
            mean = y.reshape(len(x), -1)[:, :1].expand(-1, 2).to(x) if seen is False else self.own(x)
            pyro.sample("z", dist.Normal(mean, 1e-4).to_event(1))


class OwnClassifier(ps.models.MODELS["classifier"]):  # type: ignore[misc, name-defined]
    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.own = nn.Linear(5, self.labels.size)

    def of_z(self, x: Tensor) -> Tensor:
        return self.own(x)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        with self.plate(x):
            pyro.sample("y", self.labels.observed(self.own(x)), obs=y)


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES])
@pytest.mark.parametrize("kind", [OwnM1, OwnMVAE, OwnClassifier])
def test_a_rewritten_program_predicts_where_the_model_s_y_is_observed(kind: Any, labels: Any) -> None:
    """By the networks that were trained, not by those that the class had."""
    if kind is OwnClassifier:
        vae = kind(tiny_encoder((5,)), labels, input_shape=(5,)).eval()
    else:
        vae = kind(tiny_encoder((5,)), tiny_decoder((5,), 2, 0), labels, latent_dim=2).eval()
    x = points(6)
    expected = labels.probs(vae.of_z(x if kind is OwnClassifier else vae.own(x))).detach()
    torch.testing.assert_close(vae.predict_proba(x), expected, atol=1e-3, rtol=0)


def test_a_rewritten_guide_of_attributes_in_a_plate_predicts() -> None:
    class Same(ps.ReVAE):
        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            super().guide(x, y)

    vae = Same(tiny_encoder((5,)), tiny_decoder((5,), 4, 0), ATTRIBUTES, latent_dim=4).double().eval()
    with torch.no_grad():
        vae.q_z.bias[4:] = -20  # as good as a point mass
    x = points(6).double()
    torch.testing.assert_close(vae.predict_proba(x), vae.q_y(x).detach(), atol=0.01, rtol=0)
    y = vae.predict(x)
    assert ps.evaluate(vae, x, y, num_samples=2)["accuracy"] == 1


def test_points_of_a_label_come_from_a_rewritten_guide() -> None:
    vae = OwnMVAE(tiny_encoder((5,)), tiny_decoder((5,), 2, 0), CLASSES, latent_dim=2).eval()
    y = torch.tensor([0, 2, 1])
    expected = vae.decode(y[:, None].expand(-1, 2).float())
    torch.testing.assert_close(vae.generate(3, y), expected, atol=1e-3, rtol=0)

    m1 = OwnM1(tiny_encoder((5,)), tiny_decoder((5,), 2, 0), CLASSES, latent_dim=2).eval()
    with torch.no_grad():
        m1.of_z.weight.copy_(30 * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
        m1.of_z.bias.copy_(torch.tensor([0.0, 0.0, -900.0]))
    seen: list[Tensor] = []
    m1.decoder.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    m1.generate(200, 1)
    assert float((seen[-1][:, 0] < 0).float().mean()) > 0.95
    of_attributes = OwnM1(tiny_encoder((5,)), tiny_decoder((5,), 2, 0), ATTRIBUTES, latent_dim=2).eval()
    z = torch.randn(4, 2)
    torch.testing.assert_close(of_attributes.logits_given(z), of_attributes.of_z(z))


class LabelOfZ(ps.AugmentedVAE):
    """p(z) p(y | z) p(x | z, y)."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            y = pyro.sample("y", dist.Categorical(logits=9 * torch.cat([z, -z[..., :1]], -1)))
            pyro.sample("x", self.p_x_given(z, y, x), obs=x)


def test_points_of_a_label_that_depends_on_z_are_refused() -> None:
    vae = LabelOfZ(tiny_encoder((5,)), tiny_decoder((5,), 2, 3), CLASSES, latent_dim=2, label_inference="enumerate")
    assert vae.generate(4).shape == (4, 5)
    refused(lambda: vae.generate(4, 1), "generate: the model's y depends", "y=None")
    refused(lambda: vae.generate(2, [0, -1]), "generate: the model's y depends")


def test_a_missing_label_is_decoded_as_the_model_has_it() -> None:
    model = RareInModel(tiny_encoder((5,)), tiny_decoder((5,), 2, 3), CLASSES, latent_dim=2)
    seen: list[Tensor] = []
    model.decoder.register_forward_hook(lambda module, inputs, out: seen.append(inputs[1]))
    model.decode(torch.zeros(4, 2))
    torch.testing.assert_close(seen[-1], P_Y.float().expand(4, 3))
    pair = alike("sample")
    assert pair.decode(torch.zeros(3, 2), torch.tensor([0, 1])).shape == (3, 5)
    refused(lambda: pair.decode(torch.zeros(3, 2)), "decode: p(y) is a TwoAlike", "all labels are needed")


class Gumbels(Likelihood):
    def forward(self, out: Tensor) -> dist.TorchDistribution:
        return dist.Gumbel(out, 1.0).to_event(1)


class Whole(Likelihood):
    def forward(self, out: Tensor) -> dist.TorchDistribution:
        return dist.Poisson(out.exp()).to_event(1)


@pytest.mark.parametrize("kind", [Gumbels, Whole])
def test_a_likelihood_of_which_only_the_distribution_is_stated_takes_gaps(kind: Any) -> None:
    """The bound is that of the entries that are there, its gradient finite."""
    vae = ps.VAE(tiny_encoder((5,)), tiny_decoder((5,), 2, 0), latent_dim=2, likelihood=kind((5,))).double().eval()
    x = torch.randint(0, 4, (6, 5)).double()
    x[0, 1] = torch.nan
    z = torch.zeros(6, 2).double()
    fn = vae.p_x(vae.decoder(z))
    entries = kind((5,))(vae.decoder(z)).base_dist.log_prob(x.nan_to_num(1.0))
    torch.testing.assert_close(fn.log_prob(x), torch.where(x.isnan(), 0.0, entries).sum(-1))
    loss_of(vae, vae.guide, x, None).backward()
    assert all(bool(p.grad.isfinite().all()) for p in vae.parameters() if p.grad is not None)
    assert bool(ps.elbo(vae, x).isfinite().all())


def test_a_likelihood_that_is_none_is_refused() -> None:
    refused(lambda: make("vae", likelihood=nn.Identity()), "likelihood: a Identity", "fit, standardize and target")


class TakesLabels(ps.AugmentedVAE):
    """x hears y by one_hot, which takes whole numbers alone."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            c = F.one_hot(y, self.labels.size).to(x)
            pyro.sample("x", self.p_x(self.decoder(z, c.expand(*y.shape[:-1], len(x), -1))), obs=x)


def test_a_model_that_takes_labels_alone_reconstructs_by_the_most_probable() -> None:
    model = TakesLabels(
        tiny_encoder((5,)), tiny_decoder((5,), 2, 3), CLASSES, latent_dim=2, label_inference="enumerate"
    )
    x = points(6)
    y = torch.tensor([0, 1, 2, -1, -1, -1])
    model.eval()
    expected = model.decode(model.encode(x).mean, torch.where(y < 0, model.predict(x), y))
    torch.testing.assert_close(model.reconstruct(x, y), expected)
    assert ps.evaluate(model, x, y, num_samples=2)["reconstruction_error"] > 0
    refused(lambda: model.decode(torch.zeros(3, 2)), "decode: the model as it was rewritten takes labels", "all labels")


class Embedded(ps.AugmentedVAE):
    """x hears y by an embedding."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.of_y = nn.Embedding(self.labels.size, 5)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            out = self.decoder(z, self.class_input(y, x)) + self.of_y(y.long())
            pyro.sample("x", self.p_x(out), obs=x)


@pytest.mark.parametrize("kind", [TakesLabels, Embedded])
def test_relaxed_labels_that_x_does_not_take_are_refused_before_training(kind: Any) -> None:
    x, y = points(12), torch.arange(12) % 4 - 1

    def fit(how: str) -> None:
        vae = kind(tiny_encoder((5,)), tiny_decoder((5,), 2, 3), CLASSES, latent_dim=2, label_inference=how)
        ps.fit(vae, x, y, epochs=1, progress=False)

    for how in ("plug-in", "straight-through"):
        refused(lambda how=how: fit(how), "label_inference: ", "relaxed labels", "class_input", "'enumerate'")
    fit("enumerate")


class HearsA(ps.ADGM):
    """x hears a, which the guide has of its own."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            a = pyro.sample("a", self.p_a(z, self.class_input(y, x)))
            pyro.sample("x", self.p_x(self.decoder(z, self.class_input(y, x)) + a[..., :1]), obs=x)


class FurtherLatent(ps.M2):
    """A further latent w moves x by itself; the guide reads it off x."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            w = pyro.sample("w", dist.Normal(x.new_zeros(1), 9.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z, self.class_input(y, x)) + w, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        super().guide(x, y)
        with pyro.plate("further", len(x)):
            pyro.sample("w", dist.Normal(self.inputs(x)[:, :1], 1.0).to_event(1))


class FurtherOfDIVA(ps.models.MODELS["diva"]):  # type: ignore[misc, name-defined]
    """The same of a DIVA."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            z_c = pyro.sample("z_c", self.p_z_c(self.class_input(y, x)))
            z_s = pyro.sample("z_s", self.p_z_s(x))
            w = pyro.sample("w", dist.Normal(x.new_zeros(1), 9.0).to_event(1))
            out = self.decoder(torch.cat([z_c, z_s], -1), None) + w
            pyro.sample("x", dist.Normal(out, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        super().guide(x, y)
        with pyro.plate("further", len(x)):
            pyro.sample("w", dist.Normal(self.inputs(x)[:, :1], 1.0).to_event(1))


def test_an_intervention_keeps_what_a_further_latent_holds_of_the_point() -> None:
    """It was drawn from its prior, so that the point was lost."""
    model = FurtherLatent(tiny_encoder((5,)), tiny_decoder((5,), 2, 3), CLASSES, latent_dim=2).eval()
    x = points(6)
    z = model.encode(x).mean
    for found, y in ((model.intervene(x, 2), torch.tensor([2])), (model.swap(x, x), model.predict(x))):
        c = F.one_hot(y, 3).float().expand(6, -1)
        torch.testing.assert_close(found, model.decoder(z, c).detach() + x[:, :1])
    adgm = HearsA(tiny_encoder((5,)), tiny_decoder((5,), 2, 3), CLASSES, latent_dim=2, likelihood="normal").eval()
    z, a = adgm.encode(x).mean, adgm.q_a(adgm.features(x)).mean
    expected = adgm.decoder(z, F.one_hot(torch.tensor(1), 3).float().expand(6, -1)) + a[:, :1]
    torch.testing.assert_close(adgm.decode(z, 1, like=x), expected.detach())
    diva = FurtherOfDIVA(tiny_encoder((5,)), tiny_decoder((5,), 3, 0), CLASSES, latent_dim=3, label_dim=1).eval()
    torch.testing.assert_close(diva.swap(x, x), diva.decoder(diva.encode(x).mean, None).detach() + x[:, :1])


class HeadOfItsOwn(OwnM1):
    """q_y says what the rewritten guide does."""

    def q_y(self, x: Tensor) -> Tensor:
        return self.labels.probs(self.of_z(self.own(x)))

    guide = OwnM1.guide


class AboveZ(ps.M1):
    """u is above z, and x is u."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            u = pyro.sample("u", dist.Normal(x.new_zeros(1), 3.0).to_event(1))
            pyro.sample("z", dist.Normal(u.expand(-1, 2), 0.01).to_event(1))
            pyro.sample("x", dist.Normal(u.expand(-1, 5), 1.0).to_event(1), obs=x)


class InParts(ps.M1):
    """x is the mean of three parts in a plate of their own, and u, which all rows share, beside it."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        u = pyro.sample("u", dist.Normal(x.new_zeros(()), 1.0))
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            with pyro.plate("parts", 3, dim=-2):
                v = pyro.sample("v", dist.Normal(z[:, 0], 0.01))
            mean = torch.stack([v.mean(0), z[:, 0], u.expand(len(x)), *[z[:, 1]] * 2], -1)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


def test_points_of_a_label_of_an_m1_take_whole_rows_of_every_latent() -> None:
    model = InParts(tiny_encoder((5,)), tiny_decoder((5,), 2, 0), CLASSES, latent_dim=2).eval()
    x = model.generate(200, 1)
    assert ((x[:, 0] - x[:, 1]).abs() < 5 * 0.01 / 3**0.5).all()
    assert (x[:, 2] == x[0, 2]).all()


def test_points_of_a_label_of_an_m1_follow_its_edits() -> None:
    """A guide and q_y that were rewritten together; latents above z, which are drawn with it."""
    torch.manual_seed(0)
    own = HeadOfItsOwn(tiny_encoder((5,)), tiny_decoder((5,), 2, 0), CLASSES, latent_dim=2).eval()
    above = AboveZ(tiny_encoder((5,)), tiny_decoder((5,), 2, 0), CLASSES, latent_dim=2).eval()
    above.head = nn.Linear(2, 3)  # type: ignore[assignment]
    for head in (own.of_z, above.head):
        with torch.no_grad():
            head.weight.copy_(30 * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
            head.bias.copy_(torch.tensor([0.0, 0.0, -900.0]))  # type: ignore[operator]
    seen: list[Tensor] = []
    own.decoder.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    own.generate(200, 1)
    assert float((seen[-1][:, 0] < 0).float().mean()) > 0.95
    assert float((above.generate(200, 1) < 0).float().mean()) > 0.95


class HeavyTails(ps.M2):
    """p_x says nothing of gaps."""

    def p_x(self, out: Tensor) -> dist.TorchDistribution:
        return dist.StudentT(5.0, out, 0.5).to_event(1)


class OwnX(ps.ReVAE):
    """Nor does a model that is written anew."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        data = self.plate(x)
        with data:
            z_s = pyro.sample("z_s", self.p_z_s(x))
        with self.label_plates(data):
            z_c = pyro.sample("z_c", self.p_z_c(pyro.sample("y", self.p_y())))
        with data:
            pyro.sample("x", dist.Normal(self.decoder(self.join(z_c, z_s), None), 0.5).to_event(1), obs=x)


@pytest.mark.parametrize("kind", [HeavyTails, OwnX])
def test_an_edited_likelihood_takes_gaps(kind: Any) -> None:
    """The bounds are those of the entries that are there, and the others are filled."""
    torch.manual_seed(0)
    size = 3 if kind is HeavyTails else 0
    options = {"latent_dim": 2} if size else {"latent_dim": 4, "label_dim": 1}
    vae = kind(
        tiny_encoder((5,)), tiny_decoder((5,), options["latent_dim"], size), CLASSES, likelihood="normal", **options
    )
    x, y = points(12), torch.arange(12) % 3
    gaps = x.clone()
    gaps[::2, 1] = torch.nan
    assert np.isfinite(ps.fit(vae, gaps, y, epochs=2, batch_size=6, progress=False)["loss"]).all()
    pyro.set_rng_seed(0)
    p, _ = next(iter(enumerated(vae.double(), gaps[:1].double(), None)))
    own = plain(p.nodes["x"]["fn"]).log_prob(gaps[:1].double().nan_to_num())
    there = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(p.nodes["x"]["unscaled_log_prob"], (own * there).sum(-1))
    filled = ps.impute(vae.float(), gaps, num_samples=5)
    assert bool(filled.isfinite().all())
    assert torch.equal(filled[1::2], x[1::2])


class ZHearsY(ps.AugmentedVAE):
    """A guide in which z depends on the label."""

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        h = self.encoder(self.likelihood.standardize(x))
        with self.plate(x):
            value = self.infer_label(self.head(h), self.targets(y, x))
            pyro.sample("z", dist.Normal(self.loc(h) + 3 * self.class_input(value, x)[..., :2], 1.0).to_event(1))


@pytest.mark.parametrize("how", ["enumerate", "plug-in"])
def test_a_rewritten_guide_whose_z_hears_the_label_encodes_by_one_value(how: Any) -> None:
    model = make("augmented", label_inference=how).eval()
    model.__class__ = ZHearsY
    x = points(6, (5,))
    label = model.predict(x) if how == "enumerate" else model.predict_proba(x)
    means = model.loc(model.features(x)) + 3 * model.class_input(label, x)[:, :2]
    for _ in range(3):  # a drawn label made another mean each time
        torch.testing.assert_close(model.encode(x).mean, means)
