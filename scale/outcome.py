"""What a run found, for its folder and for the console."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    import lightning as L

    from scale.data.datamodule import ImageDataModule
    from scale.evaluation.ensemble import Averaged
    from scale.tasks.classification import ClassificationTask, Outputs


def metrics(
    config: DictConfig,
    trainer: "L.Trainer",
    task: "ClassificationTask",
    datamodule: "ImageDataModule",
    outputs: Mapping[str, "Outputs | Averaged"],
) -> dict[str, Any]:
    """Scores of each split, and what they were measured on: the greater part of `metrics.json`."""
    from scale.evaluation.metrics import scores
    from scale.provenance import hardware

    problem, info = task.problem, datamodule.info
    return {
        "flag": info.flag,
        "size": datamodule.image_shape[-1],
        "seed": config.seed,
        "variant": config.variant,
        "problem": problem.name,
        "num_classes": problem.num_classes,
        "image_shape": list(datamodule.image_shape),
        **{split: scores(found.labels, found.probabilities, problem.name) for split, found in outputs.items()},
        "samples": {
            "train": len(datamodule.train_labels),
            **{s: len(outputs[s].labels) for s in ("val", "test") if s in outputs},
        },
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "fast_dev_run": bool(config.trainer.fast_dev_run),
        "partial": is_partial(outputs, datamodule),
        "hardware": hardware(trainer.strategy.root_device.type, trainer.world_size),
        "precision": str(trainer.precision),
    }


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
    partial: bool,
) -> dict[str, Any]:
    """Predictions, official files and figures; returns the figures."""
    from scale import runs
    from scale.callbacks import history
    from scale.evaluation import figures, official
    from scale.inference import record

    names, problem = list(datamodule.info.labels), metrics["problem"]
    inputs = record.content(metrics["image_shape"], names, datamodule.info.title, datamodule.preprocessing)
    runs.write_json(folder / record.NAME, inputs)
    for split, found in outputs.items():
        runs.write_predictions(folder, split, found)
        if not partial:  # an official file has a row for every sample
            official.write(
                folder / runs.PREDICTIONS,
                found.probabilities,
                labels=found.labels,
                problem=problem,
                flag=metrics["flag"],
                size=metrics["size"],
                split=split,
                run=f"scale-seed{metrics['seed']}",
            )
    drawn = {}
    if (folder / runs.HISTORY).exists():
        drawn["history"] = figures.history(history.read(folder / runs.HISTORY))
    if "test" in outputs and not partial:
        truth, probabilities = outputs["test"].labels, outputs["test"].probabilities
        for name in ("roc", "precision_recall", "confusion", "reliability"):
            drawn[f"test_{name}"] = getattr(figures, name)(truth, probabilities, problem, names)
    (folder / runs.FIGURES).mkdir(exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(folder / runs.FIGURES / f"{name}.png", dpi=150)
    return drawn


def choice(config: DictConfig, task: "ClassificationTask", image_shape: Sequence[int]) -> str:
    """What the model is called: after the option's name on the command line, else the class."""
    from hydra.core.hydra_config import HydraConfig

    from scale.assembly import model_name

    found = HydraConfig.get().runtime.choices["model"] if HydraConfig.initialized() else type(task.net).__name__
    return model_name(config, choice=str(found), spatial_dims=len(image_shape) - 1)


def describe(datamodule: "ImageDataModule") -> str:
    """One line on the data."""
    sizes = {name: len(split.labels) for name, split in datamodule.splits.items()}
    sizes["train"] = len(datamodule.train_labels)  # perhaps a share of the split
    counts = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
    shape = " x ".join(map(str, datamodule.image_shape))
    return f"{datamodule.info.problem}, {len(datamodule.info.labels)} classes, images {shape}, {counts}"


def table(metrics: Mapping[str, Any]) -> str:
    """Val and test beside the best published result."""
    from scale.evaluation import published

    names = {"val": "val", "test": "test", "val_tta": "val, mirrored", "test_tta": "test, mirrored"}
    rows = [(text, metrics[name]["auc"], metrics[name]["acc"], "") for name, text in names.items() if name in metrics]
    best = published.best(metrics["flag"])
    if best:
        methods = dict.fromkeys(f"{row.method} ({row.input_size})" for row in best)
        rows.append(("best published", best[0].auc, best[1].acc, " / ".join(methods)))
    lines = [
        f"{'':16}{'AUC':>7}{'ACC':>7}",
        *(f"{name:16}{auc:7.3f}{acc:7.3f}  {note}".rstrip() for name, auc, acc, note in rows),
    ]
    return "\n".join(lines)
