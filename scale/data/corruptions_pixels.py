"""Corruptions that act on intensities: noise, brightness, contrast, gamma, saturation, pixels, compression.

Every function takes images x (B, *S, C) float32 in [0, 1], a parameter, and a generator, and returns an array of the
same shape, which may leave [0, 1]. Numbers of dimensions are free but where said.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

Function = Callable[[np.ndarray, object, np.random.Generator], np.ndarray]
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as Pillow's


def gaussian_noise(x: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Adds normal noise of this standard deviation."""
    return x + rng.normal(0, sd, x.shape).astype(np.float32)


def speckle_noise(x: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Adds normal noise in proportion to the intensity."""
    return x + x * rng.normal(0, sd, x.shape).astype(np.float32)


def impulse_noise(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Sets a share of the values to 0 or 1, with equal chances."""
    hit = rng.random(x.shape) < share
    return np.where(hit, rng.integers(0, 2, x.shape).astype(np.float32), x)


def shot_noise(x: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    """Counts so many photons where the intensity is 1."""
    return (rng.poisson(x * photons) / photons).astype(np.float32)


def brightness(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Multiplies intensities."""
    return x * np.float32(factor)


def contrast(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Multiplies the distance from the image's mean grey."""
    grey = x @ _GREY if x.shape[-1] == 3 else x[..., 0]
    mean = grey.reshape(len(x), -1).mean(axis=1).reshape(len(x), *(1,) * (x.ndim - 1))
    return mean + np.float32(factor) * (x - mean)


def gamma(x: np.ndarray, power: float, rng: np.random.Generator) -> np.ndarray:
    """Raises intensities to a power."""
    return x ** np.float32(power)


def saturate(x: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Adds to the saturation (HSV) of a colour image; grey becomes reddish, as its hue is 0."""
    if x.shape[-1] != 3:
        raise ValueError(f"saturate needs images of 3 channels; got {x.shape[-1]}")
    value, low = x.max(axis=-1, keepdims=True), x.min(axis=-1, keepdims=True)
    span = value - low
    before = span / np.maximum(value, 1e-12)
    after = np.clip(before + np.float32(amount), 0, 1)
    below = np.where(span > 0, (value - x) / np.maximum(span, 1e-12), np.array([0, 1, 1], dtype=np.float32))
    return np.asarray(value - below * value * after, dtype=np.float32)


def pixelate(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Averages boxes down to a share of the pixels of each axis, and enlarges them again."""
    for axis in range(1, x.ndim - 1):
        size = x.shape[axis]
        small = max(1, int(size * factor))
        x = along(along(x, boxes(size, small), axis), boxes(small, size), axis)
    return x


def jpeg_compression(x: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Writes 2D images as JPEG of this quality (0 to 100), and reads them again."""
    out = np.empty_like(x)
    for number, image in enumerate(np.round(x * 255).astype(np.uint8)):
        file = io.BytesIO()
        Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).save(file, "JPEG", quality=int(quality))
        out[number] = np.asarray(Image.open(file), dtype=np.float32).reshape(image.shape) / 255
    return out


def boxes(size: int, target: int) -> np.ndarray:
    """Matrix (target, size) of Pillow's BOX filter: means of whole pixels, nearest neighbours where it enlarges."""
    step, reach = size / target, max(size / target, 1.0) / 2
    centres = (np.arange(target) + 0.5) * step
    places = np.arange(size) + 0.5
    away = (places[None] - centres[:, None]) / (2 * reach)
    weights = ((away > -0.5) & (away <= 0.5)).astype(np.float32)
    return weights / weights.sum(axis=1, keepdims=True)


def along(x: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    """Multiplies an axis by a matrix (target, size)."""
    return np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T.astype(np.float32), -1, axis)
