"""Figures of the group analysis: its rows in, a matplotlib `Figure` out; no pyplot, no global state."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scale.attribution.report.groups import LEVELS
from scale.models.scale_net import STREAMS

DPI = 150
GREY = "0.55"
# dark to bright with the size of what a level sees; from Okabe and Ito (https://jfly.uni-koeln.de/color/)
COLOURS = dict(zip(LEVELS, ("#0072B2", "#009E73", "#E69F00"), strict=True))
LONGEST = 26  # characters of a name

Rows = Sequence[Mapping[str, Any]]


def draw(rows: Rows) -> dict[str, Figure]:
    """The figures that the rows of `groups.group_rows`, of one run or of several, have the values for."""
    figures = {"scale_attention": scale_attention, "stream_gate": stream_gate, "cka": cka}
    return {name: figure(rows) for name, figure in figures.items() if any(row["quantity"] == name for row in rows)}


def scale_attention(rows: Rows) -> Figure:
    """Mean weight of each level by class, a panel a stream; the dotted line is an equal share."""
    rows = [row for row in rows if row["quantity"] == "scale_attention"]
    streams = [stream for stream in STREAMS if any(row["stream"] == stream for row in rows)]
    groups = _groups(rows)
    figure = Figure(figsize=(1.6 + 3.2 * len(streams), 1.3 + 0.42 * len(groups)), dpi=DPI, layout="constrained")
    for axes, stream in zip(figure.subplots(1, len(streams), squeeze=False, sharey=True)[0], streams, strict=True):
        for shift, level in zip((-0.2, 0.0, 0.2), LEVELS, strict=True):
            part = [row for row in rows if (row["stream"], row["level"]) == (stream, level)]
            _points(axes, part, groups, shift=shift, colour=COLOURS[level], label=level)
        axes.axvline(1 / len(LEVELS), color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        axes.set(title=f"{stream} stream", xlabel="mean scale attention", xlim=(-0.01, 1.01))
        _plain(axes, groups)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    return figure


def stream_gate(rows: Rows) -> Figure:
    """Mean weight of the planar stream by class and data set; the rest is the volumetric stream's."""
    rows = [row for row in rows if row["quantity"] == "stream_gate" and row["stream"] == "planar"]
    groups = _groups(rows)
    figure = Figure(figsize=(5.2, 1.3 + 0.3 * len(groups)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    _points(axes, rows, groups, shift=0.0, colour=COLOURS["fine"], label="planar")
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.set(
        xlabel="volumetric   ←   mean stream gate   →   planar",
        xlim=(-0.01, 1.01),
        title="Which stream the fusion uses",
    )
    _plain(axes, groups)
    return figure


def cka(rows: Rows) -> Figure:
    """Similarity of the features of streams and levels, a matrix for each data set."""
    rows = [row for row in rows if row["quantity"] == "cka"]
    sets = list(dict.fromkeys(row["data"] for row in rows))
    names = list(dict.fromkeys(str(row["against"]) for row in rows))
    size = 1.7 + 0.5 * len(names)
    figure = Figure(figsize=(size * len(sets), size), dpi=DPI, layout="constrained")
    for axes, data in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        matrix = np.full((len(names), len(names)), np.nan)
        for row in rows:
            if row["data"] == data:
                pair = names.index(f"{row['stream']} {row['level']}".strip()), names.index(str(row["against"]))
                matrix[pair] = matrix[pair[::-1]] = row["mean"]
        axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(matrix):
            if math.isfinite(value):
                colour = "white" if value > 0.6 else "0.15"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set_title(f"Linear CKA{f', {data}' if data else ''}", fontsize=10)
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
    return figure


def _groups(rows: Rows) -> list[tuple[str, str]]:
    """Data set and class of each line, in order."""
    return list(dict.fromkeys((row["data"], row["group"]) for row in rows))


def _points(
    axes: Axes, rows: Rows, groups: Sequence[tuple[str, str]], *, shift: float, colour: str, label: str
) -> None:
    places = [groups.index((row["data"], row["group"])) + shift for row in rows]
    means = np.array([row["mean"] for row in rows])
    ends = np.array([[row["low"] for row in rows], [row["high"] for row in rows]])
    spread = np.nan_to_num(np.abs(ends - means))
    axes.errorbar(
        means, places, xerr=spread, fmt="o", markersize=4, color=colour, elinewidth=1.2, capsize=2, label=label
    )


def _plain(axes: Axes, groups: Sequence[tuple[str, str]]) -> None:
    several = len({data for data, _ in groups}) > 1
    labels = [_short(f"{data}: {group}" if several else group) for data, group in groups]
    axes.set_yticks(range(len(groups)), labels)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.title.set_fontsize(10)
    axes.xaxis.label.set_fontsize(9)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip(" ,(") + "…"
