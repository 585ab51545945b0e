"""The colours and ranges that figures and page share: window of the image, range and colour map of an attribution."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, ListedColormap

CLIPPED = 0.5  # percent of the cells, the strongest ones, that may lie beyond the colours' range

# without the darkest colours, which would look like dark tissue
SIGNED: Colormap = ListedColormap(colormaps["RdBu_r"](np.linspace(0.08, 0.92, 255)), name="signed")
UNSIGNED: Colormap = ListedColormap(colormaps["inferno"](np.linspace(0.22, 1.0, 255)), name="unsigned")


def is_signed(values: np.ndarray) -> bool:
    """Whether a map speaks against its class anywhere."""
    return bool(np.min(values, initial=0.0) < 0)


def colour_map(signed: bool) -> Colormap:
    """Diverging for signed maps, sequential for others."""
    return SIGNED if signed else UNSIGNED


def limit(values: np.ndarray) -> float:
    """Magnitude at which the colours end: at most `CLIPPED` percent of the cells lie beyond; 1 for a map of zeros.

    Raises:
        ValueError: a value is not finite.
    """
    magnitudes = np.abs(np.asarray(values, dtype=np.float64))
    if not np.isfinite(magnitudes).all():
        raise ValueError("the map holds NaN or infinity, which has no colour")
    largest = float(np.percentile(magnitudes, 100 - CLIPPED, method="higher")) or float(magnitudes.max(initial=0.0))
    return largest or 1.0


def window(image: np.ndarray) -> tuple[float, float]:
    """Grey values shown as black and as white: one pair for all slices of a volume; never equal."""
    low, high = float(np.min(image)), float(np.max(image))
    return (low, high) if high > low else (low, low + 1)


def overlay(values: np.ndarray, *, largest: float, signed: bool, opacity: float) -> np.ndarray:
    """Colours (*S, 4) in [0, 1] of map values (*S); nothing at 0, `opacity` from `largest` on."""
    share = np.clip(np.asarray(values, dtype=np.float64) / largest, -1 if signed else 0, 1)
    rgba = np.array(colour_map(signed)((share + 1) / 2 if signed else share))
    rgba[..., 3] = opacity * np.abs(share)
    return rgba
