"""Corruptions of volumes: what scanners do to them. Severities are this project's; lengths are in voxels of 28 a side.

Signatures are those of `corruptions_pixels`, with three spatial axes.
"""

import numpy as np

from scale.data.corruptions_blur import motion_blur, smooth
from scale.data.corruptions_pixels import along, boxes

SIDE = 28  # voxels of the side that lengths are given for
_ORDER = 3  # of the polynomial of a bias field


def blur(x: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian of this standard deviation."""
    return smooth(x, sd * max(x.shape[1:-1]) / SIDE)


def motion(x: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """A smear of about this length in a random direction."""
    pixels = length * 224 / SIDE  # of the size that its kernel is given for
    return motion_blur(x, (pixels / 2, pixels / 2), rng)


def bias_field(x: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiplies by the exponential of a random polynomial of third order (doi:10.1109/42.811270)."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in x.shape[1:-1]), indexing="ij")
    powers = [(i, j, k) for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i) for k in range(_ORDER + 1 - i - j)]
    terms = np.stack([axes[0] ** i * axes[1] ** j * axes[2] ** k for i, j, k in powers if i + j + k > 0])
    factors = rng.uniform(-strength, strength, (len(x), len(terms))).astype(np.float32)
    return x * np.exp(np.tensordot(factors, terms, axes=1))[..., None]


def ghosting(x: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Copies along a random axis: every second line of its Fourier transform is weakened, but for the centre."""
    out = np.empty_like(x)
    for number, axis in enumerate(rng.integers(0, 3, len(x))):
        lines = np.fft.fft(x[number], axis=axis)
        weak = np.ones(lines.shape[axis])
        weak[1::2] = 1 - strength
        weak[[1, -1]] = 1
        shape = [1] * lines.ndim
        shape[axis] = -1
        out[number] = np.abs(np.fft.ifft(lines * weak.reshape(shape), axis=axis))
    return out


def spacing(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Slices this much thicker along a random axis: averaged, and repeated."""
    out = np.empty_like(x)
    for number, axis in enumerate(rng.integers(0, 3, len(x))):
        size = x.shape[1 + axis]
        thick = max(1, round(size / factor))
        out[number] = along(along(x[number], boxes(size, thick), axis), boxes(thick, size), axis)
    return out


def missing_slices(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the slices of a random axis is black, at least one."""
    out = x.copy()
    for number, axis in enumerate(rng.integers(0, 3, len(x))):
        size = x.shape[1 + axis]
        gone = rng.choice(size, max(1, round(share * size)), replace=False)
        out[(number, *(gone if a == axis else slice(None) for a in range(3)))] = 0
    return out
