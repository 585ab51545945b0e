"""Going on with an interrupted run, and repeating a finished one: `resume=FOLDER`, `rerun=FOLDER`."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import get_args_parser  # the parser that Hydra's own main uses
from omegaconf import DictConfig, OmegaConf

from scale import runs
from scale.config import options_first
from scale.config.keys import DATA_PATHS, Kind, current, flat, is_implied, key_of, kind, plain, quoted
from scale.runs import checkpoints, vetting
from scale.runs.provenance import source
from scale.runs.reading import ANOTHER, check_config

if TYPE_CHECKING:
    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask

log = logging.getLogger("scale")

KEYS = ("resume", "rerun")
STATES = ("callbacks", "loops", "optimizer_states", "lr_schedulers")  # without `loops` Lightning would begin at epoch 0
ABSENT = "not there"  # what a key is said to be that one of two configurations lacks


def expand(arguments: Sequence[str]) -> list[str]:
    """The whole command line that one with `resume=FOLDER` or `rerun=FOLDER` stands for.

    Args:
        arguments: as given; what they say counts more than the record.

    Returns:
        The recorded overrides, those of `arguments`, and for `resume` the folder as `hydra.run.dir`.

    Raises:
        TargetError: the record names code that is neither ours nor in `arguments`.
        FileNotFoundError: the folder holds no record.
        FileExistsError: the run to resume is finished.
        ValueError: both are given, or one of them in a sweep; the record is damaged, or says more than what is trained.
    """
    given = {
        key: value
        for key, _, value in (argument.partition("=") for argument in arguments)
        if key in KEYS and value not in ("", "null")
    }
    if not given:
        return list(arguments)
    if len(given) > 1:
        raise ValueError("resume=... and rerun=... exclude each other: give one of them")
    if {"-m", "--multirun"} & set(arguments):
        raise ValueError("resume=... and rerun=... are for one run: leave -m out (a sweep's own command resumes it)")
    (key, value) = next(iter(given.items()))
    folder = Path(value.strip("'\"")).expanduser().resolve()
    if key == "resume" and (folder / runs.METRICS).exists():
        raise FileExistsError(f"{folder} holds a finished run: there is nothing to resume (rerun={folder} repeats it)")
    for name in (runs.CONFIG, runs.OVERRIDES, runs.ENVIRONMENT):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{key}={value}: {folder} holds no run that was begun (there is no {name} in it)")
    recorded = vetting.kept(runs.read_overrides(folder), folder)
    record = runs.read_environment(folder)
    others = [argument for argument in arguments if key_of(argument) not in KEYS]
    replaced = {key_of(argument) for argument in others} | set(KEYS)
    config = runs.read_config(folder)
    check_config(config, folder)
    kept = [_whole(current(override), config) for override in recorded if key_of(override) not in replaced]
    if escaped := next((text for text in kept if "${" in text), None):
        raise ValueError(
            f"{folder / runs.OVERRIDES} says {escaped!r:.80}: an interpolation is not resolved on the word of a "
            f"record; give {key_of(escaped)}=... again on your own command line"
        )
    own_options = get_args_parser().parse_args(others)
    if record.get("config_dir") and not own_options.config_dir:
        raise ValueError(
            f"{folder} was made with --config-dir {record['config_dir']!s:.200}: a record's folder is not read on its "
            "word alone, so give it again if you trust it"
        )
    for name in ("root", "cache"):
        place = OmegaConf.select(config, f"data.{name}")
        if place is not None and f"data.{name}" not in replaced and not Path(str(place)).expanduser().is_dir():
            raise ValueError(
                f"{folder} has data.{name}={place}: there is no such folder here, and none is made on the word of a "
                f"record; give your own: data.{name}=..."
            )
    whole = options_first([*kept, *others, f"{key}={quoted(folder)}"])
    composed = [*kept, *own_options.overrides, f"{key}={quoted(folder)}"]
    vetting.check(composed, kept, own_options.overrides, folder, config_dir=own_options.config_dir)
    # Hydra takes the last of equal keys: what is given now counts more than what is recorded, and the folder most.
    return [*whole, *([f"hydra.run.dir={quoted(folder)}"] if key == "resume" else [])]


def restarted() -> bool:
    """Whether a cluster has started this very command before: a requeued SLURM job, or torchrun after a failure."""
    return any(int(os.environ.get(name) or 0) > 0 for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))


def check(config: DictConfig, folder: Path) -> None:
    """Compares what a run is resumed with to what it was begun with.

    Raises:
        ValueError: the configuration or the code differ; all differences in one report.
    """
    lines, moved = differences(config, folder)
    for line in moved:
        log.warning("resumes elsewhere, so the figures are not those of an uninterrupted run to the last bit: %s", line)
    if lines:
        raise ValueError(
            f"{folder} was begun with another configuration: leave the overrides out, or begin another run\n"
            + "\n".join(f"  - {line}" for line in lines)
        )
    text = other_code(folder)
    if text:
        if not config.allow_changed_code:
            raise ValueError(f"{text}: go back to it, or accept the mixture with allow_changed_code=true")
        log.warning("%s; its figures are a mixture", text)


def check_rerun(config: DictConfig, folder: Path) -> None:
    """Compares what a run is repeated with to what it was trained with; says if the code or the hardware differ.

    Raises:
        FileNotFoundError: that run has not finished.
        ValueError: the configuration differs; all differences in one report.
    """
    if not (folder / runs.METRICS).exists():
        raise FileNotFoundError(f"{folder} holds no finished run to repeat: resume={folder} resumes one")
    lines, moved = differences(config, folder)
    text = other_code(folder)
    if text:  # which may have other keys
        log.warning("%s", "; ".join([text, *(line for line in lines if ABSENT in line)]))
        lines = [line for line in lines if ABSENT not in line]
    if lines:
        raise ValueError(
            f"{folder} was trained with another configuration: leave the overrides out, or train a new run without "
            "rerun\n" + "\n".join(f"  - {line}" for line in lines)
        )
    for line in moved:
        log.warning("is repeated elsewhere, so the figures may differ in their last digits: %s", line)


def check_data(datamodule: "ImageDataModule", folder: Path) -> None:
    """Raises ValueError if the data are not those that a run was trained with."""
    path = folder / runs.CHECKPOINTS / "best.ckpt"
    name = type(datamodule).__qualname__
    state = checkpoints.read(path)
    if name not in state:
        raise ValueError(f"{path} is of a run on other data: it knows of no {name}")
    datamodule.load_state_dict(state[name])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; says so if it is not the last one written."""
    for name in ("last.ckpt", "previous.ckpt"):
        path = folder / runs.CHECKPOINTS / name
        if not path.exists():
            continue
        # Reading it whole is the only proof that it is whole: a disk that was full, or a machine that lost its power,
        # leaves files that exist.
        try:
            state = checkpoints.read(path)
        except ValueError as error:
            log.warning("%s cannot be read (%s): resumes from the one before", path, error)
            continue
        lacking = [key for key in STATES if key not in state]
        if lacking:
            raise ValueError(
                f"{path} has no {', '.join(lacking)}: it is no checkpoint that a run resumes from; {ANOTHER}"
            )
        _check_rows(state, path, folder)
        _check_best(state, folder)
        log.info("resumes from %s: epoch %d, step %d", name, state["epoch"] + 1, state["global_step"])
        return path
    log.warning("%s has no checkpoint yet: begins with the first epoch", folder)
    return None


