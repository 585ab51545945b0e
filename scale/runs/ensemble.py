"""The mean of several finished runs, from their saved predictions."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from scale import runs
from scale.evaluation import official
from scale.evaluation.metrics import scores
from scale.runs.folder import write_averaged
from scale.tasks.outputs import Averaged, average
from scale.utils.files import write_json

log = logging.getLogger("scale")
RECORD = "ensemble.json"
SPLITS = ("val", "test", "val_tta", "test_tta")
SHARED = ("flag", "size", "problem", "num_classes")  # what the runs must agree on


@dataclass(frozen=True)
class Member:
    """One of the runs."""

    folder: Path
    metrics: Mapping[str, Any]
    predictions: Mapping[str, Mapping[str, np.ndarray]]


def evaluate(folders: Sequence[str | Path], *, output: str | Path | None = None) -> tuple[dict[str, Any], Path]:
    """Averages the probabilities of finished runs and writes scores and predictions into a folder of their own.

    Args:
        folders: of at least two finished runs on the same data; models, variants and seeds may differ.
        output: a folder that is not there yet or is empty; by default a new one below `ensembles/`.

    Returns:
        What `ensemble.json` holds: `runs`, and scores of `val` and `test`, and of `val_tta` and `test_tta` where every
        run has them; and the folder.

    Raises:
        FileNotFoundError: a folder is not that of a finished run.
        FileExistsError: the output folder holds something.
        ValueError: the runs do not go together, or the output folder lies in a run's.
    """
    if len(folders) < 2:
        raise ValueError(f"runs={[str(folder) for folder in folders]}: an average needs at least two runs")
    members = [_read(folder) for folder in folders]
    _check(members)
    first = members[0]
    place = _place(output, members)
    splits = _splits(members)
    record: dict[str, Any] = {key: first.metrics[key] for key in SHARED}
    record["runs"] = [
        {
            "folder": str(member.folder),
            "model": member.metrics["model"]["name"],
            "variant": member.metrics.get("variant", ""),
            "seed": member.metrics["seed"],
            "test": {key: member.metrics["test"][key] for key in ("auc", "acc")},
        }
        for member in members
    ]
    for split in splits:
        found = first.predictions[split]
        mean = average([member.predictions[split]["probabilities"] for member in members])
        record[split] = scores(found["labels"], mean, record["problem"])
        write_averaged(place, {split: Averaged(found["index"], mean, found["labels"])})
        if split in official.SPLITS:
            official.write(
                place / runs.PREDICTIONS,
                mean,
                labels=found["labels"],
                problem=record["problem"],
                flag=record["flag"],
                size=record["size"],
                split=split,
                run=f"ensemble-of-{len(members)}",
            )
    write_json(place / RECORD, record)
    return record, place


def table(record: Mapping[str, Any]) -> str:
    """The ensemble beside the mean of its runs."""
    names = {"val": "val", "test": "test", "val_tta": "val, flip TTA", "test_tta": "test, flip TTA"}
    single = {key: _mean([run["test"][key] for run in record["runs"]]) for key in ("auc", "acc")}
    rows = {text: record[split] for split, text in names.items() if split in record}
    rows["test, mean of the single runs"] = single
    width = max(map(len, rows)) + 2
    lines = [f"{text:{width}}{_shown(found['auc'])}  {_shown(found['acc'])}" for text, found in rows.items()]
    return "\n".join([f"{'':{width}}AUC    ACC", *lines])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _shown(value: float | None) -> str:
    """Three digits; `-` for an AUC that is undefined because a class is missing."""
    return "-    " if value is None or np.isnan(value) else f"{value:.3f}"


def _read(folder: str | Path) -> Member:
    folder = Path(folder).expanduser()
    metrics = runs.read_metrics(folder)
    runs.check_whole(metrics, folder)
    if "test" not in metrics:
        raise ValueError(f"{folder} was not tested (test=false): train it again without that")
    return Member(folder, metrics, runs.read_predictions(folder))


def _check(members: Sequence[Member]) -> None:
    first = members[0]
    for number, member in enumerate(members):
        for key in SHARED:
            here, there = first.metrics[key], member.metrics[key]
            if here != there:
                raise ValueError(
                    f"these runs do not go together: {key}={here} in {first.folder}, {key}={there} in {member.folder}"
                )
        if not runs.on_same_data(first.metrics, member.metrics):
            raise ValueError(
                f"these runs do not go together: the images or labels of {first.folder} and {member.folder} differ: "
                "another fold, or another file under the same name?"
            )
        for split in ("val", "test"):
            for name in ("index", "labels"):
                if not np.array_equal(first.predictions[split][name], member.predictions[split][name]):
                    raise ValueError(
                        f"these runs do not go together: the {name} of {split} differ between {first.folder} and "
                        f"{member.folder}: other data files under the same name?"
                    )
        for other in members[:number]:
            here, there = (found.predictions["test"]["probabilities"] for found in (other, member))
            if np.array_equal(here, there):
                raise ValueError(f"{other.folder} and {member.folder} have the same predictions: one run given twice?")


def _splits(members: Sequence[Member]) -> list[str]:
    """Splits that every run has; says where only some have one."""
    having = {split: sum(split in member.predictions for member in members) for split in SPLITS}
    if 0 < having["test_tta"] < len(members):
        log.warning(
            "only %d of %d runs have test-time augmentation, so it is left out; add it with "
            "python -m scale.evaluate run=<folder> evaluation.tta=true",
            having["test_tta"],
            len(members),
        )
    return [split for split in SPLITS if having[split] == len(members)]


def _place(output: str | Path | None, members: Sequence[Member]) -> Path:
    if output is None:
        name = f"{len(members)}-runs-{datetime.now():%Y%m%d-%H%M%S-%f}"
        return Path("ensembles") / members[0].metrics["flag"] / name
    place = Path(output).expanduser()
    for folder in (place, *place.resolve().parents):
        if (folder / runs.CONFIG).is_file():
            raise ValueError(f"output={output} is or lies in the folder of a run, which is kept as it is: give another")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise FileExistsError(
            f"output={output} is there and is not an empty folder: give another, or none for a new one"
        )
    return place
