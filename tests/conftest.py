from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of every process that a test starts: workers share the cores


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
