from __future__ import annotations

import warnings
from typing import Any

import matplotlib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import revae_toys
import torch
from data_makers import refused
from pairs import GuidedMixture, Mixture
from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import init_to_value
from tiny import ATTRIBUTES, CASES, CLASSES, build, make, points, some_labels
from torch import Tensor

import pyro_ssvae as ps
from pyro_ssvae.evaluation.posterior import expected_draws
from pyro_ssvae.labels import Labels
from pyro_ssvae.plots.posterior import names_of

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def az() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz
    return arviz


def dims(data: Any) -> dict[str, dict[str, tuple[str, ...]]]:
    """Dimensions by group and variable, chain and draw left out."""
    found = {}
    for group in names_of(data):
        variables = data[group].data_vars.items()
        found[group] = {str(k): tuple(str(d) for d in v.dims if d not in ("chain", "draw")) for k, v in variables}
    return found


# Latents of a model by their dimensions after the point's; of all others z alone.
LATENTS = {"revae": ("z_c", "z_s"), "diva": ("z_c", "z_s"), "m1+m2": ("z_1", "z"), "adgm": ("a", "z"), "classifier": ()}
OBSERVES_LABELS = ("classifier", "mvae")  # y is no latent of these


def latents(name: str, attributes: bool) -> dict[str, tuple[str, ...]]:
    """Dimensions of each latent: ``<site>_dim``, and the ReVAE's attributes have a z_c each."""
    found: dict[str, tuple[str, ...]] = {site: ("point", f"{site}_dim") for site in LATENTS.get(name, ("z",))}
    if name == "revae" and attributes:
        found["z_c"] = ("attribute", "point", "z_c_dim")
    return found


@pytest.mark.parametrize("case", CASES)
def test_groups_and_dimensions(case: str) -> None:
    model, x = build(case), points(4)
    name, labels, _ = CASES[case]
    y, attributes = some_labels(labels, 4), labels is ATTRIBUTES
    revae = name == "revae" and attributes  # its attributes are a plate, on the left of the points'
    label = (*["attribute"] * revae, "point", *["attribute"] * (attributes and not revae))
    of_x: dict[str, tuple[str, ...]] = {"x": ("point", "feature")} if name != "classifier" else {}
    draws, rows = latents(name, attributes), dict.fromkeys(of_x, ("point",))
    if name not in ("vae", *OBSERVES_LABELS):
        draws["y"] = label
    expected = {"posterior": draws, "posterior_predictive": of_x, "log_likelihood": rows, "observed_data": of_x}
    unlabelled, labelled = (ps.posterior(model, x, seen, num_samples=8) for seen in (None, y))
    assert dims(unlabelled) == {group: of for group, of in expected.items() if of}
    for site in latents(name, attributes):
        sizes, coords = unlabelled["posterior"][site].sizes, unlabelled["posterior"][site].coords
        assert (sizes["chain"], sizes["draw"], sizes["point"]) == (4, 2, 4)
        assert list(coords[f"{site}_dim"].values) == list(range(sizes[f"{site}_dim"]))
    if name in OBSERVES_LABELS:
        seen_y = {"y": label}
        expected |= {"posterior_predictive": {**of_x, **seen_y}, "observed_data": {**of_x, **seen_y}}
        expected |= {"log_likelihood": {**rows, "y": ("point",)}}
    assert dims(labelled) == {group: of for group, of in expected.items() if of}
    if name != "vae":
        holder = labelled["observed_data" if name == "classifier" else "posterior"]
        assert list(holder.coords["attribute" if attributes else "class"]) == list(labels.names)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] in OBSERVES_LABELS])
