"""From a folder, a table or an npz file of any images to one npz file that networks train on, and its companion."""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from scale.data import companion
from scale.data.folds import of_fold
from scale.preparing import labels as label_names
from scale.preparing import sheet, splits, write
from scale.preparing.pool import Pool
from scale.preparing.preprocess import Preprocessing
from scale.preparing.samples import Listing, Sample, from_folder, from_npz, from_table, named
from scale.preparing.settings import SYMMETRIES, Settings, infer
from scale.utils.progress import Progress

log = logging.getLogger("scale")
PRIORITY = {"test": 0, "val": 1, "train": 2, None: 3}  # which of equal files, or of a divided group, is kept


@dataclass(frozen=True)
class Prepared:
    """What was written.

    Attributes:
        path: the npz file.
        companion: what is known of it, YAML.
        folder: tables and contact sheets.
        lines: what was inferred and found, to be printed.
        skipped: (name, reason) of what could not be used.
    """

    path: Path
    companion: Path
    folder: Path
    lines: list[str]
    skipped: list[tuple[str, str]]


def listing_of(source: Path | None, table: Path | None) -> Listing:
    """Samples of what was given.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is of no kind that can be prepared.
    """
    for place in (source, table):
        if place is not None and not place.exists():
            raise FileNotFoundError(f"there is no {place}")
    if table is not None:
        return from_table(table, source)
    if source is None:
        raise ValueError("give source=<folder of class folders, or npz file> or labels=<CSV file with a column path>")
    if source.is_dir():
        return from_folder(source)
    if source.suffix == ".npz":
        said = companion.read(source)
        return from_npz(source) if said is None else named(source, said["classes"], own=True)
    raise ValueError(f"source={source}: give a folder or an npz file; a table of files is labels={source}")


