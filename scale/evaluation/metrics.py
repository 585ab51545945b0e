"""Scores of a split: the official AUC and ACC, and the other figures that papers report."""

import warnings
from collections.abc import Sequence

import numpy as np

from scale.data.catalog import PROBLEMS
from scale.evaluation.calibration import expected_calibration_error
from scale.evaluation.counts import Cells, kappa, mcc, rates, summary
from scale.evaluation.counts import one_vs_rest as against_rest
from scale.evaluation.ranking import Ranked
from scale.utils.choices import suggest

BINS = 15  # of the calibration error
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

    Always `auc`, `acc` (official), `average_precision`, `balanced_acc`, `macro_precision`, `macro_recall`,
    `macro_specificity`, `macro_f1`, `brier`, `log_loss` and `ece`; also `kappa` (quadratic weights for grades) and
    `mcc` where a sample has one class, `mae` in grades for ordinal, and `exact_match` (subset accuracy) for multilabel.
    A class absent from `labels` makes `auc` and `average_precision` nan; a mean over classes leaves out those in which
    it is undefined, as the recall of an absent class and the precision of one never predicted: `undefined` names them.
    For multilabel `balanced_acc`, `brier`, `log_loss` and `ece` are means over the labels. `brier` is the sum over the
    classes, for binary of the positive one; `log_loss` in nats; `ece` has `BINS` bins of equal width.

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
    everyone = np.ones((len(labels), 1))
    result["average_precision"] = float(
        np.mean([Ranked(truth[:, c], score[:, c])(everyone)[1] for c in range(truth.shape[1])])
    )
    multilabel, counts = problem == "multilabel", _counts(labels, probabilities, problem)
    found = summary(counts, multilabel=multilabel)
    if not multilabel:
        found |= {"kappa": kappa(counts, quadratic=problem == "ordinal"), "mcc": mcc(counts)}
    result |= {name: float(value[0]) for name, value in found.items() if name != "acc"}
    result |= {name: float(values.mean()) for name, values in sample_losses(labels, probabilities, problem).items()}
    return result | {"ece": _calibration_error(labels, probabilities, problem)}


