"""Spread over seeds and over samples, paired tests of accuracies, and ranks over data sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, friedmanchisquare, rankdata, studentized_range

from scale.evaluation import metrics


class Interval(NamedTuple):
    """Limits of a confidence interval; nan where there is none."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (n - 1; nan for one value) and number of values, those of several seeds."""

    mean: float
    sd: float
    n: int


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with both kinds of spread told apart.

    Attributes:
        mean: over the seeds.
        n: number of seeds.
        seeds: standard deviation between seeds: how much another training would differ on these test samples.
        samples: standard error of the mean from the test samples: how much other samples of the same kind would move
            it, whatever the number of seeds.
    """

    mean: float
    n: int
    seeds: float
    samples: float


@dataclass(frozen=True)
class Ranks:
    """Methods over data sets (Demšar 2006, https://jmlr.org/papers/v7/demsar06a.html).

    Attributes:
        average: (methods,), 1 is best, ties share a rank.
        statistic: Friedman's chi-squared, corrected for ties.
        p_value: of the hypothesis that all methods are equal.
        critical: difference in average rank from which two methods differ (Nemenyi).
        pairs: p-values (methods, methods) of Nemenyi's test.
        sets: number of data sets.
    """

    average: np.ndarray
    statistic: float
    p_value: float
    critical: float
    pairs: np.ndarray
    sets: int


def summarise(values: Sequence[float]) -> Summary:
    """Mean, standard deviation and number of the values of several seeds; nan for none."""
    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    return Summary(mean, float(np.std(values, ddof=1)) if n > 1 else math.nan, n)


def spread(values: Sequence[float], parts: Sequence[np.ndarray]) -> Spread:
    """Both kinds of spread of a metric over seeds.

    Args:
        values: of each seed.
        parts: of each seed (N,), each test sample's part in the metric's error, whose squares sum to its variance:
            from `delong.auc_parts` or `accuracy_parts`.
    """
    found = summarise(values)
    error = float(np.sqrt(np.sum(np.mean(np.stack(parts), axis=0) ** 2)))
    return Spread(found.mean, found.n, found.sd, error)


def accuracy_parts(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> tuple[float, np.ndarray]:
    """The official ACC and each sample's part in its error (N,): the parts sum to 0, their squares to its variance."""
    right = _right(labels, probabilities, problem)
    n = len(right)
    return float(right.mean()), (right - right.mean()) / n * np.sqrt(n / max(n - 1, 1))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact McNemar test of two classifiers on the same samples (doi:10.1007/BF02295996); two-sided p-value.

    Args:
        first: (N,), true where the first is right.
        second: (N,), true where the second is right.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    only, other = int((first & ~second).sum()), int((~first & second).sum())
    return float(binomtest(only, only + other).pvalue) if only + other else 1.0


def permutation_test(first: np.ndarray, second: np.ndarray, *, draws: int = 10_000, seed: int = 0) -> float:
    """Paired permutation test of two means over the same samples: each sample's pair is swapped at random.

    Args:
        first: (N,) a value a sample.
        second: (N,).
        draws: number of random swaps; the p-value is at least 1 / (draws + 1).
        seed: of the generator.

    Returns:
        Two-sided p-value.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    difference = difference[difference != 0]  # a swap changes nothing where they agree
    if difference.size == 0:
        return 1.0
    rng, block, beyond = np.random.default_rng(seed), max(1, 4_000_000 // difference.size), 0
    least = abs(difference.sum()) * (1 - 1e-12)
    for start in range(0, draws, block):
        signs = rng.integers(0, 2, (min(block, draws - start), difference.size), dtype=np.int8) * 2.0 - 1
        beyond += int((np.abs(signs @ difference) >= least).sum())
    return (beyond + 1) / (draws + 1)


def accuracy_test(labels: np.ndarray, first: np.ndarray, second: np.ndarray, problem: str) -> float:
    """Paired test of the official ACC: McNemar's, for multilabel the permutation test; two-sided p-value.

    Args:
        labels: (N, L).
        first: probabilities (N, columns).
        second: probabilities (N, columns).
        problem: kind of the labels, as in `metrics`.
    """
    one, other = (_right(labels, found, problem) for found in (first, second))
    return permutation_test(one, other) if problem == "multilabel" else mcnemar(one == 1, other == 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number; nan stays and counts not (Holm 1979, https://www.jstor.org/stable/4615733)."""
    known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for done, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(known) - done) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def ranks(values: np.ndarray, *, level: float = 0.95) -> Ranks:
    """Friedman's test and Nemenyi's critical difference.

    Args:
        values: (data sets, methods), higher is better.
        level: 1 minus the error rate of all pairs together.

    Raises:
        ValueError: fewer than 2 data sets or 3 methods, or a value is missing.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 3:
        raise ValueError(f"ranks need at least 2 data sets and 3 methods, (sets, methods); got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("ranks need the value of every method on every data set; leave out what is missing")
    sets, methods = values.shape
    average = rankdata(-values, axis=1).mean(axis=0)
    error = math.sqrt(methods * (methods + 1) / (6 * sets))
    apart = np.abs(np.subtract.outer(average, average)) / error * math.sqrt(2)
    pairs = np.minimum(studentized_range.sf(apart, methods, np.inf), 1.0)
    np.fill_diagonal(pairs, 1.0)
    critical = float(studentized_range.ppf(level, methods, np.inf)) / math.sqrt(2) * error
    if np.all(values == values[:, :1]):  # every method the same on every set: 0 / 0
        return Ranks(average, 0.0, 1.0, critical, pairs, sets)
    friedman = friedmanchisquare(*values.T)
    return Ranks(average, float(friedman.statistic), float(friedman.pvalue), critical, pairs, sets)


def cliques(average: np.ndarray, critical: float) -> list[tuple[float, float]]:
    """The largest groups of methods that do not differ, as their first and last average rank."""
    ordered = np.sort(np.asarray(average, dtype=np.float64))
    found: list[tuple[float, float]] = []
    for start in ordered:
        end = ordered[ordered < start + critical].max()
        if end > start and not (found and found[-1][1] >= end):
            found.append((float(start), float(end)))
    return found


def _right(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> np.ndarray:
    """Share of each sample (N,) that is right: 0 or 1, for multilabel the share of its labels."""
    labels, probabilities = metrics.checked(labels, probabilities, problem)
    right = (metrics.predicted_labels(probabilities, problem) == labels).astype(np.float64)
    return right.mean(axis=1) if problem == "multilabel" else right
