"""Stratified bootstrap intervals of all headline metrics at once (Efron and Tibshirani 1993, percentile method).

A resample is a weight for each sample, so every metric is a weighted count. Ranks are sorted once; a resample costs a
cumulative sum per class.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scale.evaluation import metrics
from scale.evaluation.counts import Cells, kappa, mcc, one_vs_rest, rates, summary
from scale.evaluation.ranking import Ranked
from scale.evaluation.statistics import Interval

RESAMPLES, LEVEL = 2000, 0.95
_NUMBERS = 2_000_000  # weights in memory at a time


@dataclass(frozen=True)
class Intervals:
    """What a bootstrap found; an interval is nan where the metric is undefined or the same in every resample.

    Attributes:
        metrics: by name, as in `metrics.scores`.
        per_class: by name (`auc`, `average_precision` and those of `counts.rates`), one a class.
    """

    metrics: dict[str, Interval]
    per_class: dict[str, list[Interval]]


def strata(labels: np.ndarray, problem: str) -> np.ndarray:
    """The group (N,) within which samples are drawn: the class, for multilabel the rarest label that a sample has."""
    labels = np.asarray(labels)
    if problem != "multilabel":
        return labels.reshape(len(labels)).astype(np.int64)
    order = np.argsort(labels.sum(axis=0), kind="stable")
    first = labels[:, order].argmax(axis=1)  # the first of the sample's labels, the rarest label first
    return np.where(labels.any(axis=1), order[first], -1)


def weights(groups: np.ndarray, *, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each sample is drawn, (N, R) a block of R resamples, as many in all as asked for.

    Args:
        groups: (N,), from `strata`; each keeps its size.
        resamples: number of resamples.
        seed: of the generator.
    """
    rng, n = np.random.default_rng(seed), len(groups)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    block = max(1, min(resamples, _NUMBERS // n))
    for start in range(0, resamples, block):
        columns = min(block, resamples - start)
        found = np.empty((n, columns), dtype=np.float32)  # whole numbers: exact
        offsets = np.arange(columns)[:, None]
        for rows in members:
            size = len(rows)
            drawn = rng.integers(0, size, (columns, size)) + offsets * size
            found[rows] = np.bincount(drawn.ravel(), minlength=columns * size).reshape(columns, size).T
        yield found


def bootstrap(
    labels: np.ndarray,
    probabilities: np.ndarray,
    problem: str,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Intervals:
    """Percentile intervals of the metrics of `metrics.scores`, but for the calibration error.

    The calibration error has none: each resample adds noise to every bin's gap, so that the percentiles lie above the
    estimate. Metrics of a class are left out of a resample in which they are undefined.

    Args:
        labels: (N, L), or (N,) where L = 1.
        probabilities: (N, columns), rows summing to one except for multilabel.
        problem: kind of the labels, as in `metrics`.
        resamples: number of resamples.
        level: of the intervals.
        seed: of the resampling.
    """
    labels, probabilities = metrics.checked(labels, probabilities, problem)
    draw = _Drawn(labels, probabilities, problem)
    blocks = [draw(found) for found in weights(strata(labels, problem), resamples=resamples, seed=seed)]
    headline = {name: np.concatenate([block[0][name] for block in blocks]) for name in blocks[0][0]}
    classes = {name: np.concatenate([block[1][name] for block in blocks], axis=1) for name in blocks[0][1]}
    return Intervals(
        metrics={name: percentiles(values, level) for name, values in headline.items()},
        per_class={name: [percentiles(row, level) for row in values] for name, values in classes.items()},
    )


def percentiles(values: np.ndarray, level: float) -> Interval:
    """Interval that leaves out equal shares at both ends; nan where no value is defined or all are the same."""
    known = values[np.isfinite(values)]
    if known.size == 0 or known.min() == known.max():
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


class _Drawn:
    """Metrics of resamples: from weights (N, R) to values (R,), and (C, R) a class."""

    def __init__(self, labels: np.ndarray, probabilities: np.ndarray, problem: str) -> None:
        self.problem, self.multilabel = problem, problem == "multilabel"
        truth = labels == 1 if self.multilabel else labels[:, None] == np.arange(probabilities.shape[1])
        self.ranked = [Ranked(truth[:, c], probabilities[:, c]) for c in range(probabilities.shape[1])]
        predicted = metrics.predicted_labels(probabilities, problem)
        self.cells = Cells(labels, predicted, classes=probabilities.shape[1], multilabel=self.multilabel)
        self.losses = metrics.sample_losses(labels, probabilities, problem)

    def __call__(self, drawn: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        ranks = [rank(drawn) for rank in self.ranked]
        area, average = np.stack([auc for auc, _ in ranks]), np.stack([precision for _, precision in ranks])
        matrix = self.cells(drawn)
        asked = slice(1, None) if self.problem == "binary" else slice(None)  # of two classes the positive one counts
        found = {"auc": area[asked].mean(axis=0), **summary(matrix, multilabel=self.multilabel)}
        found["average_precision"] = average[asked].mean(axis=0)
        if not self.multilabel:
            found |= {"kappa": kappa(matrix, quadratic=self.problem == "ordinal"), "mcc": mcc(matrix)}
        found |= {name: values @ drawn / drawn.sum(axis=0) for name, values in self.losses.items()}
        shares = rates(one_vs_rest(matrix, multilabel=self.multilabel))
        return found, {"auc": area, "average_precision": average, **shares}
