"""Mixed precision: networks compute in 16 bits, everything of probability in 32.

Log-probabilities are sums over thousands of pixels, and a bound is the difference of such sums: in bfloat16, which has
8 bits of precision, nothing would be left of them. So autocast is on inside the networks alone, and what they return to
the Pyro programs is float32 again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..infer.pairs import networks

Autocast = Callable[[], AbstractContextManager[object]]
NARROW = (torch.bfloat16, torch.float16)


@contextmanager
def mixed_networks(pair: nn.Module, autocast: Autocast, more: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Within it the networks of a pair, of pairs in it, and some more run in ``autocast()`` and return float32."""
    entered: list[AbstractContextManager[object]] = []

    def enter(network: nn.Module, inputs: object) -> None:
        entered.append(autocast())
        entered[-1].__enter__()

    def leave(network: nn.Module, inputs: object, output: object) -> object:
        entered.pop().__exit__(None, None, None)
        return widened(output)

    handles = []
    for network in [*networks(pair), *more]:
        handles += [network.register_forward_pre_hook(enter), network.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def widened(output: object) -> object:
    """Return 16-bit tensors as float32, alone, in tuples and lists, or in distributions; all else as it is."""
    if isinstance(output, Tensor):
        return output.float() if output.dtype in NARROW else output
    if type(output) in (tuple, list):
        return type(output)(map(widened, output))  # type: ignore
    if isinstance(output, Distribution):
        held = vars(output)
        held.update({name: widened(value) for name, value in held.items() if isinstance(value, (Tensor, Distribution))})
    return output
