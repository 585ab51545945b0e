"""The files of a prepared data set: arrays, the table of its samples, what was skipped."""

import csv
import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scale.preparing.pool import Pool
from scale.preparing.samples import Sample
from scale.preparing.splits import SPLITS
from scale.utils.files import replacing

SAMPLES, SKIPPED = "samples.csv", "skipped.csv"
STORED = 64 << 20  # bytes of images beyond which they are not compressed: that takes longer than reading the files
_ROWS = 256  # images in memory at a time


@dataclass(frozen=True)
class Table:
    """The samples of a data set, in the order of its pool.

    Attributes:
        columns: (L,), names of the label columns.
        samples: (N,).
        rows: (N,), places in the work's pool of pictures.
        labels: (N, L).
        split: (N,).
        fold: (N,), or None.
        hashes: (N,).
    """

    columns: Sequence[str]
    samples: Sequence[Sample]
    rows: Sequence[int]
    labels: np.ndarray
    split: np.ndarray
    fold: np.ndarray | None
    hashes: Sequence[str]


def tables(output: Path, table: Table, skipped: Sequence[tuple[str, str]]) -> Path:
    """Writes a folder `{stem}.files` with both tables beside the npz file that is to be, and returns it."""
    folder = output.with_suffix(".files")
    folder.mkdir(exist_ok=True)
    write_skipped(folder / SKIPPED, skipped)
    _write_samples(folder / SAMPLES, table)
    return folder


def arrays(output: Path, pool: Pool, table: Table) -> None:
    """Writes the npz file.

    Its arrays: `{split}_images`, `{split}_labels`, `{split}_index` (rows of `samples.csv`), with folds `{split}_fold`.
    """
    compression = zipfile.ZIP_STORED if pool.width * len(table.rows) > STORED else zipfile.ZIP_DEFLATED
    with replacing(output) as file, zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
        for split in SPLITS:
            index = np.flatnonzero(table.split == split)
            with archive.open(f"{split}_images.npy", "w", force_zip64=True) as member:
                head = {"descr": "|u1", "fortran_order": False, "shape": (len(index), *pool.item)}
                np.lib.format.write_array_header_1_0(member, head)
                for pictures in pool.batches([table.rows[int(row)] for row in index], _ROWS):
                    member.write(pictures.data.cast("B"))
            more = {"labels": table.labels[index], "index": index}
            if table.fold is not None:
                more["fold"] = table.fold[index]
            for name, array in more.items():
                with archive.open(f"{split}_{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def write_skipped(path: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Writes what could not be used, a line a file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "reason"])
        writer.writerows(skipped)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_samples(path: Path, table: Table) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "path", *table.columns, "group", "split", "fold", "sha256"])
        for row, sample in enumerate(table.samples):
            fold = "" if table.fold is None else int(table.fold[row])
            place = [row, sample.name, *sample.labels, sample.group or "", table.split[row], fold, table.hashes[row]]
            writer.writerow(place)
