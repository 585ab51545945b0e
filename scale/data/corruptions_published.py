"""MedMNIST-C's corruptions of the twelve 2D sets: for each the parameters of severities 1 to 5 (arXiv:2406.17536).

The parameters are those of the benchmark's registry (https://github.com/francescodisalvo05/medmnistc-api, Apache-2.0).
They are per modality: a table holds what the set's images meet where they are taken. Where the registry lists a sixth
value it is left out, as the benchmark has five severities.
"""

from typing import Any

Table = dict[str, tuple[Any, ...]]

_UP, _DOWN = (1.1, 1.2, 1.3, 1.4, 1.5), (0.9, 0.8, 0.7, 0.6, 0.5)
_STRONG_UP, _STRONG_DOWN = (1.1, 1.2, 1.3, 1.4, 1.6), (0.9, 0.8, 0.7, 0.6, 0.4)
_JPEG, _COARSE = (50, 30, 15, 10, 7), (0.30, 0.25, 0.20, 0.15, 0.10)
_NOISE, _SPECKLE = (0.04, 0.08, 0.12, 0.18, 0.26), (0.05, 0.15, 0.2, 0.35, 0.45)
_IMPULSE, _SHOT = (0.01, 0.03, 0.06, 0.09, 0.17), (60, 25, 18, 10, 5)
_SMEAR = ((10, 5), (15, 5), (15, 8), (15, 12), (20, 15))
_OUT_OF_FOCUS = ((4, 0.1), (5, 0.2), (6, 0.3), (7, 0.4), (8, 0.5))


def _zooms(last: float, step: float) -> tuple[float, ...]:
    return tuple(1 + step * number for number in range(round((last - 1) / step) + 1))


_ORGANS: Table = {
    "pixelate": (0.7, 0.6, 0.5, 0.40, 0.35),
    "jpeg_compression": _JPEG,
    "gaussian_noise": (0.04, 0.08, 0.12, 0.16, 0.20),
    "speckle_noise": (0.05, 0.10, 0.20, 0.30, 0.40),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.08),
    "shot_noise": (200, 100, 50, 25, 15),
    "gaussian_blur": (11, 13, 15, 17, 21),
    "brightness_up": (1.2, 1.3, 1.4, 1.5, 1.6),
    "brightness_down": (0.8, 0.75, 0.7, 0.65, 0.60),
    "contrast_up": (1.3, 1.4, 1.6, 1.7, 1.8),
    "contrast_down": (0.8, 0.7, 0.6, 0.55, 0.5),
    "gamma_corr_up": (1.3, 1.4, 1.6, 1.8, 2.0),
    "gamma_corr_down": _STRONG_DOWN,
}

