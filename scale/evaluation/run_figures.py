"""Figures of a training and of several: learning curves, mistakes, seeds side by side, ranks over data sets."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scale.evaluation.figure_style import COLOURS, GREY, PAGE, Caption, blank, colour, dashes, plain
from scale.evaluation.statistics import Ranks, cliques

MOST_TICKS = 15  # ranks that are all numbered
PANELS = {
    "loss": {"train/main_loss": "train", "train/loss": "train, all terms", "val/loss": "val"},
    "validation": {"val/auc": "AUC", "val/acc": "ACC"},
    "learning rate": {"lr": ""},
}


def history(rows: Sequence[Mapping[str, float]], *, kept: int | None = None, caption: Caption | None = None) -> Figure:
    """Losses, validation scores and learning rate over the epochs, which count from 0.

    The training loss beside that of val has no auxiliary terms; the sum that was minimised is drawn where it differs.

    Args:
        rows: a row an epoch, with `epoch` and any of `train/main_loss`, `train/loss`, `val/loss`, `val/auc`, `val/acc`
            and `lr`.
        kept: epoch whose weights the run keeps; a dotted line.
        caption: the line above.
    """
    figure = blank(PAGE, 2.3, caption)
    for axes, (title, series) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        drawn: list[list[tuple[float, float]]] = []
        for number, (key, name) in enumerate(series.items()):
            points = [(row["epoch"], row[key]) for row in rows if math.isfinite(row.get(key, math.nan))]
            if not points or points in drawn:  # no auxiliary terms: one curve
                continue
            drawn.append(points)
            marker, style = ("o" if len(points) < 25 else ""), ":" if "all terms" in name else "-"
            label = "train" if key == "train/loss" and len(drawn) == 1 else name  # of runs that recorded no other
            axes.plot(
                *zip(*points, strict=True),
                color=COLOURS[(0, 0, 1)[number] if title == "loss" else number],
                linestyle=style,
                marker=marker,
                markersize=2,
                linewidth=1.1,
                label=label,
            )
        if len(drawn) > 1:
            axes.legend(loc="best", fontsize=6.5, frameon=False)
        if kept is not None:
            axes.axvline(kept, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        axes.set(xlabel="epoch" if kept is None else f"epoch (kept: {kept})")
        axes.set_title(title)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
        if len(rows) == 1:
            axes.set_xlim(rows[0]["epoch"] - 1, rows[0]["epoch"] + 1)
        plain(axes)
    return figure


def mistakes(images: Sequence[np.ndarray], texts: Sequence[str], *, caption: Caption | None = None) -> Figure:
    """A sheet of samples that were predicted wrong, the most certain first.

    Args:
        images: of each sample (C, H, W) or (C, D, H, W), as stored; of a volume the three middle planes are shown.
        texts: under each.
        caption: the line above.
    """
    volumes = bool(images) and images[0].ndim == 4
    columns = 2 if volumes else 4
    rows = max(1, math.ceil(len(images) / columns))
    figure = blank(PAGE, 0.35 + rows * (1.5 if volumes else 2.1), caption)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, image, text in zip(grid, images, texts, strict=False):
        axes.imshow(_planes(image) if volumes else _visible(image), cmap="gray", interpolation="nearest")
        axes.set_xlabel(text, fontsize=6)
    return figure


def overlaid(curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> Figure:
    """Val loss and val AUC over the epochs, a colour a setting and a line a run.

    Args:
        curves: of each setting the rows of each run's history.
    """
    figure = blank(PAGE, 2.7 + 0.14 * len(curves), None)
    panels = figure.subplots(1, 2)
    for axes, (key, title) in zip(panels, {"val/loss": "val loss", "val/auc": "val AUC"}.items(), strict=True):
        for number, (name, runs) in enumerate(curves.items()):
            named = key != "val/loss"  # once in the legend
            for rows in runs:
                points = [(row["epoch"], row[key]) for row in rows if math.isfinite(row.get(key, math.nan))]
                if points:
                    (line,) = axes.plot(*zip(*points, strict=True), color=colour(number), linestyle=dashes(number))
                    line.set(linewidth=0.9, alpha=0.8, marker="o" if len(points) < 3 else "", markersize=2)
                    line.set_label(None if named else name)
                    named = True
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        plain(axes)
    figure.legend(loc="outside lower left", frameon=False, fontsize=6.5)
    return figure


def strip(values: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A point a run, a row a setting, a panel a metric; the bar is the mean over the seeds.

    Args:
        values: by metric and setting, those of each seed.
    """
    settings = list(next(iter(values.values())))
    figure = blank(PAGE, 1.1 + 0.3 * len(settings), None)
    panels = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for axes, (metric, found) in zip(panels, values.items(), strict=True):
        for row, name in enumerate(settings):
            points = [value for value in found[name] if math.isfinite(value)]
            axes.plot(points, [row] * len(points), "o", color=colour(row), markersize=4, alpha=0.7, clip_on=False)
            if points:
                axes.plot([float(np.mean(points))] * 2, [row - 0.28, row + 0.28], color="black", linewidth=1.2)
        axes.set(xlabel=metric, ylim=(len(settings) - 0.5, -0.5))
        axes.set_yticks(range(len(settings)), settings)
        axes.grid(axis="y", color="0.92")
        axes.set_axisbelow(True)
        plain(axes)
        axes.tick_params(axis="y", length=0)
    return figure


