"""Predicting any number of files into a folder: in shards, resumed, and merged."""

import csv
import hashlib
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scale.data.quality import digests
from scale.inference import gallery, validation
from scale.inference.listing import labels_of
from scale.inference.maps import Explainer
from scale.inference.predictor import Predictor
from scale.preparing.pool import CHUNK, read_all
from scale.preparing.samples import Listing, Sample
from scale.preparing.write import write_skipped
from scale.utils.files import exclusive, replacing
from scale.utils.progress import Progress

log = logging.getLogger("scale")
PREDICTIONS, SKIPPED, RECORD = "predictions.csv", "skipped.csv", "prediction.json"
IMAGE = "image"  # in a shard's file: what tells copies of an image


@dataclass(frozen=True)
class Shard:
    """A part of the work: samples number, number + count, ... of the listing."""

    number: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for a shard that does not exist."""
        if not 0 <= self.number < self.count:
            raise ValueError(f"shard={self.number}: with shards={self.count} there are shards 0 to {self.count - 1}")

    @property
    def name(self) -> str:
        """Of its files."""
        return f"part-{self.number}-of-{self.count}"


@dataclass(frozen=True)
class Result:
    """What a call has done.

    Attributes:
        folder: that was written.
        predicted: files in the merged table, or in this shard's where others are missing.
        skipped: files that cannot be used.
        unlike: files that look unlike the training data.
        missing: shards that are not done yet.
        table: metrics of an external validation as text; empty without labels or before all shards are done.
    """

    folder: Path
    predicted: int
    skipped: int
    unlike: int
    missing: list[int]
    table: str


def predict(
    predictor: Predictor,
    listing: Listing,
    folder: Path,
    *,
    shard: Shard,
    batch_size: int,
    workers: int,
    explainer: Explainer | None = None,
) -> Result:
    """Predicts the samples of a shard, and merges all shards once they are there.

    Args:
        predictor: of one or several runs.
        listing: what is predicted.
        folder: to write `predictions.csv`, `skipped.csv` and `prediction.json` to; a call of the same command that was
            stopped there resumes.
        shard: the part.
        batch_size: images in one pass.
        workers: reading processes; 1 reads in this one.
        explainer: also makes maps.

    Raises:
        FileExistsError: the folder holds predictions of other files (or of files that changed), runs or options.
        ValueError: labels that are not the run's.
    """
    labels = labels_of(listing, predictor.inputs.classes, predictor.problem)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, predictor, listing, shard, explainer)
    own = list(range(shard.number, len(listing.samples), shard.count))
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    done = _done(parts / f"{shard.name}.jsonl")
    missing = [row for row in own if row not in done]
    shown = parts / f"{shard.name}.shown"
    gallery.mend(shown)
    if len(missing) < len(own):
        log.info("resuming: %d of %d files were predicted before", len(own) - len(missing), len(own))
    with Progress(len(own)) as progress, (parts / f"{shard.name}.jsonl").open("a") as file:
        progress.begin(f"predicting {len(own)} files")
        progress.step(len(own) - len(missing))
        for rows, images, reasons in _batches(predictor, listing, missing, batch_size, workers):
            found = predictor.rows(np.stack(images)) if images else []
            if explainer is not None and images:
                explained = explainer.explain([listing.samples[row] for row in rows], np.stack(images), found)
                gallery.keep(shown, rows, explained)
            for row, values, image in zip(rows, found, digests(np.stack(images)) if images else [], strict=True):
                file.write(json.dumps({"row": row, **values, IMAGE: image.hex()}) + "\n")
            for row, reason in reasons:
                file.write(json.dumps({"row": row, "reason": reason}) + "\n")
            file.flush()
            progress.step(len(rows) + len(reasons))
    (parts / f"{shard.name}.done").touch()
    return _merge(folder, predictor, listing, labels, shard=shard, explainer=explainer)


def _batches(predictor: Predictor, listing: Listing, rows: Sequence[int], batch_size: int, workers: int) -> Any:
    """Rows, their images and (row, reason) of files that cannot be used, a batch at a time."""
    ready: list[tuple[int, np.ndarray]] = []
    reasons: list[tuple[int, str]] = []
    for chunk, found in read_all(listing.samples, rows, predictor.inputs.preprocessing, workers):
        for row, (array, _, reason) in zip(chunk, found, strict=True):
            if array is None:
                reasons.append((row, reason))
            else:
                ready.append((row, array))
        while len(ready) >= batch_size or len(reasons) >= CHUNK:
            now, ready = ready[:batch_size], ready[batch_size:]
            yield [row for row, _ in now], [array for _, array in now], reasons
            reasons = []
    if ready or reasons:
        yield [row for row, _ in ready], [array for _, array in ready], reasons


def _fingerprint(samples: Sequence[Sample]) -> str:
    """Changes with the names, places, order, sizes and times of change of the files: rows are told by number."""
    seen: dict[Path, str] = {}
    found = hashlib.sha256()
    for sample in samples:
        for path in sample.paths:
            if path not in seen:
                status = path.stat()
                seen[path] = f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}"
        found.update(
            "\0".join([sample.name, *(seen[path] for path in sample.paths), "\n"]).encode(errors="surrogateescape")
        )
    return found.hexdigest()


def _claim(folder: Path, predictor: Predictor, listing: Listing, shard: Shard, explainer: Explainer | None) -> None:
    """Writes what the folder holds, or compares it."""
    record = {
        "runs": [str(place.absolute()) for place in predictor.places],
        "samples": len(listing.samples),
        "first": listing.samples[0].name if listing.samples else None,
        "last": listing.samples[-1].name if listing.samples else None,
        "files_sha256": _fingerprint(listing.samples),
        "shards": shard.count,
        "explain": None if explainer is None else explainer.record,
        "preprocessing": predictor.inputs.preprocessing.record(),
        **predictor.uncertainty.record(),
    }
    with exclusive(folder / ".lock", hint="give another folder with output=..."):
        path = folder / RECORD
        if path.is_file():
            if json.loads(path.read_text()) != record:
                raise FileExistsError(
                    f"{folder} holds predictions of other files or runs, or by other options: give another output=DIR"
                )
            return
        if (folder / PREDICTIONS).exists():
            raise FileExistsError(
                f"{folder} holds a {PREDICTIONS} that this command did not write: give another output=DIR"
            )
        with replacing(path) as file:
            file.write((json.dumps(record, indent=2) + "\n").encode())


def _done(path: Path) -> dict[int, dict[str, Any]]:
    """What a shard's file has, by row; a line that was cut off is left out."""
    found: dict[int, dict[str, Any]] = {}
    if path.is_file():
        gallery.mend(path)
        for line in path.read_text().splitlines():
            values = json.loads(line)
            found[values.pop("row")] = values
    return found


