"""External validation: metrics of files with labels, with intervals, beside the run's own test."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scale.data.quality import digests
from scale.evaluation import conformal
from scale.evaluation.bootstrap import bootstrap
from scale.evaluation.metrics import scores
from scale.inference.familiarity import data_of
from scale.inference.predictor import Predictor
from scale.tasks.outputs import average
from scale.utils.files import replacing

if TYPE_CHECKING:
    from scale.runs.load import Run

NAME = "validation.json"
PART = 1024  # images in memory at a time


def write(
    folder: Path, predictor: Predictor, probabilities: np.ndarray, labels: np.ndarray, *, images: Sequence[str]
) -> str:
    """Writes `validation.json`; returns it as a table, which says whether the files can validate the runs at all.

    Args:
        folder: to write to.
        predictor: that made the predictions.
        probabilities: (N, columns), as in `predictions.csv`.
        labels: (N, L).
        images: (N,), hashes of what the network saw, in hexadecimal.
    """
    found: dict[str, Any] = {"external": _measured(predictor, probabilities, labels)}
    known_to, unknown = trained_on(predictor.runs, images)
    found["external"]["trained_on"] = None if unknown else known_to
    test = [run.predictions.get("test") for run in predictor.runs]
    known = [split for split in test if split is not None]
    if (
        known
        and len(known) == len(test)
        and all(np.array_equal(split["labels"], known[0]["labels"]) for split in known)
    ):
        own = predictor.uncertainty.probabilities(average([split["probabilities"] for split in known]))
        found["test"] = _measured(predictor, own, known[0]["labels"])
    with replacing(folder / NAME) as file:
        file.write((json.dumps(found, indent=2) + "\n").encode())
    names = list(found["external"]["metrics"])
    width = max(map(len, [*names, "coverage"])) + 2
    lines = ["".ljust(width) + "".join(f"{split + ' (n=' + str(found[split]['n']) + ')':>28}" for split in found)]
    for name in names:
        lines.append(name.ljust(width) + "".join(f"{_cell(found[split], name):>28}" for split in found))
    lines.append("coverage".ljust(width) + "".join(f"{found[split]['coverage']:>28.3f}" for split in found))
    if unknown:
        lines.append(f"whether files are among those that the model was trained on is not known: {unknown}")
    elif known_to:
        lines.append(
            f"{known_to} of {len(labels)} files are copies of images that the model was trained or chosen on (train, "
            "val): these figures are no external validation"
        )
    return "\n".join(lines)


def trained_on(runs: "Sequence[Run]", images: Sequence[str]) -> tuple[int, str]:
    """How many of the images (hashes) are exact copies of a run's train or val samples, and why that is not known."""
    seen: set[str] = set()
    if not runs:
        return 0, "an exported model has no training data"
    if "" in images:
        return 0, "an earlier version predicted some of them: give another output=DIR"
    for run in runs:
        datamodule = data_of(run)
        if isinstance(datamodule, str):
            return 0, datamodule
        val = datamodule.splits["val"]
        for split, rows in ((datamodule.splits["train"], datamodule.train_indices), (val, np.arange(len(val)))):
            for start in range(0, len(rows), PART):
                seen.update(one.hex() for one in digests(split.images.gather(rows[start : start + PART])))
    return sum(image in seen for image in images), ""


def _measured(predictor: Predictor, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Number, metrics with 95 % bootstrap intervals, and the coverage of the conformal sets."""
    values = scores(labels, probabilities, predictor.problem)
    intervals = bootstrap(labels, probabilities, predictor.problem).metrics
    sets = predictor.uncertainty.sets(probabilities)
    return {
        "n": len(labels),
        "metrics": {name: _number(value) for name, value in values.items()},
        "intervals": {name: [_number(found.low), _number(found.high)] for name, found in intervals.items()},
        "coverage": conformal.measure(sets, labels).coverage,
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _cell(found: dict[str, Any], name: str) -> str:
    value = found["metrics"][name]
    if value is None:
        return "–"
    low, high = found["intervals"].get(name, (None, None))
    return f"{value:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")