def test_a_missing_label_is_not_observed(case: str) -> None:
    model, y = build(case), some_labels(CASES[case][1], 4)
    data = ps.posterior(model, points(4), y, num_samples=8)
    known = data["observed_data"]["y"].values
    np.testing.assert_array_equal(np.where(np.isnan(known), -1, known), y)
    missing = np.isnan(data["log_likelihood"]["y"].values).all((0, 1))
    np.testing.assert_array_equal(missing, (y.reshape(4, -1) == -1).all(1))


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] not in ("vae", *OBSERVES_LABELS)])
def test_known_labels_are_not_in_doubt_and_missing_ones_are_drawn(case: str) -> None:
    """A draw of a label is a label, in every model and however it is trained."""
    name, labels, _ = CASES[case]
    model, y = build(case), some_labels(labels, 4)
    seen_y = (y.t() if name == "revae" and labels is ATTRIBUTES else y).numpy()
    for given in (None, y):
        values = ps.posterior(model, points(4), given, num_samples=40)["posterior"]["y"].values
        assert values.dtype.kind == "i"
        assert {0, 1} <= set(np.unique(values)) <= ({0, 1} if labels is ATTRIBUTES else {0, 1, 2})
    assert (values == seen_y)[..., seen_y >= 0].all()


@pytest.mark.parametrize("how", ["enumerate", "sparse", "plug-in", "straight-through", "sample"])
@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
@pytest.mark.parametrize("name", ["augmented", "m2"])
def test_labels_are_drawn_with_the_probabilities_that_predict_proba_gives(name: str, labels: Labels, how: str) -> None:
    torch.set_default_dtype(torch.float64)
    if how == "sparse" and labels is ATTRIBUTES:
        refused(lambda: make(name, labels, label_inference=how), "'sparse' needs class labels")
        return
    model, x, n = make(name, labels, label_inference=how).double(), points(4), 500
    pi = model.predict_proba(x)
    data = ps.posterior(model, x.repeat(n, 1), num_samples=4)
    y = torch.from_numpy(data["posterior"]["y"].values).reshape(4 * n, 4, *labels.event_shape)
    share = (y.double() if labels is ATTRIBUTES else (y.unsqueeze(-1) == torch.arange(3)).double()).mean(0)
    assert ((share - pi).abs() <= 4.5 * (pi * (1 - pi) / len(y)).sqrt()).all()
    if how == "sparse":
        assert (pi == 0).any(), "the example has full support"
        assert (share[pi == 0] == 0).all()
    # x is of the label that was drawn, never of one between labels
    z, label = (torch.from_numpy(data["posterior"][site].values[0, 0]) for site in ("z", "y"))
    log_p_x = model.likelihood(model.decoder(z, labels.encode(label).double())).log_prob(x.repeat(n, 1))
    np.testing.assert_allclose(data["log_likelihood"]["x"].values[0, 0], log_p_x.detach(), rtol=1e-10)


def test_dimensions_of_the_revae_and_of_images() -> None:
    model = revae_toys.toy(revae_toys.TWO)
    data = ps.posterior(model, revae_toys.points(5), revae_toys.MIXED, num_samples=6, points=[*"abcde"])
    z_c = data["posterior"]["z_c"]
    assert z_c.dims == ("chain", "draw", "attribute", "point", "z_c_dim")
    assert list(z_c.coords["attribute"].values) == ["hat", "beard"]
    assert list(z_c.coords["point"].values) == [*"abcde"]
    assert z_c.sel(attribute="beard", point="d").shape == (1, 6, 1)
    assert data["posterior"]["y"].dims == ("chain", "draw", "attribute", "point")
    image = build("vae", (1, 2, 3))
    predictive = ps.posterior(image, points(2, (1, 2, 3)), num_samples=4)["posterior_predictive"]["x"]
    assert predictive.dims == ("chain", "draw", "point", "channel", "row", "column")
    assert predictive.shape == (4, 1, 2, 1, 2, 3)
    classes = ps.posterior(build("enumerate"), points(2), num_samples=4)
    assert list(classes["posterior"].coords["class"].values) == ["0", "1", "2"]


