"""A program of tensors recorded once as a CUDA graph, whose kernels a GPU then launches by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UPS = 3  # runs before the recording, in which libraries choose their kernels and take their memory


class Recorded:
    """A function of a batch, recorded at the shapes of one; its results stay in the same memory from call to call.

    Tensors that the program changes in place are changed at every call, as without a recording; what the runs before
    it and the recording did to them is undone, and so is their use of random numbers.

    :param run: the program, a function of the batch and further tensors.
    :param batch: tensors of the shapes to come.
    :param inputs: the further tensors, which keep their places.
    :param changed: those of them that the program may change.
    :raises RuntimeError: the program waits for the GPU somewhere; all is then as it was.
    """

    def __init__(
        self,
        run: Callable[..., Sequence[Tensor]],
        batch: Sequence[Tensor],
        inputs: Sequence[Tensor],
        changed: Sequence[Tensor],
    ) -> None:
        self.run = run  # it holds constants, whose memory the graph reads
        self.batch = [t.clone() for t in batch]
        device = self.batch[0].device
        before, random = [t.clone() for t in changed], torch.cuda.get_rng_state(device)
        outside, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        stream.wait_stream(outside)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                run(*self.batch, *inputs)
        outside.wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph):
                self.results = run(*self.batch, *inputs)
        except RuntimeError:  # PyTorch leaves its stream and its generator as within a recording
            torch.cuda.set_stream(outside)
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            generator.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
            raise
        finally:
            for t, value in zip(changed, before):
                t.copy_(value)
            torch.cuda.set_rng_state(random, device)

    def __call__(self, *batch: Tensor) -> Sequence[Tensor]:
        """Return the results for this batch, which the next call overwrites."""
        for place, t in zip(self.batch, batch):
            place.copy_(t)
        self.graph.replay()
        return self.results
