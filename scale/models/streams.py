"""The two feature extractors: a small residual network in two or in three dimensions that yields a pyramid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scale.models.layers import ResidualBlock, conv, conv3d, norm


class Stem(nn.Module):
    """Two convolutions for samples of any size: one on every pixel, then one that halves the edges.

    Between them stands a non-linearity, so that what is small is found before it is thinned out; a single strided
    convolution of the same reach learns lesions of few voxels more slowly (`docs/research_log.md`).

    A reduced sample has twice the channels (see `lifting.shrink`); the weights of the second half rest otherwise. One
    tensor of weights, of which a part is used, keeps every parameter in the graph whatever the size.

    Args:
        in_channels: channels of a sample that was not reduced.
        out_channels: channels of the result; the first convolution has half of them.
        spatial_dims: 2 or 3.
    """

    def __init__(self, in_channels: int, out_channels: int, *, spatial_dims: int) -> None:
        super().__init__()
        self.in_channels, inner = in_channels, max(1, out_channels // 2)
        self.convolve: Callable[..., Tensor] = conv3d if spatial_dims == 3 else F.conv2d
        self.weight = nn.Parameter(torch.empty(inner, 2 * in_channels, *(3,) * spatial_dims))
        nn.init.kaiming_normal_(self.weight[:, :in_channels], mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(self.weight[:, in_channels:], mode="fan_out", nonlinearity="relu")
        self.norm1 = norm(inner, spatial_dims=spatial_dims)
        self.relu1 = nn.ReLU()
        self.halve = conv(inner, out_channels, spatial_dims=spatial_dims, stride=2)
        self.norm2 = norm(out_channels, spatial_dims=spatial_dims)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C or 2C, *S); returns (B, out_channels, *S / 2)."""
        weight = self.weight[:, : x.shape[1]]
        # cuDNN's gradient of a few channels' weights takes three quarters of a step in float32
        learns = x.device.type == "cuda" and self.training
        y = by_products(x, weight) if learns else self.convolve(x, weight, padding=1)
        return self.relu2(self.norm2(self.halve(self.relu1(self.norm1(y)))))


def by_products(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution that keeps the size as one product of matrices: of the neighbourhoods of all pixels, side by side.

    Args:
        x: (B, C, *S).
        weight: (out_channels, C, 3, 3[, 3]).

    Returns:
        (B, out_channels, *S), channels last in memory.
    """
    dims = x.ndim - 2
    around = F.pad(x, (1, 1) * dims)
    for axis in range(2, 2 + dims):
        around = around.unfold(axis, 3, 1)  # (B, C, *S, 3, ...)
    return F.linear(around.movedim(1, 1 + dims).flatten(1 + dims), weight.flatten(1)).movedim(-1, 1)


class Stream(nn.Module):
    """Stem and three stages: fine, middle, coarse, each with half the edge of the one before.

    Args:
        in_channels: channels of the view.
        spatial_dims: 2 for the planar stream, 3 for the volumetric one.
        widths: channels of the three levels.
        depths: residual blocks of the three levels.
        drop_path: rate of the deepest block; it grows linearly from 0.
    """

    def __init__(
        self, in_channels: int, *, spatial_dims: int, widths: Sequence[int], depths: Sequence[int], drop_path: float
    ) -> None:
        super().__init__()
        self.memory_format = {2: torch.channels_last, 3: torch.channels_last_3d}[spatial_dims]
        self.stem = Stem(in_channels, widths[0], spatial_dims=spatial_dims)
        rates = iter(torch.linspace(0, drop_path, sum(depths)).tolist())
        self.levels = nn.ModuleList()
        for level, (before, width) in enumerate(pairwise((widths[0], *widths))):
            blocks = [
                ResidualBlock(
                    before if block == 0 else width,
                    width,
                    spatial_dims=spatial_dims,
                    stride=2 if level > 0 and block == 0 else 1,
                    drop_path=next(rates),
                )
                for block in range(depths[level])
            ]
            self.levels.append(nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: a view (B, C, *S); returns the levels [(B, widths[i], *S / 2^(i + 1))], fine first."""
        x = self.stem(x.contiguous(memory_format=self.memory_format))
        pyramid = []
        for level in self.levels:
            x = level(x)
            pyramid.append(x)
        return pyramid
