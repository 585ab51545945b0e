"""Splits and folds: stratified by class, and no group on two sides."""

import logging
import warnings
from collections.abc import Sequence

import numpy as np

from scale.data.layout import strata

log = logging.getLogger("scale")

SPLITS = ("train", "val", "test")


def assign(
    labels: np.ndarray,
    groups: Sequence[str | None],
    given: Sequence[str | None],
    *,
    names: Sequence[str],
    fractions: tuple[float, float, float],
    seed: int,
) -> np.ndarray:
    """The split of each sample.

    Args:
        labels: (N, L).
        groups: (N,); samples without a group are their own.
        given: (N,), splits that the source gives; all or none. Where it gives no val, that is taken from train.
        names: of the classes or labels.
        fractions: of train, val and test.
        seed: of the shuffle.

    Returns:
        (N,) texts.

    Raises:
        ValueError: fractions that cannot be, samples of which some have a split, or a class with too few samples.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions={list(fractions)}: give three numbers above 0 that add up to 1")
    found = np.array([split or "" for split in given], dtype="<U5")
    stratum = strata(labels)
    if not (found == "").all():
        if (found == "").any():
            raise ValueError(f"{(found == '').sum()} samples have no split, others have: give all of them one, or none")
        if not {"train", "test"} <= set(found):
            raise ValueError(f"the only splits are {', '.join(sorted(set(found)))}: train and test are needed")
        if "val" not in found:
            rows = np.flatnonzero(found == "train")
            share = fractions[1] / (fractions[0] + fractions[1])
            found[rows[_part(stratum[rows], _codes(groups)[rows], share, seed, names)]] = "val"
        return found
    codes = _codes(groups)
    found[:] = "train"
    test = _part(stratum, codes, fractions[2], seed, names)
    found[test] = "test"
    rest = np.flatnonzero(found == "train")
    found[rest[_part(stratum[rest], codes[rest], fractions[1] / (fractions[0] + fractions[1]), seed, names)]] = "val"
    return found


def folds(
    labels: np.ndarray, groups: Sequence[str | None], *, names: Sequence[str], count: int, seed: int
) -> np.ndarray:
    """The fold (N,) of each sample, in which it is tested; stratified, and a group is in one fold.

    Raises:
        ValueError: fewer than three folds, or a class with fewer samples (or groups) than folds.
    """
    if count < 3:
        raise ValueError(f"folds={count}: give at least 3 (one is tested on, one chooses the epoch, the rest train)")
    stratum, codes = strata(labels), _codes(groups)
    _check(stratum, codes, count, names, f"{count} folds")
    fold = np.empty(len(labels), np.int64)
    for number, rows in enumerate(_kfold(stratum, codes, count, seed)):
        fold[rows] = number
    return fold


def _part(stratum: np.ndarray, codes: np.ndarray, share: float, seed: int, names: Sequence[str]) -> np.ndarray:
    """Rows of a share; with groups the nearest part of a whole."""
    from sklearn.model_selection import train_test_split

    _check(stratum, codes, 2, names, "the splits")
    if len(np.unique(codes)) == len(codes):
        least = max(round(share * len(stratum)), len(np.unique(stratum)))  # one of each class
        rows = np.arange(len(stratum))
        return np.asarray(train_test_split(rows, test_size=least, stratify=stratum, random_state=seed)[1])
    fewest = min(len(np.unique(codes[stratum == value])) for value in np.unique(stratum))
    count = min(max(2, round(1 / share)), fewest)
    parts = _kfold(stratum, codes, count, seed)
    if fewest < round(1 / share):
        log.warning(
            "a class is in %d groups only, so that a split has %.0f %% of the samples, not %.0f %%",
            fewest,
            100 / fewest,
            100 * share,
        )
    return min(parts, key=lambda rows: (abs(len(rows) / len(stratum) - share), len(set(stratum) - set(stratum[rows]))))


def _kfold(stratum: np.ndarray, codes: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    single = len(np.unique(codes)) == len(codes)
    divide = (StratifiedKFold if single else StratifiedGroupKFold)(n_splits=count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on small classes, which are counted here
        return [np.asarray(test) for _, test in divide.split(np.zeros(len(stratum)), stratum, codes)]


def _check(stratum: np.ndarray, codes: np.ndarray, least: int, names: Sequence[str], what: str) -> None:
    for value in np.unique(stratum):
        groups = len(np.unique(codes[stratum == value]))
        if groups < least:
            kind = "samples" if len(np.unique(codes)) == len(codes) else "groups"
            name = names[value] if value >= 0 else "(no label)"
            raise ValueError(f"the class {name!r} has {groups} {kind}, but {what} need at least {least} of each class")


def _codes(groups: Sequence[str | None]) -> np.ndarray:
    """A number (N,) for each group; samples without one get their own."""
    known = {
        group: number for number, group in enumerate(dict.fromkeys(group for group in groups if group is not None))
    }
    return np.array([known[group] if group is not None else len(known) + row for row, group in enumerate(groups)])
