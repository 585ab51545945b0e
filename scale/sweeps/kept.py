"""Whether a job that is done is still what the sweep's command asks for: by its configuration, and by its data."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from scale.config.keys import flat, plain
from scale.runs import CONFIG, CONTENT, ENVIRONMENT, METRICS, read_config
from scale.runs.resume import ABSENT, differences, other_code
from scale.sweeps.folder import read

SHOWN = 3  # differences that are named
PLACES = ("path", "labels")  # keys of `data`


def refusal(config: DictConfig, folder: Path) -> str | None:
    """Why a finished run is not what a job's configuration asks for, in one line; None: it is.

    Raises:
        ValueError: the record is damaged, or the data are none.
    """
    if not (folder / CONFIG).is_file():
        return None
    lines = _differing(config, folder)
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    found = "; ".join(lines[:SHOWN]) + more if lines else _other_data(config, folder)
    if not found:
        return None
    return (
        f"done before, but not as the command says now ({found}): undo that, delete {folder} to train it again, "
        "or give another folder with hydra.sweep.dir=..."
    )


def of_own_file(data: Mapping[str, Any]) -> bool:
    """Whether our own code reads the data from a path: the same content whatever the seed, and whatever its place."""
    return data.get("path") is not None and str(data.get("_target_")).startswith("scale.")


def _differing(config: DictConfig, folder: Path) -> list[str]:
    """What differs from the run's configuration, but for devices and places; a run of other code may lack keys."""
    lines, _ = differences(config, folder)
    if not any(ABSENT in line for line in lines):
        return lines
    if (folder / ENVIRONMENT).is_file() and other_code(folder) is None:
        return lines
    # A key below one that is a value on the other side is no key of another version: `augment.flip` where it was null.
    leaves = {key for node in (read_config(folder), config) for key, _ in flat(plain(node))}
    return [
        line
        for line in lines
        if ABSENT not in line or any(line.partition(":")[0].startswith(f"{leaf}.") for leaf in leaves)
    ]


def _other_data(config: DictConfig, folder: Path) -> str | None:
    """Says so if data that were moved are others than the run's; those at the same place are taken for the same."""
    content, before = read(folder / METRICS).get(CONTENT), plain(read_config(folder)).get("data") or {}
    now = plain(config.data)
    moved = [f"data.{key}={now.get(key)}" for key in PLACES if _place(before.get(key)) != _place(now.get(key))]
    if content is None or not moved or not of_own_file(now):
        return None
    try:
        same = _content(json.dumps(now)) == content
    except FileNotFoundError:  # nothing to compare with, and nothing to train on
        return None
    return None if same else f"{', '.join(moved)} has other images or labels"


@functools.cache
def _content(data: str) -> str:
    from scale.tasks.build import content_of  # torch, which a sweep's own process does without where it can

    return content_of(OmegaConf.create({"data": json.loads(data), "augment": None, "seed": 0, "allow": []}))


def _place(path: str | None) -> Path | None:
    return None if path is None else Path(path).expanduser().absolute()
