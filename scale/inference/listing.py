"""Which files are predicted, and their labels where there are some."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scale.data import archive, companion
from scale.preparing.labels import plain
from scale.preparing.samples import Listing, Sample, from_folder, from_table, group_files, named
from scale.readers.files import kind_of

_NUMBERED = re.compile(r"(label|class)( \d+)?")  # columns of an npz file, classes of a run on one: numbers, no names


def listing_of(given: Path, classes: Sequence[str], *, source: Path | None, split: str | None) -> Listing:
    """Samples of `input=`: a file, a folder, a table or an npz file of many images.

    A folder whose subfolders (perhaps below `train`, `val` and `test`) are the run's classes has labels. Those of an
    npz file are class numbers: of the classes that its companion names, else of the run's.

    Args:
        given: what is to be predicted.
        classes: the run's.
        source: folder that a table's paths are relative to.
        split: only samples of this split.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it holds nothing, has no such split, or labels that are no class numbers.
    """
    if not given.exists():
        raise FileNotFoundError(f"input={given}: there is no such file or folder")
    if given.suffix.lower() == ".csv":
        listing = from_table(given, source, only=split)
    elif given.is_dir():
        listing = _folder(given, classes, split)
    elif given.suffix == ".npz" and any(key.endswith("images") for key in archive.headers(given)):
        said = companion.read(given)  # a number is never taken for a class whose name is a number
        listing = named(given, classes if said is None else said["classes"], own=said is not None)
    elif kind_of(given) is None:
        raise ValueError(f"input={given}: this kind of file cannot be read")
    else:
        listing = Listing([Sample(given.name, (given,))], ())
    if split is not None:
        listing.samples = [sample for sample in listing.samples if sample.split == split]
        if not listing.samples:
            raise ValueError(f"split={split}: {given} has no samples of it")
    if not listing.samples and not listing.skipped:
        raise ValueError(f"input={given} holds no file that can be read")
    return listing


def labels_of(listing: Listing, classes: Sequence[str], problem: str) -> np.ndarray | None:
    """Labels (N, L) in the run's numbers; None where there are none.

    Raises:
        ValueError: labels that are not the run's.
    """
    if not listing.columns or not listing.samples or not listing.samples[0].labels:
        return None
    texts = [sample.labels for sample in listing.samples]
    if problem == "multilabel":
        lacking = [name for name in classes if name not in listing.columns]
        nameless = any(all(_NUMBERED.fullmatch(name) for name in names) for names in (listing.columns, classes))
        if lacking and (len(listing.columns) != len(classes) or not nameless):
            raise ValueError(f"the labels are {', '.join(listing.columns)}; the run's are {', '.join(classes)}")
        order = range(len(classes)) if lacking else [listing.columns.index(name) for name in classes]
        return np.array([[int(float(row[place])) for place in order] for row in texts], dtype=np.int64)
    if len(listing.columns) != 1:
        raise ValueError(f"the run is {problem}: one column of labels is needed, not {', '.join(listing.columns)}")
    numbers = {name: number for number, name in enumerate(classes)}
    numbers |= {str(n): n for n in range(len(classes)) if not set(numbers) & {str(k) for k in range(len(classes))}}
    for sample, (text,) in zip(listing.samples, texts, strict=True):
        if plain(text) not in numbers:
            raise ValueError(f"{sample.name} has the label {text!r}, which the run does not know: {', '.join(classes)}")
    return np.array([[numbers[plain(text)]] for (text,) in texts], dtype=np.int64)


def _folder(folder: Path, classes: Sequence[str], split: str | None) -> Listing:
    splits = {"train", "val", "valid", "validation", "test"}
    tops = {place.name for place in folder.iterdir() if place.is_dir() and not place.name.startswith(".")}
    below = tops
    if tops and {name.lower() for name in tops} <= splits:
        below = {p.name for top in tops for p in (folder / top).iterdir() if p.is_dir() and not p.name.startswith(".")}
    if below and {plain(name) for name in below} <= set(classes) and not (tops != below and len(tops) == 1):
        return from_folder(folder, only=split)
    found, skipped = group_files(folder)
    return Listing([Sample(name, paths) for name, paths in found], (), skipped)
