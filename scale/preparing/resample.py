"""Resampling with an anti-aliasing triangle filter: Pillow for images, one small matrix an axis for volumes."""

from collections.abc import Sequence

import numpy as np


def weights(source: int, target: int) -> np.ndarray:
    """Weights (target, source), float32, of linear resampling; each row sums to 1, and equal lengths give the identity.

    Where it shrinks, the triangle is as wide as the step (anti-aliasing), as in Pillow's `BILINEAR`.
    """
    scale = source / target
    support = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    found = np.maximum(0.0, 1.0 - np.abs(np.arange(source)[None] - centres[:, None]) / support)
    return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)


def resample(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Values (*S[, C]) on another grid that covers the same region, float32.

    Args:
        values: any numbers; an axis more than `shape` has is one of channels.
        shape: the new S.
    """
    if len(shape) == 2:
        return _image(values, shape)
    found = values.astype(np.float32, copy=False)
    for axis in sorted(range(len(shape)), key=lambda axis: shape[axis] / values.shape[axis]):  # what shrinks most first
        if values.shape[axis] != shape[axis]:
            matrix = weights(values.shape[axis], shape[axis])
            found = np.moveaxis(np.tensordot(matrix, found, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(found)


def _image(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    from PIL import Image

    if values.shape[:2] == tuple(shape):
        return values.astype(np.float32, copy=False)
    size = (shape[1], shape[0])
    if values.dtype == np.uint8:  # Pillow's own fast path, rounded once an axis
        return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR)).astype(np.float32)
    planes = values[..., None] if values.ndim == 2 else values
    resized = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(planes[..., c], np.float32)).resize(size, Image.Resampling.BILINEAR)
        )
        for c in range(planes.shape[-1])
    ]
    return resized[0] if values.ndim == 2 else np.stack(resized, axis=-1)
