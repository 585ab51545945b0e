"""Lifting: both views from one sample.

A volume gives slabs along its three axes (planar) and itself (volumetric). An image gives itself (planar) and its
Gaussian scale space (volumetric, the depth axis is the scale). All tokens of both views have a position in one
coordinate frame: the longest edge of the sample spans [-1, 1], so that the frame is isotropic.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scale.models.layers import centres

NOMINAL_SIZE = 28  # the pixels an edge is brought to, about, before the stem


def shrink_factor(shape: tuple[int, ...]) -> int:
    """The whole number by which a sample of spatial shape `shape` is reduced so that its longest edge is about 28."""
    return max(1, round(max(shape) / NOMINAL_SIZE))


def shrink(x: Tensor, factor: int) -> Tensor:
    """Reduces the edges and keeps what the mean would lose.

    Args:
        x: (B, C, *S); edges that `factor` does not divide are filled up with their outermost values, on both sides.
        factor: edge of the blocks that become one cell.

    Returns:
        (B, C, *S) itself for factor 1, else (B, 2C, *S / factor): block means, then block ranges (max - min), which
        hold the small bright and dark structures that a larger picture is wanted for.
    """
    if factor == 1:
        return x
    lacking = [-n % factor for n in reversed(x.shape[2:])]
    if any(lacking):
        x = F.pad(x, [value for n in lacking for value in (n // 2, n - n // 2)], mode="replicate")
    blocks = x
    for axis in range(2, x.ndim):  # (B, C, d, f, h, f, w, f): each axis splits into cells and places within a cell
        place = 2 * axis - 2
        blocks = blocks.unflatten(place, (blocks.shape[place] // factor, factor))
    inside = tuple(range(3, blocks.ndim, 2))
    return torch.cat([blocks.mean(dim=inside), blocks.amax(dim=inside) - blocks.amin(dim=inside)], dim=1)


def gaussian_matrix(size: int, sigmas: Tensor, *, truncate: float = 4.0) -> Tensor:
    """The matrices (len(sigmas), size, size) that blur one axis, mirrored at its ends, cut off at `truncate` sigma."""
    place = torch.arange(size, device=sigmas.device, dtype=torch.float32)
    radius = (truncate * sigmas + 0.5).floor()[:, None, None]
    variance = sigmas.clamp(min=1e-3)[:, None, None] ** 2
    matrix = torch.zeros(len(sigmas), size, size, device=sigmas.device)
    for period in range(-2, 3):
        for source in (place + 2 * size * period, 2 * size * (period + 1) - 1 - place):
            distance = source - place[:, None]
            # what is cut off is at most e^-8; without the clamp the CPU spends its time on results below float32
            matrix = matrix + torch.exp((-0.5 * distance**2 / variance).clamp(min=-80)) * (distance.abs() <= radius)
    return matrix / matrix.sum(dim=2, keepdim=True)


class Lifting(nn.Module):
    """Makes the planar and the volumetric view of a batch, without any parameter.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        mode: `full`, or `naive` as an ablation: the middle slice of a volume, copies of an image.
        slabs: planar images along each axis of a volume, each the mean and the maximum over its slices.
        scales: depth of an image's scale space: the image itself, then widths from 0.7 pixels upwards.
        largest_scale: standard deviation of the widest Gaussian, in pixels of the reduced image.
    """

    def __init__(
        self, *, spatial_dims: int, mode: str = "full", slabs: int = 2, scales: int = 8, largest_scale: float = 6.0
    ) -> None:
        super().__init__()
        self.spatial_dims, self.mode, self.slabs, self.scales = spatial_dims, mode, slabs, scales
        widths = 0.7 * (largest_scale / 0.7) ** torch.linspace(0, 1, max(scales - 1, 1))
        self.sigmas: Tensor
        self.register_buffer("sigmas", torch.cat([torch.zeros(1), widths])[:scales], persistent=False)

    @property
    def planar_multiple(self) -> int:
        """Channels of the planar view for each channel of the sample."""
        return 2 if self.spatial_dims == 3 and self.mode == "full" else 1

    def planar(self, x: Tensor) -> Tensor:
        """x: (B, C, *S); returns images (B, n, C', H, W): n = 1 for an image, 3 * slabs for a volume in a cube."""
        if self.spatial_dims == 2:
            return x[:, None]
        if self.mode == "naive":
            return x[:, None, :, x.shape[2] // 2]
        x = _cube(x)
        views = []
        for axis in (2, 3, 4):
            parts = torch.tensor_split(x, self.slabs, dim=axis)
            # mean and maximum of one channel stand together, so that the first half belongs to the first channels
            views += [torch.stack([p.mean(dim=axis), p.amax(dim=axis)], dim=2).flatten(1, 2) for p in parts]
        return torch.stack(views, dim=1)

    def volumetric(self, x: Tensor) -> Tensor:
        """x: (B, C, *S); returns volumes (B, C, D, H, W), where D is the scale for an image."""
        if self.spatial_dims == 3:
            return x
        if self.mode == "naive":
            return x[:, :, None].expand(-1, -1, self.scales, -1, -1)
        rows = gaussian_matrix(x.shape[2], self.sigmas).to(x.dtype)
        columns = rows if x.shape[3] == x.shape[2] else gaussian_matrix(x.shape[3], self.sigmas).to(x.dtype)
        return rows @ x[:, :, None] @ columns.transpose(1, 2)  # (scales, H, H) @ (B, C, 1, H, W) @ (scales, W, W)

    def planar_positions(self, shape: tuple[int, ...], grid: tuple[int, ...], *, device: torch.device) -> Tensor:
        """Where the planar tokens lie.

        Args:
            shape: spatial shape of the sample.
            grid: rows and columns of tokens on each planar image.
            device: where to make them.

        Returns:
            (n * rows * columns, 3): coordinates along the three axes of the volume; for an image (scale, row, column).
        """
        if self.spatial_dims == 2:
            rows, columns = _extents(shape)
            first = centres(self.scales, extent=1.0, device=device)[:1]  # the image is its own finest scale
            return _points(first, _axis(grid[0], rows, device), _axis(grid[1], columns, device))
        if self.mode == "naive":
            depth, rows, columns = _extents(shape)
            middle = torch.full((1,), (2 * (shape[0] // 2) + 1) / shape[0] - 1, device=device) * depth
            return _points(middle, _axis(grid[0], rows, device), _axis(grid[1], columns, device))
        normal = _slab_centres(max(shape), self.slabs, device=device)
        axial = _points(normal, _axis(grid[0], 1.0, device), _axis(grid[1], 1.0, device))
        first, second, third = axial.unbind(dim=1)
        return torch.cat([axial, torch.stack([second, first, third], 1), torch.stack([second, third, first], 1)])

    def volumetric_positions(self, shape: tuple[int, ...], grid: tuple[int, ...], *, device: torch.device) -> Tensor:
        """Where the volumetric tokens lie: (tokens, 3), in the same frame and axis order as the planar ones."""
        extents = _extents(shape) if self.spatial_dims == 3 else (1.0, *_extents(shape))
        return _points(*(_axis(n, extent, device) for n, extent in zip(grid, extents, strict=True)))


def _cube(x: Tensor) -> Tensor:
    """Fills a volume (B, C, D, H, W) up with zeros, evenly on both sides, to the cube of its longest edge."""
    edge = max(x.shape[2:])
    padding = [side for n in reversed(x.shape[2:]) for side in ((edge - n) // 2, edge - n - (edge - n) // 2)]
    return F.pad(x, padding) if any(padding) else x


def _extents(shape: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(n / max(shape) for n in shape)


def _axis(count: int, extent: float, device: torch.device) -> Tensor:
    return centres(count, extent=extent, device=device)


def _slab_centres(edge: int, slabs: int, *, device: torch.device) -> Tensor:
    parts = torch.tensor_split(centres(edge, extent=1.0, device=device), slabs)
    return torch.stack([part.mean() for part in parts])


def _points(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    return torch.stack(torch.meshgrid(first, second, third, indexing="ij"), dim=-1).reshape(-1, 3)
