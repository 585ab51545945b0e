"""Figures of a split and of a run: arrays in, a matplotlib `Figure` out; no pyplot, no global state."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from scale.evaluation import metrics
from scale.evaluation.calibration import reliability_bins

# Okabe and Ito's colours that show on white (https://jfly.uni-koeln.de/color/); later rounds change the dashes
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
GREY = "0.55"
LONGEST = 26  # characters of a name
DPI = 150

_Curve = tuple[np.ndarray, np.ndarray, float]  # x, y and the score


def roc(labels: np.ndarray, probabilities: np.ndarray, problem: str, names: Sequence[str]) -> Figure:
    """Receiver operating characteristic of each class against the rest.

    Args:
        labels: (N, L).
        probabilities: (N, columns).
        problem: kind of the labels, as in `metrics`.
        names: of the classes or labels, (columns,).
    """
    labels, probabilities = _checked(labels, probabilities, problem, names)
    truth, score = metrics.one_vs_rest(labels, probabilities, problem)
    curves = {}
    for c, name in zip(_defined(truth), _curve_names(truth, problem, names), strict=True):
        x, y, _ = roc_curve(truth[:, c], score[:, c])
        curves[name] = (x, y, float(auc(x, y)))
    figure, axes = _square(curves)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    _curves(axes, curves, "AUC")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=_title("ROC", "AUC", curves))
    _plain(axes)
    return figure


def precision_recall(labels: np.ndarray, probabilities: np.ndarray, problem: str, names: Sequence[str]) -> Figure:
    """Precision over recall of each class against the rest; arguments as for `roc`."""
    labels, probabilities = _checked(labels, probabilities, problem, names)
    truth, score = metrics.one_vs_rest(labels, probabilities, problem)
    curves = {}
    for c, name in zip(_defined(truth), _curve_names(truth, problem, names), strict=True):
        precision, recall, _ = precision_recall_curve(truth[:, c], score[:, c], drop_intermediate=True)
        curves[name] = (recall, precision, float(average_precision_score(truth[:, c], score[:, c])))
    figure, axes = _square(curves)
    if len(curves) == 1:
        axes.axhline(truth.mean(), color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    _curves(axes, curves, "AP", drawstyle="steps-post")
    axes.set(xlabel="recall", ylabel="precision", title=_title("Precision and recall", "AP", curves))
    _plain(axes)
    return figure


def confusion(labels: np.ndarray, probabilities: np.ndarray, problem: str, names: Sequence[str]) -> Figure:
    """Predicted class by true class; for multilabel the sensitivity and specificity of each label at 0.5.

    Arguments as for `roc`. Colours and upper numbers are shares of the true class, lower numbers are counts.
    """
    labels, probabilities = _checked(labels, probabilities, problem, names)
    predicted = metrics.predicted_labels(probabilities, problem)
    if problem == "multilabel":
        return _sensitivity_specificity(labels == 1, predicted == 1, names)
    k = len(names)
    counts = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(2.6 + 0.55 * k, 2.2 + 0.55 * k), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(k):
        for column in range(k):
            text = f"{share[row, column]:.2f}\n{counts[row, column]}" if counts[row, column] else "0"
            colour = "white" if share[row, column] > 0.6 else "0.15" if counts[row, column] else "0.7"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    short = [_short(name) for name in names]
    axes.set_xticks(range(k), short)
    axes.set_yticks(range(k), short)
    if max(map(len, short)) > 5:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.set(xlabel="predicted", ylabel="true")
    figure.suptitle(f"Confusion (accuracy {np.mean(predicted == labels):.3f})", fontsize=10)
    _plain(axes)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, problem: str, names: Sequence[str], *, bins: int = 15
) -> Figure:
    """Accuracy over confidence, with the number of predictions in each bin.

    The confidence is the probability of the predicted class; for multilabel the predicted probabilities of all labels,
    against the share of positives.

    Args:
        labels: (N, L).
        probabilities: (N, columns).
        problem: kind of the labels, as in `metrics`.
        names: of the classes; not shown, but taken so that one loop can draw every figure of a split.
        bins: number of bins of equal width.
    """
    labels, probabilities = _checked(labels, probabilities, problem, names)
    if problem == "multilabel":
        confidence, correct = probabilities.ravel(), labels.ravel() == 1
        words = ("predicted probability", "share of positives", "labels", ", labels pooled")
    else:
        confidence, correct = probabilities.max(axis=1), metrics.predicted_labels(probabilities, problem) == labels
        words = ("confidence", "accuracy", "samples", "")
    found = reliability_bins(confidence, correct, bins=bins)
    filled = found.counts > 0
    gap = float((found.counts * np.abs(found.accuracy - found.confidence))[filled].sum() / found.counts.sum())
    figure = Figure(figsize=(4.2, 5.2), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left, width = found.edges[:-1], 1 / bins
    upper.bar(left, found.accuracy, width, align="edge", color=COLOURS[5], edgecolor="white", linewidth=0.5)
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    upper.plot(found.confidence[filled], found.accuracy[filled], "o", color=COLOURS[0], markersize=4)
    title = f"Reliability (calibration error {gap:.3f}{words[3]})"
    upper.set(ylabel=words[1], xlim=(0, 1), ylim=(0, 1.03), title=title)
    lower.bar(left, found.counts, width, align="edge", color=GREY, edgecolor="white", linewidth=0.5)
    lower.set(xlabel=words[0], ylabel=words[2])
    if found.counts.max() > 50 * max(1, np.median(found.counts[filled])):
        lower.set_yscale("log")
    for axes in (upper, lower):
        _plain(axes)
    return figure


def history(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Losses, validation scores and learning rate over the epochs; the dotted line is the epoch of the best AUC.

    Args:
        rows: a row an epoch, with `epoch` and any of `train/loss`, `val/loss`, `val/auc`, `val/acc` and `lr`.
    """
    panels = {
        "loss": {"train/loss": "train", "val/loss": "val"},
        "validation": {"val/auc": "AUC", "val/acc": "ACC"},
        "learning rate": {"lr": ""},
    }
    figure = Figure(figsize=(10, 3), dpi=DPI, layout="constrained")
    ranked = [(row["val/auc"], -row["epoch"]) for row in rows if math.isfinite(row.get("val/auc", math.nan))]
    for axes, (title, series) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for colour, (key, name) in zip(COLOURS, series.items(), strict=False):
            points = [(row["epoch"], row[key]) for row in rows if math.isfinite(row.get(key, math.nan))]
            if points:
                marker = "o" if len(points) < 25 else ""
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=2.5, label=name)
        if len(series) > 1 and axes.lines:
            axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.98), borderpad=0)
        if ranked:
            axes.axvline(-max(ranked)[1], color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        axes.set(xlabel="epoch")
        axes.set_title(title, loc="left", fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
        if len(rows) == 1:
            axes.set_xlim(rows[0]["epoch"] - 1, rows[0]["epoch"] + 1)
        _plain(axes)
    return figure


def _sensitivity_specificity(truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Figure:
    """Bars of both, a pair a label, from truth and predictions (N, L)."""
    positives = truth.sum(axis=0)
    with np.errstate(invalid="ignore"):
        sensitivity = (truth & predicted).sum(axis=0) / positives
        specificity = (~truth & ~predicted).sum(axis=0) / (len(truth) - positives)
    figure = Figure(figsize=(5.6, 1.4 + 0.34 * len(names)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(names))
    for values, name, colour, shift in (
        (sensitivity, "sensitivity", COLOURS[1], -0.19),
        (specificity, "specificity", COLOURS[5], 0.19),
    ):
        axes.barh(rows + shift, np.nan_to_num(values), 0.36, color=colour, label=name)
        for row, value in zip(rows, values, strict=True):
            text = f"{value:.2f}" if np.isfinite(value) else "undefined"
            axes.text(np.nan_to_num(value) + 0.01, row + shift, text, va="center", fontsize=6.5, color="0.3")
    axes.set_yticks(rows, [f"{_short(name)} ({n})" for name, n in zip(names, positives, strict=True)])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.08), xlabel="share found at threshold 0.5 (in brackets: positives)")
    axes.set_xticks(np.linspace(0, 1, 6))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    return figure


def _curves(axes: Axes, curves: Mapping[str, _Curve], score: str, *, drawstyle: str = "default") -> None:
    """Draw the curves, with the score of each in a legend beside the axes."""
    for i, (name, (x, y, value)) in enumerate(curves.items()):
        (line,) = axes.plot(x, y, color=COLOURS[i % len(COLOURS)], linewidth=1.4, drawstyle=drawstyle)
        line.set_linestyle(DASHES[i // len(COLOURS) % len(DASHES)])
        line.set_label(f"{value:.3f}  {name}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", anchor="W")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    if len(curves) > 1:
        axes.legend(
            title=score,
            title_fontsize=8,
            fontsize=8,
            frameon=False,
            alignment="left",
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
        )


def _square(curves: Mapping[str, _Curve]) -> tuple[Figure, Axes]:
    """A figure as wide as square axes and the names of more than one curve need."""
    beside = 1.1 + 0.075 * max(map(len, curves)) if len(curves) > 1 else 0
    figure = Figure(figsize=(4.3 + beside, 4.4), dpi=DPI, layout="constrained")
    return figure, figure.add_subplot()


def _title(what: str, score: str, curves: Mapping[str, _Curve]) -> str:
    values = [value for _, _, value in curves.values()]
    if not values:
        return f"{what}: no class with positives and negatives"
    return f"{what} ({'mean ' if len(values) > 1 else ''}{score} {np.mean(values):.3f})"


def _defined(truth: np.ndarray) -> np.ndarray:
    """Columns of truth (N, C) with positives and negatives: only these have a curve."""
    return np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))


def _curve_names(truth: np.ndarray, problem: str, names: Sequence[str]) -> list[str]:
    """Names, made unique, of the curves of `_defined`."""
    if problem == "binary":
        return [_short(names[1])] * len(_defined(truth))
    short = [_short(name) for name in names]
    return [short[c] if short.count(short[c]) == 1 else f"{c} {short[c]}" for c in _defined(truth)]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip(" ,(") + "…"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.title.set_fontsize(10)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)


def _checked(
    labels: np.ndarray, probabilities: np.ndarray, problem: str, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = metrics.checked(labels, probabilities, problem)
    if len(names) != probabilities.shape[1]:
        raise ValueError(f"{len(names)} names for {probabilities.shape[1]} columns of probabilities")
    return labels, probabilities
