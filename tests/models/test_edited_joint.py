"""Models whose joint was edited: every verb has the edited one's numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from pyro import poutine
from pyro.infer import SVI
from torch import Tensor, nn
from torch.distributions import kl_divergence

import pyro_ssvae as ps
from pyro_ssvae.distributions.clamped import clamped_logits
from pyro_ssvae.models.rewritten import overridden_since
from pyro_ssvae.nn.likelihoods import Normal

THREE, TWO = ps.ClassLabels(3), ps.AttributeLabels(["a", "b"])
ONE_HOT = torch.eye(3, dtype=torch.double)


def made(kind: type, labels: Any = THREE, dim: int = 2, width: int = 4, **options: Any) -> Any:
    torch.manual_seed(0)
    encoder, decoder = nn.Sequential(nn.Linear(width, 6), nn.Tanh()), nn.Linear(dim, width)
    own = {"latent_dim": dim, "likelihood": Normal((width,), scale=0.7), **options}
    model = kind(encoder, decoder, labels, **own)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.5 * torch.randn(p.shape))
    return model.double().eval()


def step(model: Any, *data: Tensor) -> float:
    loss = model.objective()
    return float(SVI(model.model, model.guide, pyro.optim.Adam({"lr": 1e-3}), loss=loss).step(*data))


def points(n: int = 5) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(1), dtype=torch.double)


class LabelledDIVA(ps.DIVA):
    """x hears y beside z."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.of_y = nn.Linear(3, 4, bias=False)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            c = self.class_input(pyro.sample("y", self.p_y()), x)
            z = torch.cat([pyro.sample("z_c", self.p_z_c(c)), pyro.sample("z_s", self.p_z_s(x))], -1)
            return pyro.sample("x", self.p_x(self.decoder(z, None) + 10 * self.of_y(c)), obs=self.target(x))


class LabelledReVAE(ps.ReVAE):
    """x hears y beside z, of classes or attributes."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.of_y = nn.Linear(self.labels.size, 4, bias=False)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        data = self.plate(x)
        with data:
            z_s = pyro.sample("z_s", self.p_z_s(x))
        with self.label_plates(data):
            y = pyro.sample("y", self.p_y())
            z_c = pyro.sample("z_c", self.p_z_c(y))
        with data:
            heard = 10 * self.of_y(self.labels.encode(y.transpose(-1, -2) if self.multilabel else y).to(x))
            return pyro.sample("x", self.p_x(self.decoder(self.join(z_c, z_s), None) + heard), obs=self.target(x))


@pytest.mark.parametrize(("kind", "dim", "options"), [(LabelledDIVA, 2, {}), (LabelledReVAE, 4, {"label_dim": 3})])
def test_an_x_that_hears_the_label(kind: type, dim: int, options: dict[str, int]) -> None:
    model, x = made(kind, dim=dim, **options), points()
    z = model.encode(x).mean
    for k in range(3):
        want = model.decoder(z, None) + 10 * model.of_y(ONE_HOT[k])
        torch.testing.assert_close(model.decode(z, k), want)
        given = ONE_HOT[[k] * 5] if isinstance(model, ps.DIVA) else torch.full((5,), k)
        mean = torch.cat([model.p_z_c(given).mean, model.parts(z)["z_s"]], -1)  # the decoder is linear
        want = model.decoder(mean, None) + 10 * model.of_y(ONE_HOT[k])
        torch.testing.assert_close(model.intervene(x, k, num_samples=100).mean(0), want, atol=0.5, rtol=0)
    assert torch.equal(model.swap(x[:1], x[1:2]), model.swap(x[:1], x[1:2]))
    told = model.read_off(model.parts(z))
    torch.testing.assert_close(model.decode(z), model.decode(z, told))
    known = torch.where(torch.arange(len(x)) == 0, (told + 1) % 3, -1)
    torch.testing.assert_close(model.decode(z, known)[1:], model.decode(z)[1:])
    assert not torch.allclose(model.decode(z, known)[0], model.decode(z)[0])


def test_attributes_that_x_hears() -> None:
    model, x = made(LabelledReVAE, TWO, dim=5, label_dim=1), points()
    z, y = model.encode(x).mean, torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0], [1, 0]])
    want = model.decoder(z, None) + 10 * model.of_y(y.double())
    torch.testing.assert_close(model.decode(z, y), want)
    told = model.read_off(model.parts(z))
    set_one = told.clone()
    set_one[:, 1] = 1
    mean = z.clone()
    mean[:, model.place("b")] = model.conditional("b", 1)[0]
    want = model.decoder(mean, None) + 10 * model.of_y(set_one.double())
    torch.testing.assert_close(model.intervene(x, {"b": 1}, num_samples=100).mean(0), want, atol=0.5, rtol=0)
    walk = model.walk(x, "a", steps=2)
    assert walk.shape == (5, 2, 4)
    torch.testing.assert_close(walk, model.walk(x, "a", steps=2))


class LabelFirst(ps.M1M2):
    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            c = self.class_input(pyro.sample("y", self.p_y()), x)
            z = pyro.sample("z", self.p_z(x))
            z_1 = pyro.sample("z_1", self.p_z_1(z, c))
            return pyro.sample("x", self.p_x(self.decoder(z_1, None) + 10 * c[..., :1]), obs=self.target(x))


def test_labels_that_no_latent_tells_are_taken_where_given() -> None:
    model = made(LabelFirst)
    latents = torch.zeros(400, sum(model.widths()), dtype=torch.double)
    means = [float(model.decode(latents, k).mean()) for k in range(3)]
    assert means[0] - means[1] == pytest.approx(10, abs=0.5)
    assert means[2] - means[1] == pytest.approx(0, abs=0.5)


class Covariate(ps.M2):
    """x depends on w, which the model observes."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            w = pyro.sample("w", dist.Normal(x.new_zeros(()), 10.0), obs=x[:, 0])
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            out = self.decoder(z, self.class_input(y, x)) + w.unsqueeze(-1)
            return pyro.sample("x", self.p_x(out), obs=self.target(x))


