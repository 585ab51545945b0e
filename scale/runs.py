"""The run folder: its names, writing it, reading it back."""

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from scale.data.files import replacing
from scale.provenance import environment

if TYPE_CHECKING:
    import pandas as pd

    from scale.data.datamodule import ImageDataModule
    from scale.evaluation.ensemble import Averaged
    from scale.tasks.classification import ClassificationTask, Outputs

CONFIG, OVERRIDES, ENVIRONMENT, METRICS = "config.yaml", "overrides.yaml", "environment.json", "metrics.json"
LOCK = ".lock"
DATA_PATHS = ("path", "root", "cache", "labels")  # keys of `data`
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

    def predict(self, images: Any, *, alpha: float = 0.1, calibrate: bool = True) -> "pd.DataFrame":
        """Predictions of new images or files, as `python -m scale.predict` makes them.

        Args:
            images: a path or an array, or a list of them, as `scale.inference.predictor.Predictor.predict` takes them.
            alpha: share of conformal sets that may miss the true class.
            calibrate: divide logits by the temperature that fits val best.

        Returns:
            A row for each image: predicted class, probabilities, conformal set, entropy, energy, and whether it looks
            unlike the training data.

        Raises:
            ValueError: an image that cannot be used; says which and why.
        """
        from scale.inference.predictor import Predictor

        return Predictor([self], alpha=alpha, calibrate=calibrate).predict(images)


def claim(folder: Path) -> FileLock:
    """Makes a folder a new run's own.

    Returns:
        The lock that keeps other processes out until it is released or this process ends.

    Raises:
        FileExistsError: another run's record is there.
        PermissionError: the folder cannot be written.
    """
    if (folder / METRICS).exists():
        raise FileExistsError(
            f"{folder} holds a finished run, which is kept as it is: give another folder with hydra.run.dir=..., "
            "or none, for a new one"
        )
    lock = _lock(folder)
    if (folder / CONFIG).exists():
        lock.release()
        raise FileExistsError(
            f"{folder} holds a run that has not finished: go on with it by resume={folder}, or give another folder "
            "with hydra.run.dir=..."
        )
    return lock


def reopen(folder: Path) -> FileLock:
    """Takes over the folder of a run that has not finished.

    Returns:
        The lock, as from `claim`.

    Raises:
        FileNotFoundError: no run was begun there.
        FileExistsError: the run is finished, or another process is at it.
    """
    if (folder / METRICS).exists():
        raise FileExistsError(
            f"{folder} holds a finished run: there is nothing to go on with (rerun={folder} repeats it)"
        )
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"{folder} holds no run that was begun (there is no {CONFIG} in it): give the folder of an interrupted "
            "run, or begin a new one without resume"
        )
    return _lock(folder)


def release(folder: Path) -> None:
    """Gives a folder free again if its run ended before its first checkpoint: the same command can be repeated."""
    if not any((folder / CHECKPOINTS).glob("*.ckpt")):
        (folder / CONFIG).unlink(missing_ok=True)


