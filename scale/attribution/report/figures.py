"""Figures of attribution maps: arrays in, a matplotlib `Figure` out; no pyplot, no global state.

Images are drawn as arrays are printed: row 0 at the top, column 0 at the left. A volume's axes are (depth, row,
column); the planes across them are named by `orientation`: in `SPL` the axial one shows (row, column), the coronal one
(depth, column), the sagittal one (depth, row). All slices of a volume share one window of grey values and one range of
colours.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from scale.attribution.report.colours import colour_map, is_signed, limit, overlay, window
from scale.data.orientation import SPL
from scale.data.orientation import planes as planes_of

AXES = ("depth", "row", "column")
DPI = 150
OPACITY = 0.75
OUTLINE = "#39FF88"


def sample_title(truth: str, prediction: str, probability: float) -> str:
    """What is shown: truth, prediction and the prediction's probability."""
    verdict = "right" if truth == prediction else "wrong"
    return f"truth: {truth}   prediction: {prediction} ({probability:.2f}, {verdict})"


def overlay_2d(
    image: np.ndarray,
    values: np.ndarray,
    *,
    title: str = "",
    signed: bool | None = None,
    mask: np.ndarray | None = None,
    opacity: float = OPACITY,
) -> Figure:
    """An image beside itself with its map laid over.

    Args:
        image: (H, W) or (H, W, 3), uint8.
        values: map (H, W).
        title: above all.
        signed: use the diverging colours, centred at 0; if None, when there is a negative value.
        mask: (H, W), outlined.
        opacity: of the strongest colour.
    """
    _check(image, values, dims=2)
    figure = Figure(figsize=(6.2, 3.2), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    largest, signed = limit(values), is_signed(values) if signed is None else signed
    for axes in (left, right):
        draw_image(axes, image, window(image))
        draw_outline(axes, mask)
    right.imshow(overlay(values, largest=largest, signed=signed, opacity=opacity), origin="upper")
    _legend(figure, [left, right], largest, signed)
    figure.suptitle(title, fontsize=10)
    return figure


def planes(
    volume: np.ndarray,
    values: np.ndarray,
    *,
    title: str = "",
    signed: bool | None = None,
    mask: np.ndarray | None = None,
    point: Sequence[int] | None = None,
    opacity: float = OPACITY,
    orientation: str = SPL,
) -> Figure:
    """The three orthogonal planes through one point, without and with the map.

    Args:
        volume: (D, H, W), uint8.
        values: map (D, H, W).
        title: above all.
        signed: as for `overlay_2d`.
        mask: (D, H, W), outlined.
        point: cell (depth, row, column) through which the planes go; the map's peak if None.
        opacity: of the strongest colour.
        orientation: where the volume's axes point to, which names the planes.
    """
    _check(volume, values, dims=3)
    point = peak(values) if point is None else tuple(int(p) for p in point)
    largest, signed = limit(values), is_signed(values) if signed is None else signed
    figure = Figure(figsize=(8.4, 5.6), dpi=DPI, layout="constrained")
    grid = figure.subplots(2, 3)
    for axis in range(3):
        rest = [other for other in range(3) if other != axis]
        for row, axes in enumerate(grid[:, axis]):
            draw_image(axes, _plane(volume, axis, point), window(volume))
            draw_outline(axes, None if mask is None else _plane(mask, axis, point))
            if row:
                part = _plane(values, axis, point)
                axes.imshow(overlay(part, largest=largest, signed=signed, opacity=opacity), origin="upper")
            _cross(axes, [point[other] for other in rest])
            axes.set_xlabel(f"{AXES[rest[1]]} →", fontsize=7, color="0.4", labelpad=1)
            axes.set_ylabel(f"← {AXES[rest[0]]}", fontsize=7, color="0.4", labelpad=1)
        grid[0, axis].set_title(f"{planes_of(orientation)[axis]}, {AXES[axis]} {point[axis]}", fontsize=9)
    _legend(figure, list(grid.ravel()), largest, signed)
    figure.suptitle(title, fontsize=10)
    return figure


def montage(
    volume: np.ndarray,
    values: np.ndarray,
    *,
    title: str = "",
    signed: bool | None = None,
    mask: np.ndarray | None = None,
    axis: int = 0,
    count: int = 12,
    opacity: float = OPACITY,
) -> Figure:
    """Evenly spaced slices across one axis with the map laid over, the first and the last included.

    Args:
        volume: (D, H, W), uint8.
        values: map (D, H, W).
        title: above all.
        signed: as for `overlay_2d`.
        mask: (D, H, W), outlined.
        axis: 0, 1 or 2: across which the slices lie.
        count: number of slices, at most the edge.
        opacity: of the strongest colour.
    """
    _check(volume, values, dims=3)
    chosen = np.unique(np.linspace(0, volume.shape[axis] - 1, min(count, volume.shape[axis])).round().astype(int))
    largest, signed = limit(values), is_signed(values) if signed is None else signed
    columns = min(6, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(1.45 * columns + 0.9, 1.62 * rows + 0.5), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel()[len(chosen) :]:
        axes.set_axis_off()
    for axes, index in zip(grid.ravel(), chosen, strict=False):
        draw_image(axes, volume.take(index, axis), window(volume))
        draw_outline(axes, None if mask is None else mask.take(index, axis))
        part = values.take(index, axis)
        axes.imshow(overlay(part, largest=largest, signed=signed, opacity=opacity), origin="upper")
        axes.set_title(f"{AXES[axis]} {index}", fontsize=7, pad=2)
    _legend(figure, list(grid.ravel()), largest, signed)
    figure.suptitle(title, fontsize=10)
    return figure


def side_by_side(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    *,
    title: str = "",
    mask: np.ndarray | None = None,
    point: Sequence[int] | None = None,
    signed: Mapping[str, bool] | None = None,
    opacity: float = OPACITY,
    orientation: str = SPL,
) -> Figure:
    """One image and the maps of several methods, each with a range of its own.

    Args:
        image: (H, W), (H, W, 3) or a volume (D, H, W), uint8; a volume is told by the maps' three axes.
        maps: by name, (H, W) or (D, H, W).
        title: above all.
        mask: shape of a map, outlined.
        point: cell through which a volume's planes go; if None, the mask's centre or the peak of all maps together.
        signed: of each map by name; where it is not said, as for `overlay_2d`.
        opacity: of the strongest colour.
        orientation: as for `planes`.

    Raises:
        ValueError: no maps, or shapes that do not fit.
    """
    if not maps:
        raise ValueError("side_by_side needs at least one map")
    dims = next(iter(maps.values())).ndim
    for one in maps.values():
        _check(image, one, dims=dims)
    panels: list[tuple[str, np.ndarray | None]] = [("image", None), *maps.items()]
    columns = len(panels) if dims == 3 else min(len(panels), 5)
    rows = 3 if dims == 3 else math.ceil(len(panels) / columns)
    width = max(1.5 * columns + 0.2, 0.075 * len(title))  # inches; few maps must not cut the title off
    figure = Figure(figsize=(width, 1.62 * rows + 0.5), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    point = point if dims == 2 or point is not None else common_point(maps, mask)
    for number, (name, values) in enumerate(panels):
        negative = values is not None and (signed or {}).get(name, is_signed(values))
        largest = 1.0 if values is None else limit(values)
        for axis in range(3 if dims == 3 else 1):
            axes = grid[axis, number] if dims == 3 else grid[divmod(number, columns)]
            axes.set_axis_on()
            draw_image(axes, cut(image, dims, axis, point), window(image))
            draw_outline(axes, None if mask is None else cut(mask, dims, axis, point))
            if values is not None:
                part = cut(values, dims, axis, point)
                axes.imshow(overlay(part, largest=largest, signed=negative, opacity=opacity), origin="upper")
            if axis == 0:
                axes.set_title(name.replace("_", " "), fontsize=7, pad=2, wrap=True)
            if dims == 3 and number == 0 and point is not None:
                axes.set_ylabel(f"{planes_of(orientation)[axis]} {point[axis]}", fontsize=7)
    figure.suptitle(title, fontsize=10)
    return figure


def peak(values: np.ndarray) -> tuple[int, ...]:
    """Place of the largest value, the first one of several."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(values)), values.shape))


def common_point(maps: Mapping[str, np.ndarray], mask: np.ndarray | None) -> tuple[int, ...]:
    """The mask's cell nearest to its middle; without a mask the peak of all maps together."""
    if mask is not None and mask.any():
        inside = np.argwhere(mask)
        middle = inside.mean(axis=0)
        return tuple(int(i) for i in inside[np.argmin(((inside - middle) ** 2).sum(axis=1))])
    return peak(np.sum([np.clip(values / limit(values), 0, 1) for values in maps.values()], axis=0))


def _plane(array: np.ndarray, axis: int, point: Sequence[int]) -> np.ndarray:
    return array.take(point[axis], axis)


def cut(array: np.ndarray, dims: int, axis: int, point: Sequence[int] | None) -> np.ndarray:
    """The plane of a volume (D, H, W) across an axis, through a point; an image as it is."""
    return array if dims == 2 or point is None else _plane(array, axis, point)


def draw_image(axes: Axes, image: np.ndarray, grey: tuple[float, float]) -> None:
    """An image (H, W) or (H, W, 3) within a window of grey values, without ticks."""
    axes.imshow(image, cmap="gray", vmin=grey[0], vmax=grey[1], origin="upper")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_outline(axes: Axes, mask: np.ndarray | None) -> None:
    """The border of a mask (H, W), along the edges of its cells."""
    if mask is None or not np.any(mask):
        return
    inside = np.pad(np.asarray(mask) != 0, 1)
    below, beside = np.argwhere(inside[1:] != inside[:-1]), np.argwhere(inside[:, 1:] != inside[:, :-1])
    lines = [[(column - 1.5, row - 0.5), (column - 0.5, row - 0.5)] for row, column in below]
    lines += [[(column - 0.5, row - 1.5), (column - 0.5, row - 0.5)] for row, column in beside]
    axes.add_collection(LineCollection(lines, colors=OUTLINE, linewidths=0.8, capstyle="round", zorder=3))


def _cross(axes: Axes, place: Sequence[int]) -> None:
    """Short hairs at the border of the panel, so that the point itself stays free."""
    row, column = place
    axes.axhline(row, color="white", linewidth=0.5, alpha=0.5, xmax=0.12)
    axes.axhline(row, color="white", linewidth=0.5, alpha=0.5, xmin=0.88)
    axes.axvline(column, color="white", linewidth=0.5, alpha=0.5, ymax=0.12)
    axes.axvline(column, color="white", linewidth=0.5, alpha=0.5, ymin=0.88)


def _legend(figure: Figure, axes: list[Axes], largest: float, signed: bool) -> None:
    norm = Normalize(-largest if signed else 0, largest)
    bar = figure.colorbar(
        ScalarMappable(norm, colour_map(signed)), ax=axes, extend="both" if signed else "max", shrink=0.85, aspect=30
    )
    ticks = np.linspace(-largest, largest, 5) if signed else np.linspace(0, largest, 3)
    bar.set_ticks(list(ticks), labels=[f"{tick:.2g}" for tick in ticks])
    bar.ax.tick_params(labelsize=7, length=2)
    bar.set_label("against  ·  for the class" if signed else "relevance", fontsize=8)


def _check(image: np.ndarray, values: np.ndarray, *, dims: int) -> None:
    """Raises ValueError unless the map (*S) lies on the image (*S), or (H, W, 3)."""
    if values.ndim != dims or image.shape[:dims] != values.shape or image.shape[dims:] not in ((), (3,)):
        raise ValueError(f"a map {values.shape} does not fit an image {image.shape}")
