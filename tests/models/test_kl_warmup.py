"""β grows with the progress, in the objective alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import CLASSES, make, points, some_labels

from pyro_ssvae import InputError, fit
from pyro_ssvae.infer import bounds

MODELS = ("vae", "m1", "m2", "m1+m2", "adgm", "mvae", "diva", "augmented")


@pytest.mark.parametrize("name", MODELS)
def test_a_share_of_beta_is_a_smaller_beta(name: str) -> None:
    torch.set_default_dtype(torch.float64)
    model = make(name, beta=2.0, kl_warmup=0.5).double().eval()
    x, y = points(6), some_labels(CLASSES, 6)

    def loss(model: Any, progress: float) -> float:
        model.set_progress(progress)
        if hasattr(model, "head_terms"):
            model.head_terms.set_progress(1.0)  # which grows too
        torch.manual_seed(1)
        return float(model.objective().loss(model.model, model.guide, x, y))

    for progress, beta in ((0.0, 0.0), (0.125, 0.5), (0.25, 1.0), (0.5, 2.0), (0.9, 2.0)):
        plain = make(name, beta=beta).double().eval()
        assert loss(model, progress) == pytest.approx(loss(plain, 1.0), rel=1e-10), progress
    assert loss(model, 0.0) != pytest.approx(loss(model, 1.0))


def test_without_a_schedule_beta_is_whole_and_bounds_never_scale() -> None:
    torch.set_default_dtype(torch.float64)
    model, plain = (make("augmented", kl_warmup=share).double().eval() for share in (0.5, 0.0))
    x = points(6)
    found = []
    for progress in (None, 0.0, 0.25):
        if progress is not None:
            model.set_progress(progress)
        torch.manual_seed(1)
        found.append(bounds.elbo(model, x))
    torch.manual_seed(1)
    expected = bounds.elbo(plain, x)
    assert all(torch.equal(one, expected) for one in found)
    assert "kl_share" not in model.state_dict()


def test_after_training_beta_is_whole() -> None:
    model = make("vae", kl_warmup=1.0).float()
    seen = []
    fit(
        model,
        points(64),
        epochs=4,
        batch_size=16,
        progress=False,
        on_epoch=lambda row: seen.append(model.kl_share.item()),
    )
    assert seen == [(4 * e - 1) / 16 for e in (1, 2, 3, 4)]
    assert model.kl_share == 1.0


def test_a_share_is_between_0_and_1() -> None:
    with pytest.raises(InputError, match=r"kl_warmup: 1\.5; a number from 0 to 1 is needed"):
        make("vae", kl_warmup=1.5)
