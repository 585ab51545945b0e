"""From the cells of a SCALE network's streams back to the voxels of its input.

Strides halve the edge at the stem, the middle and the coarse level, and cell i of a strided convolution looks at voxel
2i: so cell i of the middle level looks at voxel 4i of the (reduced) sample. The tokens are area means of the middle
level's cells. Maps are interpolated linearly between those places, and spread evenly over the slices of a slab.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scale.models.lifting import shrink_factor
from scale.models.scale_net import ScaleNet

MIDDLE_STRIDE = 4


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
        self.factor = shrink_factor(self.shape)
        self.reduced = tuple(-(-n // self.factor) for n in self.shape)
        self.slabs = self.lifting.slabs if self.dims == 3 and self.lifting.mode == "full" else 1
        # a volume's planar images are cut from the cube of its longest edge
        self.edge = max(self.reduced) if self.slabs_along_axes else 0

    @property
    def slabs_along_axes(self) -> bool:
        """Whether the planar view has slabs along three axes."""
        return self.dims == 3 and self.lifting.mode == "full"

    @property
    def planar_share(self) -> float:
        """The share of the input's voxels that lie in some planar image."""
        return 1.0 if self.dims == 2 or self.slabs_along_axes else self.factor / self.shape[0]

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
            inside = torch.arange(self.shape[0], device=self.device) // self.factor == self.reduced[0] // 2
            plane = self._stretch(values[:, 0], axes=(1, 2), tokens=tokens)
            return plane[:, None] * inside[:, None, None]
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
            return self._stretch(values.mean(dim=1), axes=(0, 1), tokens=tokens)
        return self._stretch(values, axes=(0, 1, 2), tokens=tokens, cube=False)

    def planar_tokens(self, values: Tensor, grid: Sequence[int]) -> Tensor:
        """values: (B, N), one for each planar token; grid: rows and columns of tokens; returns (B, *S)."""
        return self.planar(values.unflatten(1, (-1, *grid)), tokens=True)

    def volumetric_tokens(self, values: Tensor, grid: Sequence[int]) -> Tensor:
        """values: (B, M), one for each volumetric token; grid: (d, h, w); returns (B, *S)."""
        return self.volumetric(values.unflatten(1, tuple(grid)), tokens=True)

    def _voxels(self, axis: int) -> Tensor:
        """Places (S_axis,) of the input's voxels, in cells of the reduced sample."""
        place = torch.arange(self.shape[axis], device=self.device, dtype=torch.float32)
        return (place - (self.factor - 1) / 2) / self.factor

    def _start(self, axis: int) -> int:
        return (self.edge - self.reduced[axis]) // 2

    def _slab_of(self, axis: int) -> Tensor:
        """The slab (S_axis,) in which each voxel lies."""
        parts = torch.tensor_split(torch.arange(self.edge), self.slabs)
        owner = torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)])
        cells = torch.arange(self.shape[axis]) // self.factor + self._start(axis)
        return owner[cells].to(self.device)

    def _stretch(self, values: Tensor, *, axes: tuple[int, ...], tokens: bool, cube: bool | None = None) -> Tensor:
        """Interpolates the last axes of values (B, *cells), which run along the input's `axes`."""
        cube = self.slabs_along_axes if cube is None else cube
        for number, axis in enumerate(axes, start=1):
            place, extent = self._voxels(axis), self.reduced[axis]
            if cube:
                place, extent = place + self._start(axis), self.edge
            place = place / MIDDLE_STRIDE
            cells = values.shape[number]
            if tokens:
                middle = -(-extent // MIDDLE_STRIDE)
                place = (place + 0.5) * cells / middle - 0.5
            place = place.clamp(0, cells - 1)
            nearby = torch.arange(cells, device=self.device)
            matrix = (1 - (place[:, None] - nearby).abs()).clamp(min=0).to(values.dtype)  # (S_axis, cells)
            values = (values.movedim(number, -1) @ matrix.T).movedim(-1, number)
        return values
