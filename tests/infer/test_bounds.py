"""Bounds of any pair against independent sums over its traces, and against values that are known exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from edits import (
    CountsM2,
    FlowVAE,
    FurtherDrawnM2,
    FurtherM2,
    HeavyAugmented,
    LayeredVAE,
    MixtureADGM,
    MixtureDIVA,
    MixtureM1M2,
    MixtureM2,
    MixtureVAE,
    ShiftedVAE,
    functions,
)
from formulas import gentle, grid, normal, standard_error
from pair_suite import Values
from pairs import OWN, GuidedMixture, Mixture, OwnNoise, OwnPair, own_points
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from pyro.infer.reparam import LocScaleReparam
from pyro.infer.reparam.reparam import Reparam
from pyro.poutine.reparam_messenger import ReparamMessenger
from tiny import ATTRIBUTES, CLASSES, Noise, make, points, randomize, some_labels, tiny_decoder, tiny_encoder
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torch.nn import functional as F

import pyro_ssvae as ps
from pyro_ssvae import DIVA, M2, VAE, AttributeLabels, ReVAE
from pyro_ssvae.distributions.relaxed import PlugIn
from pyro_ssvae.infer.bounds import reconstruction
from pyro_ssvae.infer.draws import enumerated, several_at_once
from pyro_ssvae.infer.expected import reconstructed
from pyro_ssvae.infer.terms import Draw
from pyro_ssvae.infer.traces import is_factor, sampled
from pyro_ssvae.models.adgm import ADGM
from pyro_ssvae.nn.likelihoods import Bernoulli, Normal

N = 6


# --- the independent sum


def by_row(site: Any, n: int) -> Tensor:
    """A site's log-probability, summed for each row: the last dimension of its batch. Labels count as labels."""
    fn = site["fn"].exact if isinstance(site["fn"], PlugIn) else site["fn"]
    log_p: Tensor = fn.log_prob(site["value"])
    return log_p.reshape(-1, n).sum(0) if log_p.dim() else log_p.expand(n)


def sums(
    pair: Any,
    noise: Callable[[Tensor], Any],
    x: Tensor,
    y: Tensor | None,
    summed: dict[str, list[Tensor]],
    alone: set[str],
) -> tuple[Tensor, Tensor]:
    """ELBO and log of the weight of each row, one run of guide and model for each combination of values.

    :param summed: every value of the sites that are summed over.
    :param alone: those of them that the model alone has.
    """
    model, guide = pair if isinstance(pair, tuple) else (pair.model, pair.guide)
    found: list[tuple[tuple[int, ...], Tensor, Tensor]] = []
    for place in itertools.product(*(range(len(values)) for values in summed.values())):
        values = {name: of[i].expand(len(x), *of[i].shape) for i, (name, of) in zip(place, summed.items())}
        with Values(**values), noise(x):
            q = poutine.trace(guide).get_trace(x, y)
            p = poutine.trace(poutine.replay(model, q)).get_trace(x, y)
        log_w, log_q = x.new_zeros(len(x)), x.new_zeros(len(x))
        for site in sampled(p).values():
            log_w = log_w + by_row(site, len(x))
        for name, site in sampled(q).items():
            if name in summed:
                log_q = log_q + by_row(site, len(x))
            elif not is_factor(site):
                log_w = log_w - by_row(site, len(x))
        key = tuple(i for i, name in zip(place, summed) if name not in alone)
        found.append((key, log_w, log_q))
    elbo = x.new_zeros(len(x))
    for key in {key for key, _, _ in found}:
        log_w = torch.stack([w for k, w, _ in found if k == key]).logsumexp(0)
        log_q = next(q for k, _, q in found if k == key)
        elbo = elbo + log_q.exp() * torch.where(log_q > -torch.inf, log_w - log_q, 0.0)
    possible = [torch.where(q > -torch.inf, w, -torch.inf) for _, w, q in found]
    return elbo.detach(), torch.stack(possible).logsumexp(0).detach()


