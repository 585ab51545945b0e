"""The images of one split: an array in memory, or a memory-mapped file of which little is resident."""

import contextlib
import hashlib
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from scale.data.archive import read_header
from scale.utils.files import read_json, write_json

RESIDENT = 128 << 20  # bytes of a mapped file that may be touched before its pages are given back
_FAULT = 1 << 20  # bytes that touching one page makes resident at worst: Linux maps whole folios (measured, 6.18)


class Images:
    """Images of one split, shape (N, *S) or (N, *S, C), uint8.

    Args:
        array: the images in memory. For a file use `Images.open`.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self._map: mmap.mmap | None = None
        self._path: Path | None = None
        self._touched = 0

    @classmethod
    def open(cls, path: Path, item: tuple[int, ...]) -> "Images":
        """Maps an npy file into memory, read-only.

        Args:
            path: the file.
            item: shape of one image; may leave out a last axis of length one.

        Raises:
            ValueError: it is no uint8, or stored column by column, so that one image is spread over the whole file.
        """
        with path.open("rb") as file:
            header = read_header(file)
            if header.dtype != np.uint8:  # objects would be pointers to anywhere
                raise ValueError(f"{path} holds {header.dtype}, not uint8: delete the folder {path.parent}")
            if header.fortran_order:
                raise ValueError(f"{path.stem} is stored in Fortran order; save np.ascontiguousarray of it")
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            array: np.ndarray = np.ndarray(header.shape, header.dtype, buffer=mapping, offset=file.tell())
        images = cls(array.reshape(-1, *item))
        images._map, images._path = mapping, path
        return images

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *S) or (N, *S, C)."""
        return self._array.shape

    @property
    def nbytes(self) -> int:
        """Bytes of all images, resident or not."""
        return self._array.nbytes

    @property
    def is_mapped(self) -> bool:
        """Whether the images are read from a file as they are asked for."""
        return self._map is not None

    def __len__(self) -> int:
        return len(self._array)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Copies of the images at `indices` (B,), in that order: (B, *S[, C]) uint8.

        Of a mapped file about 128 MiB at most are resident, whatever the number of indices.
        """
        if self._map is None:
            return self._array[indices]
        indices = np.asarray(indices)
        per_image = self._array[:1].nbytes + _FAULT
        step = max(1, RESIDENT // per_image)
        out = np.empty((len(indices), *self.shape[1:]), self._array.dtype)
        for start in range(0, len(indices), step):
            part = indices[start : start + step]
            out[start : start + step] = self._array[part]
            self._account(len(part) * per_image)
        return out

    def sha256(self) -> str:
        """The sha256 sum of all pixels, in hexadecimal; that of a mapped file is kept beside it until it changes."""
        if self._path is None:
            return hashlib.sha256(np.ascontiguousarray(self._array).data).hexdigest()
        status, cache = self._path.stat(), self._path.with_suffix(".sha256.json")
        known = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        if cache.is_file():
            with contextlib.suppress(ValueError):
                found = read_json(cache, cure="")
                if {key: found.get(key) for key in known} == known and isinstance(found.get("sha256"), str):
                    return str(found["sha256"])
        with self._path.open("rb") as file:
            read_header(file)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with contextlib.suppress(OSError):  # a folder that cannot be written: it is computed again
            write_json(cache, {**known, "sha256": digest})
        return digest

    def _account(self, touched: int) -> None:
        self._touched += touched
        if self._touched >= RESIDENT and self._map is not None:
            if hasattr(mmap, "MADV_DONTNEED"):  # pages stay in the system's cache, but no longer count as ours
                self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Worker processes map the file again instead of receiving a copy of it."""
        return (Images, (self._array,)) if self._path is None else (Images.open, (self._path, self.shape[1:]))
