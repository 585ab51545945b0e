"""The samples that are shown: maps, figures and arrays of each, what its prediction rests on, how stable its map is."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scale.attribution.catalog import METHODS
from scale.attribution.methods import attention_maps
from scale.attribution.metrics import stability
from scale.attribution.metrics.causal import Effects
from scale.attribution.metrics.stability import Agreement
from scale.attribution.report import files as record
from scale.attribution.report import page
from scale.attribution.report.figures import sample_title
from scale.attribution.report.job import Job
from scale.attribution.selection import named, whose_lesion
from scale.utils.files import write_csv
from scale.utils.progress import Progress


def write(job: Job, folder: Path, progress: Progress) -> list[page.Sample]:
    """Computes and writes everything on the samples that are shown; returns what the page shows of them."""
    found, info = job.predictions, job.run.datamodule.info
    rows = np.array([choice.row for choice in job.choices])
    images, targets = job.images(rows), torch.tensor([choice.target for choice in job.choices], device=job.device)
    places = found["index"][rows]
    lesions = whose_lesion(found["labels"][rows], np.array([choice.target for choice in job.choices]))
    maps = _maps(job, images, targets, places, progress)
    agreements = _agreements(job, images, targets, maps[job.best], progress)
    effects = job.effects(rows, lesions)
    gate = attention_maps.stream_gate(job.run.model.net, images)
    masks = job.masks(rows, lesions)
    raw = job.split.images.gather(places)
    samples, table, label = [], [], job.best.replace("_", " ")
    for number, choice in enumerate(job.choices):
        progress.begin(f"figures of sample {places[number]}")
        own_labels, chance = found["labels"][choice.row], found["probabilities"][choice.row]
        names, shown = named(own_labels, chance, choice.target, info.labels)
        facts = {"sample": str(places[number]), "chosen as": choice.why, "explained class": names[2]}
        row = {"index": places[number], "chosen": choice.why, "explained": choice.target}
        row |= {"truth": names[0], "prediction": names[1], "probability": shown}
        if gate is not None:
            planar, volumetric = (float(value) for value in gate[number])
            facts["stream gate"] = f"planar {planar:.2f}, volumetric {volumetric:.2f}"
            row |= {"gate_planar": planar, "gate_volumetric": volumetric}
        if effects is not None and effects.has_lesion[number]:
            row |= _caused(effects, number)
            facts[f"log odds of {'the explained label' if len(own_labels) > 1 else 'the true class'}"] = (
                f"{effects.score[number]:.1f}, without the lesion {effects.changed['without'][number]:.1f}"
            )
        mask = None if masks is None else masks[number]
        width = stability.lesion_width(mask, images.shape[2:])
        moved = _stability(agreements, number, width)
        facts |= {f"{label} over {key}": _agreed(value, number) for key, value in agreements.items()}
        row |= moved
        table.append(row)
        sample = page.Sample(
            title=f"#{places[number]}   {sample_title(names[0], names[1], shown)}",
            image=record.picture_of(raw[number], dims=info.spatial_dims),
            maps={method: values[number].sum(axis=0) for method, values in maps.items()},
            mask=mask,
            facts=facts,
            signed={method: METHODS[method].signed for method in maps},
            warning=_warning(job.best, row, width),
        )
        name = f"{places[number]:06d}_{choice.why}"
        arrays = {"target": choice.target, "labels": own_labels, "probabilities": chance}
        own = {method: values[number] for method, values in maps.items()}
        record.write_sample(folder, name, sample, own, orientation=job.run.datamodule.orientation, **arrays)
        record.draw_sample(folder, name, sample, best=job.best, orientation=job.run.datamodule.orientation)
        samples.append(sample)
    write_csv(folder / "samples.csv", list(dict.fromkeys(key for row in table for key in row)), table, digits=6)
    return samples


def _maps(
    job: Job, images: torch.Tensor, targets: torch.Tensor, places: np.ndarray, progress: Progress
) -> dict[str, np.ndarray]:
    """By method (N, C, *S)."""
    maps: dict[str, np.ndarray] = {}
    for method in job.methods:
        progress.begin(f"maps of {len(images)} samples: {method}")
        try:
            maps[method] = job.explainer.maps(method, images, targets, step=progress.step).numpy()
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, of samples {', '.join(map(str, places))}") from error
    return maps


def _agreements(
    job: Job, images: torch.Tensor, targets: torch.Tensor, maps: np.ndarray, progress: Progress
) -> dict[str, Agreement]:
    """How the maps of the first method agree over what should not change them."""
    progress.begin(f"stability of {job.best}")
    given = (job.explainer, job.best, images, targets, torch.from_numpy(maps))
    found = {}
    if stability.single_flips(job.explainer.views):
        found["flips"] = stability.over_flips(*given, step=progress.step)
    if job.epoch is not None:
        found["epochs"] = stability.over_networks(*given, net=job.epoch.model.net, step=progress.step)
    return found


def _caused(effects: Effects, number: int) -> dict[str, Any]:
    drops = {f"drop_{change}": float(effects.drop(change)[number]) for change in effects.changed}
    return {"log_odds": float(effects.score[number]), **drops, "rests_on": effects.rests_on[number]}


def _stability(agreements: dict[str, Agreement], number: int, width: float) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in agreements.items():
        row |= {f"agreement_{key}": float(value.correlation[number]), f"peak_shift_{key}": float(value.shift[number])}
    return row | {"lesion_width": width}


def _agreed(value: Agreement, number: int) -> str:
    correlation, shift = float(value.correlation[number]), float(value.shift[number])
    return (
        f"agreement {correlation:.2f}, peak moves {shift:.1f} cells"
        if math.isfinite(correlation)
        else "the map is constant"
    )


def _warning(method: str, row: dict[str, Any], width: float) -> str:
    """What a reader must know before the map is believed; empty if nothing."""
    said = []
    moved = {key: row.get(f"peak_shift_{key}", 0.0) for key in ("flips", "epochs")}
    ways = {"flips": "when the sample is flipped", "epochs": "between the best and the last epoch"}
    for key, shift in moved.items():
        if shift > width:
            said.append(f"its peak moves {shift:.1f} cells {ways[key]}, more than a lesion's width ({width:.1f})")
    lines = [f"{method.replace('_', ' ')} is not stable here: {'; '.join(said)}."] if said else []
    if row.get("rests_on") == "other":
        lines.append("The class is predicted without the lesion too: no map of it need point there.")
    return " ".join(lines)