def at(pair: Any, noise: Callable[[Tensor], Any]) -> tuple[Any, Any]:
    """The pair with the draws of its guide at the given noise."""
    model, guide = pair if isinstance(pair, tuple) else (pair.model, pair.guide)

    def noisy(x: Tensor, y: Tensor | None = None) -> Any:
        with noise(x):
            return guide(x, y)

    return model, noisy


def assert_sums(
    pair: Any,
    noise: Callable[[Tensor], Any],
    x: Tensor,
    y: Tensor | None = None,
    summed: dict[str, list[Tensor]] | None = None,
    alone: set[str] = frozenset(),  # type: ignore[assignment]
) -> None:
    elbo, log_w = sums(pair, noise, x, y, summed or {}, alone)
    torch.testing.assert_close(ps.elbo(at(pair, noise), x, y), elbo, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ps.log_likelihood(at(pair, noise), x, y, num_samples=3), log_w, rtol=1e-10, atol=1e-10)


def tiny_noise(n: int = N) -> Callable[[Tensor], Any]:
    eps = torch.randn(n, 8, dtype=torch.float64)
    return lambda x: Noise(eps[torch.arange(len(x)) % len(eps)], labels="left")


def own_noise(n: int = N) -> Callable[[Tensor], Any]:
    eps = torch.randn(n, 8, dtype=torch.float64)
    return lambda x: OwnNoise(eps[torch.arange(len(x)) % len(eps)])


CLASS_VALUES = {"y": list(torch.arange(3))}
ATTRIBUTE_VALUES = {"y": list(ATTRIBUTES.configurations())}
K_VALUES = {"k": list(torch.arange(3))}


@pytest.mark.parametrize("case", OWN)
def test_bounds_of_own_pairs_are_sums_over_their_traces(case: str) -> None:
    pair, x = OWN[case]().double(), own_points(case, N).double()
    summed = K_VALUES if case in ("further, summed", "further, of the model") else {}
    assert_sums(pair, own_noise(), x, None, summed, {"k"} if case == "further, of the model" else set())


def edited(kind: type, labels: Any = CLASSES, **options: Any) -> Any:
    """An edited model with tiny networks, in double precision."""
    dim = options.setdefault("latent_dim", 2)
    conditional = issubclass(kind, (M2, HeavyAugmented, ADGM))
    upper = {}
    if issubclass(kind, MixtureM1M2):
        upper = {"upper_encoder": tiny_encoder((dim,)), "upper_decoder": tiny_decoder((dim,), dim, labels.size)}
    decoder = tiny_decoder((5,), dim, labels.size if conditional else 0)
    return randomize(kind(tiny_encoder((5,)), decoder, labels, **upper, **options)).double().eval()


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
@pytest.mark.parametrize("kind", [MixtureM2, MixtureADGM, MixtureM1M2, MixtureDIVA, HeavyAugmented, CountsM2])
def test_bounds_of_edited_models_follow_the_edit(kind: type, labels: Any, known: bool) -> None:
    model = edited(kind, labels)
    x = own_points("counts" if kind is CountsM2 else "plain", N).double()
    values = CLASS_VALUES if labels is CLASSES else ATTRIBUTE_VALUES
    assert_sums(model, tiny_noise(), x, some_labels(labels, N) if known else None, values)


@pytest.mark.parametrize("kind", [MixtureVAE, ShiftedVAE])
def test_bounds_of_an_edited_vae_follow_the_edit(kind: type) -> None:
    assert_sums(edited(kind), tiny_noise(), points(N).double())


@pytest.mark.parametrize("known", [False, True], ids=["missing", "known"])
@pytest.mark.parametrize("kind", [FurtherM2, FurtherDrawnM2])
def test_bounds_with_a_further_site_beside_the_label(kind: type, known: bool) -> None:
    """Summed over together with y, or drawn."""
    model, eps, drawn = edited(kind), torch.randn(N, 8, dtype=torch.float64), torch.arange(N) % 2
    both = {**CLASS_VALUES, "k": list(torch.arange(2))}

    def noise(x: Tensor) -> Any:
        further = [Values(k=drawn[: len(x)])] if kind is FurtherDrawnM2 else []
        return Both(Noise(eps[torch.arange(len(x)) % len(eps)], labels="left"), *further)

    y = some_labels(CLASSES, N) if known else None
    assert_sums(model, noise, points(N).double(), y, both if kind is FurtherM2 else CLASS_VALUES)


