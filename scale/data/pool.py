"""Dividing one pool of samples into train, val and test."""

import itertools
from pathlib import Path

import numpy as np

from scale.data import archive
from scale.data.layout import as_labels, missing, strata

_SPLITS = ("train", "val", "test")


def split_pool(
    source: str | Path,
    target: str | Path,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    split: str = "test",
) -> Path:
    """Divides the only split of an npz file, stratified by class, and writes the three parts as a new file.

    `{train,val,test}_index` of the new file are the positions in the pool. Samples with several labels are stratified
    by the rarest label they have.

    Args:
        source: npz file with `{split}_images`, `{split}_labels` and perhaps `{split}_masks`.
        target: npz file to write; must not exist.
        fractions: of train, val and test; they add up to 1.
        seed: of the shuffle. The same seed gives the same file.
        split: name of the pool in `source`.

    Returns:
        The path of the new file.

    Raises:
        FileNotFoundError: there is no `source`.
        FileExistsError: `target` exists.
        ValueError: wrong fractions, missing arrays, or a class with fewer than three samples.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions {fractions} must be three positive numbers that add up to 1")
    if target.exists():
        raise FileExistsError(f"{target} exists; delete it or give another target")
    headers = archive.headers(source)
    message = missing(headers, [split])
    if message:
        raise ValueError(f"{source} {message}")
    pool = {
        kind: archive.read_array(source, f"{split}_{kind}")
        for kind in ("images", "labels", "masks")
        if f"{split}_{kind}" in headers
    }
    labels = as_labels(f"{split}_labels", pool["labels"])
    if len(labels) != len(pool["images"]):
        raise ValueError(f"{source}: {split}_labels has {len(labels)} rows for {len(pool['images'])} images")
    parts = dict(zip(_SPLITS, _stratified(strata(labels), fractions, seed), strict=True))
    arrays = {f"{name}_{kind}": array[rows] for name, rows in parts.items() for kind, array in pool.items()}
    archive.write(target, arrays | {f"{name}_index": rows for name, rows in parts.items()})
    return target


def _stratified(groups: np.ndarray, fractions: tuple[float, float, float], seed: int) -> list[np.ndarray]:
    """Sorted row numbers of the three parts; each part has at least one sample of each stratum."""
    generator = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    for stratum, count in zip(*np.unique(groups, return_counts=True), strict=True):
        if count < 3:
            raise ValueError(f"class {stratum} has {count} samples; three splits need at least 3")
        rows = generator.permutation(np.flatnonzero(groups == stratum))
        first = min(max(round(count * fractions[0]), 1), count - 2)
        second = min(max(round(count * (fractions[0] + fractions[1])), first + 1), count - 1)
        for part, (begin, end) in zip(parts, itertools.pairwise((0, first, second, count)), strict=True):
            part.append(rows[begin:end])
    return [np.sort(np.concatenate(part)) for part in parts]
