from __future__ import annotations

from collections.abc import Iterator

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def clean_state() -> Iterator[None]:
    """Every test begins with the same noise, an empty parameter store, float32 and Pyro's checks on."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    with pyro.validation_enabled():
        yield
    torch.set_default_dtype(torch.float32)
    pyro.clear_param_store()