class Both(pyro.poutine.messenger.Messenger):
    """Several messengers at once."""

    def __init__(self, *parts: Any) -> None:
        super().__init__()
        self.parts = parts

    def _pyro_sample(self, msg: Any) -> None:
        for part in self.parts:
            part._pyro_sample(msg)


@pytest.mark.parametrize("kind", [LayeredVAE, FlowVAE])
def test_bounds_with_layers_and_flows(kind: type) -> None:
    model = edited(kind)
    eps = torch.randn(N, 8, dtype=torch.float64)
    assert_sums(model, lambda x: OwnNoise(eps[torch.arange(len(x)) % len(eps)]), points(N).double())


def test_bounds_of_plain_functions() -> None:
    assert_sums(functions(), own_noise(), points(N).double())


class GlobalNoise(poutine.messenger.Messenger):
    """Draw z of each row, and the latent of the whole data, with the given noise."""

    def __init__(self, eps: Tensor) -> None:
        super().__init__()
        self.eps = eps

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in ("z", "shift") and not msg["done"]:
            eps = self.eps[0, 4] if msg["name"] == "shift" else self.eps[:, 0]
            msg["value"], msg["done"] = msg["fn"].loc + msg["fn"].scale * eps, True


@pytest.mark.parametrize(("kind", "alone"), [(Mixture, {"k", "j"}), (GuidedMixture, {"j"})])
def test_bounds_of_global_and_linked_sites(kind: Any, alone: set[str]) -> None:
    """A latent of the whole data is shared out; what the model alone sums over is inside the logarithm."""
    pair, x = kind(scale=0.3).double(), torch.randn(N, 2, dtype=torch.float64)
    eps = torch.randn(N, 8, dtype=torch.float64)

    def noise(x: Tensor) -> GlobalNoise:
        return GlobalNoise(eps[torch.arange(len(x)) % len(eps)])

    values = {"k": list(torch.arange(3)), "j": list(torch.arange(2.0).double())}
    elbo, _ = sums(pair, noise, x, None, values, alone)
    with noise(x):
        shift = poutine.trace(pair.guide).get_trace(x).nodes["shift"]
    log_p = dist.Normal(x.new_zeros(()), 1.0).log_prob(shift["value"])
    log_ratio = (log_p - shift["fn"].log_prob(shift["value"])).detach()  # which `sums` counts for each row
    expected = elbo - log_ratio + log_ratio / N
    torch.testing.assert_close(ps.elbo(at(pair, noise), x), expected, rtol=1e-10, atol=1e-10)
    plain = kind(scale=1.0).double()
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(*at(plain, noise), x)
    assert float(ps.elbo(at(plain, noise), x).sum()) == pytest.approx(-loss, rel=1e-10)
    refused(lambda: ps.log_likelihood(pair, x), "log_likelihood", "'shift'", "elbo shares it out")


# --- an average of draws


