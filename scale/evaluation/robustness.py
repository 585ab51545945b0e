"""How much worse a classifier is on corrupted images: the balanced error and its ratio to the clean one."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from scale.evaluation import metrics
from scale.evaluation.figure_style import colour, dashes
from scale.utils.tables import markdown

CLEAN = "clean"


@dataclass(frozen=True)
class Result:
    """A classifier on one corruption of one severity.

    Attributes:
        corruption: its name; `clean` for none.
        severity: 0 for clean images.
        change: mean absolute difference from the clean images, in grey levels of 255.
        auc: official AUC.
        acc: official ACC.
        error: balanced error: 1 minus the balanced accuracy.
        ratio: of the error to the clean one; nan where the clean one is 0.
    """

    corruption: str
    severity: int
    change: float
    auc: float
    acc: float
    error: float
    ratio: float


def results(
    labels: np.ndarray,
    probabilities: Mapping[tuple[str, int], np.ndarray],
    changes: Mapping[tuple[str, int], float],
    problem: str,
) -> list[Result]:
    """Scores of each corruption and severity, from predictions.

    The error is that of arXiv:2406.17536: of decisions by arg max, at .5 for binary and multilabel. (The publication
    divides by AlexNet's error, and picks other thresholds for binary sets.)

    Args:
        labels: (N, L).
        probabilities: (N, columns) by corruption and severity; `("clean", 0)` is among them.
        changes: mean absolute change of the images by the same keys.
        problem: kind of the labels, as in `metrics`.

    Raises:
        ValueError: a class does not occur, so that the balanced error is undefined; or as `metrics.scores`.
    """
    absent = _absent(labels, probabilities[CLEAN, 0].shape[1], problem)
    if absent:
        raise ValueError(f"the balanced error is undefined: no sample of class {', '.join(map(str, absent))}")
    found = {key: _scores(labels, given, problem) for key, given in probabilities.items()}
    clean = found[CLEAN, 0]["error"]
    return [
        Result(name, severity, changes[name, severity], **scores, ratio=scores["error"] / clean if clean else math.nan)
        for (name, severity), scores in found.items()
    ]


def means(found: Sequence[Result]) -> list[Result]:
    """Of each corruption the mean over its severities, in the order given, without the clean images."""
    names = dict.fromkeys(result.corruption for result in found if result.severity)
    columns = ("change", "auc", "acc", "error", "ratio")
    groups = {name: [result for result in found if result.corruption == name] for name in names}
    return [
        Result(name, -1, *(float(np.mean([getattr(result, column) for result in group])) for column in columns))
        for name, group in groups.items()
    ]


def table(found: Sequence[Result]) -> str:
    """A Markdown table: clean images, a row a corruption with the mean over severities, and the mean over all."""
    clean = next(result for result in found if result.severity == 0)
    rows = means(found)
    severities = sorted({result.severity for result in found if result.severity})
    errors = {(result.corruption, result.severity): result.error for result in found}
    head = ["corruption", "change", "AUC", "ACC", "error", "ratio", *(f"error at {s}" for s in severities)]
    lines = [[CLEAN, "0.0", *_shown(clean), *[""] * len(severities)]]
    for row in rows:
        each = [f"{errors[row.corruption, s]:.3f}" for s in severities]
        lines.append([row.corruption, f"{row.change:.1f}", *_shown(row), *each])
    columns = ("change", "auc", "acc", "error", "ratio")
    every = Result("mean", -1, *(float(np.mean([getattr(row, column) for row in rows])) for column in columns))
    each = [f"{np.mean([errors[row.corruption, s] for row in rows]):.3f}" for s in severities]
    lines.append(["mean", f"{every.change:.1f}", *_shown(every), *each])
    return markdown(head, lines)


def figure(found: Sequence[Result], *, title: str) -> Figure:
    """Balanced error against severity, a line a corruption."""
    drawn = Figure(figsize=(7.5, 4.2), dpi=150, layout="constrained")
    axes = drawn.add_subplot()
    clean = next(result for result in found if result.severity == 0)
    for number, row in enumerate(means(found)):
        points = sorted((r.severity, r.error) for r in found if r.corruption == row.corruption)
        axes.plot(
            *zip((0, clean.error), *points, strict=True),
            color=colour(number),
            linestyle=dashes(number),
            marker="o",
            markersize=3,
            label=row.corruption.replace("_", " "),
        )
    axes.axhline(clean.error, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(xlabel="severity (0: clean)", ylabel="balanced error", ylim=(0, None))
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(loc="outside right upper", frameon=False, fontsize=8)
    return drawn


def _scores(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> dict[str, float]:
    with warnings.catch_warnings():  # of predictions of one class only
        warnings.simplefilter("ignore")
        found = metrics.scores(labels, probabilities, problem)
    return {"auc": found["auc"], "acc": found["acc"], "error": 1 - found["balanced_acc"]}


def _absent(labels: np.ndarray, columns: int, problem: str) -> list[int]:
    if problem == "multilabel":
        return [c for c in range(columns) if labels[:, c].min() == labels[:, c].max()]
    return sorted(set(range(columns if problem != "binary" else 2)) - set(labels.ravel().tolist()))


def _shown(result: Result) -> list[str]:
    ratio = "undefined" if math.isnan(result.ratio) else f"{result.ratio:.2f}"
    return [f"{result.auc:.3f}", f"{result.acc:.3f}", f"{result.error:.3f}", ratio]
