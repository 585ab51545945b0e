"""The run folder: its names, writing it, reading it back."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from scale.data.files import replacing
from scale.provenance import environment

if TYPE_CHECKING:
    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask, Outputs

CONFIG, OVERRIDES, ENVIRONMENT, METRICS = "config.yaml", "overrides.yaml", "environment.json", "metrics.json"
HISTORY, LOG, PREDICTIONS, FIGURES, CHECKPOINTS = "history.csv", "train.log", "predictions", "figures", "checkpoints"


@dataclass(frozen=True)
class Run:
    """A finished run, read back.

    Attributes:
        folder: where it is.
        config: resolved configuration.
        metrics: content of `metrics.json`.
        predictions: per split `index` (N,), `logits` (N, outputs), `probabilities` (N, columns), `labels` (N, L); with
            test-time augmentation also `val_tta` and `test_tta`, without logits.
        model: the best epoch's network in the LightningModule, on the CPU, in evaluation mode.
        datamodule: with the training's normalisation; opens its files when `setup()` is called.
    """

    folder: Path
    config: DictConfig
    metrics: dict[str, Any]
    predictions: dict[str, dict[str, np.ndarray]]
    model: "ClassificationTask"
    datamodule: "ImageDataModule"


def claim(folder: Path) -> None:
    """Makes a folder this run's own.

    Raises:
        FileExistsError: another run's record is there.
        PermissionError: the folder cannot be written.
    """
    if (folder / METRICS).exists():
        raise FileExistsError(
            f"{folder} holds a finished run, which is kept as it is: give another folder with hydra.run.dir=..., "
            "or none, for a new one"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / CONFIG).open("x"):
            pass
    except FileExistsError as error:
        raise FileExistsError(
            f"{folder} holds a run that has not finished (or is running now): give another folder with "
            "hydra.run.dir=..., or remove this one if nothing in it is needed"
        ) from error
    except OSError as error:
        raise type(error)(
            error.errno,
            f"cannot write the run folder ({error.strerror}); give another with hydra.run.dir=...",
            str(folder),
        ) from error


def release(folder: Path) -> None:
    """Gives a folder free again if its run ended before its first checkpoint: the same command can be repeated."""
    if not (folder / CHECKPOINTS).exists():
        (folder / CONFIG).unlink(missing_ok=True)


def write_record(folder: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Writes what was asked for and where it runs, before the training."""
    OmegaConf.save(config, folder / CONFIG, resolve=True)
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / OVERRIDES)
    write_json(folder / ENVIRONMENT, environment(seed=config.seed))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes strict JSON, whole or not at all; numbers that are not finite become null."""
    with replacing(path) as file:
        file.write((json.dumps(_strict(content), indent=2, allow_nan=False) + "\n").encode())


def write_predictions(folder: Path, split: str, outputs: "Outputs") -> None:
    """Writes one split's arrays to `predictions/{split}.npz`."""
    (folder / PREDICTIONS).mkdir(exist_ok=True)
    with replacing(folder / PREDICTIONS / f"{split}.npz") as file:
        np.savez_compressed(
            file,
            index=outputs.index,
            logits=outputs.logits,
            probabilities=outputs.probabilities,
            labels=outputs.labels,
        )


def write_averaged(folder: Path, name: str, *, index: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Writes averaged probabilities, which have no logits, to `predictions/{name}.npz`."""
    (folder / PREDICTIONS).mkdir(parents=True, exist_ok=True)
    with replacing(folder / PREDICTIONS / f"{name}.npz") as file:
        np.savez_compressed(file, index=index, probabilities=probabilities, labels=labels)


def add_averaged(
    folder: Path, found: Mapping[str, tuple[Mapping[str, np.ndarray], Mapping[str, float]]]
) -> None:
    """Adds averaged predictions and their scores to a finished run's record; what is there stays.

    Args:
        folder: of the run.
        found: for each new name the arrays, as `write_averaged` takes them, and the scores.
    """
    metrics = json.loads((folder / METRICS).read_text())
    assert not set(found) & set(metrics)
    for name, (arrays, _) in found.items():
        write_averaged(folder, name, **arrays)
    write_json(folder / METRICS, {**metrics, **{name: scores for name, (_, scores) in found.items()}})


def read_predictions(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of each split that the folder has."""
    found = {}
    for path in sorted((folder / PREDICTIONS).glob("*.npz")):
        with np.load(path) as arrays:
            found[path.stem] = dict(arrays)
    return found


def load_run(folder: str | Path, *, checkpoint: str = "best", data: Mapping[str, Any] | None = None) -> Run:
    """Reads a run back; nothing but the run folder is needed until images are.

    Args:
        folder: of a finished run.
        checkpoint: `best` or `last`.
        data: changes to the run's `data` node, such as another `root`.

    Raises:
        FileNotFoundError: the folder is no run, or the run is not finished.
    """
    import torch

    from scale.assembly import build_datamodule, build_task
    from scale.tasks.problem import Problem

    folder = Path(folder).expanduser()
    if not (folder / METRICS).is_file():
        what = "a run that has not finished" if (folder / CONFIG).is_file() else "not a run folder"
        raise FileNotFoundError(f"{folder} is {what}: there is no {METRICS} in it")
    metrics = json.loads((folder / METRICS).read_text())
    config = OmegaConf.load(folder / CONFIG)
    assert isinstance(config, DictConfig)
    config.data.update({key: value for key, value in (data or {}).items() if key in config.data})
    if "pretrained" in config.model:
        config.model.pretrained = False  # the checkpoint has the weights: nothing to download
    state = torch.load(folder / CHECKPOINTS / f"{checkpoint}.ckpt", map_location="cpu", weights_only=True)
    datamodule = build_datamodule(config)
    datamodule.load_state_dict(state[type(datamodule).__qualname__])
    problem = Problem(metrics["problem"], metrics["num_classes"])
    task = build_task(config, problem, image_shape=metrics["image_shape"])
    task.load_state_dict(state["state_dict"])
    return Run(folder, config, metrics, read_predictions(folder), task.eval(), datamodule)


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
