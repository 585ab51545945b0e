"""The value of each sample behind a mean, in one cell of a row, so that trainings can be pooled."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scale.attribution.metrics.measure import gain
from scale.attribution.metrics.quality import METRICS
from scale.utils.files import read_csv

Values = Mapping[tuple[str, str], Mapping[str, float]]


def read(explanations: Path) -> Values:
    """By method and metric, the value of each sample by its index, where it has one (without a lesion there is none).

    Nothing where the folder does not have the values.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    path = explanations / "quality_values.csv"
    for row in read_csv(path) if path.is_file() else ():
        value = float(row["value"] or "nan")
        if math.isfinite(value):
            found.setdefault((row["method"], row["metric"]), {})[row["index"]] = value
    return found


def packed(values: Values, row: Mapping[str, str]) -> str:
    """The samples' values behind a row, or their gains on its control, as `index:value` with a blank between."""
    name, control = row["metric"], row.get("control")
    own = values.get((row["method"], name), {})
    if control:
        other = values.get((control, name), {})
        shared = [index for index in own if index in other]
        mine, theirs = (np.array([side[index] for index in shared]) for side in (own, other))
        own = dict(zip(shared, gain(mine, theirs, METRICS[name].better).tolist(), strict=True))
    return " ".join(f"{index}:{number:.4g}" for index, number in own.items())


def unpacked(cell: str) -> dict[str, float]:
    """The values of a cell by the samples' index in their split.

    Raises:
        ValueError: the cell names no samples, as an earlier version wrote it.
    """
    if any(":" not in part for part in cell.split()):
        raise ValueError(
            f"the values {cell[:24]!r}... do not say of which samples they are (a file of an earlier version): add the "
            "runs again with python -m scale.report --explanations results=FILE.csv RUN..."
        )
    return {index: float(value) for index, value in (part.split(":") for part in cell.split())}
