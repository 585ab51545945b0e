"""Images as they come from worse conditions: MedMNIST-C (arXiv:2406.17536) for 2D, and the same idea for volumes.

Noise and intensities act on the pixels that the network is given. Lengths are scaled to the size of the image, so that
they are the same share of the field of view: at 28 pixels a blur of a 224-pixel image is nearly gone, while noise that
the published benchmark adds before it would be averaged down is not. A table of results therefore says how much each
corruption changed the images.
"""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from scale.data import corruptions_blur, corruptions_objects, corruptions_pixels, corruptions_volumes
from scale.data.corruptions_published import MEDMNIST_C, VOLUMES, Table
from scale.utils.choices import check_choice

SEVERITIES = (1, 2, 3, 4, 5)
NAME = "medmnist_c"
CHUNK = 64  # images that share a generator, so that the result does not depend on how a split is divided

_FUNCTIONS: dict[str, Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]] = {
    "pixelate": corruptions_pixels.pixelate,
    "jpeg_compression": corruptions_pixels.jpeg_compression,
    "gaussian_noise": corruptions_pixels.gaussian_noise,
    "speckle_noise": corruptions_pixels.speckle_noise,
    "impulse_noise": corruptions_pixels.impulse_noise,
    "shot_noise": corruptions_pixels.shot_noise,
    "brightness_up": corruptions_pixels.brightness,
    "brightness_down": corruptions_pixels.brightness,
    "contrast_up": corruptions_pixels.contrast,
    "contrast_down": corruptions_pixels.contrast,
    "gamma_corr_up": corruptions_pixels.gamma,
    "gamma_corr_down": corruptions_pixels.gamma,
    "saturate": corruptions_pixels.saturate,
    "defocus_blur": corruptions_blur.defocus_blur,
    "motion_blur": corruptions_blur.motion_blur,
    "gaussian_blur": corruptions_blur.gaussian_blur,
    "zoom_blur": corruptions_blur.zoom_blur,
    "stain_deposit": corruptions_objects.stain_deposit,
    "bubble": corruptions_objects.bubbles,
    "characters": corruptions_objects.characters,
    "black_corner": corruptions_objects.black_corner,
    "blur": corruptions_volumes.blur,
    "motion": corruptions_volumes.motion,
    "bias_field": corruptions_volumes.bias_field,
    "ghosting": corruptions_volumes.ghosting,
    "spacing": corruptions_volumes.spacing,
    "missing_slices": corruptions_volumes.missing_slices,
}


def table(name: str, *, flag: str, spatial_dims: int) -> Table:
    """Corruptions, each with its parameters by severity.

    Args:
        name: `medmnist_c`: those of the data set, or for volumes this project's; or a 2D flag, to take its table.
        flag: of the data set.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: there is no such table, or none for images like these.
    """
    check_choice("corruptions", name, (NAME, *MEDMNIST_C))
    if spatial_dims == 3:
        if name != NAME:
            raise ValueError(f"corruptions={name} is for 2D images; give corruptions={NAME} for volumes")
        return VOLUMES
    chosen = flag if name == NAME else name
    if chosen not in MEDMNIST_C:
        raise ValueError(
            f"corruptions={NAME}: MedMNIST-C has no table for {flag}; give the set whose images are most like yours, "
            f"corruptions=FLAG, one of {', '.join(MEDMNIST_C)}"
        )
    return MEDMNIST_C[chosen]


def corrupt(
    images: np.ndarray, corruption: str, parameter: Any, *, severity: int, spatial_dims: int, seed: int = 0
) -> np.ndarray:
    """Corrupts a split.

    Args:
        images: (N, *S) or (N, *S, C) uint8, in the split's order.
        corruption: its name.
        parameter: of this severity, from `table`.
        severity: 0 leaves the images as they are.
        spatial_dims: 2 or 3.
        seed: of what is random; the same images give the same result.

    Returns:
        uint8 of the same shape.
    """
    if severity == 0:
        return images
    out = np.empty_like(images)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        x = part.astype(np.float32) / 255
        x = x if part.ndim == spatial_dims + 2 else x[..., None]
        rng = np.random.default_rng([seed, zlib.crc32(corruption.encode()), severity, start])
        found = _FUNCTIONS[corruption](x, parameter, rng)
        out[start : start + CHUNK] = np.round(np.clip(found, 0, 1) * 255).astype(np.uint8).reshape(part.shape)
    return out
