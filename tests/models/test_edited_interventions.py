"""Interventions draw z_c from the model as it now is, and take labels in any form that a person has them in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from pyro.distributions import transforms as T
from revae_toys import CLASSES, TWO, points, toy
from tiny import make
from torch import Tensor, nn
from torch.distributions import kl_divergence as kl

from pyro_ssvae import DIVA, MVAE, ClassLabels, ReVAE
from pyro_ssvae.distributions.clamped import clamped_logits
from pyro_ssvae.infer.ccvae_bound import CCVAEBound
from pyro_ssvae.infer.intervention_consistency import intervention_consistency
from pyro_ssvae.labels import Labels
from pyro_ssvae.models.interventions import whole

EVERY_LABELS = pytest.mark.parametrize("labels", [TWO, CLASSES], ids=["attributes", "classes"])


class Mixture(ReVAE):
    """p(z_c | y): at 8 below and 8 above its mean."""

    def p_z_c(self, y: Tensor) -> dist.TorchDistribution:
        base = super().p_z_c(y).base_dist
        loc = torch.stack([base.loc - 8, base.loc + 8], -2)
        weights = dist.Categorical(loc.new_tensor([0.2, 0.8]).expand(loc.shape[:-1]))
        return dist.MixtureSameFamily(weights, dist.Normal(loc, 0.1).to_event(1))


class Flow(ReVAE):
    """p(z_c | y) = exp of the Normal: it knows no mean of its own here."""

    def p_z_c(self, y: Tensor) -> dist.TorchDistribution:
        return dist.TransformedDistribution(super().p_z_c(y), [T.AffineTransform(0.0, 0.1), T.ExpTransform()])


class Rewritten(ReVAE):
    """The model's own p(z_c | y, z_s) = N(40 + 10 y + z_s, .1²), another than the method's."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        data = self.plate(x)
        with data:
            z_s = pyro.sample("z_s", self.p_z_s(x))
        with self.label_plates(data):
            y = pyro.sample("y", self.p_y())
            mean = (40 + 10 * y.unsqueeze(-1) + z_s[:, :1]).expand(*y.shape[:-1], len(x), self.label_dim)
            z_c = pyro.sample("z_c", dist.Normal(mean.to(x), 0.1).to_event(1))
        with data:
            out = self.decoder(self.join(z_c, z_s), None)
            return pyro.sample("x", self.p_x(out), obs=x)


