"""Attribution maps (B, C, *S) as seen by the metrics: summed over the channels, checked, ranked."""

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor


def on_grid(maps: Tensor) -> Tensor:
    """Sums maps (B, C, *S) over the channels: the map on the sample's grid (B, *S).

    Raises:
        ValueError: a map holds values that are not finite, or has no channels.
    """
    if maps.ndim < 4:
        raise ValueError(f"maps (B, C, *S) with two or three spatial axes are needed, but got {tuple(maps.shape)}")
    broken = ~torch.isfinite(maps).flatten(1).all(dim=1)
    if broken.any():
        rows = ", ".join(str(row) for row in broken.nonzero()[:5, 0].tolist())
        raise ValueError(f"{int(broken.sum())} of {len(maps)} maps hold NaN or infinity (rows {rows})")
    return maps.sum(dim=1)


def rank_correlation(first: Tensor, second: Tensor, *, absolute: bool = False) -> Tensor:
    """Spearman's rank correlation of two maps of each sample; ties share their mean rank.

    Args:
        first: maps (B, C, *S).
        second: maps (B, C, *S).
        absolute: compare magnitudes, so that a change of sign alone is no difference.

    Returns:
        (B,) in [-1, 1]; nan where a map is constant.
    """
    if first.shape != second.shape:
        raise ValueError(f"maps of the same shape are needed, but got {tuple(first.shape)} and {tuple(second.shape)}")
    a, b = (_standardised(ranks(on_grid(maps), absolute=absolute)) for maps in (first, second))
    return torch.from_numpy((a * b).mean(axis=1)).float()


def ranks(grids: Tensor, *, absolute: bool = False) -> np.ndarray:
    """Ranks (B, cells) from 1 of the values of grids (B, *S), ties sharing their mean rank."""
    values = grids.detach().cpu().double().flatten(1).numpy()
    return np.asarray(rankdata(np.abs(values) if absolute else values, axis=1))


def _standardised(values: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and standard deviation 1; nan where a row is constant."""
    centred = values - values.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True)))