def test_of_several_draws_the_elbo_is_the_mean_and_the_weights_are_averaged() -> None:
    """The same draws one by one, by the random numbers of a seed."""
    pair, x = OWN["plain"]().double(), points(N).double()
    draws: list[Tensor] = [torch.randn(N, 8, dtype=torch.float64) for _ in range(4)]
    single = [sums(pair, lambda x, e=eps: OwnNoise(e[: len(x)]), x, None, {}, set())[1] for eps in draws]

    def several() -> Callable[[Tensor], Any]:
        left = iter(draws)

        def noise(x: Tensor) -> Any:  # several draws are the rows of one run
            return OwnNoise(torch.cat([next(left) for _ in range(len(x) // N)]) if len(x) >= N else draws[0][: len(x)])

        return noise

    log_w = torch.stack(single)
    found = ps.elbo(at(pair, several()), x, num_samples=4)
    torch.testing.assert_close(found, log_w.mean(0), rtol=1e-10, atol=1e-10)
    found = ps.log_likelihood(at(pair, several()), x, num_samples=4)
    torch.testing.assert_close(found, log_w.logsumexp(0) - math.log(4), rtol=1e-10, atol=1e-10)


class Subsampled(OwnPair):
    """Its plate says that there are more rows than it is given."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("rows", 40, subsample=torch.arange(len(x))):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("rows", 40, subsample=torch.arange(len(x))):
            pyro.sample("z", dist.Normal(x[:, :2], 1.0).to_event(1))


class Binarised(nn.Module):
    """What it observes is drawn afresh at each run."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            logits = z.unsqueeze(-1).expand(-1, x.shape[1])
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=torch.bernoulli(x))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))


def draws_a_run(pair: nn.Module, x: Tensor, num_samples: int, most_rows: int) -> list[int]:
    with torch.no_grad():
        return [times for _, _, times in several_at_once(pair, x, None, num_samples, most_rows)]


def test_draws_are_the_rows_of_one_run_where_they_do_not_meet() -> None:
    x = points(N)
    assert draws_a_run(OWN["plain"](), x, 6, 4 * N) == [1, 4, 1]
    assert draws_a_run(OWN["plain"](), x, 3, N + 1) == [1, 1, 1]
    assert draws_a_run(make("m2", CLASSES), x, 4, 10 * N) == [1, 3]
    assert draws_a_run(Subsampled(), x, 4, 10 * N) == [1, 1, 1, 1], "its plate has a size of its own"


def test_all_draws_are_of_one_binarised_x() -> None:
    x = torch.rand(N, 7)
    seen = [
        sampled(p)["x"]["value"].reshape(times, N, 7) for p, _, times in several_at_once(Binarised(), x, None, 9, 50)
    ]
    assert [len(part) for part in seen] == [1, 8]
    assert (torch.cat(seen) == seen[0][0]).all()
    assert seen[0].unique().tolist() == [0, 1]


class Residual(OwnPair):
    """What is observed is x - (z, z, ..): the same x is another value at each draw of z, of which x is N(0, 2)."""

    latent_dim = 5

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with self.plate(x):
            z = pyro.sample("z", self.p_z(x))
            pyro.sample("x", dist.Normal(x.new_zeros(5), 1.0).to_event(1), obs=x - z)

    def q_z(self, x: Tensor) -> Any:
        return dist.Normal(x / 2, 0.5**0.5).to_event(1)  # the posterior


def test_what_is_observed_may_be_computed_of_a_latent() -> None:
    """With the exact posterior every draw is log p(x); with the first draw's residual it was none."""
    x = points(N).double()
    log_p = dist.Normal(x.new_tensor(0.0), 2**0.5).log_prob(x).sum(-1)
    for verb in (ps.elbo, ps.log_likelihood):
        torch.testing.assert_close(verb(Residual().double(), x, num_samples=9), log_p)


def test_scales_and_factors_of_the_guide_do_not_count_and_factors_of_the_model_do() -> None:
    class Scaled(OwnPair):
        weight, extra, beside = 1.0, 0.0, 0.0

        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            with poutine.scale(scale=self.weight):
                super().model(x)
            with pyro.plate("more", len(x)):
                pyro.factor("extra", self.extra * x[:, 0])

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            with poutine.scale(scale=self.weight):
                super().guide(x)
            with pyro.plate("more", len(x)):
                pyro.factor("beside", self.beside * x[:, 0], has_rsample=True)

    pair, x, noise = Scaled().double(), points(N).double(), own_noise()
    plain = ps.elbo(at(pair, noise), x), ps.log_likelihood(at(pair, noise), x)
    pair.weight, pair.beside = 0.3, 5.0
    for bound, expected in zip((ps.elbo, ps.log_likelihood), plain):
        torch.testing.assert_close(bound(at(pair, noise), x), expected)
    pair.extra = 2.0
    for bound, expected in zip((ps.elbo, ps.log_likelihood), plain):
        torch.testing.assert_close(bound(at(pair, noise), x), expected + 2 * x[:, 0])


def test_the_bound_of_a_vae_is_pyro_s() -> None:
    model, x = make("vae").double().eval(), points(N).double()
    pyro.set_rng_seed(5)
    expected = -Trace_ELBO().loss(model.model, model.guide, x)
    with poutine.trace() as trace:
        pyro.set_rng_seed(5)
        model.guide(x)
    z = trace.trace.nodes["z"]["value"]
    found = ps.elbo(at(model, lambda x: Values(z=z[: len(x)])), x)
    assert float(found.sum()) == pytest.approx(expected, rel=1e-10)


# --- what cannot be asked


def test_what_a_pair_lacks_is_said_in_a_line() -> None:
    x, y = points(4), torch.tensor([0, 1, 2, -1])
    refused(lambda: ps.elbo(make("classifier"), x, y), "no latent site")
    refused(lambda: ps.log_likelihood(make("classifier"), x, y), "no latent site")

    class NoX(OwnPair):
        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            with self.plate(x):
                pyro.sample("pixels", self.p_x(self.decoder(pyro.sample("z", self.p_z(x)))), obs=x)

    refused(lambda: reconstruction(NoX(), x), "reconstruction", "no site 'x'", "z, pixels")
    assert ps.elbo(NoX(), x).shape == (4,)
    for wrong in (3, "vae", nn.Linear(2, 2), (1, 2), (lambda x: x,)):
        refused(lambda wrong=wrong: ps.elbo(wrong, x), "model(x, y) and guide(x, y)", type(wrong).__name__)
    refused(lambda: ps.elbo(OwnPair(), x, num_samples=0), "num_samples: 0", "at least 1")
    refused(lambda: ps.elbo(OwnPair(), x, torch.zeros(3)), "y: 3 rows", "x has 4")


@pytest.mark.parametrize("name", ["vae", "m2", "revae"])
def test_a_bound_that_is_no_number_is_refused(name: str) -> None:
    """Where Pyro does not validate, a NaN in the prior was a NaN of every row, in silence."""
    vae, x = make(name, latent_dim=6), points(4)
    nan = torch.tensor(math.nan)
    if name == "revae":
        vae.p_z_s = lambda x: dist.Normal(nan, 1.0).expand([vae.config.dim - vae.z_c_dim]).to_event(1)
    else:
        vae.p_z = lambda x: dist.Normal(nan, 1.0).expand([vae.config.dim]).to_event(1)
    words = "the bound" if name == "revae" else "site 'z' of the model"
    with pyro.validation_enabled(False):
        refused(lambda: ps.elbo(vae, x), f"{words}: a log-probability is NaN")
        refused(lambda: ps.log_likelihood(vae, x, num_samples=3), "of the model: a log-probability is NaN")


class OutsidePlate(OwnPair):
    """z has a row for each point, in no plate over them."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
        with self.plate(x):
            pyro.sample("x", self.p_x(self.decoder(z)), obs=x)


def test_rows_that_no_plate_holds_are_refused() -> None:
    refused(lambda: ps.elbo(OutsidePlate(), points(4)), "site 'z'", "not all of it in plates", "to_event")


class Renamed(Reparam):
    """The site has the name w."""

    def apply(self, msg: Any) -> Any:
        w = pyro.sample("w", msg["fn"])
        return {"fn": dist.Delta(w, event_dim=1), "value": w, "is_observed": True}


EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "renamed": (lambda model: ReparamMessenger(config={"z": Renamed()})(model), "its latents: w"),
    "reparam": (lambda model: poutine.reparam(model, {"z": LocScaleReparam(0.0)}), "its latents: z_decentered"),
    "block": (lambda model: poutine.block(model, hide=["z"]), "its latents: none"),
    "condition": (lambda model: poutine.condition(model, {"z": torch.zeros(1, 2)}), "its latents: none"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_latent_that_the_guide_alone_has_is_refused(edit: str) -> None:
    """Its -log q alone made a bound of 1.1 nats of log p(x) = -2.4."""
    vae, x, (handler, latents) = make("vae"), points(4), EDITS[edit]
    vae.model = handler(vae.model)
    verbs = (vae.elbo, vae.log_likelihood, lambda x: ps.fit(vae, x, epochs=1), lambda x: ps.posterior(vae, x))
    for verb in verbs:
        refused(lambda verb=verb: verb(x), "site 'z' of the guide is no latent of the model", latents)


def test_a_reconstruction_of_another_latent_is_refused() -> None:
    """It was of z from the prior, another one at each call."""
    vae, x = make("vae"), points(4)

    def renamed(x: Tensor, y: Tensor | None = None) -> None:
        with vae.plate(x):
            pyro.sample("w", vae.q_z(x))

    vae.guide = renamed
    refused(lambda: vae.reconstruct(x), "reconstruct", "no site 'w'")
    refused(lambda: reconstructed(vae, x), "reconstruct", "no site 'w'")


# --- exact values


def linear_vae(kind: type[VAE] = VAE, scale: float = 0.7, **options: Any) -> Any:
    """A VAE of five numbers with linear networks and a Normal likelihood of fixed scale, in double precision."""
    encoder, decoder = nn.Linear(5, 4), nn.Linear(2, 5)
    model = kind(encoder, decoder, latent_dim=2, likelihood=Normal((5,), scale=scale), **options)
    randomize(model, seed=3)
    return model.double().eval()


def gaussian_log_p(model: Any, x: Tensor, loc: Tensor, cov: Tensor) -> Tensor:
    """log N(x; W loc + b, W cov Wᵀ + σ² I)."""
    w, b = model.decoder.decoder.weight, model.decoder.decoder.bias
    noise = model.likelihood.scale**2 * torch.eye(5, dtype=torch.float64)
    log_p: Tensor = MultivariateNormal(w @ loc + b, w @ cov @ w.t() + noise).log_prob(x).detach()
    return log_p


def posterior(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of p(z | x) of a linear VAE with its own prior."""
    w, b = model.decoder.decoder.weight.detach(), model.decoder.decoder.bias.detach()
    noise = model.likelihood.scale**2
    cov = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + w.t() @ w / noise)
    return (x - b) @ w @ cov / noise, cov


