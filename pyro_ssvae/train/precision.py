"""Mixed precision: networks compute in 16 bits, everything of probability in 32.

Log-probabilities are sums over thousands of pixels, and a bound is the difference of such sums: in bfloat16, which has
8 bits of precision, nothing would be left of them. So autocast is on inside the networks alone, and what they hand to
the Pyro programs is float32 again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NARROW = (torch.bfloat16, torch.float16)


@contextmanager
def mixed_networks(model: nn.Module, autocast: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """For a while, the networks of a pair, and of pairs in it, run in ``autocast()`` and return float32."""
    entered: list[AbstractContextManager[Any]] = []

    def enter(network: nn.Module, inputs: Any) -> None:
        entered.append(autocast())
        entered[-1].__enter__()

    def leave(network: nn.Module, inputs: Any, output: Any) -> Any:
        entered.pop().__exit__(None, None, None)
        return widened(output)

    handles = []
    for network in networks(model):
        handles += [network.register_forward_pre_hook(enter), network.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def networks(model: nn.Module) -> Iterator[nn.Module]:
    """The parts of a pair, and of the pairs in it, that are called as networks."""
    seen: set[int] = set()
    for part in model.children():
        if hasattr(part, "model") and hasattr(part, "guide"):
            yield from networks(part)
        elif id(part) not in seen:
            seen.add(id(part))
            yield part


def widened(output: Any) -> Any:
    """16-bit tensors as float32, alone or in tuples and lists; all else as it is."""
    if isinstance(output, Tensor):
        return output.float() if output.dtype in NARROW else output
    if type(output) in (tuple, list):
        return type(output)(map(widened, output))
    return output