def critical_difference(names: Sequence[str], found: Ranks) -> Figure:
    """Average ranks over data sets; methods that a bar joins do not differ (Demšar 2006).

    Args:
        names: of the methods, in the order of `found`.
        found: from `statistics.ranks`.
    """
    order = np.argsort(found.average)
    half = math.ceil(len(names) / 2)
    bars = cliques(found.average, found.critical)
    figure = blank(PAGE, 1.2 + 0.2 * half + 0.1 * len(bars), None)
    axes = figure.add_subplot()
    low, high = 1.0, float(len(names))
    depth = 0.3 * len(bars) + 0.4
    axes.hlines(0, low, high, color="black", linewidth=1)
    for tick in range(int(low), int(high) + 1):
        axes.vlines(tick, 0, 0.15, color="black", linewidth=1)
        if len(names) <= MOST_TICKS or tick % 5 == 0 or tick == 1:
            axes.text(tick, 0.22, str(tick), ha="center", va="bottom", fontsize=7)
    axes.plot([low, low + found.critical], [1.1, 1.1], color=COLOURS[0], linewidth=1.5, marker="|", clip_on=False)
    text = f"critical difference {found.critical:.2f} ({found.sets} data sets, Friedman p = {found.p_value:.2g})"
    axes.text(low, 1.25, text, fontsize=7, va="bottom")
    edge = 0.12 * (high - low)
    for place, method in enumerate(order):
        left = place < half
        y = -depth - 0.45 * (place if left else len(order) - 1 - place)
        rank, x = found.average[method], low - edge if left else high + edge
        axes.plot([rank, rank, x], [0, y, y], color=GREY, linewidth=0.8, clip_on=False)
        text = f"{names[method]} ({rank:.2f})"
        axes.text(x, y, f"{text} " if left else f" {text}", ha="right" if left else "left", va="center", fontsize=7)
    for number, (start, end) in enumerate(bars):
        axes.hlines(-0.25 - 0.3 * number, start - 0.03, end + 0.03, color=COLOURS[1], linewidth=3)
    axes.set(xlim=(low - edge, high + edge), ylim=(-depth - 0.45 * half, 1.8))
    axes.axis("off")
    return figure


def _visible(image: np.ndarray) -> np.ndarray:
    """An image (C, H, W) for matplotlib: grey (H, W) or colour (H, W, 3), within its own range."""
    plane = image[0] if len(image) != 3 else np.moveaxis(image, 0, -1)
    low, high = float(plane.min()), float(plane.max())
    return (plane - low) / (high - low) if high > low else np.zeros(plane.shape)


def _planes(volume: np.ndarray) -> np.ndarray:
    """The three middle planes of a volume (C, D, H, W) side by side, with a white gap."""
    cube = volume[0].astype(np.float64)
    depth, height, width = (n // 2 for n in cube.shape)
    planes = [cube[depth], cube[:, height], cube[:, :, width]]
    high = max(len(plane) for plane in planes)
    padded = [np.pad(plane, ((0, high - len(plane)), (0, 1)), constant_values=np.nan) for plane in planes]
    return np.concatenate(padded, axis=1)[:, :-1]
