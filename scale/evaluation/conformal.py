"""Sets of classes that hold the true one as often as promised: split conformal prediction.

The score of a class is 1 minus its probability (least ambiguous sets: Sadinle, Lei and Wasserman 2019,
arXiv:1609.00451). For multilabel each label has a set of its own, out of absent and present. The promise needs
calibration samples that are like the test samples and chose nothing else: where val also chose the epoch, the coverage
is to be measured.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import betabinom


@dataclass(frozen=True)
class Conformal:
    """Calibrated sets: a class is in the set if 1 minus its probability is at most the threshold.

    Attributes:
        thresholds: (1,), for multilabel (L,).
        coverage: what was asked for.
        samples: number of calibration samples.
    """

    thresholds: np.ndarray
    coverage: float
    samples: int

    def sets(self, probabilities: np.ndarray, problem: str) -> np.ndarray:
        """Members (N, K) of each sample's set; for multilabel (N, L, 2), whether `absent` and `present` are in it."""
        scores = 1 - _options(np.asarray(probabilities, dtype=np.float64), problem)
        return scores <= (self.thresholds[:, None] if problem == "multilabel" else self.thresholds)


@dataclass(frozen=True)
class Measured:
    """What sets are worth.

    Attributes:
        coverage: share of samples (for multilabel of samples and labels) whose set has the true class.
        size: mean number of classes in a set.
        empty: share of sets with no class.
        single: share of sets with one class.
        per_class: coverage (K,) of the samples of each class, for multilabel (L,) of each label; nan for an absent one.
    """

    coverage: float
    size: float
    empty: float
    single: float
    per_class: list[float]


def least_samples(coverage: float) -> int:
    """Number of calibration samples from which a coverage can be promised by anything but all classes."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def calibrate(probabilities: np.ndarray, labels: np.ndarray, problem: str, *, coverage: float = 0.9) -> Conformal:
    """Thresholds from a split that neither trained the network nor will be tested.

    Args:
        probabilities: (N, columns).
        labels: (N, L).
        problem: kind of the labels, as in `metrics`.
        coverage: share of new samples whose set is to hold the true class, in (0, 1).

    Raises:
        ValueError: the coverage is out of range, or more than N samples can promise.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage={coverage}: give a share between 0 and 1, such as 0.9")
    n, least = len(labels), least_samples(coverage)
    if n < least:
        raise ValueError(f"a coverage of {coverage:g} needs at least {least} calibration samples; got {n}")
    scores = 1 - _true_options(_options(np.asarray(probabilities, dtype=np.float64), problem), labels)
    rank = math.ceil((n + 1) * coverage - 1e-9)
    return Conformal(np.sort(scores, axis=0)[rank - 1], coverage, n)


def expected(coverage: float, *, samples: int, tested: int, level: float = 0.95) -> tuple[float, float]:
    """Range of the measured coverage that chance allows where calibration and test samples are alike.

    The number of covered test samples is beta-binomial (Vovk 2012, https://proceedings.mlr.press/v25/vovk12.html).

    Args:
        coverage: what was asked for.
        samples: number of calibration samples.
        tested: number of test samples.
        level: share of draws within the range.
    """
    rank = math.ceil((samples + 1) * coverage - 1e-9)
    covered = betabinom(tested, rank, samples + 1 - rank)
    low, high = (float(covered.ppf(end)) / tested for end in ((1 - level) / 2, (1 + level) / 2))
    return low, high


def measure(members: np.ndarray, labels: np.ndarray) -> Measured:
    """Coverage and size of sets.

    Args:
        members: from `Conformal.sets`.
        labels: (N, L).
    """
    labels = np.asarray(labels)
    covered, sizes = _true_options(members, labels), members.sum(axis=-1)
    if members.ndim == 3:
        each = covered.mean(axis=0)
    else:
        truth = labels.reshape(-1) == np.arange(members.shape[1])[:, None]
        with np.errstate(invalid="ignore"):
            each = (truth & covered[:, 0]).sum(axis=1) / truth.sum(axis=1)
    return Measured(
        coverage=float(covered.mean()),
        size=float(sizes.mean()),
        empty=float((sizes == 0).mean()),
        single=float((sizes == 1).mean()),
        per_class=[float(value) for value in each],
    )


def _options(probabilities: np.ndarray, problem: str) -> np.ndarray:
    """Probabilities (N, K) of the classes; for multilabel (N, L, 2) of absent and present."""
    return np.stack([1 - probabilities, probabilities], axis=-1) if problem == "multilabel" else probabilities


def _true_options(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What stands at the true class, (N, 1), or for multilabel (N, L)."""
    index = np.asarray(labels).astype(np.int64).reshape(len(labels), -1)
    if values.ndim == 3:
        return np.take_along_axis(values, index[..., None], axis=-1)[..., 0]
    return np.take_along_axis(values, index, axis=1)
