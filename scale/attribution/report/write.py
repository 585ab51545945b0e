"""What `python -m scale.explain` writes: samples and the page first, then metrics, the expensive ones last."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scale.attribution.metrics import measure as measuring
from scale.attribution.metrics import quality
from scale.attribution.metrics.causal import Effects
from scale.attribution.metrics.measure import Values
from scale.attribution.report import compared, group_figures, groups, page
from scale.attribution.report import files as record
from scale.attribution.report import samples as showing
from scale.attribution.report.job import Job
from scale.attribution.selection import truths
from scale.models.scale_net import ScaleNet
from scale.utils.files import write_csv
from scale.utils.progress import Progress

log = logging.getLogger("scale")
EXPLAINED = {"predicted": "the predicted class", "truth": "the true class"}
OF_SEVERAL = {"predicted": "the likeliest label", "truth": "the first label that is present"}  # of named samples


def write_samples(job: Job, folder: Path, name: str, progress: Progress) -> list[page.Sample]:
    """Computes and writes maps, groups and a page `name` that can be used at once; returns what the page shows."""
    samples = showing.write(job, folder, progress)
    if job.others:
        compared.write(job, samples, folder, progress)
    if job.config.groups:
        _groups(job, folder, progress)
    write_csv(folder / "quality.csv", record.QUALITY, [], digits=6)
    _page(job, folder / name, samples, [], measured="still being measured: reload" if len(job.measured) else "")
    return samples


def write_metrics(job: Job, folder: Path, name: str, samples: list[page.Sample], progress: Progress) -> None:
    """Measures all methods; writes the tables and the page again after each stage, the expensive metrics last."""
    seed, where = job.explainer.settings.seed, f"on {len(job.measured)} samples"

    def step(method: str, amount: float) -> None:
        progress.begin(f"measuring {method} {where}")
        progress.step(amount)

    truth = truths(job.predictions["labels"])[job.measured]
    effects = job.effects(job.measured, truth)
    if effects is not None:
        _causes(job, folder, effects)
    settings = job.explainer.settings.quality
    stages = measuring.measure(
        job.explainer, job.subjects(truth, effects), job.methods, job.metrics, settings, step=step
    )
    maps: Mapping[str, torch.Tensor] = {}
    for values, maps in stages:  # noqa: B007 - those of the last stage are compared with each other
        rows = measuring.rows(values, seed=seed)
        _tables(job, folder, values, rows)
        _page(job, folder / name, samples, rows, measured=f"{where}; more to come: reload", effects=effects)
    _alike(folder, maps)
    _page(job, folder / name, samples, rows, measured=where, effects=effects)


def _score(job: Job) -> dict[str, str]:
    """The test AUC, which is the best epoch's; of another epoch, that it is another."""
    if job.config.checkpoint != "best":
        return {"checkpoint": str(job.config.checkpoint)}
    auc = job.run.metrics.get("test", {}).get("auc")
    return {} if auc is None else {"test AUC": f"{auc:.3f}"}


def _explained(job: Job) -> str:
    if job.run.metrics["problem"] != "multilabel":
        return EXPLAINED[job.config.target]
    return "the label that each sample was chosen for" if job.config.indices is None else OF_SEVERAL[job.config.target]


def _page(
    job: Job,
    path: Path,
    samples: list[page.Sample],
    rows: list[dict[str, Any]],
    *,
    measured: str,
    effects: Effects | None = None,
) -> None:
    metrics, info = job.run.metrics, job.run.datamodule.info
    target = job.config.target
    header = {
        "data": info.title,
        "split": job.config.split,
        "model": metrics["model"]["name"],
        "seed": str(metrics["seed"]),
        **_score(job),
        "run": job.run.folder.name,
        "explained": f"class {target} ({info.labels[target]})" if isinstance(target, int) else _explained(job),
    }
    if metrics["problem"] == "binary":
        header["positive class"] = f"1 ({info.labels[1]})"
    if measured:
        header["metrics"] = measured
    if effects is not None and effects.has_lesion.any():
        header["by taking the lesion out of the scene"] = effects.summary()
    page.write_page(
        path,
        samples=samples,
        quality_rows=rows,
        header=header,
        first=job.best,
        orientation=job.run.datamodule.orientation,
    )


def _tables(job: Job, folder: Path, values: Mapping[str, Values], rows: list[dict[str, Any]]) -> None:
    seed = job.explainer.settings.seed
    write_csv(folder / "quality.csv", record.QUALITY, rows, digits=6)
    write_csv(folder / "against_random.csv", record.AGAINST, measuring.against(values, "random", seed=seed), digits=6)
    places = job.predictions["index"][job.measured]
    long = [
        {"method": method, "metric": name, "index": index, "value": value}
        for method, measured in values.items()
        for name, numbers in measured.items()
        for index, value in zip(places, numbers, strict=True)
    ]
    write_csv(folder / "quality_values.csv", ("method", "metric", "index", "value"), long, digits=6)


def _alike(folder: Path, maps: Mapping[str, torch.Tensor]) -> None:
    """How far the methods' maps agree with each other, on the first samples."""
    first = {method: values[: record.COMPARED] for method, values in maps.items()}
    matrix = quality.agreement(first, absolute=True)
    alike = [{"method": name, **dict(zip(maps, line, strict=True))} for name, line in zip(maps, matrix, strict=True)]
    write_csv(folder / "agreement.csv", ("method", *maps), alike, digits=6)


def _causes(job: Job, folder: Path, effects: Effects) -> None:
    """What the prediction of each measured sample rests on."""
    drops = {f"drop_{change}": effects.drop(change) for change in effects.changed}
    rows = [
        {"index": index, "log_odds": effects.score[n], "rests_on": effects.rests_on[n]}
        | {name: values[n] for name, values in drops.items()}
        for n, index in enumerate(job.predictions["index"][job.measured])
        if effects.has_lesion[n]
    ]
    write_csv(folder / "causal.csv", ("index", "log_odds", *drops, "rests_on"), rows, digits=6)
    log.info(effects.summary())


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
