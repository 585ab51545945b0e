"""Reading many files at once into one file on the disk, in bounded memory, so that it can be resumed."""

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from scale.data.archive import read_array
from scale.preparing.preprocess import Preprocessing
from scale.preparing.samples import Sample
from scale.readers import Picture, UnreadableError, read
from scale.readers.arrays import picture_of

CHUNK = 16  # samples that a process reads between two messages
WHOLE = 4 << 20  # bytes of a file that are hashed at a time
PIXELS, DONE, RECIPE = "pixels.raw", "done.jsonl", "recipe.json"
Read = tuple[np.ndarray | None, str, str]  # uint8 or None, hash of the content, reason


class Pool:
    """The samples' pictures (N, *item), uint8, in a folder that is removed when all is written.

    Args:
        folder: of the work; what an earlier call with the same samples and preprocessing left is used.
        samples: in order.
        how: what is done to each.
    """

    def __init__(self, folder: Path, samples: Sequence[Sample], how: Preprocessing) -> None:
        self.folder, self.samples, self.how = folder, samples, how
        self.item = how.size if how.channels == 1 else (*how.size, how.channels)
        self.width = int(np.prod(self.item))
        self.hashes: dict[int, str] = {}
        self.reasons: dict[int, str] = {}
        recipe = json.dumps([how.record(), [_fingerprint(sample) for sample in samples]])
        digest = hashlib.sha256(recipe.encode()).hexdigest()
        if (folder / RECIPE).is_file() and (folder / RECIPE).read_text() == digest:
            self._resume()
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / PIXELS).touch()
            (folder / RECIPE).write_text(digest)

    @property
    def done(self) -> int:
        """Samples that are read or refused."""
        return len(self.hashes) + len(self.reasons)

    def fill(self, *, workers: int, step: Callable[[int], object]) -> None:
        """Reads what is missing.

        Args:
            workers: processes; 1 reads in this one.
            step: called with the number of samples that were just finished.
        """
        known = {*self.hashes, *self.reasons}
        missing = [row for row in range(len(self.samples)) if row not in known]
        with (self.folder / DONE).open("a") as log:
            for rows, found in read_all(self.samples, missing, self.how, workers, into=self.folder / PIXELS):
                for row, (_, digest, reason) in zip(rows, found, strict=True):
                    if reason:
                        self.reasons[row] = reason
                    else:
                        self.hashes[row] = digest
                    log.write(json.dumps([row, digest, reason]) + "\n")
                log.flush()
                step(len(rows))

    def gather(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Pictures (B, *item)."""
        return np.concatenate([np.empty((0, *self.item), np.uint8), *self.batches(rows, max(len(rows), 1))])

    def batches(self, rows: Sequence[int] | np.ndarray, size: int) -> Iterator[np.ndarray]:
        """Pictures (B, *item), at most `size` at a time, which are gone when the next but one is asked for.

        The next ones are read while the caller has the last ones.
        """
        buffers = np.empty((2, min(size, len(rows)), *self.item), np.uint8)
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        with (self.folder / PIXELS).open("rb") as pixels, ThreadPoolExecutor(1) as reader:

            def fill(number: int) -> np.ndarray:
                out = buffers[number % 2, : len(parts[number])]
                for picture, row in zip(out, parts[number], strict=True):
                    if os.preadv(pixels.fileno(), [picture.data], int(row) * self.width) != self.width:
                        raise OSError(f"{self.folder / PIXELS} is cut off: delete {self.folder} and prepare again")
                return out

            ahead = reader.submit(fill, 0) if parts else None
            for number in range(len(parts)):
                assert ahead is not None
                found = ahead.result()
                ahead = reader.submit(fill, number + 1) if number + 1 < len(parts) else None
                yield found

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _resume(self) -> None:
        if not (self.folder / DONE).is_file():
            return
        for line in (self.folder / DONE).read_text().splitlines():
            try:
                row, digest, reason = json.loads(line)
            except ValueError:  # the line that was being written when it was stopped
                continue
            (self.reasons if reason else self.hashes)[row] = reason or digest


def read_all(
    samples: Sequence[Sample], rows: Sequence[int], how: Preprocessing, workers: int, *, into: Path | None = None
) -> Iterator[tuple[list[int], list[Read]]]:
    """Chunks of rows with what was read, in order; a few chunks are on their way at a time.

    Args:
        samples: of which the rows are read.
        rows: places in `samples`.
        how: what is done to each.
        workers: processes; 1 reads in this one.
        into: file in which the process that reads a picture puts it, at the place of its row, instead of returning it.
    """
    chunks = [list(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]
    in_one_file = bool(rows) and samples[rows[0]].row is not None  # whose arrays each process would hold
    if workers <= 1 or len(chunks) <= 1 or in_one_file:
        for chunk in chunks:
            yield chunk, _read_chunk(chunk, [samples[row] for row in chunk], how, into)
        return
    context = multiprocessing.get_context("spawn")  # the parent may have threads, which a fork would not survive
    waiting: deque[tuple[list[int], Future[list[Read]]]] = deque()
    with ProcessPoolExecutor(workers, context, end_with, (os.getpid(),)) as executor:
        for chunk in chunks:
            waiting.append((chunk, executor.submit(_read_chunk, chunk, [samples[row] for row in chunk], how, into)))
            if len(waiting) > 4 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def end_with(parent: int) -> None:
    """Ends this process when its parent was killed: it would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _read_chunk(rows: Sequence[int], samples: Sequence[Sample], how: Preprocessing, into: Path | None) -> list[Read]:
    """Reads and preprocesses samples; what cannot be used is a reason."""
    found = [_read(sample, how) for sample in samples]
    if into is None:
        return found
    with into.open("r+b") as pixels:
        for row, (array, _, _) in zip(rows, found, strict=True):
            if array is not None:
                pixels.seek(row * array.nbytes)
                pixels.write(np.ascontiguousarray(array).data)  # all of it, or OSError
    return [(None, digest, reason) for _, digest, reason in found]


def picture(sample: Sample) -> Picture:
    """The sample as its file has it; raises UnreadableError."""
    if sample.row is None:
        return read(sample.paths if len(sample.paths) > 1 else sample.paths[0])
    name, row = sample.row
    return picture_of(np.ascontiguousarray(_array(sample.paths[0], name)[row]))


@lru_cache(maxsize=2)
def _array(path: Path, name: str) -> np.ndarray:
    return read_array(path, name)


def _read(sample: Sample, how: Preprocessing) -> Read:
    try:
        found = picture(sample)
        seen, _ = how.apply(found)
        if sample.row is None:
            digest = hash_of(sample.paths)
        else:
            digest = hashlib.sha256(repr(found.values.shape).encode() + found.values.tobytes()).hexdigest()
    except UnreadableError as error:
        return None, "", str(error)
    except (OSError, MemoryError) as error:
        return None, "", f"cannot be read ({str(error) or type(error).__name__})"
    return seen, digest, ""


def hash_of(paths: Sequence[Path]) -> str:
    """SHA-256 of a file's content, or of the sorted ones of several."""
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
    found = []
    for file in files:
        with file.open("rb", buffering=0) as stream:
            digest = hashlib.sha256()
            while part := stream.read(WHOLE):  # `file_digest` clears a buffer that is larger than most images
                digest.update(part)
            found.append(digest.hexdigest())
    return found[0] if len(found) == 1 else hashlib.sha256("".join(sorted(found)).encode()).hexdigest()


def _fingerprint(sample: Sample) -> list[Any]:
    status = [path.stat() for path in sample.paths]
    return [sample.name, sample.row, [(place.st_size, place.st_mtime_ns) for place in status]]
