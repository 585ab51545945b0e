"""What `scale.explain` measured in named runs, kept beside our other results, as tables."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from scale.attribution.catalog import CONTROLS, METHODS
from scale.attribution.metrics.measure import gain
from scale.attribution.metrics.quality import MEASURES
from scale.attribution.report.files import AGAINST, QUALITY
from scale.published import recipe
from scale.utils.files import write_csv

RESULTS = Path(__file__).resolve().parent / "explanations.csv"
RUN = ("flag", "size", "model", "variant", "seed")
COLUMNS = (*RUN, "method", "control", "measure", "better", "mean", "low", "high", "n", "values")
SHOWN = {  # heading of a column: measure, and what it is compared with
    "pointing game": ("pointing_game", ""),
    "relevance mass": ("relevance_mass", ""),
    "deletion, gain on random": ("deletion_auc", "random"),
    "insertion, gain on random": ("insertion_auc", "random"),
    "randomisation": ("randomisation", ""),
}
Row = Mapping[str, str]


def rows_of(folder: str | Path, *, variant: str = "") -> list[Row]:
    """The measures of one run's `explanations/`.

    Args:
        folder: of the run.
        variant: what the run is called, where its own configuration does not say.

    Raises:
        FileNotFoundError: the run was not explained, or without measures.
        ValueError: it has no name of its own though its recipe is not the default one.
    """
    folder = Path(folder)
    tables = (("quality.csv", QUALITY), ("against_random.csv", AGAINST))
    for name, _ in tables:
        if not (folder / "explanations" / name).is_file():
            raise FileNotFoundError(f"{folder} has no explanations/{name}: python -m scale.explain run={folder}")
    metrics = json.loads((folder / "metrics.json").read_text())
    run = {name: str(metrics[name]) for name in ("flag", "size", "seed")}
    run |= {"model": metrics["model"]["name"], "variant": recipe.name_of(folder, metrics, given=variant)}
    values = _values(folder / "explanations" / "quality_values.csv")
    found: list[Row] = []
    for name, _ in tables:
        with (folder / "explanations" / name).open(newline="") as file:
            for row in csv.DictReader(file):
                cells = run | row | {"values": _packed(values, row)}
                found.append({column: cells.get(column) or "" for column in COLUMNS})
    return found


def _values(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    """By method and metric, the value of each sample by its index; nothing where they were not kept."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["value"]:
                    found.setdefault((row["method"], row["measure"]), {})[row["index"]] = float(row["value"])
    return found


def _packed(values: Mapping[tuple[str, str], Mapping[str, float]], row: Row) -> str:
    """The samples' values behind a row, or their gains on its control, in one cell, for pooling over trainings."""
    own, control = values.get((row["method"], row["measure"]), {}), row.get("control")
    numbers = list(own.values())
    if control:
        other = values.get((control, row["measure"]), {})
        pairs = [(value, other[index]) for index, value in own.items() if index in other]
        better = MEASURES[row["measure"]].better
        numbers = [gain(np.array(a), np.array(b), better).item() for a, b in pairs]
    return " ".join(f"{number:.4g}" for number in numbers)


def read(path: Path = RESULTS) -> list[Row]:
    """All rows, as text."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: row.get(name) or "" for name in COLUMNS} for row in csv.DictReader(file)]


def add(folders: Iterable[str | Path], path: Path = RESULTS, *, variant: str = "") -> None:
    """Adds runs; what a method has of the same data, model, variant and seed takes the place of what it had."""
    for folder in folders:
        new = rows_of(folder, variant=variant)
        places = {(_run(row), row["method"]) for row in new}
        kept = [row for row in read(path) if (_run(row), row["method"]) not in places]
        write_csv(path, COLUMNS, sorted(kept + new, key=_run), digits=6)


def table(rows: Sequence[Row]) -> str:
    """A Markdown table for each run: mean and 95 % interval of each method, controls last."""
    parts = []
    for run in dict.fromkeys(map(_run, rows)):
        values = {(row["method"], row["measure"], row["control"]): row for row in rows if _run(row) == run}
        columns = {head: key for head, key in SHOWN.items() if any(found[1:] == key for found in values)}
        order = [*(name for name in METHODS if name not in CONTROLS), *CONTROLS]
        methods = sorted({found[0] for found in values}, key=order.index)
        lines = [["method", *columns], ["---"] * (len(columns) + 1)]
        lines += [[f"`{name}`", *(_cell(values.get((name, *key))) for key in columns.values())] for name in methods]
        flag, size, model, variant, seed = run
        name = f"`{model}`, {variant}" if variant else f"`{model}`"
        title = f"**{flag}**, {size} pixels, {name}, seed {seed} (one training)"
        parts.append("\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines)]))
    return "\n\n".join(parts)


def _run(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in RUN)


def _cell(row: Row | None) -> str:
    if row is None or not row["mean"]:
        return ""
    mean, low, high = (f"{float(row[name]):.2f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