def test_what_else_is_observed_stays_so() -> None:
    model, x = made(Covariate), points()
    z, y = model.encode(x).mean, model.predict(x)
    want = model.decoder(z, ONE_HOT[y]) + x[:, :1]
    torch.testing.assert_close(model.reconstruct(x), want)
    torch.testing.assert_close(model.intervene(x, 1), model.decoder(z, ONE_HOT[[1] * 5]) + x[:, :1])
    error = ((want - x) / x.std(0, unbiased=False)).square().mean()
    assert ps.evaluate(model, x, num_samples=2)["reconstruction_error"] == pytest.approx(float(error), rel=1e-5)
    drawn = model.decode(torch.zeros(2000, 2, dtype=torch.double), 0)  # of no point: w is drawn
    assert float(drawn[:, 0].std()) == pytest.approx(10, rel=0.1)


class CubicHead(ps.ReVAE):
    def log_q_y(self, z_c: Tensor) -> Tensor:
        return self.labels.log_probs((3 * z_c**3).sum(-1) - 1)


def test_another_head_of_attributes() -> None:
    model, x = made(CubicHead, TWO, dim=5, label_dim=1), points(3)
    with torch.no_grad():
        draws = model.q_z_given(x)[0].sample((20_000,))
        want = model.log_q_y(draws).exp().mean(0)[..., 1].t()
    # of the model's 100 draws a probability's standard error is at most .05
    assert float((model.predict_proba(x) - want).abs().max()) < 0.15
    y = torch.tensor([[0, 1], [1, -1], [1, 1]])
    bound, log_p = ps.elbo(model, x, y, num_samples=400), ps.log_likelihood(model, x, y, num_samples=20_000)
    assert bool((bound < log_p).all())
    assert not made(CubicHead, TWO, dim=5, label_dim=1).by_quadrature(dist.Normal(0.0, 1.0))
    assert made(ps.ReVAE, TWO, dim=5, label_dim=1).by_quadrature(dist.Normal(0.0, 1.0))