def _merge(
    folder: Path,
    predictor: Predictor,
    listing: Listing,
    labels: np.ndarray | None,
    *,
    shard: Shard,
    explainer: Explainer | None,
) -> Result:
    """Joins the shards' files in the listing's order, where all are done; the last of several processes does it."""
    shards = [Shard(number, shard.count) for number in range(shard.count)]
    with exclusive(folder / ".lock", hint="give another folder with output=..."):
        missing = [one.number for one in shards if not (folder / "parts" / f"{one.name}.done").exists()]
        chosen = [shard] if missing else shards
        found = {row: values for one in chosen for row, values in _done(folder / "parts" / f"{one.name}.jsonl").items()}
        good = sorted(row for row, values in found.items() if "reason" not in values)
        images = [str(found[row].pop(IMAGE, "")) for row in good]
        unlike = sum(found[row]["unlike_training"] for row in good)
        bad = [(listing.samples[row].name, found[row]["reason"]) for row in sorted(found) if "reason" in found[row]]
        bad = [*listing.skipped, *bad]
        if missing:
            return Result(folder, len(good), len(bad), unlike, missing, "")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for place, row in enumerate(good):
            values = {"id": listing.samples[row].name, **found[row]}
            if labels is not None:
                several = predictor.problem == "multilabel"  # whose columns may stand in another order in the table
                texts = map(str, labels[row].tolist()) if several else listing.samples[row].labels
                values["label"] = ";".join(texts)
            if place == 0:
                writer.writerow(values)
            writer.writerow(values.values())
        with replacing(folder / PREDICTIONS) as file:
            file.write(text.getvalue().encode())
        write_skipped(folder / SKIPPED, bad)
        if explainer is not None and good:
            entries = [folder / "parts" / f"{one.name}.shown" for one in shards]
            axes = predictor.inputs.preprocessing.orientation
            gallery.write(folder, entries, good, explainer.header, orientation=axes)
        table = ""
        if labels is not None and good:
            names = [f"p_{name}" for name in predictor.inputs.classes]
            chances = np.array([[found[row][name] for name in names] for row in good])
            table = validation.write(folder, predictor, chances, labels[good], images=images)
    return Result(folder, len(good), len(bad), unlike, [], table)
