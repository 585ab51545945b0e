"""Writing files that other processes may want at the same moment: whole or not at all, one writer at a time."""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, or one's share of it, is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def md5_of(path: Path) -> str:
    """The md5 sum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


@contextlib.contextmanager
def exclusive(lock_file: Path, *, hint: str) -> Iterator[None]:
    """Lets one process at a time pass; the others wait. The folder is made if need be.

    Args:
        lock_file: stays behind, empty.
        hint: what the user can do if the folder cannot be written.

    Raises:
        PermissionError: the folder cannot be written.
    """
    lock = FileLock(lock_file)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting for another process that is writing to %s", lock_file.parent)
            lock.acquire()
    except OSError as error:
        if is_disk_full(error):
            raise
        raise PermissionError(f"cannot write to {lock_file.parent} ({error}); {hint}") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file in the folder of `path` that takes its place at the end, and is removed after any error."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.chmod(0o644)  # mkstemp gives 0600, but colleagues share these folders
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place at the end, and is removed after any error."""
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp gives 0700, but colleagues share these folders
        if path.exists():
            former = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
            path.replace(former / path.name)
            try:
                temporary.replace(path)
            except OSError:
                (former / path.name).replace(path)
                raise
            finally:
                shutil.rmtree(former, ignore_errors=True)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
