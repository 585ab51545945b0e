"""Scores of a split: the official AUC and ACC, and the other figures that papers report."""

import warnings

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
)

from scale.data.catalog import PROBLEMS
from scale.evaluation.calibration import expected_calibration_error
from scale.utils.choices import suggest

_SMALLEST = float(np.finfo(np.float32).eps)  # logarithms stop here: the probabilities were float32


def official_scores(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> dict[str, float]:
    """`auc` and `acc` exactly as `medmnist.Evaluator` has them (https://github.com/MedMNIST/MedMNIST, evaluator.py).

    AUC: mean over the labels (multilabel), of the last column (binary), else mean of one-vs-rest over the raw columns.
    ACC: share right at `score > 0.5` for binary (last column) and multilabel (mean over labels), else of the arg max.

    Args:
        labels: (N, L), or (N,) where L = 1.
        probabilities: (N, columns); for binary one column, that of the positive class, is enough.
        problem: one of `PROBLEMS`.

    Returns:
        The two scores; `auc` is nan, with a warning that names the class, where a class does not occur.

    Raises:
        ValueError: unknown problem, shapes that do not fit, labels out of range, scores that are not finite.
    """
    return _official(*checked(labels, probabilities, problem), problem)


def scores(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> dict[str, float]:
    """All scores of a split.

    Always `auc`, `acc` (official), `balanced_acc`, `macro_f1`, `average_precision`, `brier`, `log_loss` and `ece`; also
    `kappa` (quadratic weights for grades) and `mcc` where a sample has one class, `mae` in grades for ordinal, and
    `exact_match` for multilabel. A class absent from `labels` makes `auc` and `average_precision` nan, is left out of
    `balanced_acc`, and of `macro_f1` if it was not predicted either. For multilabel `balanced_acc`, `brier`, `log_loss`
    and `ece` are means over the labels. `brier` is the sum over the classes, for binary of the positive one;
    `log_loss` in nats; `ece` has 15 bins of equal width.

    Args:
        labels: (N, L), or (N,) where L = 1.
        probabilities: (N, columns), in [0, 1]; rows sum to one except for multilabel.
        problem: one of `PROBLEMS`.

    Raises:
        ValueError: as `official_scores`, or columns that are not probabilities.
    """
    labels, probabilities = checked(labels, probabilities, problem)
    _check_probabilities(probabilities, problem)
    result = _official(labels, probabilities, problem)
    truth, score = one_vs_rest(labels, probabilities, problem)
    present = truth.any(axis=0)
    result["average_precision"] = (
        float(np.mean([average_precision_score(truth[:, c], score[:, c]) for c in range(truth.shape[1])]))
        if present.all()
        else float("nan")
    )
    squared = (score - truth) ** 2
    predicted = predicted_labels(probabilities, problem)
    if problem == "multilabel":
        pairs = range(labels.shape[1])
        result["balanced_acc"] = float(np.mean([_balanced(labels[:, c], predicted[:, c]) for c in pairs]))
        result["macro_f1"] = float(f1_score(labels, predicted, average="macro", zero_division=np.nan))
        result["exact_match"] = float(np.mean((labels == predicted).all(axis=1)))
        right = np.where(truth, score, 1 - score)
        result["brier"] = float(squared.mean())
        result["ece"] = float(np.mean([expected_calibration_error(score[:, c], truth[:, c]) for c in pairs]))
    else:
        result["balanced_acc"] = _balanced(labels, predicted)
        result["macro_f1"] = float(f1_score(labels, predicted, average="macro", zero_division=np.nan))
        quadratic = "quadratic" if problem == "ordinal" else None
        result["kappa"] = _kappa(labels, predicted, quadratic)
        result["mcc"] = float(matthews_corrcoef(labels, predicted))
        if problem == "ordinal":
            result["mae"] = float(np.mean(np.abs(labels - predicted)))
        right = np.take_along_axis(probabilities, labels[:, None], axis=1)
        result["brier"] = float(squared.sum(axis=1).mean())
        result["ece"] = expected_calibration_error(probabilities.max(axis=1), predicted == labels)
    result["log_loss"] = float(-np.log(np.clip(right, _SMALLEST, 1.0)).mean())
    return result


def _official(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> dict[str, float]:
    truth, score = one_vs_rest(labels, probabilities, problem)
    count = truth.sum(axis=0)
    undefined = np.flatnonzero((count == 0) | (count == len(truth)))
    if undefined.size:
        what = "label" if problem == "multilabel" else "class"
        found = ", ".join(
            f"{what} {1 if problem == 'binary' else c} in {count[c]} of {len(truth)} samples" for c in undefined
        )
        warnings.warn(f"auc is undefined (nan) where a class occurs never or always: {found}", stacklevel=3)
    auc = float(np.mean([_auc(truth[:, c], score[:, c]) for c in range(truth.shape[1])]))
    return {"auc": auc, "acc": float(np.mean(predicted_labels(probabilities, problem) == labels))}


def one_vs_rest(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> tuple[np.ndarray, np.ndarray]:
    """Truth (N, C) as booleans and scores (N, C) of the questions that the AUC is a mean of."""
    if problem == "multilabel":
        return labels == 1, probabilities
    if problem == "binary":
        return (labels == 1)[:, None], probabilities[:, -1:]
    return labels[:, None] == np.arange(probabilities.shape[1]), probabilities


def predicted_labels(probabilities: np.ndarray, problem: str) -> np.ndarray:
    """What the official accuracy takes as the prediction: labels (N,), for multilabel (N, L)."""
    if problem == "multilabel":
        return (probabilities > 0.5).astype(np.int64)
    if problem == "binary":
        return (probabilities[:, -1] > 0.5).astype(np.int64)
    return probabilities.argmax(axis=1)


def _auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order, a tie counting half (Mann and Whitney 1947)."""
    positive, negative = np.sort(score[truth]), np.sort(score[~truth])
    if not (positive.size and negative.size):
        return float("nan")
    below = np.searchsorted(negative, positive, side="left") + np.searchsorted(negative, positive, side="right")
    return float(below.sum() / 2 / positive.size / negative.size)


def _balanced(labels: np.ndarray, predicted: np.ndarray) -> float:
    with warnings.catch_warnings():  # a predicted class that does not occur: documented, not news
        warnings.simplefilter("ignore", UserWarning)
        return float(balanced_accuracy_score(labels, predicted))


def _kappa(labels: np.ndarray, predicted: np.ndarray, weights: str | None) -> float:
    if labels.min() == labels.max() and np.array_equal(labels, predicted):
        return float("nan")  # chance alone explains everything: 0 / 0
    return float(cohen_kappa_score(labels, predicted, weights=weights))


def checked(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) or, for multilabel, (N, L), and probabilities (N, columns) in float64.

    Raises:
        ValueError: as `official_scores`.
    """
    if problem not in PROBLEMS:
        raise ValueError(f"unknown problem {problem!r}; {suggest(problem, PROBLEMS)}")
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    given = f"got labels {labels.shape} and probabilities {probabilities.shape}"
    if probabilities.ndim != 2 or len(probabilities) == 0 or len(labels) != len(probabilities):
        raise ValueError(f"labels (N, L) and probabilities (N, columns) of the same, non-empty N needed; {given}")
    if problem == "multilabel":
        if labels.shape != probabilities.shape:
            raise ValueError(f"multilabel needs as many labels as columns; {given}")
    else:
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            raise ValueError(f"a {problem} problem has one label a sample, (N, 1) or (N,); {given}")
        allowed = (1, 2) if problem == "binary" else range(2, 2**16)
        if probabilities.shape[1] not in allowed:
            raise ValueError(
                f"a {problem} problem needs {'1 or 2' if problem == 'binary' else '2 or more'} columns; {given}"
            )
    if not np.isfinite(probabilities).all():
        rows = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
        raise ValueError(
            f"probabilities are nan or infinite in {len(rows)} of {len(probabilities)} rows, first row {rows[0]}"
        )
    top = probabilities.shape[1] - 1 if problem in ("multiclass", "ordinal") else 1
    if labels.min() < 0 or labels.max() > top:
        raise ValueError(f"labels of a {problem} problem must lie in 0..{top}; got {labels.min()}..{labels.max()}")
    return labels.astype(np.int64), probabilities


def _check_probabilities(probabilities: np.ndarray, problem: str) -> None:
    if probabilities.min() < 0 or probabilities.max() > 1 + 1e-6:  # rounding of a softmax in float32
        raise ValueError(f"probabilities must lie in [0, 1]; got {probabilities.min():.6g}..{probabilities.max():.6g}")
    if problem == "multilabel":
        return
    if problem == "binary" and probabilities.shape[1] == 1:
        raise ValueError("binary probabilities need 2 columns here; one column is enough for official_scores only")
    gap = np.abs(probabilities.sum(axis=1) - 1).max()
    if gap > 1e-3:
        raise ValueError(
            f"rows of {problem} probabilities must sum to 1; off by up to {gap:.3g} (logits instead of probabilities?)"
        )
