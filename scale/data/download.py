"""Fetching one published file: resumed, checked, moved into place only when whole, by one process at a time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import requests
from tqdm import tqdm

from scale.utils.files import exclusive, is_disk_full, md5_of

# Seconds. A silent network is given up after at most STALL + AGAIN = 14 of them.
ANSWER = 12.0  # for the first answer
STALL = 9.0  # between two pieces of the file
AGAIN = 5.0  # for the answer after the transfer stalled
_CHUNK = 16 << 10  # bytes; an incomplete one is lost when the transfer breaks
_NETWORK = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, TimeoutError)
T = TypeVar("T")


def fetch(url: str, path: Path, *, md5: str) -> None:
    """Downloads a file to `path`, unless another process has put it there meanwhile.

    What has arrived is kept in `{path}.part`, from where a later call resumes.

    Raises:
        ConnectionError: no network, or the server refuses; says what to put where.
        PermissionError: the folder cannot be written.
        OSError: with errno ENOSPC, the disk is full; the partial file is removed.
        ValueError: what arrived has another md5 sum; it is removed.
    """
    lock = path.with_name(f".{path.name}.lock")
    with exclusive(lock, hint="name a folder that can be written, data.root=<folder>"):
        if not path.exists():
            part = path.with_name(f"{path.name}.part")
            try:
                _fill(part, url, md5)
            except _NETWORK as error:
                raise ConnectionError(
                    f"no network to download {path.name} ({error}); {by_hand(url, path, md5)}"
                ) from error
            except requests.RequestException as error:
                raise ConnectionError(f"cannot download {path.name}: {error}; {by_hand(url, path, md5)}") from error
            part.replace(path)


def by_hand(url: str, path: Path, md5: str) -> str:
    """How to get a file without this program, as the second half of an error."""
    return (
        f"put the file there by hand:\n  from  {url}\n  to    {path}\n  md5   {md5}\n"
        "(another folder: data.root=<folder>, or the environment variable SCALE_DATA_ROOT)"
    )


def _fill(part: Path, url: str, md5: str) -> None:
    """Makes the partial file whole."""
    resumed = part.exists()
    _transfer(url, part)
    found = md5_of(part)
    if found == md5:
        return
    part.unlink()
    if resumed:  # the old part was of another file
        _fill(part, url, md5)
        return
    raise ValueError(f"{url} gave a file with md5 {found} instead of {md5}; it was removed, try again later")


def _transfer(url: str, part: Path) -> None:
    """Appends what is missing, taking a broken transfer up again as long as it makes progress."""
    patience = ANSWER
    while True:
        before = _size(part)
        try:
            _append(url, part, patience)
        except _NETWORK:
            if _size(part) <= before:
                raise
            patience = AGAIN
        except OSError as error:
            if not is_disk_full(error):
                raise
            had = _size(part)
            part.unlink()
            raise OSError(
                error.errno,
                f"disk full: {part.parent} had no room for more than {had} bytes of {url} (removed); "
                "free some space, or name a folder on another disk: data.root=<folder>",
            ) from error
        else:
            return


def _append(url: str, part: Path, patience: float) -> None:
    begin = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    with _within(patience, lambda: requests.get(url, headers=headers, stream=True, timeout=(patience, STALL))) as reply:
        if reply.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing; the md5 sum decides
        reply.raise_for_status()
        if not reply.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            begin = 0  # the server sends the whole file
        length = reply.headers.get("Content-Length")
        total = begin + int(length) if length else None
        with (
            part.open("ab" if begin else "wb") as file,
            tqdm(desc=part.stem, initial=begin, total=total, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in reply.iter_content(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _within(seconds: float, call: Callable[[], T]) -> T:
    """The call's result; TimeoutError if it takes longer, for the look-up of a name knows no time-out of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # it is raised again in the caller's thread
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {seconds:g} s") from error
