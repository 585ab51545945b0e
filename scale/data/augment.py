"""Batched augmentation on the device, one code path for 2D and 3D."""

import math
from itertools import chain, combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from scale.data.catalog import Symmetry


def mirrors(symmetry: Symmetry) -> list[tuple[int, ...]]:
    """Spatial axes of every mirroring that keeps the label, none first: all subsets of `symmetry.flips`."""
    return subsets(symmetry.flips)


def subsets(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All subsets of axes, the empty one first."""
    return list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))


def mirror(images: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Mirrors images (B, C, *S) along spatial axes, exactly: pixels change places and are not interpolated."""
    return images.flip([2 + axis for axis in axes]) if axes else images


class Augment:
    """Random symmetries, small affine changes and intensity changes of a whole batch.

    Flips, 90-degree rotations, rotation, scaling and shift are composed into one affine matrix per sample. Only changes
    that the data set's `Symmetry` allows are drawn, so one configuration serves all data sets. Every sample draws its
    own parameters from a CPU generator, so that a batch is augmented alike on every device, but for `noise`, which is
    drawn where the images are.

    Args:
        flips: mirror along the axes that the symmetry allows, each with probability 1/2.
        rotate90: turn by multiples of 90 degrees in the planes in which any rotation is allowed.
        rotation: largest angle in degrees, cut to the symmetry's own limit, in each of its planes.
        scale: relative size is drawn from [1 - scale, 1 + scale].
        shift: translation along each axis, as a fraction of the axis' length.
        affine_probability: share of the samples that are rotated, scaled and shifted; the others are only flipped and
            rotated by multiples of 90 degrees, which needs no interpolation.
        brightness: added intensity is drawn from [-brightness, brightness] (images lie in [0, 1]).
        contrast: contrast factor is drawn from [1 - contrast, 1 + contrast], around the image's mean.
        gamma: exponent is drawn from [1 / (1 + gamma), 1 + gamma], uniform in its logarithm.
        noise: standard deviation of added Gaussian noise is drawn from [0, noise].
        erase: side of an erased box as a fraction of each axis, drawn from [0, erase]; filled with the image's mean.
        padding: what lies outside the image: `zeros`, `border` or `reflection`.
    """

    def __init__(
        self,
        *,
        flips: bool = True,
        rotate90: bool = True,
        rotation: float = 15.0,
        scale: float = 0.1,
        shift: float = 0.05,
        affine_probability: float = 1.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        gamma: float = 0.0,
        noise: float = 0.0,
        erase: float = 0.0,
        padding: str = "zeros",
    ) -> None:
        for name, value, limit in [
            ("rotation", rotation, 180),
            ("scale", scale, 0.9),
            ("shift", shift, 0.5),
            ("affine_probability", affine_probability, 1),
            ("brightness", brightness, 1),
            ("contrast", contrast, 1),
            ("gamma", gamma, 10),
            ("noise", noise, 1),
            ("erase", erase, 1),
        ]:
            if not 0 <= value <= limit:
                raise ValueError(f"augment.{name}={value}: give a number between 0 and {limit}")
        if padding not in ("zeros", "border", "reflection"):
            raise ValueError(f"augment.padding={padding!r}: give zeros, border or reflection")
        self.flips = flips
        self.rotate90 = rotate90
        self.rotation = rotation
        self.scale = scale
        self.shift = shift
        self.affine_probability = affine_probability
        self.brightness = brightness
        self.contrast = contrast
        self.gamma = gamma
        self.noise = noise
        self.erase = erase
        self.padding = padding

    def __call__(
        self, images: Tensor, *, symmetry: Symmetry, seed: int, offset: int = 0, total: int | None = None
    ) -> Tensor:
        """Augments a batch.

        Args:
            images: (B, C, *S), float, in [0, 1].
            symmetry: what the data set allows.
            seed: the draw is a function of the seed alone.
            offset: position of the first image in the global batch (several processes share one draw).
            total: size of the global batch; the size of `images` if not given.

        Returns:
            (B, C, *S), float, in [0, 1].
        """
        total = total or offset + len(images)
        generator = torch.Generator().manual_seed(seed)
        rows = slice(offset, offset + len(images))
        matrix = self.matrices(total, images.shape[2:], symmetry=symmetry, generator=generator)
        factors = torch.rand(total, 4, generator=generator)
        corners = torch.rand(total, 2, images.ndim - 2, generator=generator)
        if matrix is not None:
            images = self._move(images, matrix[rows])
        images = self._intensity(images, _on(images, factors[rows]))
        if self.noise:
            images = images + self._noise(images, factors[:, 3], seed=seed)[rows]
        if self.erase:
            images = self._erase(images, _on(images, corners[rows]))
        return images.clamp(0, 1)

    def matrices(
        self, count: int, shape: tuple[int, ...] | torch.Size, *, symmetry: Symmetry, generator: torch.Generator
    ) -> Tensor | None:
        """Draws output-to-input affine matrices (count, D + 1, D + 1) in `affine_grid`'s normalised (x, y[, z]) frame.

        Returns None where nothing spatial is asked for.
        """
        dims = len(shape)
        uniform = lambda *size: torch.rand(*size, generator=generator, dtype=torch.float64) * 2 - 1  # noqa: E731
        linear = torch.eye(dims, dtype=torch.float64).expand(count, dims, dims).clone()
        flips, turns = uniform(count, dims), uniform(count, len(symmetry.planes))
        chosen = (torch.rand(count, 1, generator=generator, dtype=torch.float64) < self.affine_probability).double()
        limit = math.radians(min(self.rotation, symmetry.rotation))
        angles = uniform(count, len(symmetry.planes)) * limit * chosen
        sizes, shifts = 1 + uniform(count) * self.scale * chosen[:, 0], uniform(count, dims) * 2 * self.shift * chosen
        if self.flips:
            for axis in symmetry.flips:
                linear[:, axis, axis] *= torch.where(flips[:, axis] < 0, -1.0, 1.0)
        for plane, (a, b) in enumerate(symmetry.planes):
            angle = angles[:, plane]
            if self.rotate90 and symmetry.rotation >= 180 and shape[a] == shape[b]:
                angle = angle + math.pi / 2 * torch.floor(turns[:, plane] * 2)
            linear = linear @ _rotation(angle, a, b, dims)
        linear = linear / sizes[:, None, None]
        if not (self.flips and symmetry.flips) and not symmetry.planes and not self.scale and not self.shift:
            return None
        # Rotate in units of pixels, not of axis lengths, so that a non-cubic image is not sheared.
        extent = torch.tensor(shape, dtype=torch.float64)
        linear = linear * extent[None, None, :] / extent[None, :, None]
        matrix = torch.eye(dims + 1, dtype=torch.float64).expand(count, dims + 1, dims + 1).clone()
        matrix[:, :dims, :dims] = linear.flip(1, 2)  # array order (z, y, x) -> affine_grid's (x, y, z)
        matrix[:, :dims, dims] = shifts.flip(1)
        return matrix.float()

    def _move(self, images: Tensor, matrix: Tensor) -> Tensor:
        """Applies affine matrices (B, D + 1, D + 1): flips and 90-degree rotations exactly, the rest interpolated."""
        whole = matrix.round()
        exact = (matrix - whole).abs().amax(dim=(1, 2)) < 1e-6
        moved = torch.empty_like(images)
        orientations, which = torch.unique(whole[exact], dim=0, return_inverse=True)
        places = exact.nonzero()[:, 0]
        for number, orientation in enumerate(orientations):
            chosen = _on(images, places[which == number])
            moved[chosen] = _reorient(images[chosen], orientation)
        rest = (~exact).nonzero()[:, 0]
        if len(rest):
            theta, chosen = _on(images, matrix[rest, :-1].to(images.dtype)), _on(images, rest)
            grid = F.affine_grid(theta, [len(rest), *images.shape[1:]], align_corners=False)
            moved[chosen] = F.grid_sample(
                images[chosen], grid, mode="bilinear", padding_mode=self.padding, align_corners=False
            )
        return moved

    def _intensity(self, images: Tensor, factors: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (images.ndim - 1)
        signed = factors * 2 - 1
        if self.gamma:
            images = images.clamp(0, 1) ** torch.exp(signed[:, 0] * math.log1p(self.gamma)).view(shape)
        if self.contrast:
            mean = images.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
            images = mean + (images - mean) * (1 + signed[:, 1] * self.contrast).view(shape)
        if self.brightness:
            images = images + (signed[:, 2] * self.brightness).view(shape)
        return images

    def _noise(self, images: Tensor, strength: Tensor, *, seed: int) -> Tensor:
        """Noise (total, C, *S) of the whole global batch."""
        generator = torch.Generator(device=images.device).manual_seed(seed)
        shape = (len(strength), *images.shape[1:])
        noise = torch.randn(shape, generator=generator, device=images.device, dtype=images.dtype)
        return noise * (_on(images, strength) * self.noise).view((-1,) + (1,) * (images.ndim - 1))

    def _erase(self, images: Tensor, corners: Tensor) -> Tensor:
        inside = torch.ones(len(images), *images.shape[2:], dtype=torch.bool, device=images.device)
        for axis, length in enumerate(images.shape[2:]):
            side = corners[:, 0, axis] * self.erase
            start = corners[:, 1, axis] * (1 - side)
            place = (torch.arange(length, device=images.device) + 0.5) / length
            within = (place >= start[:, None]) & (place < (start + side)[:, None])
            view = [len(images)] + [1] * (images.ndim - 2)
            view[1 + axis] = length
            inside = inside & within.view(view)
        mean = images.mean(dim=tuple(range(2, images.ndim)), keepdim=True)
        return torch.where(inside.unsqueeze(1), mean, images)


def _on(images: Tensor, values: Tensor) -> Tensor:
    """Values that were drawn on the CPU, where the images are; nothing waits for what the GPU has yet to do."""
    return values.to(images.device, non_blocking=True)


def _reorient(images: Tensor, orientation: Tensor) -> Tensor:
    """Images (B, C, *S) whose axes are exchanged and flipped by a signed permutation in `affine_grid`'s frame."""
    dims = images.ndim - 2
    linear = orientation[:dims, :dims].flip(0, 1)  # (x, y[, z]) -> array order; input axis i runs along output axis j
    source = linear.abs().argmax(dim=0).tolist()
    flipped = [2 + axis for axis in range(dims) if linear[source[axis], axis] < 0]
    return images.permute(0, 1, *(2 + axis for axis in source)).flip(flipped)


def _rotation(angle: Tensor, a: int, b: int, dims: int) -> Tensor:
    """Rotation matrices (B, D, D) by `angle` (B,) radians in the plane of the axes a and b."""
    matrix = torch.eye(dims, dtype=angle.dtype).expand(len(angle), dims, dims).clone()
    matrix[:, a, a] = matrix[:, b, b] = torch.cos(angle)
    matrix[:, a, b], matrix[:, b, a] = -torch.sin(angle), torch.sin(angle)
    return matrix