def test_values_are_those_of_the_pair() -> None:
    """z is drawn from q(z | x), and the log-likelihood is that of the draw beside it."""
    torch.set_default_dtype(torch.float64)
    model, x = build("vae").double(), points(3)
    data = ps.posterior(model, x, num_samples=600, chains=4)
    z = torch.from_numpy(data["posterior"]["z"].values)
    assert z.shape == (4, 150, 3, 2)
    q = model.encode(x)
    error = (z.mean((0, 1)) - q.mean).abs() / q.stddev
    assert (error < 4.5 / 600**0.5).all()
    torch.testing.assert_close(z.std((0, 1), unbiased=False), q.stddev, rtol=0.13, atol=0)
    i = (3, 71)
    likelihood = model.likelihood(model.decoder(z[i], None))
    expected = likelihood.log_prob(x).numpy(force=True)
    np.testing.assert_allclose(data["log_likelihood"]["x"].values[i], expected, rtol=1e-10)
    draws = torch.from_numpy(data["posterior_predictive"]["x"].values)
    means = torch.stack([model.likelihood.mean(model.decoder(z[j], None)) for j in range(4)]).detach()
    spread = draws.std((0, 1)) / 600**0.5
    assert ((draws.mean((0, 1)) - means.mean((0, 1))).abs() < 4.5 * spread).all()


def test_predictive_draws_of_counts_are_as_many_as_a_row_holds() -> None:
    """log_likelihood is given the row's size, so draws are too: 30 counts a row, and 3,000."""
    torch.manual_seed(0)
    vae = ps.create_model("vae", input_shape=3, labels=None, latent_dim=1, likelihood="poisson", library_size=True)
    x = torch.tensor([[10.0, 12.0, 8.0], [900.0, 1100.0, 1000.0], [9.0, 11.0, 10.0]])
    vae.prepare(x, torch.full((3,), -1))
    data = ps.posterior(vae, x, num_samples=200)
    drawn = torch.as_tensor(data["posterior_predictive"]["x"].to_numpy()).flatten(0, 1)
    expected = expected_draws(vae, x, num_samples=200).mean(0)
    torch.testing.assert_close(drawn.mean(0), expected, rtol=0.15, atol=0)
    assert 0.5 < float(drawn[:, 1].sum(-1).mean()) / 3000 < 2


def test_a_pair_of_one_s_own() -> None:
    data = ps.posterior(GuidedMixture(), torch.randn(4, 2), num_samples=8)
    own = {"shift": (), "k": ("point",), "z": ("point",), "j": ("point",)}
    assert dims(data)["posterior"] == own
    assert data["posterior"]["shift"].attrs["kind"] == "latent"


def test_what_the_model_alone_enumerates_comes_from_its_posterior() -> None:
    """k and j of ``p(k, j | x, z, shift)`` at each draw of z and shift: shares within 4.5 standard errors."""
    pair, x = Mixture(2.0).double(), 2 * torch.randn(3, 2, dtype=torch.double)
    data = ps.posterior(pair, x, num_samples=1000)["posterior"]
    assert data["k"].dims == data["j"].dims == ("chain", "draw", "point")
    z, shift, k, j = (torch.as_tensor(data[name].to_numpy()).flatten(0, 1) for name in ("z", "shift", "k", "j"))
    log_p = pair.weights.log_softmax(0).reshape(3, 1) + dist.Bernoulli(logits=pair.loc.unsqueeze(1)).log_prob(
        torch.tensor([0.0, 1.0]).double()
    )  # [3, 2]
    mean = pair.loc.reshape(3, 1) + torch.arange(2.0) + z[..., None, None] + shift.reshape(-1, 1, 1, 1)
    log_p = log_p + dist.Normal(mean.unsqueeze(-1), 1.0).log_prob(x.reshape(3, 1, 1, 2)).sum(-1)
    p = log_p.flatten(2).softmax(-1).detach()  # [draws, points, 6]
    found = torch.nn.functional.one_hot((2 * k + j).long(), 6)
    error = (p * (1 - p)).mean(0).sqrt() / 1000**0.5
    assert ((found.double() - p).mean(0).abs() <= 4.5 * error).all()
    assert (found.double().mean(0) - pair.weights.softmax(0).detach().repeat_interleave(2) / 2).abs().max() > 0.2