def per_class(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> dict[str, list[float]]:
    """Each class against the rest, or each label: a number a class under each name.

    `support` (samples that have it), `predicted` (that are given it), `precision`, `recall`, `specificity`, `f1`,
    `accuracy`, `auc` and `average_precision`; nan where undefined. Arguments as for `scores`.
    """
    labels, probabilities = checked(labels, probabilities, problem)
    _check_probabilities(probabilities, problem)
    found = against_rest(_counts(labels, probabilities, problem), multilabel=problem == "multilabel")
    shares = {"support": found["tp"] + found["fn"], "predicted": found["tp"] + found["fp"], **rates(found)}
    result = {name: [float(value) for value in values[:, 0]] for name, values in shares.items()}
    truth = labels == 1 if problem == "multilabel" else labels[:, None] == np.arange(probabilities.shape[1])
    everyone = np.ones((len(labels), 1))
    ranks = [Ranked(truth[:, c], probabilities[:, c])(everyone) for c in range(truth.shape[1])]
    result["auc"] = [float(area[0]) for area, _ in ranks]
    result["average_precision"] = [float(average[0]) for _, average in ranks]
    return result


def undefined(labels: np.ndarray, probabilities: np.ndarray, problem: str, names: Sequence[str]) -> list[str]:
    """Why metrics of a split are undefined, or leave a class out: a sentence a class.

    Args:
        labels: (N, L).
        probabilities: (N, columns).
        problem: one of `PROBLEMS`.
        names: of the classes or labels.
    """
    found = per_class(labels, probabilities, problem)
    what, n = "label" if problem == "multilabel" else "class", len(labels)
    said = []
    for name, support, predicted in zip(names, found["support"], found["predicted"], strict=True):
        if support in (0, n):
            said.append(
                f"{what} {name!r} occurs in {support:.0f} of {n} samples: AUC and average precision are undefined"
                + (", and means of recall leave it out" if support == 0 else "")
            )
        if predicted == 0:
            said.append(f"{what} {name!r} is never predicted: it has no precision, and its mean leaves it out")
    return said


def sample_losses(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> dict[str, np.ndarray]:
    """Metrics that are means over samples, before the mean: (N,) each.

    Args:
        labels: from `checked`.
        probabilities: from `checked`.
        problem: one of `PROBLEMS`.
    """
    truth, score = one_vs_rest(labels, probabilities, problem)
    predicted, squared = predicted_labels(probabilities, problem), (score - truth) ** 2
    found: dict[str, np.ndarray] = {}
    if problem == "multilabel":
        found["exact_match"] = (labels == predicted).all(axis=1).astype(np.float64)
        found["brier"] = squared.mean(axis=1)
        right = np.where(truth, score, 1 - score)
    else:
        if problem == "ordinal":
            found["mae"] = np.abs(labels - predicted).astype(np.float64)
        found["brier"] = squared.sum(axis=1)
        right = np.take_along_axis(probabilities, labels[:, None], axis=1)
    found["log_loss"] = -np.log(np.clip(right, _SMALLEST, 1.0)).mean(axis=1)
    return found


def _counts(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> np.ndarray:
    predicted, classes = predicted_labels(probabilities, problem), probabilities.shape[1]
    return Cells(labels, predicted, classes=classes, multilabel=problem == "multilabel")(np.ones((len(labels), 1)))


def _calibration_error(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> float:
    if problem != "multilabel":
        right = predicted_labels(probabilities, problem) == labels
        return expected_calibration_error(probabilities.max(axis=1), right, bins=BINS)
    columns = zip(probabilities.T, labels.T, strict=True)
    return float(np.mean([expected_calibration_error(score, truth == 1, bins=BINS) for score, truth in columns]))


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
    everyone = np.ones((len(labels), 1))
    auc = float(np.mean([Ranked(truth[:, c], score[:, c])(everyone)[0] for c in range(truth.shape[1])]))
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


def checked_names(
    labels: np.ndarray, probabilities: np.ndarray, problem: str, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """As `checked`, with a name for each column.

    Raises:
        ValueError: as `official_scores`, or another number of names.
    """
    labels, probabilities = checked(labels, probabilities, problem)
    if len(names) != probabilities.shape[1]:
        raise ValueError(f"{len(names)} names for {probabilities.shape[1]} columns of probabilities")
    return labels, probabilities


def confident_mistakes(
    labels: np.ndarray, probabilities: np.ndarray, problem: str, count: int
) -> list[tuple[int, int, int, float]]:
    """The wrong predictions of which the network was most certain.

    Args:
        labels: (N, L).
        probabilities: (N, columns).
        problem: one of `PROBLEMS`.
        count: of mistakes at most; for multilabel a sample's worst label stands for it.

    Returns:
        The sample's row, its class, the predicted class, and that one's probability, most certain first. For
        multilabel: the row, the label's number, 1 if it was found and is absent or 0 if it was missed, and the
        probability of what was predicted.
    """
    labels, probabilities = checked(labels, probabilities, problem)
    predicted = predicted_labels(probabilities, problem)
    if problem == "multilabel":
        belief = np.where(predicted == 1, probabilities, 1 - probabilities) * (predicted != labels)
        worst = belief.argmax(axis=1)
        certain, rows = belief.max(axis=1), np.arange(len(labels))
        found = zip(rows, worst, predicted[rows, worst], certain, strict=True)
    else:
        certain = np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0] * (predicted != labels)
        found = zip(np.arange(len(labels)), labels, predicted, certain, strict=True)
    wrong = sorted(((int(a), int(b), int(c), float(d)) for a, b, c, d in found if d > 0), key=lambda item: -item[3])
    return wrong[:count]


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
