"""A data set's description as text, as figures and as a page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from scale.data.description import Description
from scale.evaluation.figure_style import colour
from scale.reporting.page import png, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY = 20  # classes beyond which the console shows no table of pairs


def text(found: Description) -> str:
    """For the console."""
    shape = " x ".join(map(str, found.shape)) + (f" x {found.channels} channels" if found.channels > 1 else "")
    parts = [f"{found.title}: {found.problem}, {len(found.names)} classes, images of {shape}, uint8"]
    width = max(map(len, (*found.names, "intensities")))
    names = list(found.splits)
    lines = [f"{'':{width}}" + "".join(f"{name:>18}" for name in names)]
    lines.append(f"{'samples':{width}}" + "".join(f"{found.splits[name].images:>18,}" for name in names))
    for number, label in enumerate(found.names):
        lines.append(f"{label:{width}}" + "".join(f"{_share(found, name, number):>18}" for name in names))
    levels = [
        f"{', '.join(f'{value:.1f}' for value in split.mean)} ± {', '.join(f'{value:.1f}' for value in split.sd)}"
        for split in found.splits.values()
    ]
    lines.append(f"{'intensities':{width}}" + "".join(f"{level:>18}" for level in levels))
    parts.append("\n".join(lines))
    if found.together.size and len(found.names) <= MANY:
        short = [f"{name[:8]:>9}" for name in found.names]
        rows = [f"{name:{width}}" + "".join(f"{value:>9,}" for value in row) for name, row in _pairs(found)]
        parts.append("\n".join(["samples with both labels:", f"{'':{width}}" + "".join(short), *rows]))
        per = [f"{name}: {_per_image(split.labels_per_image)}" for name, split in found.splits.items()]
        parts.append("\n".join(["labels per image:", *per]))
    copies = [f"{split.copies} inside {name}" for name, split in found.splits.items()]
    copies += [f"{count} in both {one} and {other}" for (one, other), count in found.shared.items()]
    parts.append("exact duplicates: " + ", ".join(copies))
    remarks = [*found.found, *found.caveats]
    if remarks:
        parts.append("\n".join(["to know:", *(f"- {remark}" for remark in remarks)]))
    return "\n\n".join(parts)


def page(found: Description, *, command: str) -> str:
    """One HTML page; `command` is shown at its foot."""
    rows = [
        {
            "name": label,
            "values": [(int(found.splits[s].counts[number]), _percent(found, s, number)) for s in found.splits],
        }
        for number, label in enumerate(found.names)
    ]
    return render(
        "data.html",
        found=found,
        shape=" × ".join(map(str, found.shape)),
        rows=rows,
        pairs=_pairs(found) if found.together.size else [],
        per_image={name: _per_image(s.labels_per_image) for name, s in found.splits.items() if s.labels_per_image.size},
        figures=[("Class shares of each split", png(shares(found))), ("Intensities", png(intensities(found)))],
        montage=png(montage(found), dpi=100),
        planes="middle planes along each axis" if len(found.shape) == 3 else "images",
        command=command,
    )


def shares(found: Description) -> "Figure":
    """Share of each class in each split."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 1.4 + 0.35 * len(found.names)), layout="constrained")
    axes = figure.add_subplot()
    places, height = np.arange(len(found.names)), 0.8 / len(found.splits)
    for number, (name, split) in enumerate(found.splits.items()):
        values = split.counts / split.images
        axes.barh(places + number * height, values, height * 0.9, color=colour(number), label=name)
    axes.set_yticks(places + height * (len(found.splits) - 1) / 2, [_short(name) for name in found.names])
    axes.invert_yaxis()
    axes.set_xlabel("share of the samples")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def intensities(found: Description) -> "Figure":
    """How often each intensity occurs in each split; a panel a channel, logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 1 + 1.9 * found.channels), layout="constrained")
    names = ("red", "green", "blue", "alpha") if found.channels > 1 else ("",)
    for channel, axes in enumerate(np.atleast_1d(figure.subplots(found.channels, 1, sharex=True))):
        for number, (name, split) in enumerate(found.splits.items()):
            share = split.histogram[channel] / split.histogram[channel].sum()
            axes.step(np.arange(256), share, where="mid", color=colour(number), linewidth=1, label=name)
        axes.set_yscale("log")
        axes.set_ylabel(f"share of pixels{', ' * (found.channels > 1)}{names[channel]}")
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("intensity")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def montage(found: Description) -> "Figure":
    """A row of images of train for each class; of volumes the three middle planes."""
    from matplotlib.figure import Figure

    rows = [[tile(image, found.shape) for image in images] for images in found.examples]
    columns = max((len(row) for row in rows), default=1) or 1
    height, width = next(image.shape[:2] for row in rows for image in row)
    wide = min(10.0, 1.1 * columns * width / height)
    figure = Figure(
        figsize=(wide + 1.8, 0.3 + len(rows) * (wide / columns * height / width + 0.06)), layout="constrained"
    )
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, row in enumerate(rows):
        for axes, image in zip(grid[number], row, strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        label = _short(found.names[number])
        grid[number, 0].text(
            -0.06, 0.5, label, ha="right", va="center", transform=grid[number, 0].transAxes, fontsize=9
        )
    return figure


def tile(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """An image to draw: itself, or of a volume the three middle planes side by side, each as wide as the largest axis.

    Args:
        image: (*S) or (*S, C) uint8.
        shape: S.
    """
    image = image[..., :3] if image.ndim > len(shape) and image.shape[-1] > 1 else image.reshape(tuple(shape))
    if len(shape) == 2:
        return image
    side = max(shape)
    planes = [np.take(image, shape[axis] // 2, axis=axis) for axis in range(3)]
    padded = []
    for plane in planes:
        canvas = np.full((side, side + 1, *plane.shape[2:]), 255, dtype=np.uint8)  # a white line between planes
        canvas[: plane.shape[0], : plane.shape[1]] = plane
        padded.append(canvas)
    return np.concatenate(padded, axis=1)[:, :-1]


def _pairs(found: Description) -> list[tuple[str, list[int]]]:
    return [(name, row.tolist()) for name, row in zip(found.names, found.together, strict=True)]


def _per_image(counts: np.ndarray) -> str:
    return ", ".join(f"{number} labels: {count:,}" for number, count in enumerate(counts) if count)


def _share(found: Description, split: str, number: int) -> str:
    return f"{found.splits[split].counts[number]:,} ({_percent(found, split, number)})"


def _percent(found: Description, split: str, number: int) -> str:
    return f"{100 * found.splits[split].counts[number] / found.splits[split].images:.1f} %"


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"
