"""Runs of other seeds beside the run: the same samples, the first methods' maps of each network, in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from scale.attribution.catalog import CONTROLS, METHODS, RECOMMENDED
from scale.attribution.report import figures
from scale.attribution.report import files as record
from scale.attribution.report.colours import is_signed, limit, overlay, window
from scale.attribution.report.job import Job
from scale.attribution.report.page import Sample
from scale.attribution.selection import whose_lesion
from scale.utils.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

NAME = "compare.png"
METHODS_SHOWN, SAMPLES_SHOWN = 3, 6


@dataclass(frozen=True)
class Row:
    """A sample in the figure.

    Attributes:
        name: of the sample.
        image: (H, W), (H, W, 3) or (D, H, W), uint8.
        mask: of its lesion, or None.
        maps: by run and method, each of the image's shape.
        said: by run, what stands below its first map, such as the drop of the score without the lesion.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray | None
    maps: Mapping[str, Mapping[str, np.ndarray]]
    said: Mapping[str, str]


def write(job: Job, samples: Sequence[Sample], folder: Path, progress: Progress) -> None:
    """Computes the other runs' maps of the shown samples and draws `figures/compare.png`.

    Args:
        job: with runs to compare.
        samples: that the page shows, with the run's own maps, in the order of the job's choices.
        folder: of the explanations.
        progress: told the passes that were made.
    """
    chosen = job.choices[:SAMPLES_SHOWN]
    rows = np.array([choice.row for choice in chosen])
    images, targets = job.images(rows), torch.tensor([choice.target for choice in chosen], device=job.device)
    lesions = whose_lesion(job.predictions["labels"][rows], np.array([choice.target for choice in chosen]))
    places = job.predictions["index"][rows]
    own, methods = job.run.folder.name, shown(job.methods)
    nets = {own: job.run.model.net, **{name: other.model.net for name, other in job.others.items()}}
    maps: dict[str, dict[str, np.ndarray]] = {name: {} for name in nets}
    maps[own] = {method: np.stack([sample.maps[method] for sample in samples[: len(chosen)]]) for method in methods}
    said: dict[str, list[str]] = {}
    for name, net in nets.items():
        for method in methods if name != own else ():
            progress.begin(f"comparing runs: {method} of {name}")
            found = job.explainer.maps(method, images, targets, net=net, step=progress.step)
            maps[name][method] = found.sum(dim=1).numpy()
        caused = job.effects(rows, lesions, net=net)
        pairs = [] if caused is None else zip(caused.drop(), caused.score, strict=True)
        said[name] = [_fall(*pair) for pair in pairs] or [""] * len(rows)
    table = [
        Row(
            f"#{places[n]}",
            samples[n].image,
            samples[n].mask,
            {name: {method: values[n] for method, values in found.items()} for name, found in maps.items()},
            {name: lines[n] for name, lines in said.items()},
        )
        for n in range(len(rows))
    ]
    (folder / "figures").mkdir(exist_ok=True)
    draw(table).savefig(folder / "figures" / NAME)


def shown(methods: Sequence[str]) -> list[str]:
    """The methods of the figure: the recommended ones first, then the others in their order; no controls."""
    order = [*(name for name in RECOMMENDED if name in methods), *methods]
    return [name for name in dict.fromkeys(order) if name not in CONTROLS][:METHODS_SHOWN]


def cost(job: Job) -> float:
    """Passes through the network that `write` takes, about; 0 without other runs."""
    if not job.others:
        return 0.0
    each = sum(job.explainer.cost(method) for method in shown(job.methods))
    return each * min(len(job.choices), SAMPLES_SHOWN) * len(job.others)


def draw(rows: Sequence[Row]) -> Figure:
    """A row a sample: the image with its lesion's outline, then each run's maps; of volumes one plane, across axis 0.

    Args:
        rows: with the same runs and methods.
    """
    from matplotlib.figure import Figure

    panels = [(run, method) for run, maps in rows[0].maps.items() for method in maps]
    figure = Figure(figsize=(1.35 * (1 + len(panels)), 1.62 * len(rows) + 0.5), dpi=figures.DPI, layout="constrained")
    grid = figure.subplots(len(rows), 1 + len(panels), squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        dims = next(iter(next(iter(row.maps.values())).values())).ndim
        every = {f"{run} {method}": row.maps[run][method] for run, method in panels}
        point = None if dims == 2 else figures.common_point(every, row.mask)
        image = figures.cut(row.image, dims, 0, point)
        mask = None if row.mask is None else figures.cut(row.mask, dims, 0, point)
        for axes in line:
            figures.draw_image(axes, image, window(row.image))
            figures.draw_outline(axes, mask)
        line[0].set_title(row.name if point is None else f"{row.name}, slice {point[0]}", fontsize=7, pad=2)
        for number, (axes, (run, method)) in enumerate(zip(line[1:], panels, strict=True)):
            values = row.maps[run][method]
            signed = METHODS[method].signed and is_signed(values)
            part = figures.cut(values, dims, 0, point)
            axes.imshow(overlay(part, largest=limit(values), signed=signed, opacity=figures.OPACITY), origin="upper")
            if row is rows[0]:
                axes.set_title(f"{run}\n{record.label_of(method)}", fontsize=7, pad=2)
            if number == 0 or panels[number - 1][0] != run:
                axes.set_xlabel(row.said[run], fontsize=6.5, color="0.3", labelpad=1, loc="left")
    return figure


def _fall(drop: float, score: float) -> str:
    return "" if np.isnan(drop) else f"log odds {score:.1f}, without lesion {score - drop:.1f}"
