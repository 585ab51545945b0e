"""The run folder: its names, writing it, reading it back."""

import csv
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scale.config.keys import DATA_PATHS, flat
from scale.data import archive
from scale.runs.provenance import environment
from scale.utils.files import read_csv, read_json, replacing, sha256_of, write_json, write_text

if TYPE_CHECKING:
    from scale.tasks.outputs import Averaged, Outputs

CONFIG, OVERRIDES, ENVIRONMENT, METRICS = "config.yaml", "overrides.yaml", "environment.json", "metrics.json"
LOCK = ".lock"
HISTORY, LOG, PREDICTIONS, FIGURES, CHECKPOINTS = "history.csv", "train.log", "predictions", "figures", "checkpoints"


ANOTHER = "take it from a copy of the run, or train the run again"  # what to do about a damaged file
SPLITS = ("val", "test", "val_tta", "test_tta")
LARGEST_SIDE, LARGEST_CLASSES = 4096, 100_000
METRICS_KEYS: dict[str, tuple[Any, str]] = {  # what is relied on: type, and how it is called
    **dict.fromkeys(("flag", "problem"), (str, "a text")),
    **dict.fromkeys(("seed", "num_classes"), (int, "a whole number")),
    "image_shape": (list, "a list"),
    **dict.fromkeys((*SPLITS, "samples", "model"), (dict, "an object")),
    **dict.fromkeys(("fast_dev_run", "partial"), (bool, "true or false")),
}


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


def refuse_links(folder: Path) -> None:
    """Raises ValueError if a run's folder has a symbolic link: what is written into it must not land elsewhere.

    W&B keeps links of its own in `wandb/`, which stay as long as they lead to files of the folder itself.
    """
    whole = folder.resolve()
    for place, folders, files in os.walk(folder):
        for path in (Path(place) / name for name in (*folders, *files)):
            if path.is_symlink():
                inside = Path(os.path.realpath(path)).is_relative_to(whole)
                if not (inside and "wandb" in path.relative_to(folder).parts[:-1]):
                    raise ValueError(
                        f"{path} is a symbolic link to {path.readlink()}: nothing is written through links in a run's "
                        "folder; put the file itself in its place, or delete the link"
                    )


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
    return read_environment(folder).get("id") if (folder / ENVIRONMENT).is_file() else None


def add_to_record(folder: Path, *, seed: int, **facts: Any) -> None:
    """Adds where and from what a run goes on to its `environment.json`."""
    record = read_environment(folder)
    record["continued"] = [*record.get("continued", []), environment(seed=seed) | facts]
    write_json(folder / ENVIRONMENT, record)


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """What a finished run found, its `metrics.json`.

    Raises:
        FileNotFoundError: the folder is no run, or the run has not finished.
        ValueError: the file is damaged.
    """
    folder = Path(folder).expanduser()
    if not (folder / METRICS).is_file():
        what = "a run that has not finished" if (folder / CONFIG).is_file() else "not a run folder"
        raise FileNotFoundError(f"{folder} is {what}: there is no {METRICS} in it")
    found = read_json(folder / METRICS, cure=ANOTHER)
    for key, (kind, text) in METRICS_KEYS.items():
        if key in found and not (isinstance(found[key], kind) and (kind is bool or not isinstance(found[key], bool))):
            raise ValueError(f"{folder / METRICS} is damaged: {key}={found[key]!r:.60} is not {text}; {ANOTHER}")
    return found


def check_complete(metrics: Mapping[str, Any], folder: str | Path) -> None:
    """Raises ValueError if `metrics.json` lacks what a network is built from, or says what cannot be."""
    path = Path(folder) / METRICS
    lacking = [key for key in METRICS_KEYS if key not in metrics and key not in SPLITS and key != "partial"]
    if lacking:
        raise ValueError(f"{path} is damaged: it has no {', '.join(lacking)}; {ANOTHER}")
    shape = metrics["image_shape"]
    if not (3 <= len(shape) <= 4 and all(type(n) is int and 0 < n <= LARGEST_SIDE for n in shape)):
        raise ValueError(f"{path} is damaged: image_shape={shape!r:.60} is no (C, H, W) or (C, D, H, W); {ANOTHER}")
    if not 1 <= metrics["num_classes"] <= LARGEST_CLASSES:
        raise ValueError(f"{path} is damaged: num_classes={metrics['num_classes']} cannot be; {ANOTHER}")