class RewrittenDIVA(DIVA):
    """The model's own p(z_c | y) is at 40 + 10 y."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            c = self.class_input(y, x) @ torch.arange(self.labels.size).to(x)
            z_c = pyro.sample("z_c", dist.Normal(40 + 10 * c.unsqueeze(-1).expand(-1, self.label_dim), 0.1).to_event(1))
            z_s = pyro.sample("z_s", self.p_z_s(x))
            return pyro.sample("x", self.p_x(self.decoder(torch.cat([z_c, z_s], -1), None)), obs=x)


def edited(kind: type[ReVAE], labels: Labels) -> ReVAE:
    assert labels in (TWO, CLASSES)
    model = toy(labels, 4, label_dim=1)  # type: ignore[arg-type]
    model.__class__ = kind
    return model


def drawn_z(model: Any, intervene: Callable[[], Tensor]) -> Tensor:
    """What the decoder gets."""
    seen: list[Tensor] = []
    hook = model.decoder.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    intervene()
    hook.remove()
    return seen[-1]


def value_of(labels: Labels) -> Any:
    return {"beard": 1} if labels is TWO else 1


def part(model: ReVAE) -> slice:
    return model.place("beard" if model.multilabel else "class")


@EVERY_LABELS
def test_a_mixture_is_drawn_from_not_its_moments(labels: Labels) -> None:
    """All draws lie at a part, a fifth of them at the lower one."""
    model, n = edited(Mixture, labels), 3000
    x = points(1).expand(n, -1)
    z = drawn_z(model, lambda: model.intervene(x, value_of(labels)))
    mean = model.prior_loc[1, 1, 0] if labels is TWO else model.prior_loc[1, 0]
    off = (z[:, part(model)] - mean.detach()).squeeze(-1)
    assert ((off.abs() - 8).abs() < 0.6).all()
    assert float((off < 0).double().mean()) == pytest.approx(0.2, abs=4.5 * 0.4 / n**0.5)
    kept = torch.ones(4, dtype=torch.bool)
    kept[part(model)] = False
    assert torch.equal(z[:, kept], model.encode(x).mean[:, kept])


@EVERY_LABELS
def test_a_prior_without_a_mean_is_drawn_from_and_walked_along(labels: Labels) -> None:
    model, x = edited(Flow, labels), points(500)
    z = drawn_z(model, lambda: model.intervene(x, value_of(labels)))
    assert bool((z[:, part(model)] > 0).all())
    loc, scale = model.conditional("beard" if labels is TWO else "class", 1)
    assert bool((loc > 0).all())
    assert bool((scale > 0).all())
    if labels is TWO:
        assert model.walk(x[:2], "beard", steps=3).shape == (2, 3, 3)


@EVERY_LABELS
def test_a_rewritten_model_is_followed(labels: Labels) -> None:
    """z_c hears y and z_s as the model has it; p_z_c says something else."""
    model, x = edited(Rewritten, labels), points(6)
    z = model.encode(x).mean
    for value in (0, 1):
        new = drawn_z(model, lambda value=value: model.intervene(x, {"beard": value} if labels is TWO else value))
        wanted = 40 + 10 * value + z[:, model.z_c_dim]
        assert ((new[:, part(model)].squeeze(-1) - wanted).abs() < 0.6).all()
        loc, scale = model.conditional("beard" if labels is TWO else "class", value)
        assert abs(float(loc) - 40 - 10 * value) < 4.5
        assert float(scale) == pytest.approx(0.1)
    several = model.intervene(x, value_of(labels), num_samples=2)
    assert several.shape == (2, 6, 3)
    assert not torch.equal(several[0], several[1])


@EVERY_LABELS
def test_training_intervenes_by_a_rewritten_model(labels: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consistency draws z_c as the model does."""
    monkeypatch.setattr("pyro_ssvae.infer.intervention_consistency.FLIPPED", 1.0)
    model, x = edited(Rewritten, labels).train(), points(40)
    y = torch.arange(80).reshape(40, 2) // 2 % 2 if labels is TWO else torch.arange(40) % 3
    q_c, q_s = model.q_z_given(x)
    z_c, z_s = q_c.mean.detach(), q_s.mean.detach()
    y_rows = y.t() if labels is TWO else y
    z = drawn_z(model, lambda: intervention_consistency(model, z_c, z_s, y_rows))
    new, now = (part.squeeze(-1) for part in (model.parts(z)["z_c"], z_c))
    levels = (new - z_s[:, 0] - 40) / 10
    if labels is TWO:
        assert torch.equal(levels.round().long(), 1 - y_rows)
    else:  # a class that is drawn again stays as it was
        moved = new != now
        assert 15 < int(moved.sum()) < 38
        assert torch.isin(levels[moved].round(), torch.arange(3.0).double()).all()
        assert (levels[moved].round() != y[moved]).all()


