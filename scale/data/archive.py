"""The npz file: what is in it, reading it, unpacking it in bounded memory, writing it."""

import contextlib
import errno
import hashlib
import json
import logging
import lzma
import math
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from scale.utils.files import exclusive, is_disk_full, replacing

log = logging.getLogger(__name__)
_CHUNK = 4 << 20  # bytes copied at a time
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 300  # more than both: nothing but zeros, made to fill memory or a disk
# What zipfile and NumPy raise beside their own errors where a flipped bit asks for a password, a method, a huge shape.
_DAMAGE = (NotImplementedError, RuntimeError, SyntaxError, TypeError, KeyError, OverflowError, lzma.LZMAError)


@dataclass(frozen=True)
class Header:
    """What an npy header says of its array."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the array's values."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def read_header(file: IO[bytes]) -> Header:
    """Reads the header of an npy stream, which is left at the first value; ValueError if it is none."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return Header(*read(file))


def headers(path: Path) -> dict[str, Header]:
    """Headers of all arrays in an npz file, without reading their values.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, damaged or no npz file.
    """
    found = {}
    with _opened(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                found[name.removesuffix(".npy")] = header = read_header(member)
                begins = member.tell()
            _check_size(archive.getinfo(name), header, begins)
    return found


def read_array(path: Path, key: str) -> np.ndarray:
    """One array of an npz file; its checksum is verified on the way. Raises as `headers`."""
    with _opened(path) as archive:
        if f"{key}.npy" not in archive.namelist():
            raise ValueError(f"it has no {key}")
        with archive.open(f"{key}.npy") as member:
            header, begins = read_header(member), member.tell()
        _check_size(archive.getinfo(f"{key}.npy"), header, begins)
        with archive.open(f"{key}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
            member.read(1)  # to the end, where the checksum is compared
            return array


def _check_size(member: zipfile.ZipInfo, header: Header, begins: int) -> None:
    """Raises ValueError before memory is taken for an array that is not there, or that would fill memory."""
    if header.dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    if min(header.shape, default=1) < 0 or math.prod(header.shape) * header.dtype.itemsize != member.file_size - begins:
        raise ValueError(f"{member.filename} has {member.file_size} bytes, which is not what its header says")
    if member.file_size > max(_BOMB_BYTES, _BOMB_RATIO * member.compress_size):
        raise ValueError(
            f"{member.filename} would grow from {member.compress_size} to {member.file_size} bytes: no images do that"
        )


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed npz file, whole or not at all; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The open archive; whatever shows that it is damaged becomes one ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, *_DAMAGE) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place in the file that cannot be
            raise
        if "Object arrays" in str(error):  # NumPy's refusal to unpickle
            raise ValueError(f"{path} holds Python objects; save plain arrays of integers") from error
        raise ValueError(
            f"{path} is truncated, damaged or no npz file ({error or type(error).__name__}); "
            "delete it, then download or make it again"
        ) from error


class Unpacked:
    """Arrays of an npz file as npy files in a folder of their own, made once and shared by all processes.

    An npy file is moved into place only when whole, so its presence means done. `meta.json` holds size and time of
    the npz file they were made from, and its md5 sum once that was verified; when that file changes, the folder starts
    anew.

    Args:
        source: the npz file.
        cache: parent of the folder; None = beside the npz file.
    """

    def __init__(self, source: Path, *, cache: Path | None = None) -> None:
        self.source = source
        # Files of one name from several folders have one cache, and neither may read the other's.
        place = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
        name = source.stem if cache is None else f"{source.stem}-{place}"
        self.folder = (cache or source.parent) / f"{name}.unpacked"

    def arrays(self, keys: Iterable[str]) -> dict[str, Path]:
        """Paths of the npy files of the given arrays; those that are missing are made, by one process at a time.

        Raises:
            PermissionError: the folder cannot be written.
            OSError: with errno ENOSPC, the disk is full; what was begun is removed.
            ValueError: the npz file is damaged, or the folder is a symbolic link or has one.
        """
        self._refuse_links()
        paths = {key: self.folder / f"{key}.npy" for key in keys}
        if self._is_current() and all(path.is_file() for path in paths.values()):
            return paths  # without the lock, so that a finished folder may be read-only
        with self._locked():
            for key, path in paths.items():
                if not path.is_file():
                    self._unpack(key, path)
        return paths

    def verified_md5(self) -> str | None:
        """The md5 sum that the npz file, unchanged since, was found to have; None if not known."""
        return self._meta().get("md5") if self._is_current() else None

    def remember_md5(self, md5: str) -> None:
        """Keeps a verified md5 sum. Raises PermissionError if the folder cannot be written."""
        self._refuse_links()
        with self._locked():
            self._write_meta({**self._meta(), "md5": md5})

    def _meta(self) -> dict[str, Any]:
        file = self.folder / "meta.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def _write_meta(self, meta: Mapping[str, Any]) -> None:
        with replacing(self.folder / "meta.json") as file:
            file.write(json.dumps(meta).encode())

    def _source(self) -> dict[str, int]:
        status = self.source.stat()
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}

    def _is_current(self) -> bool:
        return self._meta().get("source") == self._source()

    def _refuse_links(self) -> None:
        """Raises ValueError before something is deleted or written through a link, which may be a stranger's."""
        inside = self.folder.iterdir() if self.folder.is_dir() else ()
        for path in (self.folder, *inside):
            if path.is_symlink():
                raise ValueError(
                    f"{path} is a symbolic link: nothing is read or written through it; delete it, or name another "
                    "folder with data.cache=<folder>"
                )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        hint = f"{self.source.name} is large and must be unpacked: name a folder to write to, data.cache=<folder>"
        with exclusive(self.folder / ".lock", hint=hint):
            if not self._is_current():
                for old in self.folder.glob("*.npy"):
                    old.unlink()
                self._write_meta({"source": self._source()})
            yield

    def _unpack(self, key: str, target: Path) -> None:
        log.info("unpacking %s of %s to %s, once", key, self.source.name, target)
        needed = 0
        try:
            with _opened(self.source) as archive, replacing(target) as file:
                needed = archive.getinfo(f"{key}.npy").file_size
                with archive.open(f"{key}.npy") as member:
                    shutil.copyfileobj(member, file, _CHUNK)
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise OSError(
                error.errno,
                f"disk full: unpacking {key} of {self.source.name} needs {needed} bytes in {self.folder}; "
                "free that much, or name a folder on another disk: data.cache=<folder>",
            ) from error
