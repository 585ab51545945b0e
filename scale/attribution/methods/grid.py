"""From the cells of a SCALE network's streams back to the voxels of its input.

Strides halve the edge at the stem, the middle and the coarse level, and cell i of a strided convolution looks at voxel
2i: so cell i of the middle level looks at voxel 4i of what its stream reads, which is the reduced sample, or, of the
planar stream with `planar_resolution=full`, the sample itself. The tokens are area means of the middle level's cells.
Maps are interpolated linearly between those places, and spread evenly over the slices of a slab.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scale.models.lifting import shrink_factor
from scale.models.scale_net import ScaleNet

MIDDLE_STRIDE = 4


class Read:
    """What a stream reads of a sample: blocks of its voxels.

    Args:
        shape: spatial shape S of the sample.
        factor: edge of a block.

    Attributes:
        shape: spatial shape in blocks.
    """

    def __init__(self, shape: Sequence[int], factor: int) -> None:
        self.factor = factor
        self.shape = tuple(-(-n // factor) for n in shape)
        self.before = tuple((-n % factor) // 2 for n in shape)  # voxels that an edge was filled up with at its start

    def block(self, axis: int, count: int) -> Tensor:
        """The block (count,) of each voxel along an axis."""
        return (torch.arange(count) + self.before[axis]) // self.factor

    def place(self, axis: int, count: int) -> Tensor:
        """Places (count,) of the voxels along an axis, in blocks."""
        return (torch.arange(count, dtype=torch.float32) + self.before[axis] - (self.factor - 1) / 2) / self.factor


class InputGrid:
    """Where the cells of a network's streams lie in samples of one shape.

    Args:
        net: the network.
        shape: spatial shape S of the samples.
        device: where the maps are.
    """

    def __init__(self, net: ScaleNet, shape: Sequence[int], *, device: torch.device | str = "cpu") -> None:
        self.shape, self.device = tuple(shape), device
        self.lifting, self.dims = net.lifting, net.spatial_dims
        reduced = Read(self.shape, shrink_factor(self.shape))
        self.read_by = {
            "planar": Read(self.shape, 1) if net.planar_resolution == "full" else reduced,
            "volumetric": reduced,
        }
        self.slabs = self.lifting.slabs if self.dims == 3 and self.lifting.mode == "full" else 1
        # a volume's planar images are cut from the cube of its longest edge
        self.edge = max(self.read_by["planar"].shape) if self.slabs_along_axes else 0

    @property
    def slabs_along_axes(self) -> bool:
        """Whether the planar view has slabs along three axes."""
        return self.dims == 3 and self.lifting.mode == "full"

    @property
    def planar_share(self) -> float:
        """The share of the input's voxels that lie in some planar image."""
        return 1.0 if self.dims == 2 or self.slabs_along_axes else self.read_by["planar"].factor / self.shape[0]

    def planar(self, values: Tensor, *, tokens: bool = False) -> Tensor:
        """Values on the planar images, brought to the input.

        Args:
            values: (B, images, h, w).
            tokens: the cells are the tokens'; otherwise the middle level's.

        Returns:
            (B, *S): for a volume the mean over the three axes, or, of one slice only, that slice.
        """
        if self.dims == 2:
            return self._stretch(values[:, 0], axes=(0, 1), tokens=tokens)
        if not self.slabs_along_axes:
            read = self.read_by["planar"]
            inside = read.block(0, self.shape[0]) == read.shape[0] // 2
            plane = self._stretch(values[:, 0], axes=(1, 2), tokens=tokens)
            return plane[:, None] * inside.to(self.device)[:, None, None]
        parts = values.unflatten(1, (3, self.slabs))
        maps = []
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            planes = self._stretch(parts[:, axis].flatten(0, 1), axes=others, tokens=tokens)
            planes = planes.unflatten(0, (-1, self.slabs))  # (B, slabs, rows, columns)
            maps.append(planes[:, self._slab_of(axis)].movedim(1, axis + 1))
        return torch.stack(maps).mean(dim=0)

    def volumetric(self, values: Tensor, *, tokens: bool = False) -> Tensor:
        """Values on the volumetric cells, brought to the input.

        Args:
            values: (B, d, h, w); d is the scale for an image.
            tokens: the cells are the tokens'; otherwise the middle level's.

        Returns:
            (B, *S): for an image the mean over the scales.
        """
        if self.dims == 2:
            return self._stretch(values.mean(dim=1), axes=(0, 1), tokens=tokens, stream="volumetric")
        return self._stretch(values, axes=(0, 1, 2), tokens=tokens, stream="volumetric")

    def planar_tokens(self, values: Tensor, grid: Sequence[int]) -> Tensor:
        """values: (B, N), one for each planar token; grid: rows and columns of tokens; returns (B, *S)."""
        return self.planar(values.unflatten(1, (-1, *grid)), tokens=True)

    def volumetric_tokens(self, values: Tensor, grid: Sequence[int]) -> Tensor:
        """values: (B, M), one for each volumetric token; grid: (d, h, w); returns (B, *S)."""
        return self.volumetric(values.unflatten(1, tuple(grid)), tokens=True)

    def _start(self, axis: int) -> int:
        return (self.edge - self.read_by["planar"].shape[axis]) // 2

    def _slab_of(self, axis: int) -> Tensor:
        """The slab (S_axis,) in which each voxel lies."""
        parts = torch.tensor_split(torch.arange(self.edge), self.slabs)
        owner = torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)])
        blocks = self.read_by["planar"].block(axis, self.shape[axis])
        return owner[blocks + self._start(axis)].to(self.device)

    def _stretch(self, values: Tensor, *, axes: tuple[int, ...], tokens: bool, stream: str = "planar") -> Tensor:
        """Interpolates the last axes of values (B, *cells), which run along the input's `axes`."""
        read = self.read_by[stream]
        cube = self.slabs_along_axes and stream == "planar"
        for number, axis in enumerate(axes, start=1):
            place, extent = read.place(axis, self.shape[axis]).to(self.device), read.shape[axis]
            if cube:
                place, extent = place + self._start(axis), self.edge
            place = place / MIDDLE_STRIDE
            cells = values.shape[number]
            if tokens:
                middle = -(-extent // MIDDLE_STRIDE)
                place = (place + 0.5) * cells / middle - 0.5
            values = between(values, number, place)
        return values


def between(values: Tensor, axis: int, place: Tensor) -> Tensor:
    """Values of cells along an axis, linear between them, at places (n,) in cells; beyond the ends the last one's."""
    cells = values.shape[axis]
    nearby = torch.arange(cells, device=values.device)
    place = place.to(values.device).clamp(0, cells - 1)
    matrix = (1 - (place[:, None] - nearby).abs()).clamp(min=0).to(values.dtype)  # (n, cells)
    return (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