def write_record(folder: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Writes what was asked for and where it runs, before the training; with the configuration a run is begun.

    Relative paths of the data are made absolute: the run is read back from other folders too.
    """
    config = config.copy()
    for key in DATA_PATHS:
        if config.data.get(key) is not None:
            config.data[key] = str(Path(config.data[key]).expanduser().absolute())
    _write_yaml(folder / OVERRIDES, OmegaConf.create(list(overrides)))
    facts: dict[str, Any] = {"id": secrets.token_hex(4), "config_dir": _config_dir(), "continued": []}
    write_json(folder / ENVIRONMENT, environment(seed=config.seed) | facts)
    _write_yaml(folder / CONFIG, config)


def run_id(folder: Path) -> str | None:
    """The run's own name among all runs, from its record; None where this process writes none."""
    path = folder / ENVIRONMENT
    return json.loads(path.read_text()).get("id") if path.is_file() else None


def add_to_record(folder: Path, *, seed: int, **facts: Any) -> None:
    """Adds where and from what a run goes on to its `environment.json`."""
    record = json.loads((folder / ENVIRONMENT).read_text())
    record["continued"] = [*record.get("continued", []), environment(seed=seed) | facts]
    write_json(folder / ENVIRONMENT, record)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes strict JSON, whole or not at all; numbers that are not finite become null."""
    with replacing(path) as file:
        file.write((json.dumps(_strict(content), indent=2, allow_nan=False) + "\n").encode())


def check_whole(metrics: Mapping[str, Any], folder: str | Path) -> None:
    """Raises ValueError if a run saw only a part of its val or test split: its figures are no results."""
    if metrics["fast_dev_run"]:
        raise ValueError(f"{folder} is a fast_dev_run, which is no result")
    if metrics.get("partial"):
        raise ValueError(
            f"{folder} evaluated only a part of its splits (trainer.limit_..._batches), which is no result"
        )


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


def write_averaged(folder: Path, found: Mapping[str, "Averaged"]) -> None:
    """Writes averaged probabilities, which have no logits, to `predictions/{name}.npz`."""
    for name, arrays in found.items():
        (folder / PREDICTIONS).mkdir(parents=True, exist_ok=True)
        with replacing(folder / PREDICTIONS / f"{name}.npz") as file:
            np.savez_compressed(file, **vars(arrays))


def add_averaged(folder: Path, found: Mapping[str, "Averaged"], scores: Mapping[str, Mapping[str, float]]) -> None:
    """Adds averaged predictions and their scores to a finished run's record; what is there stays.

    Args:
        folder: of the run.
        found: the predictions, by names that the record does not have.
        scores: of the same names.
    """
    metrics = json.loads((folder / METRICS).read_text())
    assert not set(found) & set(metrics)
    write_averaged(folder, found)
    write_json(folder / METRICS, {**metrics, **{name: scores[name] for name in found}})


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
        data: changes to the run's `data` node, such as another `root`; what says how to get a file (`download`,
            `verify`) is left out where the run has no use for it.

    Raises:
        FileNotFoundError: the folder is no run, or the run is not finished.
        ValueError: its network is not that of the present code, or `data` has a key that the run does not have.
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
    changes = {key: value for key, value in (data or {}).items() if key in config.data}
    unknown = set(data or {}) - set(changes) - {"download", "verify"}
    if unknown:
        known = [key for key in DATA_PATHS if key in config.data]
        raise ValueError(
            f"data.{min(unknown)}=...: {folder} was trained on data that have no such key; where they are is said by "
            + " and ".join(f"data.{key}" for key in known)
        )
    config.data.update(changes)
    if "pretrained" in config.model:
        config.model.pretrained = False  # the checkpoint has the weights: nothing to download
    state = torch.load(folder / CHECKPOINTS / f"{checkpoint}.ckpt", map_location="cpu", weights_only=True)
    datamodule = build_datamodule(config)
    datamodule.load_state_dict(state[type(datamodule).__qualname__])
    problem = Problem(metrics["problem"], metrics["num_classes"])
    task = build_task(config, problem, image_shape=metrics["image_shape"])
    try:
        task.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        commit = json.loads((folder / ENVIRONMENT).read_text()).get("commit")
        raise ValueError(
            f"{folder}: its weights do not fit the network of the present code; use the code of its commit, {commit}"
        ) from error
    return Run(folder, config, metrics, read_predictions(folder), task.eval(), datamodule)


def _lock(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise FileExistsError(
            f"{folder} holds a run that another process is at: wait for it, or give another hydra.run.dir=..."
        ) from None
    except OSError as error:
        raise type(error)(
            error.errno,
            f"cannot write the run folder ({error.strerror}); give another with hydra.run.dir=...",
            str(folder),
        ) from error
    return lock


def _write_yaml(path: Path, content: Any) -> None:
    with replacing(path) as file:
        file.write(OmegaConf.to_yaml(content, resolve=True).encode())


def _config_dir() -> str | None:
    """Hydra's `--config-dir`, absolute, if one was given."""
    if not HydraConfig.initialized():
        return None
    sources = HydraConfig.get().runtime.config_sources
    return next((str(Path(source.path).resolve()) for source in sources if source.provider == "command-line"), None)


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
