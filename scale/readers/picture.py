"""What every reader returns, and how it says that it cannot."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAX_VALUES = 1 << 30  # values of one file: 4 GiB as float32, more is a damaged header or a decompression bomb


_limit: ContextVar[int | None] = ContextVar("limit", default=None)  # of values, instead of MAX_VALUES


class UnreadableError(ValueError):
    """A file that cannot be used; the text says why, without the file's name."""


@dataclass(frozen=True)
class Picture:
    """An image or a volume as its file has it.

    Attributes:
        values: (*S) or (*S, C) in the file's own order of axes. Images are (row, column); volumes with an `affine` are
            (i, j, k) as in NIfTI, others (depth, row, column). Whole numbers keep their type, others are float32.
        spatial_dims: 2 or 3.
        affine: (4, 4), from indices (i, j, k) to millimetres to the right, front and top (RAS); None if unknown.
        spacing: millimetres between values along each axis of S; None if unknown.
    """

    values: np.ndarray
    spatial_dims: int
    affine: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """S."""
        return self.values.shape[: self.spatial_dims]

    @property
    def channels(self) -> int:
        """C, 1 where the values have no axis of channels."""
        return self.values.shape[-1] if self.values.ndim > self.spatial_dims else 1


@contextmanager
def limited(values: int | None) -> Iterator[None]:
    """Within this context files of more values than this are refused; None: `MAX_VALUES`."""
    token = _limit.set(values)
    try:
        yield
    finally:
        _limit.reset(token)


def most_values() -> int:
    """Values of one file, at most."""
    return _limit.get() or MAX_VALUES


def check_size(shape: tuple[int, ...]) -> None:
    """Raises UnreadableError before memory is taken for an impossible shape."""
    count = 1
    for edge in shape:
        count *= int(edge)
    if count <= 0:
        raise UnreadableError(f"is empty: its shape is {' x '.join(map(str, shape))}")
    most = most_values()
    if count > most:
        raise UnreadableError(
            f"says it has {' x '.join(map(str, shape))} values: more than the limit of {most:,} (a damaged file "
            "or a decompression bomb)"
        )


def check_finite(values: np.ndarray) -> None:
    """Raises UnreadableError if there are values that are no numbers."""
    if values.dtype.kind == "f":
        wrong = values.size - int(np.isfinite(values).sum())
        if wrong:
            raise UnreadableError(f"holds {wrong:,} values that are not finite (NaN or infinite) of {values.size:,}")


def check_not_empty(path: Path) -> None:
    """Raises UnreadableError if a file is not there or has no bytes."""
    if not path.is_file():
        raise UnreadableError("does not exist" if not path.exists() else "is no file")
    if path.stat().st_size == 0:
        raise UnreadableError("is empty (0 bytes)")


def one_line(error: Exception) -> str:
    """What a library said, short enough for a line of a table."""
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
