"""What `python -m scale.explain` writes: maps and figures of samples, measures, the analysis of classes, the page."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scale.attribution.catalog import METHODS
from scale.attribution.methods import attention_maps
from scale.attribution.metrics import measure as measuring
from scale.attribution.metrics import quality
from scale.attribution.metrics.measure import Subjects
from scale.attribution.report import files as record
from scale.attribution.report import group_figures, groups, page
from scale.attribution.report.figures import sample_title
from scale.attribution.report.job import Job
from scale.attribution.selection import predicted, truths
from scale.models.scale_net import ScaleNet
from scale.utils.files import write_csv
from scale.utils.progress import Progress

log = logging.getLogger("scale")
BEST = ("scale_relevance", "integrated_gradients")  # drawn large where it is among the methods


def write(job: Job, folder: Path, name: str, progress: Progress) -> None:
    """Computes and writes everything.

    Args:
        job: what to explain.
        folder: takes tables, figures and arrays.
        name: of the page in it.
        progress: shown to the user.
    """
    samples = _samples(job, folder, progress)
    rows = _quality(job, folder, progress) if len(job.measured) else []
    if job.config.groups:
        _groups(job, folder, progress)
    metrics = job.run.metrics
    header = {
        "data": job.run.datamodule.info.title,
        "split": job.config.split,
        "model": metrics["model"]["name"],
        "seed": str(metrics["seed"]),
        "test AUC": f"{metrics['test']['auc']:.3f}",
        "run": job.run.folder.name,
    }
    if len(job.measured):
        header["measured on"] = f"{len(job.measured)} samples"
    write_csv(folder / "quality.csv", record.QUALITY, rows, digits=6)
    page.write_page(folder / name, samples=samples, quality_rows=rows, header=header, first=_best(job.methods))


def _best(methods: list[str]) -> str:
    return next((name for name in BEST if name in methods), methods[0])


def _samples(job: Job, folder: Path, progress: Progress) -> list[page.Sample]:
    """Maps, figures and arrays of the samples that are shown."""
    found, info = job.predictions, job.run.datamodule.info
    rows = [choice.row for choice in job.choices]
    images, targets = job.images(rows), torch.tensor([choice.target for choice in job.choices], device=job.device)
    places = found["index"][rows]
    maps: dict[str, np.ndarray] = {}
    for method in job.methods:
        progress.begin(f"maps of {len(rows)} samples: {method}")
        try:
            maps[method] = job.explainer.maps(method, images, targets, step=progress.step).numpy()
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, of samples {', '.join(map(str, places))}") from error
    gate = attention_maps.stream_gate(job.run.model.net, images)
    masks = job.masks(rows, truths(found["labels"])[rows])
    raw = job.split.images.gather(places)
    guess, truth = predicted(found["probabilities"]), truths(found["labels"])
    best = _best(job.methods)
    samples, table = [], []
    for number, choice in enumerate(job.choices):
        progress.begin(f"figures of sample {places[number]}")
        chance = found["probabilities"][choice.row]
        names = [info.labels[k] for k in (truth[choice.row], guess[choice.row], choice.target)]
        if found["labels"].shape[1] > 1:  # the label that is explained, instead of one of many
            said = (found["labels"][choice.row, choice.target] != 0, chance[choice.target] > 0.5)
            names[:2] = [names[2] if yes else f"no {names[2]}" for yes in said]
            shown = float(chance[choice.target] if said[1] else 1 - chance[choice.target])
        else:
            shown = float(chance[guess[choice.row]])
        facts = {"sample": str(places[number]), "chosen as": choice.why, "explained": names[2]}
        row = {"index": places[number], "chosen": choice.why, "explained": choice.target}
        row |= {"truth": names[0], "prediction": names[1], "probability": shown}
        if gate is not None:
            planar, volumetric = (float(value) for value in gate[number])
            facts["stream gate"] = f"planar {planar:.2f}, volumetric {volumetric:.2f}"
            row |= {"gate_planar": planar, "gate_volumetric": volumetric}
        table.append(row)
        sample = page.Sample(
            title=sample_title(names[0], names[1], shown),
            image=record.picture_of(raw[number], dims=info.spatial_dims),
            maps={method: values[number].sum(axis=0) for method, values in maps.items()},
            mask=None if masks is None else masks[number],
            facts=facts,
            signed={method: METHODS[method].signed for method in maps},
        )
        name = f"{places[number]:06d}_{choice.why}"
        arrays = {"target": choice.target, "labels": found["labels"][choice.row], "probabilities": chance}
        own = {method: values[number] for method, values in maps.items()}
        record.write_sample(folder, name, sample, own, **arrays)
        record.draw_sample(folder, name, sample, best=best)
        samples.append(sample)
    write_csv(folder / "samples.csv", list(dict.fromkeys(key for row in table for key in row)), table, digits=6)
    return samples


def _quality(job: Job, folder: Path, progress: Progress) -> list[dict[str, Any]]:
    """Measures all methods; returns the rows of `quality.csv`."""
    seed = job.explainer.settings.seed

    def step(method: str, amount: float) -> None:
        progress.begin(f"measuring {method} on {len(job.measured)} samples")
        progress.step(amount)

    values, maps = measuring.measure(
        job.explainer, _subjects(job), job.methods, job.measures, job.explainer.settings.quality, step=step
    )
    write_csv(folder / "against_random.csv", record.AGAINST, measuring.against(values, "random", seed=seed), digits=6)
    places = job.predictions["index"][job.measured]
    long = [
        {"method": method, "measure": name, "index": index, "value": value}
        for method, measured in values.items()
        for name, numbers in measured.items()
        for index, value in zip(places, numbers, strict=True)
    ]
    write_csv(folder / "quality_values.csv", ("method", "measure", "index", "value"), long, digits=6)
    matrix = quality.agreement(maps, absolute=True)
    alike = [{"method": first, **dict(zip(maps, line, strict=True))} for first, line in zip(maps, matrix, strict=True)]
    write_csv(folder / "agreement.csv", ("method", *maps), alike, digits=6)
    return measuring.rows(values, seed=seed)


def _subjects(job: Job) -> Subjects:

    found, rows = job.predictions, job.measured
    truth = truths(found["labels"])[rows]
    explained = {"predicted": predicted(found["probabilities"])[rows], "truth": truth}
    target = explained.get(job.config.target, np.full(len(rows), job.config.target))
    masks = job.masks(rows, truth)
    return Subjects(
        job.images(rows),
        torch.as_tensor(target.astype(np.int64), device=job.device),
        torch.as_tensor(truth.astype(np.int64), device=job.device),
        None if masks is None else torch.from_numpy(masks),
        {name: other.model.net for name, other in job.others.items()},
    )


def _groups(job: Job, folder: Path, progress: Progress) -> None:
    """What the network looks at in each class, over the whole split."""
    net, found = job.run.model.net, job.predictions
    if not isinstance(net, ScaleNet):
        log.info("no group analysis: %s has no scales and no streams", type(net).__name__)
        return
    progress.begin(f"groups: {len(found['index'])} samples")
    size = job.explainer.settings.batch_size

    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(found["index"]), size):
            rows = np.arange(start, min(start + size, len(found["index"])))
            yield job.images(rows)
            progress.step(len(rows))

    observed = groups.observe(net, batches())
    info = job.run.datamodule.info
    rows = groups.group_rows(observed, found["labels"], list(info.labels), data=info.flag)
    groups.write_rows(folder / "groups.csv", rows)
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in group_figures.draw(rows).items():
        figure.savefig(folder / "figures" / f"groups_{name}.png")