class OwnHead(ps.ReVAE):
    """Its guide has another q(y | z_c) than log_q_y."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.own = nn.Linear(self.label_dim, 3)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        q_c, q_s = self.q_z_given(x)
        with self.plate(x):
            pyro.sample("z_s", q_s)
            z_c = pyro.sample("z_c", q_c)
            logits = clamped_logits(self.of(z_c), y)
            pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})

    def of(self, z_c: Tensor) -> Tensor:
        return self.own(z_c).log_softmax(-1)


class SameHead(OwnHead):
    def of(self, z_c: Tensor) -> Tensor:
        return self.log_q_y(z_c)


def test_a_guide_s_head_that_would_not_be_trained() -> None:
    x, y = points(12).float(), torch.arange(12) % 3
    model = made(OwnHead, dim=5, label_dim=3).float()
    refused(lambda: ps.fit(model, x, y, epochs=1, progress=False), "guide: its q(y | z_c) is not log_q_y(z_c)")
    ps.fit(made(SameHead, dim=5, label_dim=3).float(), x, y, epochs=1, progress=False)


class OneHotGuide(nn.Module):
    """A known label is a one-hot q(y), as people write it, of which PyTorch has log(eps) elsewhere."""

    labels = THREE

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(5, 4).double()

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(x.new_tensor([0.2, 0.3, 0.5])))
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            shape = torch.broadcast_shapes(z.shape[:-1], y.shape)
            out = self.decoder(torch.cat([z.expand(*shape, 2), ONE_HOT[y].expand(*shape, 3)], -1))
            pyro.sample("x", dist.Normal(out, 0.7).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        q = x.new_full((len(x), 3), 1 / 3)
        if y is not None:
            q = torch.where((y >= 0)[:, None], ONE_HOT[y.clamp_min(0)], q)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(q), infer={"enumerate": "parallel"})
            pyro.sample("z", dist.Normal(x.new_zeros(2), 1.2).to_event(1))


def test_a_probability_of_0_rules_a_value_out() -> None:
    torch.manual_seed(0)
    pair, x = OneHotGuide(), points(2)
    line = torch.linspace(-7, 7, 141, dtype=torch.double)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    with torch.no_grad():
        means = [pair.decoder(torch.cat([grid, ONE_HOT[[k]].expand(len(grid), 3)], -1)) for k in range(3)]
    prior = dist.Normal(0.0, 1.0).log_prob(grid).sum(-1) + 2 * math.log(0.1)
    p_y = torch.tensor([0.2, 0.3, 0.5]).log()
    joint = torch.tensor(
        [[float((dist.Normal(m, 0.7).log_prob(v).sum(-1) + prior).logsumexp(0)) for m in means] for v in x]
    )
    joint = joint + p_y
    found = ps.log_likelihood(pair, x, torch.tensor([0, -1]), num_samples=20_000)
    torch.testing.assert_close(found.float(), torch.stack([joint[0, 0], joint[1].logsumexp(0)]), atol=0.05, rtol=0)
    posterior = ps.class_posterior(pair, x, num_samples=4000)
    torch.testing.assert_close(posterior.float(), joint.softmax(1), atol=0.03, rtol=0)


class LabelOfZ(ps.AugmentedVAE):
    """p(z) p(y | z) p(x | z, y)."""

    def logits(self, z: Tensor) -> Tensor:
        return 5 * torch.stack([z[..., 0], -z[..., 0], z[..., 1]], -1)

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            y = pyro.sample("y", dist.Categorical(logits=self.logits(z)))
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.target(x))


def test_a_label_that_depends_on_z_is_decoded_of_that_z(tmp_path: Path) -> None:
    model = made(LabelOfZ, label_inference="plug-in")
    z = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 5.0]]).double()
    want = model.decoder(z, model.logits(z).softmax(-1))
    torch.testing.assert_close(model.decode(z), want)
    ps.export(model, tmp_path / "decode.pt2", what="decode")
    program = torch.export.load(tmp_path / "decode.pt2").module()
    torch.testing.assert_close(program(z.float(), torch.full((3,), -1)), want.float(), atol=1e-5, rtol=1e-5)


class Shared(ps.VAE):
    """g of all rows, q(g) = N(3, .01²)."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        pyro.sample("g", dist.Normal(x.new_tensor(0.0), 1.0))
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", dist.Normal(0 * self.decoder(z, None), 1e3).to_event(1), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        pyro.sample("g", dist.Normal(x.new_tensor(3.0), 0.01))
        with self.plate(x):
            pyro.sample("z", self.p_z(x))


@pytest.mark.parametrize("n", [100, 2500])
def test_a_latent_of_all_rows_counts_once(n: int) -> None:
    model, x = made(Shared), torch.zeros(n, 4, dtype=torch.double)
    kl = float(kl_divergence(dist.Normal(3.0, 0.01), dist.Normal(0.0, 1.0)))
    base = float(dist.Normal(0.0, 1e3).log_prob(x).sum())
    assert (base - float(ps.elbo(model, x, num_samples=50).sum())) / kl == pytest.approx(1, abs=0.1)


class Weights(Shared):
    """x is z times g, which all rows share."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        g = pyro.sample("g", dist.Normal(x.new_tensor(0.0), 1.0))
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", dist.Normal(g * z[..., :1].expand(-1, 4), 0.1).to_event(1), obs=self.target(x))


def test_what_all_rows_share_is_as_it_was_learnt() -> None:
    """The decoder's g is 3, as the guide has it; drawn from N(0, 1), what came out was of a model never trained."""
    model = made(Weights)
    z = torch.randn(5, model.config.latent_dim, dtype=torch.double)
    torch.testing.assert_close(model.decode(z), 3 * z[:, :1].expand(-1, 4))
    x = model.generate(2000)
    assert float(x.std()) == pytest.approx(3, rel=0.1)


