"""The data sets of a joint run: each has a folder in the run's, `sets/<name>`, that is read as a run's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SETS = "sets"
CONFIG = "config.yaml"  # `reading.CONFIG`, which reads with the help of this module


def home(folder: str | Path) -> Path:
    """The folder of a run's record and checkpoints: of a set of a joint run the latter's, else the folder itself."""
    folder = Path(folder).expanduser()
    above = folder.resolve().parent
    if above.name == SETS and not (folder / CONFIG).is_file() and (above.parent / CONFIG).is_file():
        return above.parent
    return folder


def name_in(folder: str | Path) -> str | None:
    """The set's name where a folder is that of a set of a joint run."""
    folder = Path(folder).expanduser()
    return None if home(folder) == folder else folder.resolve().name


def names(metrics: Mapping[str, Any]) -> list[str]:
    """The sets of a joint run, from its `metrics.json`; none of another run."""
    found = metrics.get("sets")
    return list(found) if isinstance(found, Mapping) else []


def refuse_joint(folder: str | Path, metrics: Mapping[str, Any]) -> None:
    """Raises ValueError if a run is a joint one, where one data set is asked for."""
    if sets := names(metrics):
        raise ValueError(
            f"{folder} is a joint run of {', '.join(sets)}: give one of them by set=..., or by its folder, as in "
            f"run={folder}/{SETS}/{sets[0]}"
        )


def folder_of(run: str | Path, name: str | None) -> str:
    """The folder that `run=<folder> set=<name>` stands for.

    Raises:
        ValueError: the run is no joint one, or has no such set.
    """
    if name is None:
        return str(run)
    place = Path(run).expanduser()
    inside = place / SETS
    there = sorted(path.name for path in inside.iterdir()) if inside.is_dir() else []
    if not there:
        raise ValueError(f"set={name}: {run} is no joint run, which alone has several data sets; leave set out")
    if name not in there:
        raise ValueError(f"set={name}: {run} has no such data set; its sets: {', '.join(there)}")
    return str(inside / name)
