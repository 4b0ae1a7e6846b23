from __future__ import annotations

from typing import Any

import pytest
import torch
from revae_toys import CLASSES, MIXED, TWO, points, toy
from torch import Tensor, nn

from pyro_ssvae import ReVAE, create_model
from pyro_ssvae.infer.intervention_consistency import flipped, intervention_consistency

FLIPPED = "pyro_ssvae.infer.intervention_consistency.FLIPPED"
SHARP = -30.0  # raw scale of p(z_c | y) at which a draw is its mean


def latents(vae: ReVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    q_c, q_s = vae.q_z_given(x)
    return q_c.mean.detach(), q_s.mean.detach()


def read(vae: ReVAE, x: Tensor, y: Tensor) -> Tensor:
    """log q(y | x), ``[B]``, from the probabilities that a person sees."""
    p = vae.predict_proba(x)
    if p.shape == y.shape:
        return torch.where(y == 1, p, 1 - p).log().sum(1)
    return p.gather(1, y[:, None]).squeeze(1).log()


def test_a_picture_left_alone_is_read_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FLIPPED, 0.0)
    vae, x = toy(), points(5)
    z_c, z_s = latents(vae, x)
    guess = vae.log_q_y(z_c).argmax(-1).t()
    y = torch.where(MIXED == -1, guess, MIXED)
    found = intervention_consistency(vae, z_c, z_s, MIXED.t())
    torch.testing.assert_close(found, read(vae, vae.decode(vae.join(z_c, z_s)), y))


def test_flipped_attributes_come_from_their_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FLIPPED, 1.0)
    vae, x = toy(), points(4)
    y = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    with torch.no_grad():
        vae.prior_raw_scale.fill_(SHARP)
        vae.prior_loc.mul_(1000)  # so that 1e-3, the least scale, is nothing beside it
        vae.prior_loc.clamp_(-2, 2)
    z_c, z_s = latents(vae, x)
    flipped = vae.p_z_c(1 - y.t()).mean
    expected = read(vae, vae.decode(vae.join(flipped, z_s)), 1 - y)
    torch.testing.assert_close(intervention_consistency(vae, z_c, z_s, y.t()), expected, atol=0.05, rtol=0.05)
    assert (flipped - z_c).abs().min() > 0.05