def check_weights(task: "ClassificationTask", path: Path | None) -> None:
    """Raises ValueError if a checkpoint's weights are not those of a network; Lightning would say it in a traceback."""
    if path is None:
        return
    found, expected = checkpoints.read(path)["state_dict"], task.state_dict()
    shapes = [{name: getattr(value, "shape", None) for name, value in state.items()} for state in (found, expected)]
    wrong = next((name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)), None)
    if wrong:
        raise ValueError(f"{path}: its weights do not fit the network (first at {wrong}); {ANOTHER}")


def _check_rows(state: Mapping[str, Any], path: Path, folder: Path) -> None:
    """Raises ValueError if a checkpoint's epochs are not those of the run's history: it is another run's."""
    callbacks = state.get("callbacks")
    kept = callbacks.values() if isinstance(callbacks, Mapping) else ()
    rows: list[Any] = next((found["rows"] for found in kept if isinstance(found, Mapping) and "rows" in found), [])
    try:
        recorded = runs.read_history(folder) if (folder / runs.HISTORY).is_file() else []
    except ValueError as error:
        log.warning("%s; the checkpoint has its rows, and it is written again", str(error).partition(";")[0])
        return
    for mine, theirs in zip(rows, recorded, strict=False):  # a run that was killed may have written a row more
        losses = [key for key in mine if key.endswith("loss")]
        wrong = next((key for key in losses if not _equal(mine[key], theirs.get(key))), None)
        if wrong:
            raise ValueError(
                f"{path} is not of the run that wrote {runs.HISTORY}: {wrong} of epoch {mine.get('epoch')} is "
                f"{mine[wrong]} in the one, {theirs.get(wrong, ABSENT)} in the other; put the run's own files back, or "
                "begin another run"
            )