def test_estimates_that_are_trained_are_values_too() -> None:
    """A point mass at a parameter, an automatic one, and a weight that the model hands out."""
    x = torch.randn(6, 3)

    def model(x: Tensor, y: Tensor | None = None) -> None:
        m = pyro.sample("m", dist.Normal(torch.zeros(3), 5.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        pyro.sample("m", dist.Delta(pyro.param("m_loc", torch.tensor([1.0, 2.0, 3.0]))).to_event(1))

    automatic = AutoDelta(model, init_loc_fn=init_to_value(values={"m": torch.tensor([1.0, 2.0, 3.0])}))
    for own in (guide, automatic):
        data = ps.posterior((model, own), x, num_samples=4)
        found = data["constant_data"]["m"].to_numpy()
        assert np.allclose(found, [1.0, 2.0, 3.0])

    class HandsOut(ps.VAE):
        def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            pyro.deterministic("weight", self.loc.weight)
            return super().model(x, y)

    vae = HandsOut.default((3,), None, latent_dim=2)
    drawn = ps.posterior(vae, x, num_samples=4)["posterior"]["weight"].to_numpy()
    assert np.array_equal(drawn[0, 0], vae.get_parameter("loc.weight").detach().numpy())


def test_chains_points_and_seed() -> None:
    model, x = build("enumerate"), points(3)
    a, b, c = (ps.posterior(model, x, num_samples=6, seed=seed)["posterior"]["z"] for seed in (1, 1, 2))
    assert a.sizes["chain"] == 1
    assert a.sizes["draw"] == 6
    assert a.equals(b)
    assert not a.equals(c)
    refused(lambda: ps.posterior(model, x, num_samples=6, chains=4), "chains: 4", "divides num_samples, 6")
    for number in (0, 2.0, True):
        refused(lambda number=number: ps.posterior(model, x, num_samples=number), f"num_samples: {number}")
    refused(lambda: ps.posterior(model, x, chains=2.0), "chains: 2.0", "divides num_samples")  # type: ignore[arg-type]
    refused(lambda: ps.posterior(model, x, points=[1, 2]), "points: 2 names", "3 points")
    refused(lambda: ps.posterior(model, torch.zeros(3, 4)), "x: shape [3, 4]")


@pytest.mark.filterwarnings("ignore")
def test_arviz_s_own_summaries_and_plots(az: Any) -> None:
    model, x = build("enumerate"), points(3)
    data = ps.posterior(model, x, num_samples=200, points=["a", "b", "c"])
    summary = az.summary(data, var_names=["z"])
    assert list(summary.index) == [f"z[{p}, {d}]" for p in "abc" for d in (0, 1)]
    np.testing.assert_allclose(
        summary["mean"], data["posterior"]["z"].mean(("chain", "draw")).values.ravel(), atol=6e-4
    )
    assert np.isfinite(summary["r_hat"].astype(float)).all()
    assert np.isfinite(az.loo(data).elpd_loo if hasattr(az, "InferenceData") else az.loo(data).elpd)
    az.plot_trace(data, var_names=["z"], coords={"point": ["b"]})
    az.plot_forest(data, var_names=["z"], coords={"point": ["a"]})
    if hasattr(az, "InferenceData"):
        az.plot_ppc(data, num_pp_samples=10)
    else:
        az.plot_ppc_dist(data, num_samples=10)


def test_from_version_1_on_arviz_is_given_a_data_tree(monkeypatch: pytest.MonkeyPatch, az: Any) -> None:
    monkeypatch.setattr(az, "__version__", "1.2.0")
    data = ps.posterior(build("vae"), points(2), num_samples=4)
    assert type(data).__name__ == "DataTree"
    assert names_of(data)[-4:] == ["posterior", "posterior_predictive", "log_likelihood", "observed_data"]
    assert data["posterior"]["z"].dims == ("chain", "draw", "point", "z_dim")
    assert data.attrs["num_samples"] == 4