def test_classes_are_set_to_any(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, x = toy(CLASSES, 5), points(6)
    with torch.no_grad():
        vae.prior_raw_scale.fill_(SHARP)
    wanted = torch.tensor([0, 1, 2, 0, 1, 2])
    monkeypatch.setattr(torch, "randint_like", lambda *_: wanted)
    now = torch.tensor([1, 1, 0, -1, 0, 2])
    z_c, z_s = latents(vae, x)
    guess = torch.where(now == -1, vae.log_q_y(z_c).argmax(-1), now)
    z = torch.where((guess != wanted)[:, None], vae.p_z_c(wanted).mean, z_c)
    expected = read(vae, vae.decode(vae.join(z, z_s)), wanted)
    torch.testing.assert_close(intervention_consistency(vae, z_c, z_s, now), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("labels", [TWO, CLASSES])
def test_the_gradient_reaches_the_decoder_alone(labels: object) -> None:
    vae, x = toy(labels, 5), points(8)
    q_c, q_s = vae.q_z_given(x)
    y = torch.full((2, 8) if labels is TWO else (8,), -1)
    intervention_consistency(vae, q_c.rsample(), q_s.rsample(), y).sum().backward()
    reached = {
        name.split(".")[0] for name, p in vae.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached == {"decoder"}


def test_it_counts_in_training_alone_and_by_its_weight() -> None:
    x, y, losses = points(8), MIXED[torch.arange(8) % 5], {}
    for weight in (0.0, 10.0, 20.0):
        vae = toy(intervention_consistency=weight)
        for training in (False, True):
            vae.train(training)
            torch.manual_seed(0)
            losses[weight, training] = vae.objective().differentiable_loss(vae.model, vae.guide, x, y).item()
    assert losses[0.0, False] == losses[20.0, False] == losses[0.0, True]
    assert losses[20.0, True] - losses[0.0, True] == pytest.approx(2 * (losses[10.0, True] - losses[0.0, True]))
    assert losses[20.0, True] > losses[0.0, True] + 1e-3


@pytest.mark.parametrize("labels", [TWO, CLASSES], ids=["attributes", "classes"])
@pytest.mark.parametrize("n", [5, 16, 40])
def test_an_eighth_of_the_rows_stands_for_all(labels: Any, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over some rows, drawn without repetition, times the number of all."""
    seen: list[Tensor] = []

    def known(vae: ReVAE, z_c: Tensor, z_s: Tensor, y: Tensor) -> Tensor:
        seen.append(z_s)
        assert z_c.shape[-2] == y.shape[-1] == len(z_s)
        return torch.full((len(z_s),), -2.5, dtype=z_s.dtype)

    monkeypatch.setattr("pyro_ssvae.infer.ccvae_bound.intervention_consistency", known)
    x, losses = points(n), []
    for weight in (0.0, 3.0):
        vae = toy(labels, 5, intervention_consistency=weight).train()
        vae.set_progress(0.25)  # half of the weight
        torch.manual_seed(0)
        losses.append(vae.objective().differentiable_loss(vae.model, vae.guide, x, None))
    torch.testing.assert_close(losses[1] - losses[0], torch.tensor(0.5 * 3.0 * 2.5 * n, dtype=torch.float64))
    assert len(seen) == 1
    assert len(seen[0]) == max(2, n // 8) == len(seen[0].unique(dim=0)), "batch normalisation needs two"


def test_any_rows_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of five: one of them is missed by 40 batches with a probability of .6^40, 1e-9."""
    seen: list[Tensor] = []

    def known(vae: ReVAE, z_c: Tensor, z_s: Tensor, y: Tensor) -> Tensor:
        seen.append(z_s.detach())
        return z_s.sum(-1)

    monkeypatch.setattr("pyro_ssvae.infer.ccvae_bound.intervention_consistency", known)
    vae, x = toy(TWO, 5, intervention_consistency=3.0).train(), points(5)
    with torch.no_grad():  # a draw then says which row it is of
        vae.q_z.weight[5:].zero_()
        vae.q_z.bias[5:].fill_(SHARP)
    for _ in range(40):
        vae.objective().differentiable_loss(vae.model, vae.guide, x, None)
    rows = torch.cdist(torch.cat(seen), vae.q_z_given(x)[1].mean.detach()).argmin(1)
    assert len(rows.unique()) == 5


def test_a_batch_repeated_eight_times_has_eight_times_the_term() -> None:
    """On average over the rows that are drawn."""

    def term(x: Tensor) -> Tensor:
        draws = []
        for seed in range(40):
            losses = []
            for weight in (0.0, 1.0):
                vae = toy(intervention_consistency=weight).train()
                torch.manual_seed(seed)
                losses.append(vae.objective().differentiable_loss(vae.model, vae.guide, x, None).detach())
            draws.append(losses[1] - losses[0])
        return torch.stack(draws)

    x = points(4)
    once, repeated = term(x), term(x.repeat(8, 1))
    error = (64 * once.var() / 40 + repeated.var() / 40).sqrt()
    assert abs(repeated.mean() - 8 * once.mean()) < 4.5 * error < repeated.mean()


def test_three_attributes_in_ten_are_set_anew() -> None:
    y = torch.randint(0, 2, (20, 1000))
    changed = (flipped(y) != y).double().mean(1)
    assert abs(changed.mean() - 0.3) < 4.5 * (0.3 * 0.7 / 20_000) ** 0.5
    assert (abs(changed - 0.3) < 4.5 * (0.3 * 0.7 / 1000) ** 0.5).all(), "every attribute as often"
    assert set(flipped(y).unique().tolist()) == {0, 1}


def test_by_default_it_weighs_as_much_beside_any_number_of_values() -> None:
    def weight(*shape: int, **options: float) -> float:
        model: Any = create_model("revae", input_shape=shape, labels=TWO, latent_dim=12, **options)
        return float(model.consistency)

    assert weight(3, 64, 64) == pytest.approx(20)
    assert weight(1, 16, 16) == pytest.approx(20 / 48)
    assert weight(1, 16, 16, intervention_consistency=7.0) == 7


def test_it_grows_while_training() -> None:
    vae = toy(intervention_consistency=20.0)
    shares = []
    for progress in (0.0, 0.1, 0.25, 0.4, 1.0):
        vae.set_progress(progress)
        shares.append(vae.head_terms.warmup.item())
    assert shares == pytest.approx([0, 0, 0.5, 1, 1])


def test_every_part_keeps_its_mode() -> None:
    vae = toy(intervention_consistency=20.0).train()
    vae.encoder[1].eval()  # frozen by its owner
    modes = [part.training for part in vae.modules()]
    vae.objective().differentiable_loss(vae.model, vae.guide, points(4), None).backward()
    assert [part.training for part in vae.modules()] == modes


def test_running_means_of_the_encoder_see_real_points_alone() -> None:
    norm, decoder = nn.BatchNorm1d(3), nn.Linear(3, 3)
    vae = (
        ReVAE(nn.Sequential(norm, nn.Linear(3, 4)), decoder, TWO, latent_dim=3, intervention_consistency=20.0)
        .double()
        .train()
    )
    x = points(8)
    vae.objective().differentiable_loss(vae.model, vae.guide, x, None)
    assert int(norm.num_batches_tracked) == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean(0))
