"""The official MedMNIST baselines: residual networks for small images, in two and in three dimensions."""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from scale.models.layers import Conv3d, Intermediates, conv3d, level_statistics, norm
from scale.utils.choices import check_choice

CONVOLUTIONS = ("3d", "2.5d", "acs")


class FlatConv3d(nn.Module):
    """A 3D convolution with the kernels of a 2D one.

    `2.5d` lays every kernel in the plane of the last two axes. `acs` shares the output channels out among the axial,
    coronal and sagittal planes, the first planes getting one more where they do not divide by three
    (doi:10.1109/JBHI.2021.3049452).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int, padding: int, acs: bool
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        third = [out_channels // 3 + (plane < out_channels % 3) for plane in range(3)]
        self.split = third if acs else [out_channels, 0, 0]
        # a 2D convolution's own weights and their initialisation
        self.weight = nn.Conv2d(in_channels, out_channels, kernel, bias=False).weight

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, D, H, W); returns (B, out_channels, D', H', W')."""
        parts = []
        for axis, weight in enumerate(self.weight.split(self.split)):
            if len(weight):
                padding = [0 if i == axis else self.padding for i in range(3)]
                parts.append(conv3d(x, weight.unsqueeze(2 + axis), stride=self.stride, padding=padding))
        return torch.cat(parts, dim=1)


def convolution(
    in_channels: int, out_channels: int, kernel: int, *, spatial_dims: int, kind: str, stride: int = 1
) -> nn.Module:
    """A convolution without bias that keeps the size, divided by `stride`."""
    padding = kernel // 2
    if spatial_dims == 2:
        return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False)
    if kind == "3d":
        dense = Conv3d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False)
        with torch.no_grad():  # the official code starts from a 2D kernel, spread evenly over the depth
            dense.weight.copy_(nn.Conv2d(in_channels, out_channels, kernel).weight.unsqueeze(2) / kernel)
        return dense
    return FlatConv3d(in_channels, out_channels, kernel, stride=stride, padding=padding, acs=kind == "acs")


class Block(nn.Module):
    """A basic block of two convolutions, or a bottleneck of three that ends four times as wide."""

    def __init__(
        self, in_channels: int, width: int, *, bottleneck: bool, stride: int, spatial_dims: int, kind: str
    ) -> None:
        super().__init__()
        out_channels = width * (4 if bottleneck else 1)
        plan = [(1, 1, width), (3, stride, width), (1, 1, out_channels)] if bottleneck else []
        plan = plan or [(3, stride, width), (3, 1, width)]
        self.convolutions, self.norms, self.relus = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = in_channels
        for kernel, step, after in plan:
            self.convolutions.append(
                convolution(before, after, kernel, stride=step, spatial_dims=spatial_dims, kind=kind)
            )
            self.norms.append(norm(after, spatial_dims=spatial_dims))
            self.relus.append(nn.ReLU())
            before = after
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                convolution(in_channels, out_channels, 1, stride=stride, spatial_dims=spatial_dims, kind=kind),
                norm(out_channels, spatial_dims=spatial_dims),
            )

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, *S); returns (B, C', *S / stride)."""
        shortcut = self.shortcut(x)
        layers = list(zip(self.convolutions, self.norms, self.relus, strict=True))
        for layer, (convolve, normalise, relu) in enumerate(layers):
            x = normalise(convolve(x))
            x = relu(x + shortcut if layer == len(layers) - 1 else x)
        return x


class ResNet(nn.Module):
    """ResNet-18 or -50 as in the official MedMNIST code: 3x3 stem, stride 1, no max pooling (doi:10.1109/CVPR.2016.90).

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: channels of a sample.
        outputs: width of the logits.
        depth: 18 or 50.
        conv: convolutions for volumes: `3d`, `2.5d` or `acs`; images always have 2D ones.
        rgb: repeat the channel of a grey image three times, as the official code does; volumes keep theirs.

    Raises:
        ValueError: for a value that does not exist; says which are allowed.
    """

    def __init__(
        self, *, spatial_dims: int, in_channels: int, outputs: int, depth: int = 18, conv: str = "3d", rgb: bool = True
    ) -> None:
        super().__init__()
        check_choice("spatial_dims", spatial_dims, (2, 3))
        check_choice("depth", depth, (18, 50))
        check_choice("conv", conv, CONVOLUTIONS)
        self.spatial_dims, self.in_channels, self.outputs = spatial_dims, in_channels, outputs
        self.repeats = 3 if rgb and in_channels == 1 and spatial_dims == 2 else 1
        self.stem = convolution(in_channels * self.repeats, 64, 3, spatial_dims=spatial_dims, kind=conv)
        self.norm = norm(64, spatial_dims=spatial_dims)
        self.relu = nn.ReLU()
        blocks: list[nn.Module] = []
        before = 64
        for stage, count in enumerate((2, 2, 2, 2) if depth == 18 else (3, 4, 6, 3)):
            width = 64 * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(
                    Block(before, width, bottleneck=depth == 50, stride=stride, spatial_dims=spatial_dims, kind=conv)
                )
                before = width * (4 if depth == 50 else 1)
        self.blocks = nn.Sequential(*blocks)
        self.ends = list(itertools.accumulate((2, 2, 2, 2) if depth == 18 else (3, 4, 6, 3)))  # of the stages
        self.num_features = before
        self.head = nn.Linear(before, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised samples (B, C, *S); returns logits (B, outputs)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """x: (B, C, *S); returns what the head reads (B, num_features)."""
        features: Tensor = self.blocks(self._begin(x))
        return features.flatten(2).mean(dim=2)

    def forward_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, C, *S).

        Returns:
            What the head reads (B, num_features), and mean and spread of each channel at the end of each stage.
        """
        levels: list[Tensor] = []
        x = self._begin(x)
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in self.ends:
                levels.append(x)
        return levels[-1].flatten(2).mean(dim=2), level_statistics(levels, x.shape[0])

    def _begin(self, x: Tensor) -> Tensor:
        """x: (B, C, *S); returns what the blocks take."""
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            wanted = f"(batch, {self.in_channels}, {', '.join('DHW'[-self.spatial_dims :])})"
            raise ValueError(f"the network takes samples {wanted}, but got {tuple(x.shape)}")
        x = x.repeat(1, self.repeats, *(1,) * self.spatial_dims)
        return cast(Tensor, self.relu(self.norm(self.stem(x))))

    def forward_head(self, features: Tensor) -> Tensor:
        """features: (B, num_features); returns logits (B, outputs)."""
        logits: Tensor = self.head(features)
        return logits

    def forward_intermediates(self, x: Tensor) -> Intermediates:
        """x: (B, C, *S); returns the features; a residual network has no attention to show, so the rest is empty."""
        return Intermediates(self.forward_features(x), {}, {}, None, {})