@EVERY_LABELS
def test_a_local_guide_erases_what_a_rewritten_model_changes(labels: Labels) -> None:
    model = toy(labels, 4, label_dim=1, locality=1.0)  # type: ignore[arg-type]
    model.__class__ = Rewritten
    x, y = points(40), torch.full((40, *labels.event_shape), 1)
    y[::2] = 0
    model.train()
    seen: list[Tensor] = []
    model.decoder.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    with pyro.poutine.trace() as outside:
        model.guide(x, y)
    assert set(outside.trace.nodes) >= {"y", "z_c", "z_s"}
    assert "x" not in outside.trace.nodes  # of the model's run nothing is seen
    before, after = next(z for z in seen if len(z) == 2 * len(x)).chunk(2)  # others are probes
    z_s = before[:, model.z_c_dim]
    changed = (before != after)[:, : model.z_c_dim]
    assert changed.any(1).all()
    levels = ((after[:, : model.z_c_dim] - z_s.unsqueeze(1) - 40) / 10).round()
    row = torch.cdist(before, model.encode(x).mean).argmin(1)  # rows are taken in any order
    own = y[row] if labels is TWO else y[row].unsqueeze(1)
    assert (levels[changed] != own[changed]).all()
    assert torch.isin(levels[changed], torch.arange(float(labels.size if labels is CLASSES else 2)).double()).all()


