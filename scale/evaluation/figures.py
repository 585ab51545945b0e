"""Figures of a split's decisions and probabilities: arrays in, a `Figure` out; no pyplot, no global state."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from scale.evaluation import metrics
from scale.evaluation.calibration import Bins, reliability_bins
from scale.evaluation.curves import precision_recall, roc
from scale.evaluation.figure_style import (
    COLOURS,
    COLUMN,
    GREY,
    PAGE,
    Caption,
    blank,
    plain,
    short,
    unique,
)

__all__ = ["confusion", "precision_recall", "reliability", "roc", "score_distributions"]


def confusion(
    labels: np.ndarray,
    probabilities: np.ndarray,
    problem: str,
    names: Sequence[str],
    *,
    caption: Caption | None = None,
) -> Figure:
    """Predicted class by true class; for multilabel the sensitivity and specificity of each label at 0.5.

    Arguments as for `roc`. Colours and upper numbers are shares of the true class, lower numbers are counts.
    """
    labels, probabilities = metrics.checked_names(labels, probabilities, problem, names)
    predicted = metrics.predicted_labels(probabilities, problem)
    if problem == "multilabel":
        return _sensitivity_specificity(labels == 1, predicted == 1, names, caption)
    k = len(names)
    counts = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = blank(max(COLUMN, min(PAGE, 1.9 + 0.48 * k)), max(3.2, min(PAGE, 1.7 + 0.46 * k)), caption)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(k):
        for column in range(k):
            text = f"{share[row, column]:.2f}\n{counts[row, column]}" if counts[row, column] else "0"
            colour = "white" if share[row, column] > 0.6 else "0.15" if counts[row, column] else "0.7"
            axes.text(column, row, text, ha="center", va="center", fontsize=8 if k < 5 else 6, color=colour)
    cut = unique(names)
    axes.set_xticks(range(k), cut)
    axes.set_yticks(range(k), cut)
    if max(map(len, cut)) > 5:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.set(xlabel="predicted", ylabel="true", title=f"Confusion, accuracy {np.mean(predicted == labels):.3f}")
    plain(axes)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def reliability(
    labels: np.ndarray,
    probabilities: np.ndarray,
    problem: str,
    names: Sequence[str],
    *,
    bins: int = metrics.BINS,
    caption: Caption | None = None,
    calibrated: np.ndarray | None = None,
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
        caption: the line above.
        calibrated: probabilities (N, columns) after temperature scaling, drawn beside those before.
    """
    labels, probabilities = metrics.checked_names(labels, probabilities, problem, names)
    pooled = problem == "multilabel"
    before = _reliability(labels, probabilities, problem, bins)
    filled = before.counts > 0
    figure = blank(COLUMN, 4.3, caption)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left, width = before.edges[:-1], 1 / bins
    upper.bar(left, before.accuracy, width, align="edge", color=COLOURS[5], edgecolor="white", linewidth=0.5)
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    dots = [upper.plot(before.confidence[filled], before.accuracy[filled], "o", color=COLOURS[0], markersize=3.5)[0]]
    title = f"Reliability, calibration error {_gap(before):.3f}"
    if calibrated is not None:
        after = _reliability(labels, np.asarray(calibrated, dtype=np.float64), problem, bins)
        there = after.counts > 0
        dots += upper.plot(after.confidence[there], after.accuracy[there], "s-", color=COLOURS[1], markersize=3, lw=0.8)
        title = f"Reliability, calibration error {_gap(before):.3f} → {_gap(after):.3f}"
        upper.legend(dots, ["before", "after temperature scaling"], fontsize=7, frameon=False, loc="upper left")
    upper.set(ylabel="share of positives" if pooled else "accuracy", xlim=(0, 1), ylim=(0, 1.03), title=title)
    lower.bar(left, before.counts, width, align="edge", color=GREY, edgecolor="white", linewidth=0.5)
    lower.set(
        xlabel=f"{'predicted probability, labels pooled' if pooled else 'confidence'} ({bins} bins)",
        ylabel="labels" if pooled else "samples",
    )
    if before.counts.max() > 50 * max(1, np.median(before.counts[filled])):
        lower.set_yscale("log")
    for axes in (upper, lower):
        plain(axes)
    return figure