class OneByOne(ps.VAE):
    """Each entry of x depends on the one before."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            mean = self.decoder(z, None) + torch.nn.functional.pad(x[:, :-1], (1, 0))
            return pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=self.target(x))


def test_a_model_that_reads_x_itself_is_asked_given_x_alone(tmp_path: Path) -> None:
    """What was generated had 0 in the place of every entry that the next one depends on."""
    model, x = made(OneByOne), points()
    z = model.encode(x).mean
    mean = model.decoder(z, None) + torch.nn.functional.pad(x[:, :-1], (1, 0))
    torch.testing.assert_close(model.reconstruct(x), mean)
    torch.testing.assert_close(model.decode(z, like=x), mean)
    refused(lambda: model.generate(2), "generate", "reads x itself", "like=x")
    refused(lambda: model.decode(z), "decode", "reads x itself")
    refused(lambda: ps.export(model, tmp_path / "x.pt2", what="decode"), "reads x itself")
    refused(lambda: made(GivenFirst).generate(2), "generate", "reads x itself")


class GivenFirst(ps.VAE):
    """z depends on the first entry of x."""

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return dist.Normal(x[:, :1].expand(-1, self.config.latent_dim), 1.0).to_event(1)


class PlateInPrior(ps.VAE):
    """p_z has a plate of its own."""

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        with pyro.plate("parts", 3, dim=-2):
            pyro.sample("noise", dist.Normal(x.new_zeros(1), 1.0), obs=x.new_zeros(3, 1))
        return super().p_z(x)


def test_plates_of_an_edited_part_are_counted() -> None:
    model, x = made(PlateInPrior), points()
    assert model.objective().max_plate_nesting == 2
    ps.fit(model, x, epochs=1)


class Sharper(ps.AugmentedVAE):
    def infer_label(self, logits: Tensor, y: Tensor) -> Tensor:
        return super().infer_label(-3 * logits, y)


def test_a_part_of_the_guide_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points()
    sharp, plain = made(Sharper, label_inference="enumerate"), made(ps.AugmentedVAE, label_inference="enumerate")
    want = plain.labels.probs(-3 * plain.head(plain.encoder(plain.likelihood.standardize(x))))
    torch.testing.assert_close(sharp.predict_proba(x), want)

    def guide(self: Any, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        h = self.encoder(self.likelihood.standardize(x))
        with self.plate(x):
            pyro.sample("z", self.q_z(h))
            self.infer_label(-3 * self.head(h), y)

    assert not overridden_since(plain, "guide", "q_y")
    monkeypatch.setattr(ps.AugmentedVAE, "guide", guide)  # as a notebook does
    assert overridden_since(plain, "guide", "q_y")
    torch.testing.assert_close(plain.predict_proba(x), want)


class Groups(ps.AugmentedVAE):
    """A further latent in a plate of its own."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            with pyro.plate("groups", 3, dim=-2):
                g = pyro.sample("g", dist.Normal(0 * x[:, 0], 1.0))
            out = self.decoder(z, self.class_input(y, x)) + g.sum(-2).unsqueeze(-1)
            return pyro.sample("x", self.p_x(out), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        h = self.encoder(self.likelihood.standardize(x))
        with self.plate(x):
            pyro.sample("z", self.q_z(h))
            with pyro.plate("groups", 3, dim=-2):
                pyro.sample("g", dist.Normal(0.1 * x[:, 0], 0.5))
            self.infer_label(self.head(h), y)


def test_plates_of_one_s_own() -> None:
    x, y = points(12), torch.arange(12) % 4 - 1
    model = made(Groups, label_inference="enumerate")
    assert math.isfinite(step(model, x, y))
    assert len(ps.sites(model, x, y).elbo) == 12
    ps.fit(model, x.float(), y, epochs=1, batch_size=6, progress=False, augment="none")
    assert made(ps.AugmentedVAE, label_inference="enumerate").objective().max_plate_nesting == 1
    assert made(ps.ReVAE, TWO, dim=5, label_dim=1).objective().max_plate_nesting == 2


def test_two_plates_of_functions() -> None:
    def model(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x), dim=-2):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([len(x), 1]))
            with pyro.plate("f", 4, dim=-1):
                pyro.sample("x", dist.Normal(z + 3 * k.to(x.dtype), 1.0), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        w = pyro.param("w", torch.tensor(0.1))
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(w * x.mean(-1, keepdim=True), 0.5))

    history = ps.fit((model, guide), points(12).float(), epochs=1, batch_size=6, progress=False)
    assert math.isfinite(history["loss"][-1])