def read_environment(folder: str | Path) -> dict[str, Any]:
    """Where and by which code a run was made, its `environment.json`. Raises ValueError if it is damaged."""
    return read_json(Path(folder) / ENVIRONMENT, cure=ANOTHER)


def read_config(folder: str | Path) -> DictConfig:
    """What a run was asked for, its `config.yaml`; what it says of `allow` is left out: nobody allows himself.

    Raises:
        ValueError: the file is damaged, or holds interpolations, which no record does.
    """
    path = Path(folder) / CONFIG
    config = load_yaml(path)
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path} is damaged: it holds no keys; {ANOTHER}")
    if any("${" in str(value) for _, value in flat(OmegaConf.to_container(config))):
        raise ValueError(f"{path} holds an interpolation (${{...}}), which the record of a run does not; {ANOTHER}")
    needed = ("data", "model", "task", "optimizer", "scheduler", "trainer")
    lacking = [key for key in needed if not OmegaConf.is_dict(config.get(key)) or not config[key]]
    if lacking:
        raise ValueError(f"{path} is damaged: {', '.join(lacking)} is missing or empty; {ANOTHER}")
    OmegaConf.set_struct(config, False)
    config.allow = []
    return config


def read_overrides(folder: str | Path) -> list[str]:
    """The command line that a run was begun with, its `overrides.yaml`. Raises ValueError if it is damaged."""
    path = Path(folder) / OVERRIDES
    found = load_yaml(path)
    if not isinstance(found, ListConfig) or not all(isinstance(text, str) for text in OmegaConf.to_container(found)):
        raise ValueError(f"{path} is damaged: it is no list of overrides; {ANOTHER}")
    return [str(text) for text in found]


def load_yaml(path: Path) -> Any:
    """A YAML file; one ValueError that names the file if it is none."""
    try:
        return OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError, TypeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged: it holds no YAML ({reason:.200}); {ANOTHER}") from error


def read_history(folder: str | Path) -> list[dict[str, float]]:
    """The rows of a run's `history.csv`, a row an epoch; what an epoch does not have is left out."""
    path = Path(folder) / HISTORY
    try:
        rows = read_csv(path)
        return [{str(key): float(value) for key, value in row.items() if value} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: it is no table of numbers ({error}); {ANOTHER}") from error


def check_whole(metrics: Mapping[str, Any], folder: str | Path) -> None:
    """Raises ValueError if a run saw only a part of its val or test split: its figures are no results."""
    if metrics.get("fast_dev_run"):
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
    metrics = read_metrics(folder)
    assert not set(found) & set(metrics)
    refuse_links(folder)
    write_averaged(folder, found)
    sums = {
        **metrics.get("sha256", {}),
        **{f"{PREDICTIONS}/{n}.npz": sha256_of(folder / PREDICTIONS / f"{n}.npz") for n in found},
    }
    write_json(folder / METRICS, {**metrics, **{name: scores[name] for name in found}, "sha256": sums})


def read_predictions(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of each split that the folder has. Raises ValueError if a file is damaged."""
    found = {}
    for path in sorted((folder / PREDICTIONS).glob("*.npz")):
        try:
            found[path.stem] = {key: archive.read_array(path, key) for key in archive.headers(path)}
        except ValueError as error:
            reason = str(error).partition(";")[0]
            raise ValueError(f"{reason}; take it from a copy of the run, or train the run again") from error
    return found


def _lock(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_links(folder)
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
    write_text(path, OmegaConf.to_yaml(content, resolve=True))


def _config_dir() -> str | None:
    """Hydra's `--config-dir`, absolute, if one was given."""
    if not HydraConfig.initialized():
        return None
    sources = HydraConfig.get().runtime.config_sources
    return next((str(Path(source.path).resolve()) for source in sources if source.provider == "command-line"), None)
