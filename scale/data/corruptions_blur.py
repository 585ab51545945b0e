"""Corruptions that blur, for any number of dimensions.

A kernel is a list of offsets with weights, in pixels of an image of `reference` pixels; on an image of another size the
offsets shrink or grow with it and a weight is shared by the pixels around its place, so that the same share of the
field of view is blurred. At the reference size the kernels are the published ones.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from scale.data.corruptions_pixels import along

REFERENCE = 224  # pixels of the side for which MedMNIST-C's lengths are given
Kernel = dict[tuple[int, ...], float]


def gaussian_blur(x: np.ndarray, taps: int, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian cut to an odd number of taps, of which its standard deviation is .15 times plus .35 pixels."""
    places = np.arange(taps) - taps // 2
    return _separable(x, places, _normal(places, 0.15 * taps + 0.35), _ratio(x))


def defocus_blur(x: np.ndarray, shape: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """A disc (3D: a ball) of this radius, its edge smoothed by a Gaussian of the second number over three pixels."""
    radius, smooth = shape
    dims, half = x.ndim - 2, 8 if radius <= 8 else int(radius)
    grid = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * dims, indexing="ij"), axis=-1)
    disc = ((grid**2).sum(axis=-1) <= radius**2).astype(np.float64)
    edge = _normal(np.arange(-1, 2), smooth)
    for axis in range(dims):
        padded = np.pad(disc, [(int(a == axis), int(a == axis)) for a in range(dims)], mode="reflect")
        disc = sum(w * np.take(padded, np.arange(i, i + 2 * half + 1), axis=axis) for i, w in enumerate(edge))
    keep = disc > 0
    return _blurred(x, spread(grid[keep] * _ratio(x), disc[keep] / disc.sum()), "reflect")


def motion_blur(x: np.ndarray, shape: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """A Gaussian tail of twice the radius and of this standard deviation, in a random direction for each image.

    In 2D within 45 degrees of the horizontal, as published; in 3D any direction.
    """
    radius, sd = shape
    places = np.arange(2 * math.ceil(radius) + 1)
    weights, dims = _normal(places, sd), x.ndim - 2
    if dims == 2:
        angle = np.radians(rng.uniform(-45, 45, len(x)))
        directions = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    else:
        directions = rng.normal(size=(len(x), dims))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    out = np.empty_like(x)
    for number, direction in enumerate(directions):
        kernel = spread(places[:, None] * direction * _ratio(x), weights)
        out[number] = _blurred(x[number : number + 1], kernel, "edge")[0]
    return out


def zoom_blur(x: np.ndarray, factors: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """The mean of the image and of its enlargements about the centre."""
    total = x.astype(np.float64)
    for factor in factors:
        larger = x
        for axis in range(1, x.ndim - 1):
            larger = along(larger, _enlarged(x.shape[axis], factor), axis)
        total = total + larger
    return (total / (len(factors) + 1)).astype(np.float32)


def smooth(x: np.ndarray, sd: float) -> np.ndarray:
    """A Gaussian of this standard deviation in pixels, cut at three of them."""
    places = np.arange(-math.ceil(3 * sd), math.ceil(3 * sd) + 1)
    return _separable(x, places, _normal(places, sd), 1.0)


def spread(offsets: np.ndarray, weights: np.ndarray) -> Kernel:
    """A kernel on whole pixels: each weight is shared linearly by the pixels around its place.

    Args:
        offsets: (taps, dims) in pixels.
        weights: (taps,).
    """
    kernel: Kernel = defaultdict(float)
    low = np.floor(offsets + 1e-9).astype(int)
    part = np.clip(offsets - low, 0, 1)
    for corner in itertools.product((0, 1), repeat=offsets.shape[1]):
        share = np.prod(np.where(np.array(corner) == 1, part, 1 - part), axis=1) * weights
        for place, weight in zip(low + np.array(corner), share, strict=True):
            if weight > 1e-9:
                kernel[tuple(int(value) for value in place)] += float(weight)
    return dict(kernel)


def _ratio(x: np.ndarray) -> float:
    return max(x.shape[1:-1]) / REFERENCE


def _normal(places: np.ndarray, sd: float) -> np.ndarray:
    weights = np.exp(-(places**2) / (2 * sd**2))
    return weights / weights.sum()


def _separable(x: np.ndarray, places: np.ndarray, weights: np.ndarray, ratio: float) -> np.ndarray:
    kernel = spread(places[:, None] * ratio, weights)
    for axis in range(x.ndim - 2):
        one = {tuple(o[0] if a == axis else 0 for a in range(x.ndim - 2)): weight for o, weight in kernel.items()}
        x = _blurred(x, one, "reflect")
    return x


def _blurred(x: np.ndarray, kernel: Kernel, mode: str) -> np.ndarray:
    """Sum of shifted images."""
    shape = x.shape[1:-1]
    reach = [max(abs(offset[axis]) for offset in kernel) for axis in range(len(shape))]
    padded = np.pad(x, [(0, 0), *((r, r) for r in reach), (0, 0)], mode=mode)  # type: ignore[call-overload]
    out = np.zeros_like(x)
    for offset, weight in kernel.items():
        window = tuple(slice(r + o, r + o + n) for r, o, n in zip(reach, offset, shape, strict=True))
        out += np.float32(weight) * padded[(slice(None), *window)]
    return out


def _enlarged(size: int, factor: float) -> np.ndarray:
    """Matrix (size, size) that enlarges an axis about its centre, with linear interpolation."""
    places = (np.arange(size) - (size - 1) / 2) / factor + (size - 1) / 2
    low = np.clip(np.floor(places).astype(int), 0, size - 1)
    part = places - low
    matrix = np.zeros((size, size), dtype=np.float32)
    matrix[np.arange(size), low] += 1 - part
    matrix[np.arange(size), np.minimum(low + 1, size - 1)] += part
    return matrix
