"""Other splits of a prepared file: those of one fold of its cross-validation."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scale.data import archive
from scale.data.images import Images

SPLITS = ("train", "val", "test")


class Selected(Images):
    """Some images of several arrays, none of which is copied.

    Args:
        parts: arrays of images of one shape.
        rows: (N,), places in the parts one behind the other.
    """

    def __init__(self, parts: Sequence[Images], rows: np.ndarray) -> None:
        self.parts, self.rows = list(parts), rows
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *S) or (N, *S, C)."""
        return (len(self.rows), *self.parts[0].shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the selected images."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_mapped(self) -> bool:
        """Whether images are read from a file as they are asked for."""
        return any(part.is_mapped for part in self.parts)

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Copies of the images at `indices` (B,), in that order."""
        rows = self.rows[np.asarray(indices)]
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        part = np.searchsorted(self._starts, rows, side="right") - 1
        for number, images in enumerate(self.parts):
            own = np.flatnonzero(part == number)
            if len(own):
                out[own] = images.gather(rows[own] - self._starts[number])
        return out

    def sha256(self) -> str:
        """Tells other images, other parts and another choice of them."""
        chosen = hashlib.sha256(np.ascontiguousarray(self.rows, np.int64).tobytes()).hexdigest()
        sums = [part.sha256() for part in self.parts]
        return hashlib.sha256(" ".join([*sums, chosen]).encode()).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return Selected, (self.parts, self.rows)


def of_fold(fold: np.ndarray, number: int) -> np.ndarray:
    """The splits (N,) of one fold: it is the test, the next one is val, all others train.

    Args:
        fold: (N,), the fold in which each sample is tested.
        number: of the fold.

    Raises:
        ValueError: there is no such fold.
    """
    count = int(fold.max()) + 1
    if not 0 <= number < count:
        raise ValueError(f"data.fold={number}: the file has {count} folds, 0 to {count - 1}")
    split = np.full(len(fold), "train", dtype="<U5")
    split[fold == number] = "test"
    split[fold == (number + 1) % count] = "val"
    return split


def stored(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Fold (N,) and place in the pool (N,) of a prepared file's samples, in the order train, val, test.

    Raises:
        ValueError: the file has no folds.
    """
    if "train_fold" not in archive.headers(path):
        raise ValueError(f"data.fold: {path} has no folds; prepare it with python -m scale.prepare ... folds=5")
    fold, index = (
        np.concatenate([archive.read_array(path, f"{split}_{name}") for split in SPLITS]) for name in ("fold", "index")
    )
    return fold, index


def rows_of_fold(path: Path, number: int) -> Mapping[str, np.ndarray]:
    """For each split of a fold the places of its samples in the stored order, sorted by their place in the pool."""
    fold, index = stored(path)
    split = of_fold(fold, number)
    order = np.argsort(index)
    return {name: order[split[order] == name] for name in SPLITS}
