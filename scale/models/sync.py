"""Batch normalisation over the batch of all processes, on any device; torch's own needs a GPU."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SumOfProcesses(torch.autograd.Function):
    """Adds up a tensor of all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """x: alike in shape on all processes; returns the sum."""
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """gradients: of one tensor; returns their sum over the processes."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SyncBatchNorm(_BatchNorm):
    """Statistics of all processes' samples, of which each has the same number (arXiv:1803.08904)."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch normalisation takes (B, C, ...), but got {tuple(input.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, *S); returns the same shape."""
        self._check_input_dim(x)
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if not self.training or processes == 1:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        axes, shape = [0, *range(2, x.ndim)], (1, -1) + (1,) * (x.ndim - 2)
        count = x.numel() // x.shape[1] * processes
        mean = self._sum(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = self._sum(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if not self.affine:
            return scaled
        return torch.addcmul(self.bias.view(shape), scaled, self.weight.view(shape))

    def _sum(self, x: Tensor) -> Tensor:
        return cast(Tensor, SumOfProcesses.apply(x))


def synchronise(model: nn.Module) -> nn.Module:
    """Lets every batch normalisation inside `model` take the statistics of all processes; weights and names stay."""
    for module in model.modules():
        if type(module) in PLAIN:
            module.__dict__["plain"] = type(module)
            module.__class__ = SyncBatchNorm
    return model


def separate(model: nn.Module) -> nn.Module:
    """Undoes `synchronise`."""
    for module in model.modules():
        if isinstance(module, SyncBatchNorm):
            module.__class__ = module.__dict__.pop("plain")
    return model
