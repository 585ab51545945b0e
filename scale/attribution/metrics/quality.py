"""How far a map can be trusted: every metric with its direction, and the summary over samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scale.attribution.metrics.faithfulness import infidelity, sensitivity_max
from scale.attribution.metrics.localisation import pointing_game, relevance_mass, relevance_rank
from scale.attribution.metrics.maps import on_grid, rank_correlation
from scale.attribution.metrics.perturbation import BASELINES, Curve, deletion, insertion
from scale.attribution.metrics.randomisation import randomisation

__all__ = [
    "BASELINES",
    "CAUSAL",
    "METRICS",
    "Curve",
    "Metric",
    "Summary",
    "agreement",
    "deletion",
    "infidelity",
    "insertion",
    "pointing_game",
    "randomisation",
    "rank_correlation",
    "relevance_mass",
    "relevance_rank",
    "sensitivity_max",
    "sparseness",
    "summarise",
]

CAUSAL = "_causal"  # of the samples whose prediction falls with the lesion
_RISE = "https://arxiv.org/abs/1806.07421"
_ARRAS = "https://doi.org/10.1016/j.inffus.2021.11.008"
_YEH = "https://arxiv.org/abs/1901.09392"


@dataclass(frozen=True)
class Metric:
    """A metric of maps.

    Attributes:
        name: as in tables.
        better: `higher`, `lower`, or `zero` where the value nearest to 0 is best.
        meaning: one line for a reader of the table.
        source: DOI or URL.
        needs_masks: whether the place of the lesions must be known.
        stage: 0 where the map alone is needed, 1 for curves, 2 for what repeats the map; in this order they are made.
        default: whether it is measured where no metric is named: what speaks of faithfulness, and can be afforded.
    """

    name: str
    better: str
    meaning: str
    source: str
    needs_masks: bool = False
    stage: int = 0
    default: bool = True


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "pointing_game",
            "higher",
            "share of samples whose map peaks inside the lesion",
            "https://doi.org/10.1007/s11263-017-1059-x",
            needs_masks=True,
        ),
        Metric("relevance_mass", "higher", "share of the positive relevance inside the lesion", _ARRAS, True),
        Metric("relevance_rank", "higher", "share of the lesion among as many top cells", _ARRAS, True, default=False),
        Metric(
            "pointing_game_causal",
            "higher",
            "the same where the prediction falls when the lesion is taken out of the scene: a miss is the map's fault",
            "https://doi.org/10.1007/s11263-017-1059-x",
            True,
        ),
        Metric("relevance_mass_causal", "higher", "the same where the prediction falls with the lesion", _ARRAS, True),
        Metric("deletion_auc", "lower", "score while the most relevant cells are removed first", _RISE, stage=1),
        Metric("insertion_auc", "higher", "score while the most relevant cells are given back first", _RISE, stage=1),
        Metric(
            "infidelity",
            "lower",
            "squared error in foretelling what removing a block costs",
            _YEH,
            stage=2,
            default=False,
        ),
        Metric(
            "sensitivity_max",
            "lower",
            "largest relative change of the map under invisible noise",
            _YEH,
            stage=2,
            default=False,
        ),
        Metric(
            "sparseness",
            "higher",
            "Gini index of the map: 0 even, 1 in a single cell",
            "https://doi.org/10.1109/TIT.2009.2027527",
            default=False,
        ),
        Metric(
            "randomisation",
            "zero",
            "rank correlation with the map after all weights were re-initialised; nearest to 0 is best",
            "https://arxiv.org/abs/1810.03292",
            stage=2,
        ),
        Metric(
            "agreement",
            "higher",
            "rank correlation with the map of a network trained from another seed",
            "https://arxiv.org/abs/1810.03292",
        ),
    )
}


class Summary(NamedTuple):
    """Mean over samples with its interval; n is the number of samples that have a value."""

    mean: float
    low: float
    high: float
    n: int


def sparseness(maps: Tensor) -> Tensor:
    """Gini index of the magnitudes (Hurley and Rickard 2009, doi:10.1109/TIT.2009.2027527).

    Args:
        maps: (B, C, *S), summed over the channels.

    Returns:
        (B,): 0 for an even map and for one of zeros, 1 - 1 / cells if all is in one cell.
    """
    values = on_grid(maps).abs().double().flatten(1).sort(dim=1).values
    cells = values.shape[1]
    weights = (cells - torch.arange(1, cells + 1, device=values.device) + 0.5) / cells
    total = values.sum(dim=1)
    gini = 1 - 2 * (values * weights).sum(dim=1) / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, gini, 0.0).float().cpu()


def agreement(maps_by_name: Mapping[str, Tensor], *, absolute: bool = False) -> np.ndarray:
    """Mean over the samples of the rank correlations between maps, of several methods or several seeds.

    Args:
        maps_by_name: maps (B, C, *S) of the same images.
        absolute: compare magnitudes.

    Returns:
        Symmetric matrix (M, M) in the order of `maps_by_name`, 1 on the diagonal; nan where no sample has a
        correlation, because one of the maps is constant.
    """
    maps = list(maps_by_name.values())
    matrix = np.eye(len(maps))
    for row in range(len(maps)):
        for column in range(row):
            value = torch.nanmean(rank_correlation(maps[row], maps[column], absolute=absolute))
            matrix[row, column] = matrix[column, row] = float(value)
    return matrix


def summarise(values: Any, *, seed: int = 0, level: float = 0.95, draws: int = 2000) -> Summary:
    """Mean over samples and its percentile bootstrap interval (Efron 1979, doi:10.1214/aos/1176344552).

    For two methods on the same samples give the differences of their values: they are better when the interval
    excludes 0.

    Args:
        values: (n,); nan, a sample for which the metric does not exist, is left out.
        seed: of the resampling.
        level: share of the resampled means inside the interval.
        draws: number of resampled means.

    Returns:
        The mean is nan without samples, the interval with fewer than two.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[~np.isnan(array)]
    if len(array) < 2:
        return Summary(float(array.mean()) if len(array) else np.nan, np.nan, np.nan, len(array))
    chosen = np.random.default_rng(seed).integers(len(array), size=(draws, len(array)))
    low, high = np.quantile(array[chosen].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Summary(float(array.mean()), float(low), float(high), len(array))