def test_with_the_exact_posterior_every_draw_is_log_p() -> None:
    class Exact(VAE):
        def q_z(self, x: Tensor) -> Any:
            return dist.MultivariateNormal(*posterior(self, x))

    model, x = linear_vae(Exact), points(N).double()
    expected = gaussian_log_p(model, x, torch.zeros(2).double(), torch.eye(2).double())
    torch.testing.assert_close(model.elbo(x), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.log_likelihood(x, num_samples=2), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.encode(x).mean, posterior(model, x)[0])


def test_a_linear_vae_against_its_closed_forms() -> None:
    """ELBO = log p(x) - KL(q(z | x) || p(z | x)) on average; the importance-weighted bound reaches log p(x)."""
    model, x = linear_vae(), points(4).double()
    with torch.no_grad():
        model.log_scale.weight.mul_(0.1)
        model.log_scale.bias.fill_(-0.5)
        model.loc.weight.mul_(0.5)
    log_p = gaussian_log_p(model, x, torch.zeros(2).double(), torch.eye(2).double())
    q = model.encode(x)
    loc, cov = posterior(model, x)
    kl = torch.distributions.kl_divergence(
        MultivariateNormal(q.mean, torch.diag_embed(q.stddev**2)), MultivariateNormal(loc, cov)
    )
    draws = model.elbo(x.repeat(4000, 1)).reshape(4000, 4)
    assert ((draws.mean(0) - (log_p - kl)).abs() < 4.5 * standard_error(draws)).all()
    assert (kl > 0.3).any()
    draws = model.log_likelihood(x.repeat(200, 1), num_samples=200).reshape(200, 4)
    assert (draws.mean(0) < log_p + 4.5 * standard_error(draws)).all()
    assert (log_p - draws.mean(0) < 0.3).all()


