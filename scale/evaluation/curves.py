"""ROC and precision-recall curves of a split: arrays in, a matplotlib `Figure` out; no pyplot, no global state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from scale.evaluation import bootstrap, metrics
from scale.evaluation.figure_style import (
    COLOURS,
    COLUMN,
    GREY,
    Caption,
    blank,
    colour,
    dashes,
    plain,
    short,
    shown,
    unique,
    unit_square,
)
from scale.evaluation.statistics import Interval

GRID = np.linspace(0, 1, 101)  # where a band is computed
DRAWN = 500  # resamples of a band
_ROUNDING = 1e-9  # shares such as 0.7 are not met exactly

_Curve = tuple[np.ndarray, np.ndarray, float, Interval | None]  # x, y, the score and its interval


def roc(
    labels: np.ndarray,
    probabilities: np.ndarray,
    problem: str,
    names: Sequence[str],
    *,
    caption: Caption | None = None,
    intervals: bootstrap.Intervals | None = None,
) -> Figure:
    """Receiver operating characteristic of each class against the rest.

    A single curve has a band: 95 % of the resamples at each specificity.

    Args:
        labels: (N, L).
        probabilities: (N, columns).
        problem: kind of the labels, as in `metrics`.
        names: of the classes or labels, (columns,).
        caption: the line above.
        intervals: of the split, for the numbers.
    """
    truth, score, chosen, shown_names = questions(labels, probabilities, problem, names)
    curves: dict[str, _Curve] = {}
    for c, name in zip(chosen, shown_names, strict=True):
        x, y, _ = roc_curve(truth[:, c], score[:, c])
        curves[name] = (x, y, float(auc(x, y)), _interval(intervals, "auc", c, problem))
    figure, axes = _figure(curves, caption, several=truth.shape[1] > 1)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    if len(curves) == 1:
        low, high = _band(truth[:, chosen[0]], score[:, chosen[0]], precision=False)
        axes.fill_between(GRID, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
    _draw(axes, curves, "AUC", several=truth.shape[1] > 1)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=_title("ROC", "auc", curves, truth, intervals))
    plain(axes)
    return figure


def precision_recall(
    labels: np.ndarray,
    probabilities: np.ndarray,
    problem: str,
    names: Sequence[str],
    *,
    caption: Caption | None = None,
    intervals: bootstrap.Intervals | None = None,
) -> Figure:
    """Precision over recall of each class against the rest; arguments as for `roc`."""
    truth, score, chosen, shown_names = questions(labels, probabilities, problem, names)
    curves: dict[str, _Curve] = {}
    for c, name in zip(chosen, shown_names, strict=True):
        precision, recall, _ = precision_recall_curve(truth[:, c], score[:, c], drop_intermediate=True)
        value = float(average_precision_score(truth[:, c], score[:, c]))
        curves[name] = (recall, precision, value, _interval(intervals, "average_precision", c, problem))
    figure, axes = _figure(curves, caption, several=truth.shape[1] > 1)
    if len(curves) == 1:
        axes.axhline(truth[:, chosen[0]].mean(), color=GREY, linewidth=0.8, linestyle=":", zorder=1)
        low, high = _band(truth[:, chosen[0]], score[:, chosen[0]], precision=True)
        axes.fill_between(GRID, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
    _draw(axes, curves, "AP", several=truth.shape[1] > 1, drawstyle="steps-post")
    title = _title("Precision and recall", "average_precision", curves, truth, intervals)
    axes.set(xlabel="recall", ylabel="precision", title=title)
    plain(axes)
    return figure


def questions(
    labels: np.ndarray, probabilities: np.ndarray, problem: str, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[int], list[str]]:
    """Truth and score (N, C), the columns that have a curve (with positives and negatives), and their names."""
    labels, probabilities = metrics.checked_names(labels, probabilities, problem, names)
    truth, score = metrics.one_vs_rest(labels, probabilities, problem)
    chosen = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)).tolist()
    all_names = [short(names[1])] if problem == "binary" else unique(names)
    return truth, score, chosen, [all_names[c] for c in chosen]


def _interval(found: bootstrap.Intervals | None, name: str, column: int, problem: str) -> Interval | None:
    return found.per_class[name][column + (problem == "binary")] if found else None


def _figure(curves: Mapping[str, _Curve], caption: Caption | None, *, several: bool) -> tuple[Figure, Axes]:
    """A column wide, and high enough for a legend below square axes."""
    below = 0.42 + 0.13 * len(curves) if several and curves else 0
    figure = blank(COLUMN, 3.65 + below, caption)
    axes = figure.add_subplot()
    unit_square(axes)
    return figure, axes


def _draw(axes: Axes, curves: Mapping[str, _Curve], score: str, *, several: bool, drawstyle: str = "default") -> None:
    """The curves, with the score of each in a legend below the axes."""
    for i, (name, (x, y, value, limits)) in enumerate(curves.items()):
        (line,) = axes.plot(x, y, color=colour(i), linestyle=dashes(i), linewidth=1.2, drawstyle=drawstyle)
        line.set_label(f"{shown(value, limits)}  {name}")
    if several and curves and axes.figure is not None:
        axes.figure.legend(
            title=score,
            title_fontsize=7,
            fontsize=6.5,
            frameon=False,
            alignment="left",
            loc="outside lower left",
            labelspacing=0.3,
        )


def _title(
    what: str, key: str, curves: Mapping[str, _Curve], truth: np.ndarray, intervals: bootstrap.Intervals | None
) -> str:
    """The mean over all classes, as the metric is; of some of them, how many there are."""
    values = [value for _, _, value, _ in curves.values()]
    if not values:
        return f"{what}: no class with positives and negatives"
    score = {"auc": "AUC", "average_precision": "AP"}[key]
    if len(values) < truth.shape[1]:
        return f"{what}, mean {score} of {len(values)} of {truth.shape[1]} classes {np.mean(values):.3f}"
    limits = intervals.metrics[key] if intervals else None
    return f"{what}, {'mean ' if len(values) > 1 else ''}{score} {shown(float(np.mean(values)), limits)}"


def _band(truth: np.ndarray, score: np.ndarray, *, precision: bool) -> tuple[np.ndarray, np.ndarray]:
    """Limits, at each of `GRID`, of 95 % of the resampled curves: of the sensitivity or of the precision."""
    order = np.argsort(-score, kind="stable")
    truth, score = truth[order], score[order]
    ends = np.flatnonzero(np.append(np.diff(score) != 0, True))  # a threshold takes equal scores together
    curves = []
    for drawn in bootstrap.weights(truth.astype(np.int64), resamples=DRAWN, seed=0):
        hits, alarms = (np.cumsum(drawn * rows[:, None], axis=0, dtype=np.float64)[ends] for rows in (truth, ~truth))
        for hit, alarm in zip(hits.T, alarms.T, strict=True):
            if precision:
                at = np.searchsorted(hit / hit[-1], GRID - _ROUNDING, side="left")
                curves.append((hit / np.maximum(hit + alarm, 1))[at])
            else:
                x, y = (np.append(0, part / part[-1]) for part in (alarm, hit))
                curves.append(np.interp(GRID + _ROUNDING, x, y))  # a slope where scores are equal
    low, high = np.quantile(np.stack(curves), [0.025, 0.975], axis=0)
    return low, high