def score_distributions(
    labels: np.ndarray,
    probabilities: np.ndarray,
    problem: str,
    names: Sequence[str],
    *,
    caption: Caption | None = None,
    threshold: float | None = None,
) -> Figure:
    """Probabilities given to samples with and without each class, as boxes (5 % to 95 %); for binary as histograms.

    Args:
        labels: (N, L).
        probabilities: (N, columns).
        problem: kind of the labels, as in `metrics`.
        names: of the classes or labels, (columns,).
        caption: the line above.
        threshold: of a binary problem, chosen on val; drawn beside 0.5.
    """
    labels, probabilities = metrics.checked_names(labels, probabilities, problem, names)
    if problem == "binary":
        return _histograms(labels == 1, probabilities[:, -1], names, caption, threshold)
    truth, score = metrics.one_vs_rest(labels, probabilities, problem)
    figure = blank(COLUMN, 1.3 + 0.34 * len(names), caption)
    axes = figure.add_subplot()
    for rows, colour, shift, what in ((truth, COLOURS[1], -0.19, "with it"), (~truth, COLOURS[5], 0.19, "without it")):
        boxes = axes.boxplot(
            [score[rows[:, c], c] for c in range(len(names))],
            positions=np.arange(len(names)) + shift,
            widths=0.32,
            orientation="horizontal",
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            medianprops={"color": "black", "linewidth": 1},
            boxprops={"facecolor": colour, "linewidth": 0.5},
            whiskerprops={"linewidth": 0.7},
            capprops={"linewidth": 0.7},
            manage_ticks=False,
        )
        boxes["boxes"][0].set_label(f"samples {what}")
    if problem == "multilabel":
        axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_yticks(np.arange(len(names)), unique(names))
    axes.invert_yaxis()
    axes.set(xlim=(-0.02, 1.02), xlabel="probability", title="Score distributions")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)
    plain(axes)
    return figure


def _histograms(
    truth: np.ndarray, score: np.ndarray, names: Sequence[str], caption: Caption | None, threshold: float | None
) -> Figure:
    figure = blank(COLUMN, 2.7, caption)
    axes = figure.add_subplot()
    edges = np.linspace(0, 1, 26).tolist()
    for rows, colour, name in ((~truth, COLOURS[0], names[0]), (truth, COLOURS[1], names[1])):
        axes.hist(score[rows], edges, color=colour, alpha=0.55, label=f"{rows.sum()} of {short(name)}")
    axes.axvline(0.5, color=GREY, linewidth=0.9, linestyle=":", label="0.5")
    if threshold is not None and np.isfinite(threshold):
        axes.axvline(threshold, color="black", linewidth=0.9, linestyle="--", label=f"{threshold:.2f}, chosen on val")
    axes.set(xlim=(0, 1), xlabel=f"predicted probability of {short(names[1])}", ylabel="samples")
    axes.set_title("Score distributions")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)
    plain(axes)
    return figure


def _reliability(labels: np.ndarray, probabilities: np.ndarray, problem: str, bins: int) -> Bins:
    if problem == "multilabel":
        return reliability_bins(probabilities.ravel(), labels.ravel() == 1, bins=bins)
    right = metrics.predicted_labels(probabilities, problem) == labels
    return reliability_bins(probabilities.max(axis=1), right, bins=bins)


def _gap(found: Bins) -> float:
    return float(np.nansum(found.counts * np.abs(found.accuracy - found.confidence)) / found.counts.sum())


def _sensitivity_specificity(
    truth: np.ndarray, predicted: np.ndarray, names: Sequence[str], caption: Caption | None
) -> Figure:
    """Bars of both, a pair a label, from truth and predictions (N, L)."""
    positives = truth.sum(axis=0)
    with np.errstate(invalid="ignore"):
        sensitivity = (truth & predicted).sum(axis=0) / positives
        specificity = (~truth & ~predicted).sum(axis=0) / (len(truth) - positives)
    figure = blank(COLUMN, 1.4 + 0.34 * len(names), caption)
    axes = figure.add_subplot()
    rows = np.arange(len(names))
    for values, name, colour, shift in (
        (sensitivity, "sensitivity", COLOURS[1], -0.19),
        (specificity, "specificity", COLOURS[5], 0.19),
    ):
        axes.barh(rows + shift, np.nan_to_num(values), 0.36, color=colour, label=name)
        for row, value in zip(rows, values, strict=True):
            text = f"{value:.2f}" if np.isfinite(value) else "undefined"
            axes.text(np.nan_to_num(value) + 0.01, row + shift, text, va="center", fontsize=6, color="0.3")
    axes.set_yticks(rows, [f"{name} ({n})" for name, n in zip(unique(names), positives, strict=True)])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.12), xlabel="share (threshold 0.5)")
    figure.supylabel("label (number of positives)", fontsize=8)
    axes.set_title("Sensitivity, specificity")
    axes.set_xticks(np.linspace(0, 1, 6))
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)
    plain(axes)
    axes.tick_params(axis="y", length=0)
    return figure