class OtherNetworks(ReVAE):
    """x comes from a network of its own and hears y; z_c and z_s from another encoder."""

    def make(self, labels: Labels) -> OtherNetworks:
        self.own, self.reader = (nn.Linear(n, m).double() for n, m in ((4, 3), (3, 4)))
        self.hears = nn.Parameter(torch.randn(labels.size, 3).double())
        return self

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        data = self.plate(x)
        with data:
            z_s = pyro.sample("z_s", self.p_z_s(x))
        with self.label_plates(data):
            y = pyro.sample("y", self.p_y())
            z_c = pyro.sample("z_c", self.p_z_c(y))
        with data:
            mean = self.own(self.join(z_c, z_s)) + (y.t().to(x) @ self.hears if self.multilabel else self.hears[y])
            return pyro.sample("x", dist.Normal(mean, 0.5).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        loc, data = self.reader(x), self.plate(x)
        with data:
            pyro.sample("z_s", dist.Normal(loc[:, self.z_c_dim :], 0.3).to_event(1))
        with self.label_plates(data):
            z_c = pyro.sample("z_c", dist.Normal(self.split(loc[:, : self.z_c_dim]), 0.3).to_event(1))
            q_y = dist.Categorical(logits=clamped_logits(self.log_q_y(z_c), y))
            pyro.sample("y", q_y, infer={"enumerate": "parallel"})


@EVERY_LABELS
def test_training_shows_and_reads_interventions_as_the_pair_was_rewritten(
    labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient reaches what x is made of, and not the decoder and the encoder that the pair has no more."""
    monkeypatch.setattr("pyro_ssvae.infer.intervention_consistency.FLIPPED", 0.0)
    monkeypatch.setattr("torch.randint_like", lambda now, _: now)
    model = edited(OtherNetworks, labels).make(labels)  # type: ignore[attr-defined]
    y = torch.arange(12).reshape(6, 2) % 2 if labels is TWO else torch.arange(6) % 3
    z = torch.randn(6, 4).double()
    parts = model.parts(z)
    found = intervention_consistency(model, parts["z_c"], parts["z_s"], model.as_site(y))
    shown = model.own(z) + (y.double() @ model.hears if labels is TWO else model.hears[y])
    z_c = dist.Normal(model.split(model.reader(shown)[:, : model.z_c_dim]), 0.3).to_event(1)
    torch.testing.assert_close(found, model.sum_known(model.as_site(y), model.log_q_y_given_x(z_c)))
    found.sum().backward()
    reached = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"own", "hears"}


@EVERY_LABELS
def test_a_local_guide_sees_regions_of_a_rewritten_model(labels: Labels) -> None:
    model = toy(labels, 4, label_dim=1, locality=1.0)  # type: ignore[arg-type]
    model.__class__ = OtherNetworks
    model.make(labels)  # type: ignore[attr-defined]
    z = torch.randn(3, 4).double()
    y = model.read_off(model.parts(z))
    shown = model.own(z) + (y.double() @ model.hears if labels is TWO else model.hears[y])
    torch.testing.assert_close(model.train().pictures(z), shown)


def test_a_walk_is_from_each_point_on() -> None:
    """Of p(z_c^i | y, z_s) = N(40 + 10 y_i + z_s, .1²) at the point's z_s; z_s was drawn anew at each walk."""
    model, x = edited(Rewritten, TWO), points(5)
    z = drawn_z(model, lambda: model.walk(x, "beard", steps=2, k=2.0)).reshape(5, 2, 4)
    own = model.encode(x).mean
    ends = own[:, 2:3] + torch.tensor([40 - 0.2, 50 + 0.2]).double()
    torch.testing.assert_close(z[:, :, 1], ends)
    assert torch.equal(z[:, :, [0, 2, 3]], own[:, None, [0, 2, 3]].expand(-1, 2, -1))
    two = drawn_z(model, lambda: model.walk(x, "beard", "hat", steps=2, k=2.0)).reshape(5, 2, 2, 4)
    torch.testing.assert_close(two[..., 1], ends.unsqueeze(1).expand(-1, 2, -1))
    torch.testing.assert_close(two[..., 0], ends.unsqueeze(2).expand(-1, -1, 2))


def test_equal_rates_are_against_a_rewritten_model() -> None:
    """R takes z_c's nats from N(40 + 10 y + z_s, .1²)."""
    model, x = edited(Rewritten, TWO).train(), points(12)
    model.one_sided = [1]
    y = torch.arange(24).reshape(12, 2) // 3 % 2
    losses = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        losses.append(CCVAEBound(model, equal_rates=weight).differentiable_loss(model.model, model.guide, x, y))
    torch.manual_seed(0)
    z_s = pyro.poutine.trace(model.guide).get_trace(x, y).nodes["z_s"]["value"]
    q_c, q_s = model.q_z_given(x)
    one = dist.Normal(q_c.base_dist.loc[0, :, 0], q_c.base_dist.scale[0, :, 0])
    nats = kl(one, dist.Normal(40 + 10 * y[:, 0] + z_s[:, 0], 0.1)).unsqueeze(1)
    rates = torch.cat([nats, kl(q_s.base_dist, dist.Normal(0.0, 1.0))], 1)
    gap = rates[y[:, 1] == 1].mean(0) - rates[y[:, 1] == 0].mean(0)
    torch.testing.assert_close(losses[1] - losses[0], 12 * gap.abs().sum(), rtol=1e-6, atol=1e-6)


def test_a_rewritten_diva_is_followed() -> None:
    model = make("diva", CLASSES, (5,), latent_dim=3, label_dim=1, likelihood="normal").double().eval()
    model.__class__ = RewrittenDIVA
    x = torch.randn(6, 5, dtype=torch.float64)
    z = drawn_z(model, lambda: model.intervene(x, 2))
    assert ((z[:, 0] - 60).abs() < 0.6).all()
    assert torch.equal(z[:, 1:], model.encode(x).mean[:, 1:])


def test_interventions_decode_once_a_draw() -> None:
    model, x, calls = edited(Mixture, TWO), points(3), [0]
    model.decoder.register_forward_hook(lambda module, args, out: calls.__setitem__(0, calls[0] + 1))
    model.intervene(x, {"hat": 1, "beard": 0}, num_samples=3)
    assert calls == [3]


def test_a_model_without_z_c_is_refused() -> None:
    class Without(ReVAE):
        def model(self, x: Tensor, y: Tensor | None = None) -> None:  # type: ignore[override]
            with self.plate(self.begin(x)):
                pyro.sample("z_s", self.p_z_s(x))

    refused(lambda: edited(Without, TWO).intervene(points(2), {"hat": 1}), "no site 'z_c'")


# --- labels and names as people have them


FORMS = [1, np.int64(1), np.uint8(1), torch.tensor(1), torch.tensor(1, dtype=torch.uint8), np.array(1)]


@pytest.mark.parametrize("value", FORMS, ids=repr)
def test_a_class_or_value_is_any_whole_number(value: Any) -> None:
    assert whole(value) == 1
    x = points(3)
    for model, asked in ((edited(Mixture, CLASSES), value), (edited(Mixture, TWO), {"hat": value})):
        pyro.set_rng_seed(0)
        found = model.intervene(x, asked)
        pyro.set_rng_seed(0)
        torch.testing.assert_close(found, model.intervene(x, {"hat": 1} if isinstance(asked, dict) else 1))
    for name in ("m2", "diva", "mvae"):
        other = make(name, ClassLabels(3), (5,), latent_dim=4).eval()
        assert other.intervene(torch.zeros(2, 5), value).shape == (2, 5)


WRONG = [True, np.bool_(True), torch.tensor(True), 0.5, None, np.array([0, 1]), torch.tensor([[1]]), [1], "zzz"]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_what_is_no_class_and_no_value_is_refused_in_a_line(value: Any) -> None:
    x = points(3)
    refused(lambda: edited(Mixture, CLASSES).intervene(x, value), "zzz" if isinstance(value, str) else "cat, dog, owl")
    if str(value) not in ("True", "tensor(True)"):  # of an attribute it is 1
        refused(lambda: edited(Mixture, TWO).intervene(x, {"hat": value}), "hat", "0 or 1")


@pytest.mark.parametrize("name", ["revae", "m2", "diva", "mvae"])
def test_draws_and_parts_that_cannot_be_are_refused(name: str) -> None:
    x = torch.zeros(2, 5)
    model: Any = make(name, CLASSES, (5,), latent_dim=6).eval()
    for n in (0, -1, 1.5, True, "2"):
        refused(lambda n=n: model.intervene(x, 1, num_samples=n), "num_samples", "at least 1")
    assert model.intervene(x, 1, num_samples=np.int64(2)).shape == (2, 2, 5)
    for wrong in ("nonsense", "owl", 0, None, ["class"]):
        refused(lambda wrong=wrong: model.swap(x, x, wrong), "'class'")
    assert model.swap(x, x).shape == x.shape
    attributes: Any = make(name, TWO, (5,), latent_dim=6).eval()
    for wrong in (0, None, ["hat"]):
        refused(lambda wrong=wrong: attributes.swap(x, x, wrong), "attribute", "hat, beard")
    refused(lambda: attributes.swap(x, x, "class"), "class")


def test_walks_of_no_steps_are_refused() -> None:
    model, x = edited(Mixture, TWO), points(2)
    for steps in (0, -1, 2.5, True):
        refused(lambda steps=steps: model.walk(x, "hat", steps=steps), "steps", "at least 1")
    assert model.walk(x, "hat", steps=1).shape == (2, 1, 3)


class TwoPlaces(MVAE):
    """q(z | x, y): at -3 or 3."""

    def q_z(self, x: Tensor, y: Tensor, seen: Any = True) -> dist.TorchDistribution:
        loc = torch.tensor([-3.0, 3.0]).reshape(2, 1).expand(len(x), 2, self.config.dim)
        return dist.MixtureSameFamily(dist.Categorical(torch.ones(len(x), 2)), dist.Normal(loc, 0.1).to_event(1))


def test_an_mvae_s_interventions_are_draws_of_its_guide() -> None:
    """Of two places they were draws of the Normal that has their mean, 0."""
    torch.manual_seed(0)
    model = TwoPlaces(nn.Linear(3, 4), nn.Linear(1, 3), CLASSES, latent_dim=1, likelihood="normal").eval()
    x = torch.randn(2, 3)
    places = model.decode(torch.tensor([[-3.0], [3.0]]))
    found = model.intervene(x, 1, num_samples=100)
    assert found.shape == (100, 2, 3)
    off = torch.cdist(found.flatten(0, 1), places).amin(1) / (places[0] - places[1]).norm()
    assert float(off.max()) < 0.1  # 5 standard deviations of the 6 between them are .083
    assert 0.3 < float((torch.cdist(found.flatten(0, 1), places).argmin(1) == 0).float().mean()) < 0.7