class PriorOfParts(ps.VAE):
    """z ~ Σ_k p(k) N(μ_k, .7²), k enumerated by the model alone."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            k = pyro.sample("k", dist.Categorical(x.new_tensor([0.2, 0.3, 0.5])), infer={"enumerate": "parallel"})
            loc = x.new_tensor([[-2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])[k]
            z = pyro.sample("z", dist.Normal(loc, 0.7).to_event(1))
            return pyro.sample("x", self.p_x(self.decoder(z, None)), obs=self.target(x))


def test_draws_of_what_the_model_alone_enumerates() -> None:
    """p(k | x, z) ∝ p(k) p(z | k), in the mean over the guide's draws."""
    pytest.importorskip("arviz")
    model, x = made(PriorOfParts), points(1)
    found = ps.posterior(model, x, num_samples=800)["posterior"]
    z, k = torch.from_numpy(found["z"].values).reshape(-1, 2), torch.from_numpy(found["k"].values).reshape(-1)
    loc = torch.tensor([[-2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], dtype=z.dtype)
    log_p = dist.Normal(loc, 0.7).log_prob(z.unsqueeze(1)).sum(-1) + torch.tensor([0.2, 0.3, 0.5]).log()
    want = log_p.softmax(1)
    shares = torch.nn.functional.one_hot(k.long(), 3).double()
    error = (want * (1 - want)).mean(0).sqrt() / math.sqrt(len(k))
    assert bool(((shares.mean(0) - want.mean(0)).abs() < 4 * error + 1e-6).all())


class OwnNoise(ps.AugmentedVAE):
    def p_x(self, out: Tensor) -> dist.TorchDistribution:
        return dist.Normal(out, 0.7).to_event(1)


@pytest.mark.parametrize("how", ["enumerate", "sparse"])
def test_gaps_under_a_likelihood_by_hand(how: str) -> None:
    x, y = points(6), torch.tensor([0, 1, 2, -1, -1, -1])
    x[0, 0] = torch.nan
    model = made(OwnNoise, label_inference=how)
    whole = made(ps.AugmentedVAE, label_inference=how)  # whose likelihood is the same
    torch.testing.assert_close(ps.log_likelihood(model, x[:1], num_samples=4000),
                               ps.log_likelihood(whole, x[:1], num_samples=4000), atol=0.1, rtol=0)  # fmt: skip
    assert math.isfinite(step(model, x, y))


class Vectors(ps.VAE):
    """A Normal with correlations, of each channel."""

    def p_x(self, out: Tensor) -> dist.TorchDistribution:
        return dist.MultivariateNormal(out, 0.5 * torch.eye(5).to(out)).to_event(1)


def test_independent_vectors() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(15, 6), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(2, 15), nn.Unflatten(-1, (3, 5)))
    model, x = Vectors(encoder, decoder, None, latent_dim=2, likelihood="normal"), torch.randn(6, 3, 5)
    assert math.isfinite(step(model, x))
    assert ps.elbo(model, x).shape == (6,)


class Correlated(ps.AugmentedVAE):
    def p_x(self, out: Tensor) -> dist.TorchDistribution:
        return dist.MultivariateNormal(out, 0.5 * torch.eye(4).to(out) + 0.2)


@pytest.mark.parametrize("how", ["enumerate", "sparse", "plug-in"])
def test_gaps_where_entries_depend_on_one_another_are_refused(how: str) -> None:
    model, x, y = made(Correlated, label_inference=how), points(6), torch.tensor([0, 1, 2, -1, -1, -1])
    assert bool(ps.elbo(model, x, y).isfinite().all())
    x[0, 0] = torch.nan
    words = "x: entries are missing, and site x is a MultivariateNormal"
    for verb in (ps.elbo, ps.log_likelihood, ps.sites, ps.evaluate, ps.anomaly_scores):
        refused(lambda verb=verb: verb(model, x), words)
    refused(lambda: ps.fit(model.float(), x.float(), y, epochs=1, progress=False), words)
    assert bool(model.reconstruct(x.float()).isfinite().all())  # scores nothing


class Further(ps.AugmentedVAE):
    """A further enumerated site, of the guide, before y."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            pyro.sample("k", dist.Categorical(x.new_tensor([0.3, 0.7])))
            y = pyro.sample("y", self.p_y())
            z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        h = self.encoder(self.likelihood.standardize(x))
        with self.plate(x):
            pyro.sample("k", dist.Categorical(logits=x[:, :2]), infer={"enumerate": "parallel"})
            pyro.sample("z", self.q_z(h))
            self.infer_label(self.head(h), y)


def test_a_further_enumerated_site_beside_sparse_labels() -> None:
    x, y = points(12), torch.arange(12) % 4 - 1
    assert math.isfinite(step(made(Further, label_inference="sparse"), x, y))


class Chain(ps.AugmentedVAE):
    """p(a) p(b | a), of which y is computed."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            a = pyro.sample("a", dist.Bernoulli(x.new_tensor(0.3)))
            b = pyro.sample("b", dist.Bernoulli(0.1 + 0.8 * a))
            y = pyro.deterministic("y", torch.stack(torch.broadcast_tensors(a, b), -1), event_dim=1)
            z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", self.p_x(self.decoder(z, y)), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        y = self.targets(y, x)
        h = self.encoder(self.likelihood.standardize(x))
        with self.plate(x):
            pyro.sample("z", self.q_z(h))
            for i, name in enumerate("ab"):
                q = torch.where(y[:, i] >= 0, y[:, i].to(x), self.head(h)[:, i].sigmoid())
                pyro.sample(name, dist.Bernoulli(q), infer={"enumerate": "parallel"})


