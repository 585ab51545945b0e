"""Which samples a folder, a table or an npz file holds, with their labels, groups and splits as text."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scale.data.archive import headers, read_array
from scale.preparing.labels import plain
from scale.readers.files import kind_of

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
_IGNORED = ("thumbs.db", "desktop.ini", "__macosx")
COLUMNS = ("path", "group", "split", "index", "fold", "sha256")  # of a table; every other column is a label


@dataclass(frozen=True)
class Sample:
    """One sample before it is read.

    Attributes:
        name: relative path, or array and row; unique.
        paths: its file, the files of a DICOM series, or a folder that holds one series.
        labels: one text for each label column; empty where there are none.
        group: what must not be on two sides of a split, such as the patient.
        split: `train`, `val` or `test` where the source says so.
        row: array and row in an npz file; None for other files.
    """

    name: str
    paths: tuple[Path, ...]
    labels: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None
    row: tuple[str, int] | None = None


@dataclass
class Listing:
    """Samples, names of the label columns, and what was left out with the reason."""

    samples: list[Sample] = field(default_factory=list)
    columns: tuple[str, ...] = ("label",)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def from_folder(source: Path, *, only: str | None = None) -> Listing:
    """Samples of a folder with a subfolder for each class, perhaps below `train`, `val` and `test`.

    Args:
        source: the folder.
        only: of this split alone; files of other splits are not looked at.

    Raises:
        ValueError: there are no class folders, or splits beside classes.
    """
    listing = Listing()
    folders = [place for place in _visible(source) if place.is_dir()]
    names = {place: _SPLIT_NAMES.get(place.name.lower(), place.name.lower()) for place in folders}
    given = [place for place in folders if names[place] in SPLITS]
    if given and len(given) != len(folders):
        odd = next(place.name for place in folders if place not in given)
        raise ValueError(
            f"{source} has splits ({given[0].name}) beside the folder {odd}: give either splits or classes"
        )
    if given and not {"train", "test"} <= {names[place] for place in given}:
        raise ValueError(
            f"{source} has {', '.join(p.name for p in given)}: splits need train and test, and perhaps val"
        )
    listing.skipped += [(place.name, "lies in no class folder") for place in _visible(source) if place.is_file()]
    tops: list[tuple[Path, str | None]] = [(place, names[place]) for place in given] or [(source, None)]
    for top, split in tops:
        if only not in (None, split):
            continue
        for folder in _visible(top):
            if folder.is_dir():
                _add_class(listing, source, folder, split)
            elif top is not source:
                listing.skipped.append((folder.relative_to(source).as_posix(), "lies in no class folder"))
    if not listing.samples and not listing.skipped:
        raise ValueError(f"{source} has no subfolders: put the files of each class into a folder with its name")
    return listing


def from_table(table: Path, source: Path | None, *, only: str | None = None) -> Listing:
    """Samples of a CSV file with the column `path`, label columns, and perhaps `group` and `split`.

    Args:
        table: the CSV file.
        source: folder that paths are relative to, and in which files without a row are named; the table's own if None.
        only: of this split alone; rows of other splits are not looked at.

    Raises:
        ValueError: it is no CSV file, or lacks a column.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(table, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{table} is no CSV file ({str(error).strip()})") from error
    frame.columns = [str(name).strip() for name in frame.columns]
    columns = tuple(name for name in frame.columns if name not in COLUMNS)
    if "path" not in frame.columns:
        raise ValueError(f"{table} has no column `path`, but {', '.join(frame.columns)}")
    listing, seen = Listing(columns=columns), set[str]()
    base = source or table.parent
    for place, row in zip(range(2, len(frame) + 2), frame.to_dict("records"), strict=True):
        name = row["path"].strip()
        labels = tuple(row[column].strip() for column in columns)
        split = _SPLIT_NAMES.get((row.get("split") or "").strip().lower(), (row.get("split") or "").strip().lower())
        if not name:
            listing.skipped.append((f"line {place}", "has no path"))
        elif only is not None and split in SPLITS and split != only:
            pass
        elif name in seen:
            listing.skipped.append((name, f"is named a second time in line {place}"))
        elif columns and not all(labels):
            listing.skipped.append((name, f"has no value in the column {columns[labels.index('')]}"))
        elif split and split not in SPLITS:
            listing.skipped.append((name, f"has the split {split!r}: give train, val or test"))
        elif not (base / name).exists():
            listing.skipped.append((name, "has a label, but there is no such file"))
        else:
            group = (row.get("group") or "").strip() or None
            listing.samples.append(Sample(name, (base / name,), labels, group, split or None))
        seen.add(name)
    if source is not None and source.is_dir():
        listing.skipped += [(name, "has no row in the table") for name in _unnamed(source, seen, table)]
    return listing


def from_npz(path: Path) -> Listing:
    """Samples of an npz file: arrays `{name}_images` and `{name}_labels` (and `{name}_groups`), or without a name.

    Arrays that are named after splits are splits; any others are one pool.

    Raises:
        ValueError: the file is damaged or has no such pair.
    """
    found, listing = headers(path), Listing()
    prefixes = [key.removesuffix("images") for key in found if key == "images" or key.endswith("_images")]
    if not prefixes:
        raise ValueError(f"{path} holds {', '.join(sorted(found)) or 'nothing'}: it needs images and labels")
    whole = {"train_", "test_"} <= set(prefixes)
    for prefix in prefixes:
        if f"{prefix}labels" not in found:
            raise ValueError(f"{path} has {prefix}images, but no {prefix}labels")
        labels = read_array(path, f"{prefix}labels")
        labels = labels[:, None] if labels.ndim == 1 else labels
        count = found[f"{prefix}images"].shape[0]
        groups = read_array(path, f"{prefix}groups") if f"{prefix}groups" in found else [None] * count
        if len(labels) != count or len(groups) != count:
            raise ValueError(f"{path}: {prefix}labels has {len(labels)} rows for {count} images")
        listing.columns = tuple(f"label {n}" for n in range(labels.shape[1])) if labels.shape[1] > 1 else ("label",)
        split = prefix[:-1] if whole and prefix[:-1] in SPLITS else None
        for row in range(count):
            texts = tuple(str(value) for value in labels[row].tolist())
            if any(text.strip().lower() in ("", "nan", "none", "nat") for text in texts):
                listing.skipped.append((f"{prefix}images/{row}", "has no label"))
                continue
            group = None if groups[row] is None else str(groups[row]).strip() or None
            listing.samples.append(
                Sample(f"{prefix}images/{row}", (path,), texts, group, split, (f"{prefix}images", row))
            )
    return listing


def named(path: Path, classes: Sequence[str], *, own: bool) -> Listing:
    """Samples of an npz file as `from_npz`, with the classes' names in the place of their numbers.

    Args:
        path: of the file.
        classes: names.
        own: the file's own companion says so; otherwise they are of the run that is given the file.

    Raises:
        ValueError: a label is the number of no class.
    """
    listing, whose = from_npz(path), "its companion's" if own else "the run's"
    if len(listing.columns) > 1 or len(classes) == 1:  # multi-label: a column of 0 and 1 for each name
        if len(listing.columns) == len(classes):
            listing.columns = tuple(classes)
        elif own:
            raise ValueError(f"{path} has {len(listing.columns)} labels, but its companion names {len(classes)}")
        return listing
    numbers = {str(number): name for number, name in enumerate(classes)}
    for sample in listing.samples:
        if plain(sample.labels[0]) not in numbers:
            raise ValueError(
                f"{path}: {sample.name} has the label {sample.labels[0]}: give class numbers, 0 to {len(classes) - 1} "
                f"({whose} {', '.join(classes)})"
            )
    listing.samples = [replace(sample, labels=(numbers[plain(sample.labels[0])],)) for sample in listing.samples]
    return listing


def files_below(folder: Path) -> Iterator[Path]:
    """All visible files below a folder, in the order of their names."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (Path(place) / name for name in sorted(files) if not _hidden(name))


def group_files(folder: Path) -> tuple[list[tuple[str, tuple[Path, ...]]], list[tuple[str, str]]]:
    """Samples below a folder, as (name, files), and what is none, as (name, reason).

    A file is a sample; DICOM files that lie in the folder itself are one for each series, and those of a subfolder are
    one together.
    """
    found: list[tuple[str, tuple[Path, ...]]] = []
    skipped: list[tuple[str, str]] = []
    slices: dict[Path, list[Path]] = {}
    for path in files_below(folder):
        kind = kind_of(path)
        if kind is None:
            skipped.append((path.relative_to(folder).as_posix(), "has an unknown kind of name"))
        elif kind == "dicom":
            slices.setdefault(path.parent, []).append(path)
        else:
            found.append((path.relative_to(folder).as_posix(), (path,)))
    for parent, paths in slices.items():
        if parent != folder:
            found.append((parent.relative_to(folder).as_posix(), tuple(paths)))
            continue
        from scale.readers.dicom import series_of

        series, broken = series_of(paths)
        skipped += [(path.relative_to(folder).as_posix(), reason) for path, reason in broken.items()]
        found += [(files[0].relative_to(folder).as_posix(), tuple(files)) for files in series.values()]
    return sorted(found), skipped


def _add_class(listing: Listing, source: Path, folder: Path, split: str | None) -> None:
    found, skipped = group_files(folder)
    prefix = folder.relative_to(source).as_posix()
    listing.samples += [Sample(f"{prefix}/{name}", paths, (folder.name,), None, split) for name, paths in found]
    listing.skipped += [(f"{prefix}/{name}", reason) for name, reason in skipped]


def _unnamed(source: Path, named: set[str], table: Path) -> Iterator[str]:
    """Files of a folder that are not in the table, nor in a folder that is."""
    for path in files_below(source):
        name = path.relative_to(source)
        places = {name.as_posix(), str(path), *(parent.as_posix() for parent in name.parents)}
        if not places & named and path != table and kind_of(path) is not None:
            yield name.as_posix()


def _visible(folder: Path) -> list[Path]:
    return sorted(place for place in folder.iterdir() if not _hidden(place.name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED
