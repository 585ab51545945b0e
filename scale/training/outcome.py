"""What a run found, for its folder and for the console."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    import lightning as L
    import numpy as np
    import torch

    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask
    from scale.tasks.outputs import Averaged, Outputs

log = logging.getLogger("scale")


def metrics(
    config: DictConfig,
    trainer: "L.Trainer",
    task: "ClassificationTask",
    datamodule: "ImageDataModule",
    outputs: Mapping[str, "Outputs | Averaged"],
    *,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Scores of each split with their uncertainty, and what they were measured on: most of `metrics.json`.

    A run that is no result (it saw a part of its splits, or was not tested) has the scores alone. With `more` beside.
    """
    from scale.evaluation.metrics import scores
    from scale.runs.provenance import hardware

    problem, info = task.problem, datamodule.info
    partial = is_partial(outputs, datamodule)
    whole = not partial and not config.trainer.fast_dev_run
    found = {
        split: {"labels": output.labels, "probabilities": output.probabilities} for split, output in outputs.items()
    }
    return {
        "flag": info.flag,
        "size": datamodule.image_shape[-1],
        "seed": config.seed,
        "variant": config.variant,
        "problem": problem.name,
        "num_classes": problem.num_classes,
        "image_shape": list(datamodule.image_shape),
        "data_sha256": datamodule.content,
        **{split: scores(found.labels, found.probabilities, problem.name) for split, found in outputs.items()},
        "samples": {
            "train": len(datamodule.train_labels),
            **{s: len(outputs[s].labels) for s in ("val", "test") if s in outputs},
        },
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "fast_dev_run": bool(config.trainer.fast_dev_run),
        "partial": partial,
        "hardware": hardware(trainer.strategy.root_device.type, trainer.world_size),
        "precision": str(trainer.precision),
        **(_assess(config, found, problem.name, info.labels) if whole and "test" in outputs else {}),
        **(more or {}),
    }


def _assess(
    config: DictConfig, found: "Mapping[str, Mapping[str, np.ndarray]]", problem: str, names: Sequence[str]
) -> dict[str, Any]:
    from scale.evaluation.assessment import assess

    chosen = {name: config.evaluation[name] for name in ("calibrate", "threshold", "coverage")}
    return assess(found, problem, names, **chosen)


def is_partial(outputs: Mapping[str, "Outputs | Averaged"], datamodule: "ImageDataModule") -> bool:
    """Whether samples of an evaluated split were left out, by a fast_dev_run or a limit of the trainer's."""
    splits = datamodule.splits
    return any(len(found.labels) < len(splits[name].labels) for name, found in outputs.items() if name in splits)


def write(
    folder: Path,
    metrics: Mapping[str, Any],
    datamodule: "ImageDataModule",
    outputs: Mapping[str, "Outputs"],
    *,
    net: "torch.nn.Module",
    device: "torch.device",
    figures: bool,
) -> dict[str, Any]:
    """Predictions, official files, how the training data look to the network, and, if asked, figures; returns these."""
    from scale import runs
    from scale.evaluation import official
    from scale.inference import familiarity
    from scale.reporting.run_figures import draw
    from scale.runs import inputs as run_inputs
    from scale.runs.folder import write_predictions
    from scale.utils.files import write_json

    info = datamodule.info
    names, problem, partial = list(info.labels), metrics["problem"], metrics["partial"]
    inputs = run_inputs.content(
        metrics["image_shape"], names, info.title, datamodule.preprocessing, flips=info.symmetry.flips
    )
    write_json(folder / run_inputs.NAME, inputs)
    for split, found in outputs.items():
        write_predictions(folder, split, found)
        if not metrics["partial"]:  # an official file has a row for every sample
            official.write(
                folder / runs.PREDICTIONS,
                found.probabilities,
                labels=found.labels,
                problem=problem,
                flag=metrics["flag"],
                size=metrics["size"],
                split=split,
                run=official.run_name(metrics["model"]["name"], metrics["seed"]),
            )
    arrays = None
    if "test" in outputs and not partial:
        looks = familiarity.measure(net, datamodule, device=device)
        if looks is not None:
            familiarity.keep(folder, net, looks)
        test = outputs["test"]
        arrays = {"index": test.index, "labels": test.labels, "probabilities": test.probabilities}
    if not figures:
        return {}
    history = runs.read_history(folder) if (folder / runs.HISTORY).exists() else []
    images = _mistaken(datamodule, arrays, problem) if arrays else None
    drawn = draw(metrics, arrays, history, names, title=info.title, images=images)
    (folder / runs.FIGURES).mkdir(exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(folder / runs.FIGURES / f"{name}.png", dpi=150)
    return drawn


def _mistaken(
    datamodule: "ImageDataModule", arrays: "Mapping[str, np.ndarray]", problem: str
) -> "dict[int, np.ndarray]":
    """Images (C, *S) of the test samples of the most confident mistakes, by row of the predictions."""
    import numpy as np

    from scale.reporting.run_figures import mistaken

    rows = [row for row, *_ in mistaken(arrays["labels"], arrays["probabilities"], problem)]
    if not rows:
        return {}
    stored = datamodule.splits["test"].images.gather(arrays["index"][rows])  # (B, *S[, C])
    coloured = stored.ndim > datamodule.info.spatial_dims + 1
    images = np.moveaxis(stored, -1, 1) if coloured else stored[:, None]
    return dict(zip(rows, images, strict=True))


def choice(config: DictConfig, task: "ClassificationTask", datamodule: "ImageDataModule", folder: Path) -> str:
    """What the model is called: the option of the group `model` that was given, else the class."""
    from hydra.core.hydra_config import HydraConfig

    from scale.runs.reading import read_overrides
    from scale.tasks.build import model_name

    if HydraConfig.initialized():
        found = HydraConfig.get().runtime.choices["model"]
    else:  # called from Python
        named = [text.removeprefix("model=") for text in read_overrides(folder) if text.startswith("model=")]
        found = named[-1] if named else type(task.net).__name__
    dims = max(module.info.spatial_dims for module in datamodule.members.values())
    return model_name(config, choice=str(found), spatial_dims=dims)


def describe(datamodule: "ImageDataModule") -> str:
    """One line on the data."""
    sizes = {name: len(split.labels) for name, split in datamodule.splits.items()}
    sizes["train"] = len(datamodule.train_labels)  # perhaps a share of the split
    counts = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
    shape = " x ".join(map(str, datamodule.image_shape))
    return f"{datamodule.info.problem}, {len(datamodule.info.labels)} classes, images {shape}, {counts}"


def table(metrics: Mapping[str, Any]) -> str:
    """Val and test with their intervals, beside the best of MedMNIST v2."""
    from scale.published import medmnist as published

    names = {"val": "val", "test": "test", "val_tta": "val, flip TTA", "test_tta": "test, flip TTA"}
    rows = [
        (text, *(_shown(metrics[split][score], limits.get(score)) for score in ("auc", "acc")), "")
        for split, text in names.items()
        if split in metrics
        for limits in [metrics.get("intervals", {}).get(split, {})]
    ]
    best = published.best(metrics["flag"])
    if best:
        methods = dict.fromkeys(f"{row.method} ({row.input_size})" for row in best)
        rows.append(("best of MedMNIST v2", _shown(best[0].auc), _shown(best[1].acc), " / ".join(methods)))
    width = 22 if "intervals" in metrics else 8
    first = max(16, *(len(row[0]) for row in rows))
    head = f"{'':{first}}  {'AUC':{width}}{'ACC':{width}}".rstrip()
    lines = [head, *(f"{name:{first}}  {auc:{width}}{acc:{width}}{note}".rstrip() for name, auc, acc, note in rows)]
    if "intervals" in metrics:
        lines.append("in brackets: 95 % of the stratified bootstrap's resamples")
    how = "chosen on val" if metrics.get("selected_on", "val") == "val" else "the last one"
    lines.append(f"of epoch {metrics['best_epoch']}, counted from 0, {how}")
    classes = metrics.get("per_class", {}).get("names", [])
    if metrics["problem"] == "binary" and classes:
        lines.append(f"positive class: {classes[1]}")
    return "\n".join(lines)


def finish(folder: Path, metrics: dict[str, Any], *, report: bool, rerun: str | None) -> None:
    """Writes `metrics.json`, with which the run is done, and the page made from the folder; says what was found.

    Args:
        folder: of the run.
        metrics: gets the sums of the run's files.
        report: whether to make the page.
        rerun: folder of the run that this one repeats.
    """
    from scale.reporting import run_report
    from scale.runs import METRICS, resume, verify
    from scale.utils.files import strict, write_json

    metrics.update(verify.sealed(metrics, folder))
    write_json(folder / METRICS, metrics)
    if report and not metrics["partial"] and not metrics["fast_dev_run"]:  # a part of the splits is no result
        log.info("report: %s", run_report.write(folder, metrics))
    log.info("%s", table(metrics))
    log.info("run folder: %s", folder)
    if rerun is not None:
        resume.compare(strict(metrics), Path(rerun))


def _shown(value: float, limits: Sequence[float] | None = None) -> str:
    if limits is None or not math.isfinite(limits[0]):
        return f"{value:.3f}"
    return f"{value:.3f} ({limits[0]:.3f}–{limits[1]:.3f})"
