"""A network's training pass as CUDA graphs: two launches instead of many hundred."""

from typing import Any, cast

import torch
from torch import Tensor, nn


class _Pass(nn.Module):
    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.net, self.name = net, name

    def forward(self, images: Tensor) -> Any:
        return getattr(self.net, self.name)(images)


class GraphedPass:
    """One method of a network, recorded at its first call and replayed from then on, forward and backward.

    A small network's kernels are shorter than their launches, so that a GPU waits for the CPU most of the time. A
    batch of another shape than the first one runs as without graphs. What a call returns holds until the next one.

    Args:
        net: on a GPU, in training mode at the first call.
        name: of the method; it takes one tensor and returns tensors, in tuples and dicts.
    """

    def __init__(self, net: nn.Module, name: str) -> None:
        self._pass = _Pass(net, name)
        self._shape: torch.Size | None = None
        self._graphed: Any = None

    def __call__(self, images: Tensor) -> Any:
        """images: (B, C, *S); returns what the method does."""
        if self._graphed is None:
            self._shape, self._graphed = images.shape, self._recorded(images)
        return self._graphed(images) if images.shape == self._shape else self._pass(images)

    def _recorded(self, images: Tensor) -> Any:
        """Recording runs the pass a few times: statistics and random numbers are then as if it had not."""
        buffers = [(buffer, buffer.clone()) for buffer in self._pass.net.buffers()]
        random = torch.cuda.get_rng_state(images.device)
        mixed = torch.is_autocast_enabled("cuda")
        with torch.autocast("cuda", dtype=torch.get_autocast_dtype("cuda"), enabled=mixed, cache_enabled=False):
            recorded = _Pass(self._pass.net, self._pass.name)
            graphed = torch.cuda.make_graphed_callables(recorded, (images.clone(),), allow_unused_input=True)
        torch.cuda.set_rng_state(random, images.device)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        return cast(Any, graphed)