def test_a_mixture_prior_against_its_closed_form() -> None:
    """The reported bound is that of the edited model: a mixture of Gaussians for x."""
    model, plain, x = linear_vae(MixtureVAE), linear_vae(), 2 + points(4).double()
    for each in (model, plain):
        with torch.no_grad():
            each.log_scale.weight.mul_(0.1)
            each.log_scale.bias.fill_(0.5)
            each.loc.weight.mul_(0.3)
    parts = [
        math.log(weight) + gaussian_log_p(model, x, torch.full((2,), m).double(), s**2 * torch.eye(2).double())
        for weight, m, s in ((0.3, -2.0, 0.5), (0.7, 1.5, 0.8))
    ]
    log_p = torch.stack(parts).logsumexp(0)
    draws = model.log_likelihood(x.repeat(200, 1), num_samples=300).reshape(200, 4)
    assert (draws.mean(0) < log_p + 4.5 * standard_error(draws)).all()
    assert (log_p - draws.mean(0) < 0.3).all()
    unedited = gaussian_log_p(plain, x, torch.zeros(2).double(), torch.eye(2).double())
    assert ((unedited - log_p).abs() > 0.5).any(), "the edit changes nothing here"


class Constant(nn.Module):
    """Pixels of probability sigmoid(3) whatever z."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((8,), 3.0))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return self.bias.expand(*z.shape[:-1], 8)


@pytest.mark.parametrize("name", ["vae", "m2", "diva", "revae"])
def test_the_bound_of_binarised_pixels_is_of_one_image(name: str) -> None:
    """log p(b) of a black-or-white image b is known; drawing it anew for each z would average over images."""
    likelihood, two = Bernoulli((8,), binarize=True), AttributeLabels(["a", "b"])
    made = {
        "vae": lambda: VAE(nn.Linear(8, 4), Constant(), latent_dim=4, likelihood=likelihood),
        "m2": lambda: M2(nn.Linear(8, 4), Constant(), two, latent_dim=4, likelihood=likelihood),
        "diva": lambda: DIVA(nn.Linear(8, 4), Constant(), two, latent_dim=4, likelihood=likelihood),
        "revae": lambda: ReVAE(nn.Linear(8, 4), Constant(), two, latent_dim=4, label_dim=1, likelihood=likelihood),
    }
    model: Any = made[name]().eval()
    one, other = F.logsigmoid(torch.tensor([3.0, -3.0])).tolist()
    found = model.log_likelihood(torch.full((2000, 8), 0.5), num_samples=30)
    margin = 4.5 * math.sqrt(8 * 0.25 * (one - other) ** 2 / 2000)
    assert abs(float(found.mean()) - 4 * (one + other)) < margin + 0.1


def binary_images() -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64).reshape(8, 1, 1, 3)


@pytest.mark.parametrize("name", ["vae", "augmented"])
def test_bound_of_binarized_images_is_of_one_image_s_density(name: str) -> None:
    """E_b[log p(b)] over black-and-white images b ~ Bernoulli(x), not log E_b[p(b)]."""
    shape = (1, 1, 3)
    model = make(name, CLASSES, shape, latent_dim=1, likelihood=Bernoulli(shape, binarize=True))
    model.likelihood.raw_scale = nn.Parameter(torch.zeros(()))  # which `gentle` sets
    gentle(model)
    x = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64).reshape(1, 1, 1, 3)
    z, log_cell = grid(1)
    classes = [None] if name == "vae" else list(torch.eye(3, dtype=torch.float64))
    b = binary_images()
    with torch.no_grad():
        per_class = []
        for c in classes:
            logits = 3 * model.decoder(z, c)  # sharper pixels, so that images differ in probability
            log_b = -F.binary_cross_entropy_with_logits(
                logits.expand(8, *logits.shape), b.unsqueeze(1).expand(8, *logits.shape), reduction="none"
            ).sum((-3, -2, -1))
            per_class.append(
                (log_b + normal(z, 0.0, torch.ones_like(z))).logsumexp(1) + log_cell - math.log(len(classes))
            )
        log_p_b = torch.stack(per_class).logsumexp(0)
        weight = (b * x + (1 - b) * (1 - x)).flatten(1).prod(1)
        exact = (weight * log_p_b).sum()
        assert (weight * log_p_b.exp()).sum().log() > exact + 0.15, "the two do not differ here"
    forward = model.decoder.forward
    model.decoder.forward = lambda z, c=None: 3 * forward(z, c)
    found = model.log_likelihood(x.repeat(2000, 1, 1, 1), num_samples=200)
    assert abs(found.mean() - exact) < 0.02 + 4 * found.std() / math.sqrt(2000)


def test_a_chain_of_sites_of_the_guide_is_summed_over_from_end_to_end() -> None:
    """q(a) q(b | a) q(c | b), all at every value, where x depends on c alone: 2^3 terms by hand."""
    q_a, q_b, q_c = (
        torch.tensor([0.3, 0.7]),
        torch.tensor([[0.9, 0.1], [0.4, 0.6]]),
        torch.tensor([[0.2, 0.8], [0.5, 0.5]]),
    )
    prior, means = torch.tensor([[0.6, 0.4], [0.1, 0.9], [0.25, 0.75]]), torch.tensor([-1.0, 2.0])
    every: Any = {"infer": {"enumerate": "parallel"}}

    def model(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            for name, p in zip("ab", prior):
                pyro.sample(name, dist.Categorical(p))
            c = pyro.sample("c", dist.Categorical(prior[2]))
            pyro.sample("x", dist.Normal(means[c].unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Categorical(q_a.expand(len(x), 2)), **every)
            b = pyro.sample("b", dist.Categorical(q_b[a]), **every)
            pyro.sample("c", dist.Categorical(q_c[b]), **every)

    x = torch.tensor([[0.3], [-2.0]])
    log_x = dist.Normal(means, 1.0).log_prob(x)  # [row, c]
    elbo, expected = torch.zeros(2), torch.zeros(2)
    for a, b, c in itertools.product((0, 1), repeat=3):
        q = q_a[a] * q_b[a, b] * q_c[b, c]
        expected += q * log_x[:, c]
        elbo += q * (log_x[:, c] + (prior[0, a] * prior[1, b] * prior[2, c] / q).log())
    torch.testing.assert_close(ps.elbo((model, guide), x), elbo)
    torch.testing.assert_close(reconstruction((model, guide), x), expected)
    exact = (log_x + prior[2].log()).logsumexp(1)
    torch.testing.assert_close(ps.log_likelihood((model, guide), x, num_samples=2), exact)


def test_what_depends_on_several_values_of_a_plate_together_is_refused() -> None:
    """Each of two parts has a y of its own, and x is about their sum: 2^2 values together, not 2 and 2."""

    def model(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            with pyro.plate("parts", 2, dim=-2):
                part = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(part.sum(-2, keepdim=True).unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)), pyro.plate("parts", 2, dim=-2):
            pyro.sample("y", dist.Bernoulli(torch.full((2, len(x)), 0.3)), infer={"enumerate": "parallel"})

    refused(lambda: ps.elbo((model, guide), torch.zeros(3, 1)), "site 'x' depends on the enumerated y", "is not done")


def test_the_divergence_leaves_out_what_the_model_draws_from_its_prior() -> None:
    class Nuisance(OwnPair):
        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            with self.plate(x):
                u = pyro.sample("u", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
                z = pyro.sample("z", self.p_z(x))
                pyro.sample("x", self.p_x(self.decoder(z) + u), obs=x)

    ((p, q),) = enumerated(Nuisance(), points(4), None)
    expected = q.nodes["z"]["log_prob"] - p.nodes["z"]["log_prob"]
    torch.testing.assert_close(Draw(p, q, 4).divergence(), expected)