MEDMNIST_C: dict[str, Table] = {
    "pathmnist": {
        "pixelate": (0.8, 0.6, 0.40, 0.30, 0.25),
        "jpeg_compression": _JPEG,
        "defocus_blur": ((3, 0.1), (4, 0.1), (5, 0.2), (6, 0.2), (7, 0.3)),
        "motion_blur": ((5, 5), (10, 5), (15, 5), (15, 8), (15, 12)),
        "brightness_up": (1.1, 1.15, 1.2, 1.22, 1.25),
        "brightness_down": (0.85, 0.80, 0.75, 0.72, 0.70),
        "contrast_up": _STRONG_UP,
        "contrast_down": (0.8, 0.7, 0.6, 0.55, 0.5),
        "saturate": (0.05, 0.10, 0.15, 0.20, 0.25),
        "stain_deposit": (1, 2, 3, 4, 5),
        "bubble": ((7, 15), (10, 15), (12, 15), (15, 20), (17, 25)),
    },
    "bloodmnist": {
        "pixelate": (0.6, 0.5, 0.40, 0.30, 0.25),
        "jpeg_compression": _JPEG,
        "defocus_blur": ((2, 0.01), (3, 0.1), (4, 0.1), (5, 0.1), (6, 0.1)),
        "motion_blur": ((3, 3), (5, 5), (10, 5), (10, 7), (10, 9)),
        "brightness_up": (1.1, 1.2, 1.3, 1.35, 1.4),
        "brightness_down": _DOWN,
        "contrast_up": (1.1, 1.15, 1.2, 1.25, 1.3),
        "contrast_down": _DOWN,
        "saturate": (0.05, 0.10, 0.15, 0.17, 0.20),
        "stain_deposit": (1, 2, 3, 3, 3),
        "bubble": ((5, 10), (7, 10), (10, 10), (12, 12), (15, 12)),
    },
    "dermamnist": {
        "pixelate": (0.7, 0.5, 0.40, 0.30, 0.25),
        "jpeg_compression": (30, 20, 15, 10, 7),
        "gaussian_noise": _NOISE,
        "speckle_noise": _SPECKLE,
        "impulse_noise": _IMPULSE,
        "shot_noise": _SHOT,
        "defocus_blur": _OUT_OF_FOCUS,
        "motion_blur": _SMEAR,
        "zoom_blur": (_zooms(1.1, 0.01), _zooms(1.15, 0.01), _zooms(1.2, 0.02), _zooms(1.25, 0.02), _zooms(1.3, 0.03)),
        "brightness_up": _UP,
        "brightness_down": _DOWN,
        "contrast_up": _STRONG_UP,
        "contrast_down": (0.8, 0.7, 0.6, 0.5, 0.4),
        "black_corner": (1.10, 1.05, 1.00, 0.90, 0.95),
        "characters": ((1, 6, 0.14), (2, 7, 0.15), (3, 8, 0.16), (4, 9, 0.17), (6, 10, 0.18)),
    },
    "retinamnist": {
        "pixelate": (0.8, 0.60, 0.50, 0.40, 0.35),
        "jpeg_compression": (30, 25, 20, 10, 5),
        "gaussian_noise": (0.04, 0.08, 0.12, 0.16, 0.20),
        "speckle_noise": (0.10, 0.15, 0.20, 0.25, 0.30),
        "defocus_blur": _OUT_OF_FOCUS,
        "motion_blur": ((8, 5), *_SMEAR[1:]),
        "brightness_down": _DOWN,
        "contrast_down": _STRONG_DOWN,
    },
    "tissuemnist": {
        "pixelate": (0.40, 0.30, 0.20, 0.15, 0.10),
        "jpeg_compression": (25, 20, 15, 10, 7),
        "impulse_noise": (0.01, 0.015, 0.02, 0.025, 0.03),
        "gaussian_blur": (13, 15, 17, 21, 25),
        "brightness_up": (1.3, 1.4, 1.5, 1.6, 1.7),
        "brightness_down": (0.8, 0.7, 0.6, 0.5, 0.4),
        "contrast_up": _STRONG_UP,
        "contrast_down": _STRONG_DOWN,
    },
    "octmnist": {
        "pixelate": _COARSE,
        "jpeg_compression": (30, 15, 10, 7, 5),
        "speckle_noise": (0.15, 0.30, 0.40, 0.50, 0.60),
        "defocus_blur": ((0.5, 0.6), (1, 0.5), (1.5, 0.1), (2.0, 0.5), (2.5, 0.1)),
        "motion_blur": ((10, 3), *_SMEAR[1:]),
        "contrast_down": (0.6, 0.4, 0.3, 0.2, 0.15),
    },
    "breastmnist": {
        "pixelate": _COARSE,
        "jpeg_compression": _JPEG,
        "speckle_noise": (0.10, 0.15, 0.20, 0.25, 0.30),
        "motion_blur": ((5, 5), (9, 7), (9, 10), (13, 10), (17, 12)),
        "brightness_up": (1.4, 1.5, 1.6, 1.8, 2.0),
        "brightness_down": (0.55, 0.5, 0.45, 0.4, 0.3),
        "contrast_down": _STRONG_DOWN,
    },
    "chestmnist": {
        "pixelate": _COARSE,
        "jpeg_compression": _JPEG,
        "gaussian_noise": _NOISE,
        "speckle_noise": _SPECKLE,
        "impulse_noise": _IMPULSE,
        "shot_noise": _SHOT,
        "gaussian_blur": (3, 5, 7, 9, 11),
        "brightness_up": _UP,
        "brightness_down": _DOWN,
        "contrast_up": _STRONG_UP,
        "contrast_down": _STRONG_DOWN,
        "gamma_corr_up": _STRONG_UP,
        "gamma_corr_down": _STRONG_DOWN,
    },
    "pneumoniamnist": {
        "pixelate": (0.8, 0.7, 0.6, 0.5, 0.40),
        "jpeg_compression": _JPEG,
        "gaussian_noise": (0.04, 0.05, 0.06, 0.07, 0.08),
        "speckle_noise": (0.05, 0.07, 0.10, 0.15, 0.20),
        "impulse_noise": (0.005, 0.01, 0.013, 0.017, 0.02),
        "shot_noise": (300, 200, 150, 100, 80),
        "gaussian_blur": (3, 5, 7, 9, 11),
        "brightness_up": _UP,
        "brightness_down": _DOWN,
        "contrast_up": _STRONG_UP,
        "contrast_down": _STRONG_DOWN,
        "gamma_corr_up": _STRONG_UP,
        "gamma_corr_down": _STRONG_DOWN,
    },
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}

VOLUMES: Table = {  # this project's, of the same kinds for every volumetric set
    "gaussian_noise": _NOISE,
    "blur": (0.5, 0.75, 1.0, 1.5, 2.0),
    "motion": (2, 3, 4, 6, 8),
    "bias_field": (0.1, 0.2, 0.3, 0.45, 0.6),
    "ghosting": (0.2, 0.35, 0.5, 0.75, 1.0),
    "spacing": (1.5, 2, 3, 4, 6),
    "contrast_down": _STRONG_DOWN,
    "contrast_up": _STRONG_UP,
    "missing_slices": (0.04, 0.08, 0.15, 0.25, 0.40),
}