def test_a_computed_label_in_the_library_s_plate() -> None:
    y = torch.tensor([[0, 1], [1, -1], [-1, -1], [1, 1]])
    assert math.isfinite(step(made(Chain, TWO, label_inference="enumerate").float(), points(4).float(), y))


def test_values_a_row() -> None:
    """As of a pair that is conditioned on them, or of parameters that are not amortised."""
    model, x = made(ps.AugmentedVAE, label_inference="enumerate"), points(4)
    z = torch.randn(4, 2, dtype=torch.double)
    pair = pyro.condition(model.model, {"z": z}), poutine.block(model.guide, hide=["z"])
    with torch.no_grad():
        log_p_x = torch.stack([model.p_x(model.decoder(z, ONE_HOT[[k] * 4])).log_prob(x) for k in range(3)])
        log_p = (log_p_x + model.p_y().logits.log_softmax(-1).reshape(3, 1)).logsumexp(0)
        want = log_p + model.p_z(x).log_prob(z)
    torch.testing.assert_close(ps.log_likelihood(pair, x, num_samples=3), want)
    assert ps.evaluate(pair, x, num_samples=2)["elbo"] <= float(want.mean()) + 1e-6
    known = poutine.do(model.model, {"y": torch.tensor([0, 1, 2, 0])}), model.guide
    assert ps.elbo(known, x).shape == (4,)


class SecondUnseen(ps.VAE):
    """The second of the rows is not observed, by its place."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            with poutine.mask(mask=torch.arange(len(x)) != 1):
                return pyro.sample("x", self.p_x(self.decoder(z, None)), obs=self.target(x))

    def q_z(self, x: Tensor) -> dist.TorchDistribution:
        return self.p_z(x)


def test_a_mask_by_the_rows_place() -> None:
    model, x = made(SecondUnseen), points(3)
    assert float(ps.log_likelihood(model, x, num_samples=50)[1]) == pytest.approx(0, abs=1e-9)
    assert float(ps.elbo(model, x, num_samples=50)[0]) < -1


class TwoLatents(ps.M1):
    """Its guide's y, and its x, read a further latent w."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            return pyro.sample("x", self.p_x(self.decoder(0 * z, None) + w[..., :1]), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            pyro.sample("z", self.q_z(x))
            w = pyro.sample("w", dist.Normal(x[:, :2], 0.3).to_event(1))
            logits = torch.stack([9 * w[..., 0], -9 * w[..., 0], 0 * w[..., 0] - 50], -1)
            clamped = self.labels.clamped(logits.detach(), self.targets(y, x))
            with poutine.mask(mask=False):
                pyro.sample("y", clamped, infer={"is_auxiliary": True})


def test_m1_generates_of_all_latents_that_tell_the_label() -> None:
    """E[w | w > 0] - E[w | w < 0] = 2 sqrt(2 / π), less what a sigmoid of slope 9 blurs."""
    torch.manual_seed(0)
    model = made(TwoLatents)
    assert float((model.generate(3000, 0) - model.generate(3000, 1)).mean()) == pytest.approx(1.58, abs=0.12)


class OfEachRow(nn.Module):
    """Its guide has parameters for each of four rows."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.loc = nn.Linear(2, 4), nn.Parameter(torch.zeros(4, 2))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.loc, 0.3).to_event(1))


def test_parameters_of_each_row() -> None:
    pair, x = OfEachRow(), points(4).float()
    assert ps.elbo(pair, x).shape == (4,)
    refused(lambda: ps.fit(pair, x, epochs=1, progress=False), "fit: the programs hold values of each of 4 rows")


class OfEntries(ps.VAE):
    """x in a plate over its entries, left of the plate over rows."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            with pyro.plate("entries", x.shape[1], dim=-2):
                return pyro.sample("x", dist.Normal(self.decoder(z, None).transpose(-1, -2), 0.7), obs=x.t())


@pytest.mark.parametrize("n", [3, 4])
def test_rows_of_what_is_decoded_come_first(n: int) -> None:
    """Of 4 rows of 4 entries, they were the other way round without a word."""
    model, x = made(OfEntries), points(n)
    z = model.encode(x).mean
    for found in (model.reconstruct(x), model.decode(z), model.decode(z, like=x)):
        torch.testing.assert_close(found, model.decoder(z, None))
    assert model.generate(3).shape == (3, 4)


