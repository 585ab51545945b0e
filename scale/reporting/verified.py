"""Finished runs whose results can be believed: their record is whole, and their predictions give its figures."""

import glob
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf.errors import OmegaConfBaseException

from scale import runs
from scale.config import ConfigError
from scale.data import archive, catalog
from scale.evaluation.metrics import official_scores
from scale.published import recipe
from scale.runs.sets import SETS

TOLERANCE = 1e-6
NEEDED = ("flag", "size", "seed", "problem", "num_classes", "test", "samples", "model", "fast_dev_run")
EXPLANATIONS = "explanations"  # in a run's folder: what `scale.explain` writes, which has a configuration of its own
ARRAYS = ("index", "probabilities", "labels")


@dataclass(frozen=True)
class Verified:
    """A run whose saved predictions give the figures of its record.

    Attributes:
        folder: of the run.
        metrics: content of `metrics.json`.
        labels: of test, (N, L).
        probabilities: of test, (N, columns), float64.
        changes: `key=value (default)` where its recipe is not its model's default one.
        pretrained: on what the network was trained before, or `no`.
        values: its recipe, and what of the question its user sets, by key.
        history: a row an epoch, of its `history.csv`; empty where there is none.
    """

    folder: Path
    metrics: Mapping[str, Any]
    labels: np.ndarray
    probabilities: np.ndarray
    changes: tuple[str, ...]
    pretrained: str
    values: Mapping[str, Any]
    history: list[dict[str, float]]


@dataclass(frozen=True)
class Gap:
    """A folder that is not in the table, and why."""

    folder: Path
    reason: str


def find(patterns: Sequence[str]) -> list[Path]:
    """Run folders of names and glob patterns; a folder that is no run is searched for some.

    Raises:
        FileNotFoundError: a pattern matches nothing, or a folder holds no run.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        text = str(Path(pattern).expanduser())
        places = [Path(name) for name in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207  absolute ones too
        folders = [place for place in places if place.is_dir()]
        if not folders:
            raise FileNotFoundError(f"runs={pattern}: no such folder; give run folders, a sweep's folder or a glob")
        inside = [run for folder in folders for run in _runs_in(folder)]
        if not inside:
            raise FileNotFoundError(f"runs={pattern}: holds no run (no {runs.CONFIG}, no {runs.METRICS} in it)")
        found |= dict.fromkeys(inside)
    return list(found)


def verify(folder: Path) -> Verified | Gap:
    """A run read back from its record and predictions; a gap with the reason where it is no result."""
    try:
        return _verified(folder)
    except KeyError as error:
        return Gap(folder, f"lacks {error.args[0]} in its record: written by an older version?")
    except (ValueError, OSError, TypeError, zipfile.BadZipFile, OmegaConfBaseException, ConfigError) as error:
        return Gap(folder, " ".join(str(error).split()).removeprefix(f"{folder} "))


def together(found: Sequence[Verified]) -> tuple[list[Verified], list[Gap]]:
    """Leaves out what does not belong into one table with the runs before it: other data, the same run twice."""
    first: dict[tuple[Any, ...], Verified] = {}
    kept: list[Verified] = []
    gaps: list[Gap] = []
    for run in found:
        place = (run.metrics["flag"], run.metrics["size"])
        peer = first.setdefault(place, run)
        if not np.array_equal(peer.labels, run.labels):
            gaps.append(Gap(run.folder, f"its test labels are not those of {peer.folder}: other data or another order"))
            continue
        if not runs.on_same_data(peer.metrics, run.metrics):
            gaps.append(Gap(run.folder, f"its images or labels are not those of {peer.folder}: other data or a fold"))
            continue
        twin = next((other for other in kept if _same(other, run)), None)
        if twin is not None:
            gaps.append(Gap(run.folder, f"is the same model, recipe and seed as {twin.folder}, which is in the table"))
            continue
        kept.append(run)
    return kept, gaps


def _runs_in(folder: Path) -> list[Path]:
    names = (runs.CONFIG, runs.METRICS)
    if any((folder / name).is_file() for name in names):
        return sorted(path.parent for path in folder.glob(f"{SETS}/*/{runs.METRICS}")) or [folder]
    found = {path.parent for name in names for path in folder.glob(f"**/{name}")}
    found -= {place for place in found if place.parent in found and place.name.startswith(EXPLANATIONS)}
    return sorted(place for place in found if not (place / SETS).is_dir())  # a joint run's sets are among them


def _verified(folder: Path) -> Verified:
    path = folder / runs.METRICS
    if not path.is_file():
        raise ValueError(f"is not finished: there is no {runs.METRICS} in it")
    metrics = runs.read_metrics(folder)
    if "test" not in metrics and "val" in metrics:
        raise ValueError("was trained with test=false: it has no result on test")
    lacking = [key for key in NEEDED if key not in metrics]
    if lacking:
        raise ValueError(f"has a {runs.METRICS} without {', '.join(lacking)}: written by an older version?")
    runs.check_whole(metrics, folder)
    labels, probabilities = _predictions(folder, metrics)
    again = official_scores(labels, probabilities, metrics["problem"])
    for name, value in again.items():
        recorded = metrics["test"].get(name)
        if recorded is None and not np.isfinite(value):
            raise ValueError(f"its {name} is undefined: a class does not occur in its test split")
        if recorded is None or not abs(recorded - value) <= TOLERANCE:
            raise ValueError(f"its predictions give {name} {value:.6f}, but its {runs.METRICS} says {recorded}")
    config = runs.read_config(folder)
    return Verified(
        folder=folder,
        metrics=metrics,
        labels=labels,
        probabilities=probabilities,
        changes=tuple(recipe.differences(folder, metrics)),
        pretrained=recipe.pretrained(config),
        values=recipe.values(folder) | recipe.question(config),
        history=runs.read_history(folder) if (folder / runs.HISTORY).is_file() else [],
    )


def _predictions(folder: Path, metrics: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of test, in the split's order."""
    path = folder / runs.PREDICTIONS / "test.npz"
    if not path.is_file():
        raise ValueError(f"has no {runs.PREDICTIONS}/test.npz")
    flag, count = metrics["flag"], int(metrics["samples"]["test"])
    if flag in catalog.FLAGS and count != catalog.get(flag).samples["test"]:
        raise ValueError(f"has {count} test samples, but {flag} has {catalog.get(flag).samples['test']}")
    headers = archive.headers(path)
    for name in ARRAYS:  # before anything is read
        rows = headers[name].shape[0] if name in headers and headers[name].shape else 0
        if rows != count:
            raise ValueError(f"its test predictions have {rows} of {count} rows in {name!r}")
    index, probabilities, labels = (archive.read_array(path, name) for name in ("index", "probabilities", "labels"))
    order = np.argsort(index, kind="stable")
    if not np.array_equal(index[order], np.arange(count)):
        raise ValueError(f"its test predictions do not cover the split: {len(np.unique(index))} of {count} samples")
    return labels[order], np.asarray(probabilities[order], dtype=np.float64)


def _same(one: Verified, other: Verified) -> bool:
    keys = ("flag", "size", "seed")
    alike = all(one.metrics[key] == other.metrics[key] for key in keys)
    names = [(run.metrics["model"]["name"], run.metrics.get("variant", "")) for run in (one, other)]
    return alike and names[0] == names[1] and one.values == other.values
