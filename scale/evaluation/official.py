"""Prediction files in the format of `medmnist.Evaluator` (https://github.com/MedMNIST/MedMNIST, evaluator.py).

A file has no header; a line is the sample's index in the split and its scores. The name says the rest:
`{flag}{_size if not 28}_{split}_[AUC]x.xxx_[ACC]x.xxx@{run}.csv`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scale.data import catalog
from scale.evaluation import bootstrap, delong, metrics
from scale.evaluation.statistics import Interval
from scale.utils.files import replacing

SPLITS = ("train", "val", "test")
PATTERN = "{flag}{_size if not 28}_{split}_[AUC]x.xxx_[ACC]x.xxx@{run}.csv"
SUM_TOLERANCE = 1e-2  # files of half precision
ROUNDED = 6e-4  # of three decimals
_NAME = re.compile(
    r"(?P<flag>[^_@]+)(?:_(?P<size>\d+))?_(?P<split>[a-z]+)"
    r"_\[AUC\](?P<auc>\d\.\d+|nan)_\[ACC\](?P<acc>\d\.\d+|nan)@(?P<run>[^@.]+)\.csv"
)


@dataclass(frozen=True)
class Name:
    """What the name of a prediction file says; AUC and ACC to three decimals."""

    flag: str
    size: int
    split: str
    auc: float
    acc: float
    run: str


def file_name(flag: str, *, size: int, split: str, auc: float, acc: float, run: str | int) -> str:
    """Official name of a prediction file.

    Raises:
        ValueError: a part that the official parser would cut at the wrong place.
    """
    name = f"{flag}{'' if size == 28 else f'_{size}'}_{split}_[AUC]{auc:.3f}_[ACC]{acc:.3f}@{run}.csv"
    parse_name(name)
    return name


def run_name(model: str, seed: int) -> str:
    """What stands behind the @, such as `scale_tiny-seed0`; a hyphen for what the parser or a path would trip over."""
    return f"{re.sub(r'[^A-Za-z0-9_+-]', '-', model)}-seed{seed}"


def parse_name(path: str | Path) -> Name:
    """Take the name of a prediction file apart.

    Raises:
        ValueError: the name does not follow the official pattern.
    """
    match = _NAME.fullmatch(Path(path).name)
    if match is None:
        raise ValueError(
            f"{Path(path).name!r} is not the name of an official prediction file; expected {PATTERN}, "
            "without '_' or '@' in the flag and '.' or '@' in the run"
        )
    if match["split"] not in SPLITS:
        raise ValueError(f"{Path(path).name!r} names the split {match['split']!r}; allowed: {', '.join(SPLITS)}")
    return Name(
        flag=match["flag"],
        size=int(match["size"] or 28),
        split=match["split"],
        auc=float(match["auc"]),
        acc=float(match["acc"]),
        run=match["run"],
    )


def write(
    folder: str | Path,
    probabilities: np.ndarray,
    *,
    labels: np.ndarray,
    problem: str,
    flag: str,
    size: int,
    split: str,
    run: str | int,
    index: np.ndarray | None = None,
) -> Path:
    """Write a prediction file, whole or not at all; its name holds the scores computed here.

    Args:
        folder: made if need be.
        probabilities: (N, columns), written with every digit that their dtype has.
        labels: (N, L).
        problem: kind of the labels, as in `metrics`.
        flag: data set.
        size: pixels per side.
        split: one of `SPLITS`.
        run: name of the run, without '.', '@' and path separators.
        index: (N,), each row's number in the split, 0..N-1 once each; by default the rows are in order.

    Returns:
        The file.
    """
    found = metrics.official_scores(labels, probabilities, problem)
    name = file_name(flag, size=size, split=split, auc=found["auc"], acc=found["acc"], run=run)
    index = np.arange(len(probabilities)) if index is None else np.asarray(index)
    if len(index) != len(probabilities):
        raise ValueError(f"{len(index)} indices for {len(probabilities)} rows of probabilities")
    _check_index(index, name)
    order = np.argsort(index)
    text = np.asarray(probabilities)[order].astype(str)  # shortest text that reads back as the same number
    lines = "".join(f"{i},{','.join(row)}\n" for i, row in zip(index[order].tolist(), text.tolist(), strict=True))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / name) as file:
        file.write(lines.encode("ascii"))
    return folder / name


def read(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a prediction file.

    Returns:
        The rows' numbers (N,) int64, ascending from 0, and the probabilities (N, columns) float64 in the same order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: rows missing or twice, cells that are no numbers, or a number of columns that the data set named by
            the file does not have.
    """
    path = Path(path)
    name = parse_name(path)
    if not path.is_file():
        raise FileNotFoundError(f"no prediction file {str(path)!r}")
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError as error:
        raise ValueError(f"{path.name}: not a table of numbers without a header: {error}") from error
    if table.size == 0 or table.shape[1] < 2:
        raise ValueError(f"{path.name}: expected lines of an index and at least one score; found shape {table.shape}")
    if not np.isfinite(table).all():
        rows = np.flatnonzero(~np.isfinite(table).all(axis=1))
        raise ValueError(f"{path.name}: {len(rows)} lines hold nan or infinity, the first is line {rows[0] + 1}")
    _check_index(table[:, 0], path.name)
    table = table[np.argsort(table[:, 0])]
    _check_columns(table.shape[1] - 1, name.flag, path.name)
    _check_probabilities(table[:, 1:], name.flag, path.name)
    return table[:, 0].astype(np.int64), table[:, 1:]


