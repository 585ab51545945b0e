"""Standard errors and paired tests of an AUC without resampling (DeLong, DeLong and Clarke-Pearson 1988).

An AUC is a mean over pairs, so each sample has a part in it: the share of the other class on its right side. The spread
of these parts is the AUC's variance (doi:10.2307/2531595; computed from ranks as in Sun and Xu 2014,
doi:10.1109/LSP.2014.2337313). The official AUC is a mean of such AUCs, so its parts are means of theirs.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from scale.evaluation import metrics
from scale.evaluation.statistics import Interval


@dataclass(frozen=True)
class Paired:
    """Two predictions of the same samples compared.

    Attributes:
        difference: of the first minus the second.
        error: standard error of the difference; nan where the test has none.
        interval: confidence interval of the difference.
        p_value: two-sided; 1 where the two do not differ in any sample.
    """

    difference: float
    error: float
    interval: Interval
    p_value: float


def placements(truth: np.ndarray, score: np.ndarray) -> tuple[float, np.ndarray]:
    """AUC and each sample's placement: the share of the other class that is on its right side, a tie counting half.

    Args:
        truth: (N,), true for positives.
        score: (N,).

    Returns:
        The AUC, nan where a class is absent, and the placements (N,).
    """
    truth, score = np.asarray(truth, dtype=bool), np.asarray(score, dtype=np.float64)
    positive, negative = np.sort(score[truth]), np.sort(score[~truth])
    if not (positive.size and negative.size):
        return float("nan"), np.full(len(score), np.nan)
    found = np.empty(len(score))
    for mine, others, sign in ((truth, negative, 1), (~truth, positive, -1)):
        below = np.searchsorted(others, score[mine], side="left") + np.searchsorted(others, score[mine], side="right")
        share = below / 2 / others.size
        found[mine] = share if sign > 0 else 1 - share
    return float(found[truth].mean()), found


def covariance(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (M,) and their covariance (M, M), of M scores (N, M) of the same samples.

    Raises:
        ValueError: a class has fewer than two samples, so that it has no variance.
    """
    truth, scores = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64).reshape(len(truth), -1)
    if truth.sum() < 2 or (~truth).sum() < 2:
        raise ValueError(
            f"DeLong's variance needs two samples of each class; got {truth.sum()} positive, {(~truth).sum()} negative"
        )
    parts = [placements(truth, column) for column in scores.T]
    areas, shares = np.array([area for area, _ in parts]), np.stack([share for _, share in parts])
    total = sum(np.cov(shares[:, rows]).reshape(len(areas), -1) / rows.sum() for rows in (truth, ~truth))
    return areas, np.asarray(total)


def interval(area: float, error: float, *, level: float = 0.95) -> Interval:
    """Interval of an AUC from its standard error, on the logit scale, so that it stays within 0 and 1.

    Without spread (error 0, as with separated classes, or nan) there is no interval.
    """
    if not (0 < area < 1 and error > 0):
        return Interval(float("nan"), float("nan"))
    reach = norm.ppf((1 + level) / 2) * error / (area * (1 - area))
    return Interval(float(expit(logit(area) - reach)), float(expit(logit(area) + reach)))


def auc_parts(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> tuple[float, np.ndarray]:
    """The official AUC and each sample's part in its error (N,): the parts sum to 0, their squares to its variance.

    For two classes the variance is DeLong's, to the last digit. With more classes the numbers of each class are taken
    as given (parts are centred within classes); for multilabel the samples are the units.

    Args:
        labels: (N, L).
        probabilities: (N, columns).
        problem: kind of the labels, as in `metrics`.

    Returns:
        The AUC and the parts, nan where a class or label occurs never or always.
    """
    labels, probabilities = metrics.checked(labels, probabilities, problem)
    truth, score = metrics.one_vs_rest(labels, probabilities, problem)
    n, columns = truth.shape
    area, parts = 0.0, np.zeros(n)
    for c in range(columns):
        one, share = placements(truth[:, c], score[:, c])
        area += one / columns
        for rows in (truth[:, c], ~truth[:, c]):
            count = rows.sum()
            if problem == "multilabel":
                parts[rows] += (share[rows] - share[rows].mean()) / count / columns if count else np.nan
            else:
                parts[rows] += share[rows] / max(count, 1) / columns
    if problem == "multilabel":
        return area, parts * np.sqrt(n / max(n - 1, 1))
    for k in np.unique(labels):
        rows = labels == k
        count = rows.sum()
        centred = parts[rows] - parts[rows].mean()
        parts[rows] = centred * np.sqrt(count / (count - 1)) if count > 1 else np.nan
    return area, parts


def auc_interval(labels: np.ndarray, probabilities: np.ndarray, problem: str, *, level: float = 0.95) -> Interval:
    """DeLong's interval of the official AUC; arguments as for `auc_parts`."""
    area, parts = auc_parts(labels, probabilities, problem)
    return interval(area, float(np.sqrt(np.sum(parts**2))), level=level)


def auc_test(labels: np.ndarray, first: np.ndarray, second: np.ndarray, problem: str, *, level: float = 0.95) -> Paired:
    """Paired test of the official AUCs of two predictions of the same samples.

    Args:
        labels: (N, L).
        first: probabilities (N, columns).
        second: probabilities (N, columns).
        problem: kind of the labels, as in `metrics`.
        level: of the interval.
    """
    (one, mine), (other, theirs) = (auc_parts(labels, found, problem) for found in (first, second))
    return compare_parts(one, mine, other, theirs, level=level)


def compare_parts(first: float, mine: np.ndarray, second: float, theirs: np.ndarray, *, level: float = 0.95) -> Paired:
    """Paired test of two AUCs from the parts of `auc_parts`; means over seeds of both may be given."""
    difference, error = first - second, float(np.sqrt(np.sum((mine - theirs) ** 2)))
    if not np.isfinite(difference + error):
        return Paired(difference, float("nan"), Interval(float("nan"), float("nan")), float("nan"))
    if error == 0:  # the same order of all samples, or two perfect ones
        return Paired(difference, 0.0, Interval(difference, difference), 1.0 if difference == 0 else 0.0)
    reach = float(norm.ppf((1 + level) / 2)) * error
    p_value = float(2 * norm.sf(abs(difference) / error))
    return Paired(difference, error, Interval(difference - reach, difference + reach), p_value)
