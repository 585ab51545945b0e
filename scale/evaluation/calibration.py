"""How far probabilities can be believed, the one number that repairs most of it, and where to decide."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, logsumexp, softmax

TEMPERATURES = (0.05, 20.0)  # beyond these the validation data say nothing but "as far as you can"
RULES = ("youden", "f1")
_SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Bins:
    """Reliability of predictions, in bins of equal width; each field (bins,), with nan where a bin is empty.

    Attributes:
        edges: (bins + 1,), from 0 to 1.
        confidence: mean confidence of a bin.
        accuracy: share of the bin's predictions that hold.
        counts: number of predictions.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray


def reliability_bins(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> Bins:
    """Group predictions by confidence, a bin being (lower, upper].

    Args:
        confidence: (N,), in [0, 1].
        correct: (N,), true where the prediction holds.
        bins: number of bins.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(which, weights=confidence, minlength=bins) / counts
        accuracy = np.bincount(which, weights=np.asarray(correct, dtype=np.float64), minlength=bins) / counts
    return Bins(edges=edges, confidence=mean_confidence, accuracy=accuracy, counts=counts)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """Mean gap of confidence and accuracy, weighted by the bins' counts (Guo et al. 2017, arXiv:1706.04599)."""
    found = reliability_bins(confidence, correct, bins=bins)
    return float(np.nansum(found.counts * np.abs(found.accuracy - found.confidence)) / found.counts.sum())


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray, problem: str) -> float:
    """Temperature by which to divide logits so that the log loss is least (Guo et al. 2017, arXiv:1706.04599).

    Args:
        probabilities: (N, columns) of the validation split, never of the test split.
        labels: (N, L).
        problem: kind of the labels, as in `metrics`.

    Returns:
        The temperature, within `TEMPERATURES`; their end where the loss has no minimum inside (separable data).

    Raises:
        ValueError: no sample, or probabilities that are not finite.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if len(probabilities) == 0 or len(labels) != len(probabilities) or not np.isfinite(probabilities).all():
        raise ValueError(
            "a temperature needs finite probabilities (N, columns) of at least one sample, and as many labels; "
            f"got probabilities {probabilities.shape} and labels {labels.shape}"
        )
    logits = _logits(probabilities, problem)

    def loss(logarithm: float) -> float:
        scaled = logits / np.exp(logarithm)
        if problem == "multilabel":
            return float(np.logaddexp(0, np.where(labels == 1, -scaled, scaled)).mean())
        right = np.take_along_axis(scaled, labels.reshape(-1, 1).astype(np.int64), axis=1)[:, 0]
        return float((logsumexp(scaled, axis=1) - right).mean())

    low, high = (float(np.log(end)) for end in TEMPERATURES)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    ends = {loss(end): end for end in (low, high)}
    least = min(ends)
    return float(np.exp(ends[least] if least <= best.fun else best.x))


def apply_temperature(probabilities: np.ndarray, temperature: float, problem: str) -> np.ndarray:
    """Probabilities (N, columns), float64, after their logits were divided by a temperature.

    Logits are found from the probabilities, so that averages and prediction files, which have none, are served too: the
    logarithm of the class probabilities, or for multilabel that of each label's odds. No decision of the official ACC
    changes, nor for binary and multilabel the AUC.

    Args:
        probabilities: (N, columns).
        temperature: above 0; above 1 makes predictions less confident.
        problem: kind of the labels, as in `metrics`.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: give a number above 0")
    scaled = _logits(np.asarray(probabilities, dtype=np.float64), problem) / temperature
    return expit(scaled) if problem == "multilabel" else softmax(scaled, axis=1)


def choose_threshold(truth: np.ndarray, score: np.ndarray, rule: str) -> float:
    """Threshold above which a score counts as positive, chosen by a stated rule; choose it on val, never on test.

    `youden` takes the largest sensitivity + specificity (Youden 1950, PMID 15405679), `f1` the largest F1 of the
    positives. The threshold lies halfway between two scores; of equals it is the one nearest to 0.5.

    Args:
        truth: (N,), true for positives.
        score: (N,), in [0, 1].
        rule: one of `RULES`.

    Returns:
        The threshold, nan where a class is absent.

    Raises:
        ValueError: unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r} for a threshold; allowed: {', '.join(RULES)}")
    truth, score = np.asarray(truth, dtype=bool), np.asarray(score, dtype=np.float64)
    if not (truth.any() and (~truth).any()):
        return float("nan")
    values = np.unique(score)
    candidates = np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2])  # the first calls all positive
    positive, negative = np.sort(score[truth]), np.sort(score[~truth])
    hits = positive.size - np.searchsorted(positive, candidates, side="right")
    alarms = negative.size - np.searchsorted(negative, candidates, side="right")
    if rule == "youden":
        worth = hits / positive.size - alarms / negative.size
    else:
        worth = 2 * hits / (positive.size + hits + alarms)
    best = candidates[worth >= worth.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _logits(probabilities: np.ndarray, problem: str) -> np.ndarray:
    if problem == "multilabel":
        return logit(np.clip(probabilities, _SMALLEST, 1 - np.finfo(np.float64).epsneg))
    return np.log(np.clip(probabilities, _SMALLEST, None))
