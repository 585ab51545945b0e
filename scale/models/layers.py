"""Small building blocks for two and three dimensions, and the two numbers a network is compared by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


class Intermediates(NamedTuple):
    """What the network looked at.

    Attributes:
        features: (B, num_features), what the head reads.
        scale_attention: for each stream the weights of the levels on the middle grid, which sum to 1 over the levels:
            `planar` (B, images, levels, H, W), `volumetric` (B, levels, D, H, W). Empty without scale attention.
        cross_attention: `planar` (B, heads, N, M): planar tokens read volumetric ones; `volumetric` (B, heads, M, N).
            Rows sum to 1. Empty without cross-modal attention.
        stream_gate: (B, 2), planar and volumetric, sums to 1; None where there is no gate.
        positions: for each stream the coordinates (N, 3) of its tokens in the common frame [-1, 1]^3.
    """

    features: Tensor
    scale_attention: dict[str, Tensor]
    cross_attention: dict[str, Tensor]
    stream_gate: Tensor | None
    positions: dict[str, Tensor]


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
) -> Tensor:
    """`torch.nn.functional.conv3d`, in float32 where mixed precision meets a CPU.

    oneDNN's bfloat16 gradient of the weights holds uninitialised memory where an edge is shorter than the kernel
    (seen with torch 2.6 to 2.15).
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return F.conv3d(x.float(), weight, bias, stride=stride, padding=padding)
    return F.conv3d(x, weight, bias, stride=stride, padding=padding)


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` by `conv3d`."""

    def forward(self, input: Tensor) -> Tensor:
        """input: (B, C, D, H, W); returns (B, out_channels, *S)."""
        return conv3d(input, self.weight, self.bias, stride=self.stride, padding=self.padding)


def conv(
    in_channels: int, out_channels: int, *, spatial_dims: int, kernel: int = 3, stride: int = 1, bias: bool = False
) -> nn.Module:
    """A convolution in two or three dimensions that keeps the size (divided by `stride`, rounded up)."""
    kind = {2: nn.Conv2d, 3: Conv3d}[spatial_dims]
    return kind(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=bias)


def norm(channels: int, *, spatial_dims: int) -> nn.Module:
    """Batch normalisation in two or three dimensions."""
    return {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[spatial_dims](channels)


def level_statistics(levels: Sequence[Tensor], batch: int) -> Tensor:
    """Mean and spread of each channel of feature maps: what an image looks like to a network, whatever it shows.

    Args:
        levels: (B * images, C, *S) each, where a sample may be several images.
        batch: B.

    Returns:
        (B, 2 * sum of C): means and standard deviations over images and positions.
    """
    parts = []
    for level in levels:
        flat = level.reshape(batch, -1, level.shape[1], math.prod(level.shape[2:])).transpose(1, 2).flatten(2)
        parts += [flat.mean(dim=2), (flat.var(dim=2, correction=0) + 1e-8).sqrt()]
    return torch.cat(parts, dim=1)


def shared_batch() -> bool:
    """Whether several processes share the batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def shared_rand(shape: Sequence[int], *, device: torch.device) -> Tensor:
    """Uniform numbers of `shape` (B, ...): this process' rows of one draw for the batch of all processes.

    Processes that were seeded alike so draw what a single one would have drawn for the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return torch.rand(tuple(shape), device=device)
    rows, rank = shape[0], dist.get_rank()
    drawn = torch.rand((rows * dist.get_world_size(), *shape[1:]), device=device)
    return drawn[rank * rows : (rank + 1) * rows]


class Dropout(nn.Module):
    """Sets single values to zero (JMLR 15:1929), alike for one process and for several that share the batch.

    Args:
        rate: probability of each value, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, ...); returns the same shape, what remains scaled up."""
        if not self.training or self.rate == 0.0:
            return x
        keep = shared_rand(x.shape, device=x.device) >= self.rate
        return x * (keep / (1.0 - self.rate)).to(x.dtype)


class DropPath(nn.Module):
    """Drops a whole residual branch for a random part of the samples (doi:10.1007/978-3-319-46493-0_39).

    Args:
        rate: probability that a sample loses the branch, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x: the branch (B, ...); returns it with whole samples set to zero and the rest scaled up."""
        if not self.training or self.rate == 0.0:
            return x
        keep = shared_rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * (keep / (1.0 - self.rate)).to(x.dtype)


class SqueezeExcitation(nn.Module):
    """Channel attention from the spatial mean (doi:10.1109/CVPR.2018.00745)."""

    def __init__(self, channels: int, *, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(8, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.relu = nn.ReLU()
        self.excite = nn.Linear(hidden, channels)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, *S); returns the same shape, each channel weighted in (0, 1)."""
        weights = self.sigmoid(self.excite(self.relu(self.squeeze(x.flatten(2).mean(dim=2)))))
        return x * weights.reshape(*weights.shape, *(1,) * (x.ndim - 2))


class ResidualBlock(nn.Module):
    """Two 3x3 (x3) convolutions with batch normalisation and channel attention, around a shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, *, spatial_dims: int, stride: int = 1, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, spatial_dims=spatial_dims, stride=stride)
        self.norm1 = norm(out_channels, spatial_dims=spatial_dims)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(out_channels, out_channels, spatial_dims=spatial_dims)
        self.norm2 = norm(out_channels, spatial_dims=spatial_dims)
        self.attention = SqueezeExcitation(out_channels)
        self.drop_path = DropPath(drop_path)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv(in_channels, out_channels, spatial_dims=spatial_dims, kernel=1, stride=stride),
                norm(out_channels, spatial_dims=spatial_dims),
            )

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, *S); returns (B, C', *S / stride)."""
        branch = self.relu1(self.norm1(self.conv1(x)))
        branch = self.attention(self.norm2(self.conv2(branch)))
        return self.relu2(self.shortcut(x) + self.drop_path(branch))


def resampling_matrix(before: int, after: int, *, like: Tensor) -> Tensor:
    """The matrix (after, before) that resamples one axis: area mean when it shrinks, linear when it grows.

    Fixed matrices keep the backward pass deterministic on CUDA, which interpolate and adaptive pooling are not.
    """
    target = torch.arange(after, device=like.device, dtype=torch.float32)
    source = torch.arange(before, device=like.device, dtype=torch.float32)
    ratio = before / after
    if after <= before:
        low, high = target[:, None] * ratio, (target[:, None] + 1) * ratio
        overlap = torch.minimum(high, source + 1) - torch.maximum(low, source)
        matrix = overlap.clamp(min=0) / ratio
    else:
        centres = ((target + 0.5) * ratio - 0.5).clamp(0, before - 1)
        matrix = (1 - (centres[:, None] - source).abs()).clamp(min=0)
    return matrix.to(like.dtype)


def resample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Brings the spatial axes to `size`, one axis after the other.

    Args:
        x: (B, *S, C), channels last.
        size: the wanted spatial shape, one number for each spatial axis.

    Returns:
        (B, *size, C): area means where an axis shrinks, linear interpolation where it grows.
    """
    for axis, after in enumerate(size, start=1):
        before = x.shape[axis]
        if before == after:
            continue
        if before == 2 * after:  # the same mean as the matrix gives, without its multiplications
            even, odd = x.unflatten(axis, (after, 2)).unbind(axis + 1)
            x = (even + odd) * 0.5
        else:
            matrix = resampling_matrix(before, after, like=x)
            x = (matrix @ x.flatten(axis + 1)).unflatten(-1, x.shape[axis + 1 :])
    return x


def centres(count: int, *, extent: float, device: torch.device) -> Tensor:
    """Centres of `count` equal cells that fill [-extent, extent]: (count,)."""
    return ((torch.arange(count, device=device, dtype=torch.float32) + 0.5) * 2 / count - 1) * extent


class FourierPosition(nn.Module):
    """A code for points of the common coordinate frame: sines and cosines, then one linear map for all streams.

    Args:
        dim: width of the code.
        octaves: number of frequencies, from half a period across the frame upwards (arXiv:2006.10739).
    """

    def __init__(self, dim: int, *, octaves: int = 4) -> None:
        super().__init__()
        self.octaves = octaves
        self.project = nn.Linear(6 * octaves, dim)

    def forward(self, positions: Tensor) -> Tensor:
        """positions: (N, 3) in [-1, 1]; returns (N, dim)."""
        frequencies = math.pi / 2 * 2.0 ** torch.arange(self.octaves, device=positions.device, dtype=torch.float32)
        angles = (positions[:, :, None] * frequencies).flatten(1)  # (N, 3 * octaves)
        code = torch.cat([angles.sin(), angles.cos()], dim=1).to(self.project.weight.dtype)
        return cast(Tensor, self.project(code))


def parameters(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def macs(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-adds of one evaluation of one sample, attention included.

    Args:
        model: any network; it is put back into the mode it was in.
        input_shape: (C, *S), without the batch.
    """
    was_training = model.training
    parameter = next(model.parameters())
    x = torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype)
    model.eval()
    # the fused CPU kernel of attention is not in torch's table of counted operations; the plain one is
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x)
    model.train(was_training)
    return counter.get_total_flops() // 2
