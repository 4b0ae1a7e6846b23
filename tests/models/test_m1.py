"""M1: the VAE's objective untouched by labels, and a classifier that learns from its latents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from formulas import example
from tiny import ATTRIBUTES, CLASSES, gradients, loss_at, make, noisy_guide
from torch.nn import functional as F

import pyro_ssvae as ps
from pyro_ssvae import M1, VAE


def split(labels: Any, **options: Any) -> tuple[M1, VAE]:
    """An M1 whose head is not symmetric, and the VAE in it."""
    model: M1 = make("m1", labels, **options).double().eval()
    vae = VAE(model.encoder, model.decoder, latent_dim=2, likelihood=model.likelihood).double().eval()
    vae.loc, vae.log_scale = model.loc, model.log_scale
    return model, vae


@pytest.mark.parametrize("labels", [CLASSES, ATTRIBUTES], ids=["classes", "attributes"])
def test_objective_is_the_vae_s_and_the_classifier_s(labels: Any) -> None:
    model, vae = split(labels, alpha=3.0)
    x, y, eps = example(labels)
    q = model.q_z(x).base_dist
    z = (q.loc + q.scale * eps[:, :2]).detach()
    logits = model.head(z)
    if labels is CLASSES:
        supervised = F.cross_entropy(logits, y, ignore_index=-1, reduction="sum")
    else:
        known = (y >= 0).double()
        supervised = (
            F.binary_cross_entropy_with_logits(logits, y.clamp_min(0).double(), reduction="none") * known
        ).sum()
    unsupervised = loss_at(vae, x, None, eps)
    loss = loss_at(model, x, y, eps)
    torch.testing.assert_close(loss, unsupervised + 3 * supervised, rtol=1e-12, atol=0)
    found, of_vae = gradients(loss, model), gradients(unsupervised, vae)
    of_head = gradients(3 * supervised, model)
    for name, g in found.items():
        expected = of_head[name] if name.startswith("head") else of_vae[name]
        assert expected.abs().max() > 1e-6, name
        torch.testing.assert_close(g, expected, rtol=1e-9, atol=1e-10, msg=name)


def test_predictions_are_of_the_mean_and_bounds_are_the_vae_s() -> None:
    model, vae = split(CLASSES)
    x, y, eps = example(CLASSES, 6)
    torch.testing.assert_close(model.predict_proba(x), model.head(model.encode(x).mean).softmax(-1).detach())
    for bound in (ps.elbo, ps.log_likelihood):
        expected = bound((vae.model, noisy_guide(vae, eps)), x, num_samples=2)
        torch.testing.assert_close(bound((model.model, noisy_guide(model, eps)), x, y, num_samples=2), expected)


def test_generated_latents_of_a_label_follow_the_classifier() -> None:
    """p(z | y) ∝ N(z; 0, I) q(y | z), against weighted draws; the decoder is the identity here."""
    model, _ = split(ATTRIBUTES)
    model.decoder.forward = lambda z, c=None: F.pad(z, (0, 3))
    seen = torch.cat([model.generate(200, [1, -1, 0])[:, :2] for _ in range(20)])
    z = torch.randn(100_000, 2, dtype=torch.float64)
    with torch.no_grad():
        p = model.head(z).sigmoid()
    weights, asked = p[:, 0] * (1 - p[:, 2]), list[int]()
    with model.head.register_forward_hook(lambda head, inputs, out: asked.append(len(inputs[0]))):
        model.generate(2, [1, -1, 0])
    assert asked == [1000]
    expected = (weights.unsqueeze(-1) * z).sum(0) / weights.sum()
    assert expected.norm() > 0.2, "the label says nothing of z"
    # 20 pools of 1,000 draws: the mean's error is below 0.02 a pool's effective size of a hundred or more.
    torch.testing.assert_close(seen.mean(0), expected, rtol=0, atol=0.1)
