"""Writing files that other processes may want at the same moment: whole or not at all, one writer at a time."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, or one's share of it, is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def full_disk(error: BaseException, folder: Path, *, cure: str = "give the same command again") -> OSError | None:
    """What to say instead of an error that a full disk made; None for all other errors.

    Libraries that write files hide the cause: torch's writer raises a RuntimeError of its own.

    Args:
        error: any.
        folder: that was written to.
        cure: what to do when there is room again.
    """
    torchs = ("PytorchStreamWriter", "file write failed")
    hidden = isinstance(error, RuntimeError) and any(text in str(error) for text in torchs)
    if not hidden and not (isinstance(error, OSError) and is_disk_full(error)):
        return None
    return OSError(errno.ENOSPC, f"the disk is full: free some of it, then {cure}", str(folder))


def sha256_of(path: Path) -> str:
    """The sha256 sum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
def replacing(path: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """A temporary file in the folder of `path` that takes its place at the end, and is removed after any error.

    Args:
        path: of the file.
        durable: whether it is on the disk before it takes the place: else it can be empty after a power failure.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
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


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with replacing(path, durable=True) as file:
        file.write(text.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes strict JSON, whole or not at all; numbers that are not finite become null."""
    write_text(path, json.dumps(strict(content), indent=2, allow_nan=False) + "\n")


def read_json(path: Path, *, cure: str) -> dict[str, Any]:
    """A JSON object from a file that may have been damaged or changed.

    Args:
        path: of the file.
        cure: what to do if it is no JSON object.

    Raises:
        ValueError: it is none; names the file and the cure.
    """
    try:
        found = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also of the decoding
        raise ValueError(f"{path} is damaged: it holds no JSON ({error}); {cure}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(found).__name__}, no JSON object; {cure}")
    return found


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, digits: int | None = None
) -> None:
    """Writes a table, whole or not at all; of a row, what is no column is left out, and what is missing is empty.

    Args:
        path: of the file.
        columns: in order.
        rows: by column.
        digits: significant ones of numbers, of which NaN stays empty; None: numbers as Python prints them.
    """
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows if digits is None else ({k: _rounded(v, digits) for k, v in row.items()} for row in rows))
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table, as text.

    Light on purpose: callbacks and sweeps read small tables in processes that import no pandas.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _rounded(value: Any, digits: int) -> Any:
    if not isinstance(value, float):  # also NumPy's double
        return value
    return "" if math.isnan(value) else f"{value:.{digits}g}"


def strict(value: Any) -> Any:
    """Plain values as strict JSON has them: texts as keys, NumPy's numbers as Python's, None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