def prepare(
    output: Path, *, source: Path | None, table: Path | None, settings: Settings, workers: int, title: str | None = None
) -> Prepared:
    """Reads, preprocesses, divides and writes; a call that was stopped resumes when it is repeated.

    Args:
        output: npz file to write; must not exist.
        source: folder or npz file.
        table: CSV file.
        settings: the rest.
        workers: reading processes.
        title: of the data set; the name of the source if None.

    Raises:
        FileExistsError: the output exists, or another process is making it.
        ValueError: nothing can be made of the source; files that cannot be used are no error.
    """
    if output.suffix != ".npz":
        raise ValueError(f"output={output}: give a name that ends in .npz")
    with _alone(output):
        if output.exists():
            raise FileExistsError(f"{output} exists: delete it, or give another output=NAME.npz")
        return _prepare(output, source=source, table=table, settings=settings, workers=workers, title=title)


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Holds a lock on a file that is to be made: two processes would write into one pool of pictures."""
    made = not output.parent.is_dir()
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output.with_name(f".{output.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FileExistsError(f"another process is making {output}: wait for it, or give another output") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        if made:
            with contextlib.suppress(OSError):  # it holds something
                output.parent.rmdir()


def _prepare(
    output: Path, *, source: Path | None, table: Path | None, settings: Settings, workers: int, title: str | None
) -> Prepared:
    listing = listing_of(source, table)
    skipped = list(listing.skipped)
    if not listing.samples:
        raise ValueError(
            "no sample was found" + (f"; the first of {len(skipped)}: {': '.join(skipped[0])}" if skipped else "")
        )
    label_names.infer(  # what is wrong with the labels is said before anything is read
        [s.labels for s in listing.samples], listing.columns, problem=settings.problem, order=settings.order
    )
    how, said = infer(listing.samples, settings)
    pool = Pool(output.with_suffix(".work"), listing.samples, how)
    if pool.done:
        log.info("resuming: %d of %d files were read before", pool.done, len(listing.samples))
    with Progress(len(listing.samples)) as progress:
        progress.begin(f"reading {len(listing.samples)} samples")
        progress.step(pool.done)
        pool.fill(workers=workers, step=progress.step)
    skipped += [(listing.samples[row].name, reason) for row, reason in sorted(pool.reasons.items())]
    rows = sorted(pool.hashes)
    if settings.duplicates == "skip":
        rows, double = _without_duplicates(rows, listing.samples, pool.hashes)
        skipped += double
    rows, divided = _without_divided_groups(rows, listing.samples)
    skipped += divided
    chosen = [listing.samples[row] for row in rows]
    if not chosen:
        raise ValueError(f"none of {len(listing.samples)} files can be used; {skipped[0][0]} {skipped[0][1]}")
    encoding = label_names.infer(
        [s.labels for s in chosen], listing.columns, problem=settings.problem, order=settings.order
    )
    numbers = encoding.encode([s.labels for s in chosen])
    groups = [s.group for s in chosen]
    fold = None
    if settings.folds is not None:
        fold = splits.folds(numbers, groups, names=encoding.names, count=settings.folds, seed=settings.seed)
        split = of_fold(fold, 0)
    else:
        given = [s.split for s in chosen]
        split = splits.assign(
            numbers, groups, given, names=encoding.names, fractions=settings.fractions, seed=settings.seed
        )
    table_ = write.Table(listing.columns, chosen, rows, numbers, split, fold, [pool.hashes[row] for row in rows])
    # The npz file comes last: where it is, all that says what it means is there, and is its own.
    folder = write.tables(output, table_, skipped)
    sheet.write(folder / "sheets", pool, rows, numbers, encoding)
    said += _said(encoding, table_, settings, len(skipped))
    record = _record(encoding, settings, how, table_, folder)
    companion.write(output, {"title": title or (source or table or output).stem, **record, "said": said})
    write.arrays(output, pool, table_)
    pool.remove()
    return Prepared(output, companion.path_of(output), folder, said, skipped)


def _record(
    encoding: label_names.Encoding, settings: Settings, how: Preprocessing, table: write.Table, folder: Path
) -> dict[str, object]:
    return {
        "problem": encoding.problem,
        "classes": list(encoding.names),
        "symmetry": settings.symmetry,
        "spatial_dims": how.spatial_dims,
        "folds": settings.folds,
        "groups": len({s.group for s in table.samples if s.group is not None}) or None,
        "counts": {name: int((table.split == name).sum()) for name in splits.SPLITS},
        "settings": settings.record(),
        "samples": {"table": f"{folder.name}/{write.SAMPLES}", "sha256": write.digest(folder / write.SAMPLES)},
        "preprocessing": how.record(),
    }


def _said(encoding: label_names.Encoding, table: write.Table, settings: Settings, skipped: int) -> list[str]:
    lines = [f"problem={encoding.problem}, {len(encoding.names)} classes: {', '.join(encoding.names)}"]
    for number, name in enumerate(encoding.names):
        own = table.labels[:, number] == 1 if encoding.problem == "multilabel" else table.labels[:, 0] == number
        counts = [int((own & (table.split == part)).sum()) for part in splits.SPLITS]
        lines.append(f"  {name}: " + ", ".join(f"{n} {part}" for n, part in zip(counts, splits.SPLITS, strict=True)))
    known = len({sample.group for sample in table.samples if sample.group is not None})
    lines.append(
        f"{known} groups, none on two sides"
        if known
        else "no groups: give a column `group` where a patient has several"
    )
    lines.append(f"symmetry={settings.symmetry}: {SYMMETRIES[settings.symmetry]}")
    if settings.folds:
        lines.append(f"{settings.folds} folds: data.fold=0..{settings.folds - 1}; the splits above are those of fold 0")
    if skipped:
        lines.append(f"{skipped} files skipped")
    return lines


def _without_duplicates(
    rows: Sequence[int], samples: Sequence[Sample], hashes: dict[int, str]
) -> tuple[list[int], list[tuple[str, str]]]:
    """Keeps one of equal files, that of test before train; none where their labels differ."""
    copies: dict[str, list[int]] = {}
    for row in rows:
        copies.setdefault(hashes[row], []).append(row)
    kept, skipped = [], []
    for same in copies.values():
        ordered = sorted(same, key=lambda row: (PRIORITY[samples[row].split], row))
        first = samples[ordered[0]]
        if any(samples[row].labels != first.labels for row in ordered):
            for row in ordered:
                other = next(samples[o].name for o in ordered if samples[o].labels != samples[row].labels)
                skipped.append((samples[row].name, f"is equal to {other}, which has another label"))
            continue
        kept.append(ordered[0])
        skipped += [(samples[row].name, f"is a duplicate of {first.name}") for row in ordered[1:]]
    return sorted(kept), skipped


def _without_divided_groups(rows: Sequence[int], samples: Sequence[Sample]) -> tuple[list[int], list[tuple[str, str]]]:
    """Of a group in several given splits keeps the samples of test (or else val)."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        group, split = samples[row].group, samples[row].split
        if group is not None and split is not None:
            found.setdefault(group, Counter())[split] += 1
    side = {group: min(counts, key=lambda split: PRIORITY[split]) for group, counts in found.items()}
    kept, skipped = [], []
    for row in rows:
        sample = samples[row]
        if sample.group in side and sample.split is not None and side[sample.group] != sample.split:
            skipped.append(
                (sample.name, f"is in {sample.split}, but its group {sample.group} is also in {side[sample.group]}")
            )
        else:
            kept.append(row)
    return kept, skipped
