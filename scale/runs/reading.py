"""The run folder's names, and reading it back: what a file says is checked, as it may be damaged or a stranger's."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scale.config import bounds
from scale.config.keys import flat, in_todays_words, plain
from scale.data import archive
from scale.runs.sets import home
from scale.utils.files import read_csv, read_json

CONFIG, OVERRIDES, ENVIRONMENT, METRICS = "config.yaml", "overrides.yaml", "environment.json", "metrics.json"
INIT_FROM = "init_from.json"  # what was loaded of another run, and from where
HISTORY, LOG, PREDICTIONS, FIGURES, CHECKPOINTS = "history.csv", "train.log", "predictions", "figures", "checkpoints"
ANOTHER = "take it from a copy of the run, or train the run again"  # what to do about a damaged file
SPLITS = ("val", "test", "val_tta", "test_tta")
CONTENT = "data_sha256"  # in `metrics.json`, of all images and labels; not there in the runs of earlier versions
LARGEST_SIDE, LARGEST_CLASSES = 4096, 100_000
METRICS_KEYS: dict[str, tuple[Any, str]] = {  # what is relied on: type, and how it is called
    **dict.fromkeys(("flag", "problem"), (str, "a text")),
    **dict.fromkeys(("seed", "num_classes"), (int, "a whole number")),
    "image_shape": (list, "a list"),
    **dict.fromkeys((*SPLITS, "samples", "model", "sets"), (dict, "an object")),
    **dict.fromkeys(("fast_dev_run", "partial"), (bool, "true or false")),
}


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
    lacking = [key for key in METRICS_KEYS if key not in metrics and key not in (*SPLITS, "partial", "sets")]
    if lacking:
        raise ValueError(f"{path} is damaged: it has no {', '.join(lacking)}; {ANOTHER}")
    shape = metrics["image_shape"]
    if not (3 <= len(shape) <= 4 and all(type(n) is int and 0 < n <= LARGEST_SIDE for n in shape)):
        raise ValueError(f"{path} is damaged: image_shape={shape!r:.60} is no (C, H, W) or (C, D, H, W); {ANOTHER}")
    if not 1 <= metrics["num_classes"] <= LARGEST_CLASSES:
        raise ValueError(f"{path} is damaged: num_classes={metrics['num_classes']} cannot be; {ANOTHER}")


def read_environment(folder: str | Path) -> dict[str, Any]:
    """Where and by which code a run was made, its `environment.json`. Raises ValueError if it is damaged."""
    return read_json(home(folder) / ENVIRONMENT, cure=ANOTHER)


def read_config(folder: str | Path) -> DictConfig:
    """What a run was asked for, its `config.yaml`; what it says of `allow` is left out: nobody allows himself.

    Raises:
        ValueError: the file is damaged, or holds interpolations, which no record does.
    """
    path = home(folder) / CONFIG
    config = load_yaml(path)
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path} is damaged: it holds no keys; {ANOTHER}")
    if any("${" in str(value) for _, value in flat(OmegaConf.to_container(config))):
        raise ValueError(f"{path} holds an interpolation (${{...}}), which the record of a run does not; {ANOTHER}")
    OmegaConf.set_struct(config, False)
    config.allow = []
    return in_todays_words(config)


def check_config(config: DictConfig, folder: str | Path) -> None:
    """Raises ValueError if a run's configuration lacks what a network is built and trained from."""
    needed = ("data", "model", "task", "optimizer", "scheduler", "trainer")
    lacking = [key for key in needed if not OmegaConf.is_dict(config.get(key)) or not config[key]]
    if lacking:
        raise ValueError(f"{Path(folder) / CONFIG} is damaged: {', '.join(lacking)} is missing or empty; {ANOTHER}")
    wrong = next(bounds.problems(plain(config)), None)  # a network of 10^30 layers would be built for ever
    if wrong:
        raise ValueError(f"{Path(folder) / CONFIG} is damaged: {wrong}; {ANOTHER}")


def read_overrides(folder: str | Path) -> list[str]:
    """The command line that a run was begun with, its `overrides.yaml`. Raises ValueError if it is damaged."""
    path = home(folder) / OVERRIDES
    found = load_yaml(path)
    texts = OmegaConf.to_container(found) if isinstance(found, ListConfig) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path} is damaged: it is no list of overrides; {ANOTHER}")
    return [str(text) for text in texts]


def load_yaml(path: Path) -> Any:
    """A YAML file; one ValueError that names the file if it is none."""
    try:
        text = path.read_text(encoding="utf-8")
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it has aliases, which no record has")  # ten of ten of ten fill memory
        return OmegaConf.load(io.StringIO(text))
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


def on_same_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs had the same images and labels, as far as their `metrics.json` say.

    Labels and places in the split do not tell: those of the folds of a cross-validation can all be equal.
    """
    return None in (one.get(CONTENT), other.get(CONTENT)) or one[CONTENT] == other[CONTENT]


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
