"""A batch that several processes share: sums over all of them make the result that of one process.

A loss is a sum over rows, so gradients are summed, not averaged, by one flat all-reduce a step: that serves parameters
of ``pyro.param``, parameters without a gradient and captured programs, none of which PyTorch's
``DistributedDataParallel`` knows. Inside :func:`shared_batch` batch normalisation and running means see the whole
batch. In a single process nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as collectives
from torch import Tensor

_sharing = False
_of_one_process = torch.batch_norm


def broadcast(tensors: Sequence[Tensor]) -> None:
    """Copy the first process's values to every process, in place."""
    for tensor in tensors:
        value = tensor.detach().contiguous()
        dist.broadcast(value, 0)
        with torch.no_grad():
            tensor.copy_(value)


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed PyTorch's generator by step and process, whatever was drawn before."""
    torch.manual_seed(int(np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)[0] >> 1))


def sum_gradients(parameters: Sequence[Tensor], numbers: Tensor) -> Tensor:
    """Sum every parameter's ``grad`` (0 where it is None) and some numbers over the processes.

    :returns: the sums of the numbers.
    """
    sums = numbers.clone()
    by_dtype: dict[torch.dtype, list[Tensor]] = {sums.dtype: [sums]}
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        by_dtype.setdefault(p.grad.dtype, []).append(p.grad)
    for parts in by_dtype.values():
        flat = torch.cat([part.reshape(-1) for part in parts])
        dist.all_reduce(flat)
        for part, summed in zip(parts, flat.split([part.numel() for part in parts])):
            part.copy_(summed.view(part.shape))
    return sums


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        group: Any = dist.group.WORLD
        return collectives.wait_tensor(collectives.all_reduce(own.contiguous(), "sum", group))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0])


def all_reduce_sum(own: Tensor) -> Tensor:
    """Return the sum over the processes that share a batch, with its gradient; outside of one the tensor itself."""
    return _AllReduceSum.apply(own) if _sharing else own


@contextmanager
def shared_batch() -> Iterator[None]:
    """Within it, this process's rows are a part of a batch that all processes share."""
    global _sharing
    _sharing = True
    try:
        with patch("torch.batch_norm", batch_norm):  # what nn.BatchNorm*d calls
            yield
    finally:
        _sharing = False


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Tensor:
    """``torch.batch_norm`` with mean and variance over the rows of all processes (PyTorch's own needs GPUs).

    Counts, means and variances are joined, not sums of squares, which would cost precision.
    """
    if not training:
        return _of_one_process(x, weight, bias, running_mean, running_var, training, momentum, eps, cudnn)
    dims, n = [0, *range(2, x.dim())], x.numel() // x.shape[1]
    values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    var, mean = torch.var_mean(values, dims, correction=0) if n else (values.new_zeros(2, x.shape[1])).unbind()
    own = torch.cat([values.new_full((1,), n), mean, var])
    here = torch.arange(dist.get_world_size(), device=x.device) == dist.get_rank()
    counts, means, vars_ = all_reduce_sum(here.unsqueeze(1) * own).split([1, x.shape[1], x.shape[1]], 1)
    count = counts.detach().sum()
    share = counts.detach() / count
    mean = (share * means).sum(0)
    var = (share * (vars_ + (means - mean).square())).sum(0)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.detach().to(running_mean), momentum)
            running_var.lerp_((var.detach() * count / (count - 1)).to(running_var), momentum)
    shape = (1, -1) + (1,) * (x.dim() - 2)
    scale = (var + eps).rsqrt() if weight is None else weight * (var + eps).rsqrt()
    out = (values - mean.reshape(shape)) * scale.reshape(shape)
    return (out if bias is None else out + bias.reshape(shape)).to(x.dtype)