def score(path: str | Path, labels: np.ndarray, *, problem: str | None = None) -> dict[str, float]:
    """Official `auc` and `acc` of a prediction file.

    Args:
        path: the file; its name says which data set, size and split.
        labels: (N, L) of that split.
        problem: kind of the labels; needed only for a data set that is not one of MedMNIST's.

    Raises:
        ValueError: as `read`, or the file and the split differ in length, or the problem is unknown.
    """
    return metrics.official_scores(labels, *_scored(path, labels, problem))


def intervals(path: str | Path, labels: np.ndarray, *, problem: str | None = None) -> dict[str, Interval]:
    """Intervals of the official scores: the bootstrap's `auc` and `acc`, and DeLong's `auc_delong`.

    Arguments and errors as for `score`.
    """
    probabilities, problem = _scored(path, labels, problem)
    whole = (
        np.hstack([1 - probabilities, probabilities])
        if (problem, probabilities.shape[1]) == ("binary", 1)
        else probabilities
    )
    found = bootstrap.bootstrap(labels, whole, problem).metrics
    return {
        "auc": found["auc"],
        "acc": found["acc"],
        "auc_delong": delong.auc_interval(labels, probabilities, problem),
    }


def _scored(path: str | Path, labels: np.ndarray, problem: str | None) -> tuple[np.ndarray, str]:
    """Probabilities of a file, a row a sample, and the kind of their labels."""
    name = parse_name(path)
    _, probabilities = read(path)
    if len(probabilities) != len(labels):
        raise ValueError(
            f"{Path(path).name} has {len(probabilities)} rows, "
            f"but the {name.split} split of {name.flag} has {len(labels)} samples"
        )
    return probabilities, problem or catalog.get(name.flag).problem


def _check_index(index: np.ndarray, name: str) -> None:
    """Rows must be 0..N-1, once each."""
    values, counts = np.unique(index, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{name}: row {values[counts > 1][0]:g} occurs twice ({(counts > 1).sum()} such rows)")
    missing = np.setdiff1d(np.arange(len(index)), values)
    if missing.size:
        raise ValueError(
            f"{name}: rows must be numbered 0..{len(index) - 1}; {missing.size} missing, the first is {missing[0]}"
        )


def disagreement(path: str | Path, found: Mapping[str, float]) -> str | None:
    """What the name of a prediction file says that its content does not; None where they agree to three decimals.

    Args:
        path: of the file.
        found: its `auc` and `acc`.
    """
    name = parse_name(path)
    said = {"auc": name.auc, "acc": name.acc}
    wrong = [
        f"{key.upper()} {value:.3f} in the name, {found[key]:.3f} found"
        for key, value in said.items()
        if not (abs(value - found[key]) <= ROUNDED or (np.isnan(value) and np.isnan(found[key])))
    ]
    return "; ".join(wrong) or None


def _check_probabilities(scores: np.ndarray, flag: str, name: str) -> None:
    """Scores must be probabilities: logits and percentages have an AUC too, but another ACC."""
    outside = np.flatnonzero(((scores < 0) | (scores > 1)).any(axis=1))
    if outside.size:
        low, high = scores.min(), scores.max()
        raise ValueError(
            f"{name}: {outside.size} rows, the first is row {outside[0]}, hold scores from {low:g} to {high:g}; scores "
            "are probabilities, 0 to 1: give those of softmax or sigmoid, no logits"
        )
    several = flag in catalog.FLAGS and catalog.get(flag).problem != "multilabel" and scores.shape[1] > 1
    wrong = np.flatnonzero(np.abs(scores.sum(axis=1) - 1) > SUM_TOLERANCE) if several else np.empty(0)
    if wrong.size:
        raise ValueError(
            f"{name}: the scores of {wrong.size} rows do not add up to 1, the first is row {wrong[0]} with "
            f"{scores[wrong[0]].sum():g}: give probabilities of the classes"
        )


def _check_columns(columns: int, flag: str, name: str) -> None:
    if flag not in catalog.FLAGS:
        return
    data = catalog.get(flag)
    allowed = {1, 2} if data.problem == "binary" else {len(data.labels)}
    if columns not in allowed:
        wanted = " or ".join(map(str, sorted(allowed)))
        raise ValueError(f"{name}: {columns} score columns, but {flag} ({data.problem}) needs {wanted}")
