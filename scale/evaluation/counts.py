"""Metrics of decisions, from counts of (true, predicted) pairs; the counts of many resamples at a time too.

Arrays end in an axis of resamples R; of one data set R is 1. What has no samples to count is nan.
"""

import numpy as np
from scipy import sparse


class Cells:
    """Which cell of the confusion matrix each sample falls into.

    Args:
        labels: (N,) classes or, for multilabel, (N, L) of 0 and 1.
        predicted: of the same shape.
        classes: K; for multilabel L.
        multilabel: whether there is a matrix of 2 x 2 a label, in place of one of K x K.
    """

    def __init__(self, labels: np.ndarray, predicted: np.ndarray, *, classes: int, multilabel: bool) -> None:
        n = len(labels)
        self.multilabel = multilabel
        self.shape = (classes, 2, 2) if multilabel else (classes, classes)
        if multilabel:
            cell = (4 * np.arange(classes) + 2 * labels + predicted).ravel()
            sample = np.repeat(np.arange(n), classes)
        else:
            cell, sample = labels * classes + predicted, np.arange(n)
        self._matrix = sparse.csr_array((np.ones(len(cell)), (cell, sample)), shape=(int(np.prod(self.shape)), n))

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Counts (K, K, R), rows true, or (L, 2, 2, R), from the samples' weights (N, R)."""
        return (self._matrix @ weights).reshape(*self.shape, weights.shape[1])


def one_vs_rest(counts: np.ndarray, *, multilabel: bool) -> dict[str, np.ndarray]:
    """`tp`, `fp`, `fn` and `tn` of each class against the rest, (C, R) each."""
    if multilabel:
        return {"tp": counts[:, 1, 1], "fp": counts[:, 0, 1], "fn": counts[:, 1, 0], "tn": counts[:, 0, 0]}
    tp = np.einsum("kkr->kr", counts)
    fp, fn = counts.sum(axis=0) - tp, counts.sum(axis=1) - tp
    return {"tp": tp, "fp": fp, "fn": fn, "tn": counts.sum(axis=(0, 1)) - tp - fp - fn}


def rates(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Precision, recall, specificity, F1 and accuracy (C, R) of each class, from `one_vs_rest`."""
    tp, fp, fn, tn = (found[key] for key in ("tp", "fp", "fn", "tn"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
        }


def summary(counts: np.ndarray, *, multilabel: bool) -> dict[str, np.ndarray]:
    """ACC, balanced accuracy and the means over the classes (R,); a class in which a rate is undefined is left out."""
    found = rates(one_vs_rest(counts, multilabel=multilabel))
    halves = np.stack([found["recall"], found["specificity"]]) if multilabel else found["recall"][None]
    return {
        "acc": found["accuracy"].mean(axis=0) if multilabel else np.einsum("kkr->r", counts) / counts.sum(axis=(0, 1)),
        "balanced_acc": _mean(_mean(halves)) if multilabel else _mean(found["recall"]),
        **{f"macro_{name}": _mean(found[name]) for name in ("precision", "recall", "specificity", "f1")},
    }


def kappa(counts: np.ndarray, *, quadratic: bool) -> np.ndarray:
    """Cohen's kappa (R,), doi:10.1177/001316446002000104, of counts (K, K, R); nan where chance explains everything.

    With quadratic weights a mistake costs the square of its distance (Cohen 1968, doi:10.1037/h0026256).
    """
    grades = np.arange(len(counts), dtype=np.float64)
    distance = np.subtract.outer(grades, grades)
    cost = (distance**2 if quadratic else distance != 0).astype(np.float64)
    expected = np.einsum("ir,jr,ij->r", counts.sum(axis=1), counts.sum(axis=0), cost) / counts.sum(axis=(0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - np.einsum("ijr,ij->r", counts, cost) / expected


def mcc(counts: np.ndarray) -> np.ndarray:
    """Matthews' correlation coefficient (R,) for K classes (Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006).

    It is 0 where only one class is predicted, which correlates with nothing, and nan where only one class occurs.
    """
    n, true, predicted = counts.sum(axis=(0, 1)), counts.sum(axis=1), counts.sum(axis=0)
    covariance = np.einsum("kkr->r", counts) * n - (true * predicted).sum(axis=0)
    spread_true, spread_predicted = n**2 - (true**2).sum(axis=0), n**2 - (predicted**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = covariance / np.sqrt(spread_true * spread_predicted)
    return np.where(spread_true == 0, np.nan, np.where(spread_predicted == 0, 0.0, found))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is defined."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)