class OfShape(ps.VAE):
    """A latent of any event shape."""

    event: tuple[int, ...] = ()

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return dist.Normal(x.new_zeros(self.event), 1.0).to_event(len(self.event))

    def q_z(self, x: Tensor) -> dist.TorchDistribution:
        loc = x[:, : max(1, math.prod(self.event))].reshape(len(x), *self.event)
        return dist.Normal(loc, 0.5).to_event(len(self.event))

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            z = z.reshape(*z.shape[: z.dim() - len(self.event)], -1)
            return pyro.sample("x", self.p_x(self.decoder(z, None)), obs=self.target(x))


@pytest.mark.parametrize("event", [(), (1,), (2, 2)])
def test_latents_of_any_shape_lie_side_by_side(monkeypatch: pytest.MonkeyPatch, event: tuple[int, ...]) -> None:
    monkeypatch.setattr(OfShape, "event", event)
    d = math.prod(event)
    model, x = made(OfShape, dim=d), points(6)
    q = model.encode(x)
    assert (q.batch_shape, q.event_shape) == ((6,), (d,))
    torch.testing.assert_close(q.mean, x[:, :d])
    torch.testing.assert_close(model.decode(q.mean), model.decoder(x[:, :d], None))
    torch.testing.assert_close(model.decode(q.mean), model.reconstruct(x))


class OfCategories(ps.VAE):
    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(x.new_ones(4))

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            return pyro.sample("x", self.p_x(torch.eye(4).to(x)[z]), obs=self.target(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x = self.begin(x)
        with self.plate(x):
            pyro.sample("z", dist.Categorical(logits=x), infer={"enumerate": "parallel"})


def test_a_latent_of_categories_has_no_mean() -> None:
    model, x = made(OfCategories), points(3)
    refused(lambda: model.encode(x), "encode: a Categorical latent has no mean")
    want = (model.p_z(x).logits + model.p_x(torch.eye(4).double()).log_prob(x.unsqueeze(1))).logsumexp(1)
    torch.testing.assert_close(ps.log_likelihood(model, x, num_samples=1), want)
    assert "clustering" not in ps.evaluate(model, x, num_samples=2)


class ByEntries(ps.M2):
    """z has no event: its entries stand where the plate over rows is."""

    def p_z(self, x: Tensor) -> dist.TorchDistribution:
        return dist.Normal(x.new_zeros(2), 1.0)


class ByEntriesInBoth(ByEntries):
    def q_z(self, h: Tensor, c: Tensor) -> dist.TorchDistribution:
        return super().q_z(h, c).base_dist


@pytest.mark.parametrize("kind", [ByEntries, ByEntriesInBoth])
@pytest.mark.parametrize("n", [2, 5])  # of as many rows as entries, nothing is out of place but what it means
def test_a_latent_without_its_event_is_named(kind: type, n: int) -> None:
    model, x = made(kind), points(n)
    verbs: list[Any] = [ps.elbo, ps.log_likelihood, ps.sites, ps.class_posterior, ps.evaluate]
    for verb in verbs:
        refused(lambda verb=verb: verb(model, x), "site 'z'", ".to_event(1)")
    refused(lambda: ps.fit(model, x, epochs=1, progress=False), "site 'z'", ".to_event(1)")
    if n == 5:
        refused(lambda: ps.posterior(model, x), "site 'z'", ".to_event(1)")
        refused(lambda: model.generate(n), "site 'z': 2 entries where plate 'data' has 5", ".to_event(1)")
        refused(lambda: step(model, x, None), "site 'z': 2 entries where plate 'data' has 5", ".to_event(1)")


def test_pyro_s_own_plates_and_parameters_are_named_too() -> None:
    def model(x: Tensor, y: Tensor | None = None, scale: float = 1.0) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), scale))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 1.0).expand([len(x), 4]).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, :2] * pyro.param("w", torch.ones(())), 1.0).to_event(1))

    x = points(5).float()
    for verb in (ps.elbo, ps.sites, lambda pair, x: ps.fit(pair, x, epochs=1, progress=False)):
        refused(lambda verb=verb: verb((model, guide), x), "site 'z'", ".to_event(1)")
    nan = lambda x, y=None: model(x, y, math.nan)  # noqa: E731
    refused(lambda: ps.elbo((nan, guide), x), "a Normal of the model or guide: its scale", "constraint GreaterThan")