def _equal(one: float, other: float | None) -> bool:
    return one == other or (other is not None and math.isnan(one) and math.isnan(other))


def _check_best(state: Mapping[str, Any], folder: Path) -> None:
    """Raises ValueError if the best epoch's checkpoint is lost: the last epoch's weights are no substitute."""
    callbacks = state.get("callbacks")
    kept = callbacks.values() if isinstance(callbacks, Mapping) else ()
    epochs = [found["best_epoch"] for found in kept if isinstance(found, Mapping) and "best_epoch" in found]
    if not epochs or epochs[0] is None:
        return
    path = folder / runs.CHECKPOINTS / "best.ckpt"
    cure = f"put the file back, or begin another run (the best epoch so far was {epochs[0]})"
    if not path.is_file():
        raise ValueError(f"{path} is lost, and what the run would report with it: {cure}")
    if checkpoints.read(path)["epoch"] < epochs[0]:
        raise ValueError(f"{path} is of an earlier epoch than the best one: {cure}")


def differing(metrics: Mapping[str, Any], folder: Path) -> dict[str, tuple[Any, Any]]:
    """The figures in which a repeated run differs from the first one: what they were, and what they are."""
    first = runs.read_metrics(folder)
    return {
        f"{split}/{name}": (value, metrics[split].get(name))
        for split in ("val", "test")
        if split in first and split in metrics
        for name, value in first[split].items()
        if value != metrics[split].get(name)
    }


def compare(metrics: Mapping[str, Any], folder: Path) -> None:
    """Says whether a repeated run's figures agree with the first one's."""
    different = differing(metrics, folder)
    if not different:
        log.info("the figures agree with those of %s: all are the same", folder)
        return
    for name, (then, now) in different.items():
        log.warning("%s: %s then, %s now", name, then, now)
    log.warning("%d figures differ from those of %s", len(different), folder)


def differences(config: DictConfig, folder: Path) -> tuple[list[str], list[str]]:
    """What differs from the recorded configuration, a line each: what makes another run, and where it is computed."""
    before, now = (dict(flat(plain(node))) for node in (runs.read_config(folder), config))
    if now.get("init_from") is not None:  # as the record has it
        now["init_from"] = str(Path(now["init_from"]).expanduser().absolute())
    lines = [
        f"{key}: {before.get(key, ABSENT)} then, {now.get(key, ABSENT)} now"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and kind(key) is not Kind.PLACE
        if not (is_implied(key, before.get(key)) and is_implied(key, now.get(key)))
    ]
    moved = [line for line in lines if kind(line.partition(":")[0]) is Kind.HARDWARE]
    return [line for line in lines if line not in moved], moved


def other_code(folder: Path) -> str | None:
    """Says so if a run was begun with other code than the present one."""
    record = runs.read_environment(folder)
    if record.get("source") == source():
        return None
    return f"{folder} was begun with other code of scale (commit {(record.get('commit') or 'unknown')[:10]})"


def _whole(override: str, config: Any) -> str:
    """An override that names a file relative to another folder, as the record has it; all others as they are."""
    key, _, value = override.partition("=")
    recorded = OmegaConf.select(config, key) if key in {"init_from", *(f"data.{name}" for name in DATA_PATHS)} else None
    if recorded is None or value.strip("'\"") == recorded:
        return override
    return f"{key}={quoted(Path(recorded))}"
