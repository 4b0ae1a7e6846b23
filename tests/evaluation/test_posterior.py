from __future__ import annotations

import warnings
from typing import Any

import matplotlib
import numpy as np
import pytest
import revae_toys
import torch
from data_makers import refused
from pairs import GuidedMixture
from tiny import ATTRIBUTES, CASES, build, points, some_labels

import pyro_ssvae as ps
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
LATENTS = {"revae": ("z_c", "z_s"), "diva": ("z_c", "z_s"), "m1+m2": ("z_1", "z"), "classifier": ()}


def latents(name: str, attributes: bool) -> dict[str, tuple[str, ...]]:
    """Dimensions of each latent: ``<site>_dim``, and the ReVAE's attributes have a z_c each."""
    found = {site: ("point", f"{site}_dim") for site in LATENTS.get(name, ("z",))}
    return {**found, "z_c": ("attribute", "point", "z_c_dim")} if name == "revae" and attributes else found


@pytest.mark.parametrize("case", CASES)
def test_groups_and_dimensions(case: str) -> None:
    model, x = build(case), points(4)
    assert model.labels is not None
    y = some_labels(model.labels, 4)
    name, attributes = CASES[case][0], model.labels is ATTRIBUTES
    generative, handed_over = name != "classifier", name in ("classifier", "augmented", "m2", "m1+m2", "diva")
    revae = name == "revae" and attributes  # its attributes are a plate, on the left of the points'
    label = (*["attribute"] * revae, "point", *["attribute"] * (attributes and not revae))
    of_x: dict[str, tuple[str, ...]] = {"x": ("point", "feature")} if generative else {}
    draws = latents(name, attributes)
    rows: dict[str, tuple[str, ...]] = {"x": ("point",)} if generative else {}
    expected: dict[str, Any] = {
        "posterior": draws, "posterior_predictive": of_x, "log_likelihood": rows, "observed_data": of_x
    }  # fmt: skip
    if case != "vae":
        draws |= {"y_unobserved": label, "y": label}
    if handed_over:
        expected["constant_data"] = {"logits": ("point", "attribute" if attributes else "class")}
    unlabelled = ps.posterior(model, x, num_samples=8)
    assert dims(unlabelled) == {group: of for group, of in expected.items() if of}
    for site in draws.keys() & latents(name, attributes):
        sizes, coords = unlabelled["posterior"][site].sizes, unlabelled["posterior"][site].coords
        assert (sizes["chain"], sizes["draw"], sizes["point"]) == (4, 2, 4)
        assert list(coords[f"{site}_dim"].values) == list(range(sizes[f"{site}_dim"]))
    if case != "vae":
        assert list(unlabelled["posterior"].coords["attribute" if attributes else "class"]) == list(model.labels.names)
    if case != "vae":
        seen = {"y_observed": label}
        expected |= {"posterior_predictive": {**of_x, **seen}, "observed_data": {**of_x, **seen}}
        expected |= {"log_likelihood": {**rows, "y_observed": label if revae else ("point",)}}
        labelled = ps.posterior(model, x, y, num_samples=8)
        assert dims(labelled) == expected
        known = labelled["observed_data"]["y_observed"].values
        seen_y = y.t() if revae else y
        np.testing.assert_array_equal(np.where(np.isnan(known), -1, known), seen_y)
        missing = np.isnan(labelled["log_likelihood"]["y_observed"].values).all((0, 1))
        np.testing.assert_array_equal(missing, seen_y == -1 if revae else (y.reshape(4, -1) == -1).all(1))
        values = labelled["posterior"]["y"].values
        assert (values == seen_y.numpy())[..., seen_y.numpy() >= 0].all()  # a known label is not in doubt


def test_dimensions_of_the_revae_and_of_images() -> None:
    model = revae_toys.toy(revae_toys.TWO)
    data = ps.posterior(model, revae_toys.points(5), revae_toys.MIXED, num_samples=6, points=[*"abcde"])
    z_c = data["posterior"]["z_c"]
    assert z_c.dims == ("chain", "draw", "attribute", "point", "z_c_dim")
    assert list(z_c.coords["attribute"].values) == ["hat", "beard"]
    assert list(z_c.coords["point"].values) == [*"abcde"]
    assert z_c.sel(attribute="beard", point="d").shape == (1, 6, 1)
    assert data["log_likelihood"]["y_observed"].dims == ("chain", "draw", "attribute", "point")
    image = build("vae", (1, 2, 3))
    predictive = ps.posterior(image, points(2, (1, 2, 3)), num_samples=4)["posterior_predictive"]["x"]
    assert predictive.dims == ("chain", "draw", "point", "channel", "row", "column")
    assert predictive.shape == (4, 1, 2, 1, 2, 3)
    classes = ps.posterior(build("enumerate"), points(2), num_samples=4)
    assert list(classes["constant_data"].coords["class"].values) == ["0", "1", "2"]


def test_values_are_those_of_the_pair() -> None:
    """z is drawn from q(z | x), and the log-likelihood is that of the draw beside it."""
    torch.set_default_dtype(torch.float64)
    model, x = build("vae").double(), points(3)
    data = ps.posterior(model, x, num_samples=600, chains=4)
    z = torch.from_numpy(data["posterior"]["z"].values)
    assert z.shape == (4, 150, 3, 2)
    q = model.encode(x)  # type: ignore[operator]
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


def test_a_pair_of_one_s_own() -> None:
    data = ps.posterior(GuidedMixture(), torch.randn(4, 2), num_samples=8)
    own = {"shift": (), "k": ("point",), "z": ("point",), "j": ("point",)}
    assert dims(data)["posterior"] == own
    assert data["posterior"]["shift"].attrs["kind"] == "latent"


def test_chains_points_and_seed() -> None:
    model, x = build("enumerate"), points(3)
    a, b, c = (ps.posterior(model, x, num_samples=6, seed=seed)["posterior"]["z"] for seed in (1, 1, 2))
    assert a.sizes["chain"] == 1
    assert a.sizes["draw"] == 6
    assert a.equals(b)
    assert not a.equals(c)
    refused(lambda: ps.posterior(model, x, num_samples=6, chains=4), "chains: 4", "divides num_samples, 6")
    refused(lambda: ps.posterior(model, x, num_samples=0), "num_samples: 0")
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