def test_points_and_latents_of_another_width_are_named() -> None:
    """Of a model of two latent dimensions and four entries of x."""

    def model(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 1.0).expand([len(x), 4]).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None, size: int = 2) -> None:
        with pyro.plate("data", len(x)):
            loc = pyro.param("w", torch.zeros(())).expand(size)
            pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))

    x = points(5).float()
    wide = lambda x, y=None: guide(x, y, 3)  # noqa: E731
    for verb in (ps.elbo, ps.log_likelihood):
        refused(lambda verb=verb: verb((model, wide), x), "site 'z': values of shape [5, 3]", "of shape [5, 2]")
        refused(lambda verb=verb: verb((model, guide), x[:, :3]), "site 'x': values of shape [5, 3]", "of shape [5, 4]")
    refused(lambda: ps.fit((model, guide), x[:, :3], epochs=1, progress=False), "site 'x': values of shape", "4]")


def test_values_of_other_rows() -> None:
    """They ended in PyTorch's words on sizes of tensors."""
    model, x, y = made(ps.M2), points(6), torch.tensor([0, 1, 2, 0, 1, 2])
    given = poutine.block(model.guide, hide=["y"])
    pair = pyro.condition(model.model, {"y": y}), lambda x, y=None: given(x, torch.zeros(len(x)).long())
    assert ps.elbo(pair, x).shape == (6,)
    verbs: list[Any] = [ps.elbo, ps.log_likelihood, ps.sites, ps.posterior]
    for verb in verbs:
        refused(lambda verb=verb: verb(pair, x[:4]), "site 'y': values of 6 rows", "plate 'data' has 4")
    model.model, model.guide = pair  # type: ignore[method-assign]
    assert ps.elbo(model, x).shape == (6,)
    refused(lambda: ps.fit(model, x, epochs=1, progress=False), "fit: the programs hold values of each of 6 rows")


class LabelOfItsZ(ps.M2):
    """y depends on z, and the guide's z on y."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            y = pyro.sample("y", dist.Categorical(logits=torch.cat([z, -z[..., :1]], -1)))
            return pyro.sample("x", self.p_x_given(z, y, x), obs=self.target(x))


def test_what_pyro_does_not_enumerate_is_named() -> None:
    x, y = points(8), torch.tensor([0, 1, 2, -1] * 2)
    refused(lambda: ps.fit(made(LabelOfItsZ), x, y, epochs=1, progress=False), "site 'y'", "label_inference='sample'")
    ps.fit(made(LabelOfItsZ, label_inference="sample"), x, y, epochs=1, progress=False)


@pytest.mark.parametrize("kind", [ps.M2, ps.AugmentedVAE])
def test_a_label_that_the_model_is_conditioned_on(kind: type) -> None:
    """Points were generated and decoded of p(y), 1.1 away from those of that label."""
    model, z = made(kind, label_inference="enumerate"), torch.randn(5, 2, dtype=torch.double)
    third = model.decoder(z, ONE_HOT[[2] * 5])
    model.model = pyro.condition(model.model, {"y": torch.tensor(2)})
    torch.testing.assert_close(model.decode(z), third)
    at_0 = model.decoder(z.new_zeros(1, 2), ONE_HOT[[2]])[0]
    torch.testing.assert_close(model.generate(20_000).mean(0), at_0, atol=0.02, rtol=0)
    words = "the model has 'y' at a value of its own"
    torch.testing.assert_close(model.decode(z, 2), third)
    assert model.generate(3, y=2).shape == model.generate(3).shape
    refused(lambda: model.generate(3, y=0), f"generate: {words}")
    refused(lambda: model.decode(z, 0), f"decode: {words}")
    refused(lambda: model.reconstruct(points()), f"reconstruct: {words}")
    model.model = pyro.condition(kind.model.__get__(model), {"z": z[:1]})
    at_z = model.decoder(z[:1].expand(3, 2), ONE_HOT)
    torch.testing.assert_close(model.generate(3, y=[0, 1, 2]), at_z)
    refused(lambda: model.decode(z), "decode: the model has 'z'")
    model.model = pyro.condition(kind.model.__get__(model), {"y": torch.tensor([0, 1, 2])})
    torch.testing.assert_close(model.decode(z[:1].expand(3, 2)), at_z)
    refused(lambda: model.generate(4), "site 'y': values of 3 rows")


class WithEvidence(ps.VAE):
    """What is observed beside x is computed of it, and x hears of it."""

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.begin(x)
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            sign = pyro.sample("sign", dist.Bernoulli(0.5), obs=(x[:, 0] > 0).to(x))
            return pyro.sample("x", self.p_x(self.decoder(z, None) + 10 * sign.unsqueeze(-1)), obs=self.target(x))


def test_what_is_observed_of_x_is_drawn_in_generated_points() -> None:
    model = made(WithEvidence)
    middle = model.decoder(torch.zeros(1, 2, dtype=torch.double), None).mean() + 5  # half of the signs are 1
    assert float(model.generate(4000).mean() - middle) == pytest.approx(0, abs=0.4)
