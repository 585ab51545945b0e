"""The run folder: taking it, and writing it."""

import contextlib
import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from scale.config.keys import DATA_PATHS
from scale.runs.provenance import environment
from scale.runs.reading import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    HISTORY,
    INIT_FROM,
    LOG,
    METRICS,
    OVERRIDES,
    PREDICTIONS,
    read_environment,
    read_metrics,
)
from scale.utils.files import replacing, write_json, write_text

if TYPE_CHECKING:
    from scale.tasks.outputs import Averaged, Outputs

LOCK = ".lock"


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
            f"{folder} holds a run that has not finished: resume it with {command('resume', folder)}, or give another "
            "folder with hydra.run.dir=..."
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
        raise FileExistsError(f"{folder} holds a finished run: there is nothing to resume (rerun={folder} repeats it)")
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"{folder} holds no run that was begun (there is no {CONFIG} in it): give the folder of an interrupted "
            "run, or begin a new one without resume"
        )
    return _lock(folder)


LINKED = frozenset({"wandb", ".submitit"})  # folders of libraries that keep links


def refuse_links(folder: Path) -> None:
    """Raises ValueError if a folder has a symbolic link: what is written into it must not land elsewhere.

    W&B and submitit keep links of their own in folders of theirs, which stay where they lead to files of the folder.
    """
    whole = folder.resolve()
    for place, folders, files in os.walk(folder):
        for path in (Path(place) / name for name in (*folders, *files)):
            if path.is_symlink():
                inside = Path(os.path.realpath(path)).is_relative_to(whole)
                if not (inside and LINKED.intersection(path.relative_to(folder).parts[:-1])):
                    raise ValueError(
                        f"{str(path)!r} is a symbolic link to {str(path.readlink())!r}: nothing is written through "
                        "links in a run's folder; put the file itself in its place, or delete the link"
                    )


def cure(folder: Path) -> str:
    """What goes on with a run that a full disk ended."""
    if (folder / METRICS).exists():
        return f"write its report with python -m scale.evaluate {shlex.quote(f'run={folder}')} report=true"
    if any((folder / CHECKPOINTS).glob("*.ckpt")):
        return f"resume the run with {command('resume', folder)}"
    return "give the same command again"


def command(key: str, folder: Path) -> str:
    """What resumes or repeats (`rerun`) a run, as a shell takes it."""
    try:
        own = read_environment(folder).get("config_dir")
    except (OSError, ValueError):  # it may be what is damaged
        own = None
    words = [*(["--config-dir", str(own)] if own else []), f"{key}={folder}"]
    return " ".join(["python -m scale.train", *map(shlex.quote, words)])


def release(folder: Path) -> None:
    """Gives a folder free again if its run ended before its first checkpoint: the same command can be repeated."""
    if not any((folder / CHECKPOINTS).glob("*.ckpt")):
        (folder / CONFIG).unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Removes what a run left that ended before it trained, where nothing else is in its folder."""
    # The history is there without a checkpoint where the first epoch's did not fit on the disk.
    ours = {LOCK, LOG, OVERRIDES, ENVIRONMENT, HISTORY, INIT_FROM}
    left = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    empty = [path for path in (folder / CHECKPOINTS, folder / "csv") if path.is_dir() and not any(path.iterdir())]
    if left - ours - {path.name for path in empty}:
        return
    with contextlib.suppress(OSError):
        for path in empty:
            path.rmdir()
        for name in ours & left:
            (folder / name).unlink()
        folder.rmdir()


def write_record(folder: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Writes what was asked for and where it runs, before the training; with the configuration a run is begun.

    Relative paths of the data and of `init_from` are made absolute: the run is read back from other folders too.
    """
    config = config.copy()
    for key in DATA_PATHS:
        if config.data.get(key) is not None:
            config.data[key] = str(Path(config.data[key]).expanduser().absolute())
    if config.get("init_from") is not None:
        config.init_from = str(Path(config.init_from).expanduser().absolute())
    _write_yaml(folder / OVERRIDES, OmegaConf.create(list(overrides)))
    facts: dict[str, Any] = {"id": secrets.token_hex(4), "config_dir": _config_dir(), "continued": []}
    write_json(folder / ENVIRONMENT, environment(seed=config.seed) | facts)
    _write_yaml(folder / CONFIG, config)


def run_id(folder: Path) -> str | None:
    """The run's own name among all runs, from its record; None where this process writes none."""
    return read_environment(folder).get("id") if (folder / ENVIRONMENT).is_file() else None


def add_to_record(folder: Path, *, seed: int, **facts: Any) -> None:
    """Adds where and from what a run resumes to its `environment.json`."""
    record = read_environment(folder)
    record["continued"] = [*record.get("continued", []), environment(seed=seed) | facts]
    write_json(folder / ENVIRONMENT, record)


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
    from scale.runs.verify import sealed

    metrics = read_metrics(folder)
    assert not set(found) & set(metrics)
    refuse_links(folder)
    with contextlib.ExitStack() as undo:  # files that the record does not have would make it one that was changed
        for name in found:
            undo.callback((folder / PREDICTIONS / f"{name}.npz").unlink, missing_ok=True)
        write_averaged(folder, found)
        write_json(folder / METRICS, sealed({**metrics, **{name: scores[name] for name in found}}, folder))
        undo.pop_all()


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
