"""What is wrong with a data set before a network is trained on it: the one place, for all kinds of problems."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from scale.data.store import Split

LARGE = 1 << 30  # bytes of images above which each is no longer looked at: minutes at every start
_PART = 4096  # images read at a time


@dataclass(frozen=True)
class Findings:
    """What was found: `warnings` that change what a figure means, `errors` that leave it no meaning."""

    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def examine(splits: Mapping[str, Split], *, problem: str, num_classes: int) -> Findings:
    """Looks for equal images within and across splits, images of one value, and classes that do not occur.

    Equal means every pixel (a hash of each image). Images of one value are counted apart, and not as equal to each
    other. Of more than 1 GiB of images only the labels are looked at.

    Args:
        splits: by name.
        problem: what the labels ask.
        num_classes: classes, or labels of a multilabel problem.
    """
    found = Findings()
    for name, split in splits.items():
        found.warnings.extend(_labels(name, split.labels, problem, num_classes))
    if sum(split.images.nbytes for split in splits.values()) > LARGE:
        return found
    hashes = {name: _hashes(split) for name, split in splits.items()}
    for name, (sums, constant) in hashes.items():
        count = int(constant.sum())
        if count == len(sums):
            found.errors.append(f"all {count} images of {name} have one value each: there is nothing to see in them")
        elif count:
            found.warnings.append(f"{count} of {len(sums)} images of {name} have one value each (blank)")
        found.warnings.extend(_within(name, sums, constant, splits[name].labels))
    names = list(splits)
    for number, second in enumerate(names):
        for first in names[:number]:
            _across(first, second, hashes, splits, found)
    return found


def _labels(name: str, labels: np.ndarray, problem: str, num_classes: int) -> Iterator[str]:
    """Classes of a split without a sample; labels of a multilabel problem that are the same in all."""
    if problem == "multilabel":
        same = np.flatnonzero(labels.min(axis=0) == labels.max(axis=0))
        if same.size:
            yield f"{name}: label {_few(same)} is the same in all {len(labels)} samples, so its AUC is undefined there"
        return
    lacking = np.setdiff1d(np.arange(num_classes), labels)
    if lacking.size:
        yield f"{name}: no sample of class {_few(lacking)} among {len(labels)}, so the AUC is undefined there"


def digests(images: np.ndarray) -> list[bytes]:
    """A hash of each image's values (N, ...), by which exact copies are told."""
    return [hashlib.blake2b(image.data, digest_size=16).digest() for image in np.ascontiguousarray(images)]


def _hashes(split: Split) -> tuple[list[bytes], np.ndarray]:
    """A hash of each image, and which images have one value only."""
    sums: list[bytes] = []
    constant = np.zeros(len(split), dtype=bool)
    for start in range(0, len(split), _PART):
        rows = np.arange(start, min(start + _PART, len(split)))
        part = split.images.gather(rows).reshape(len(rows), -1)
        constant[rows] = part.min(axis=1) == part.max(axis=1)
        sums += digests(part)
    return sums, constant


def _within(name: str, sums: list[bytes], constant: np.ndarray, labels: np.ndarray) -> Iterator[str]:
    seen: dict[bytes, set[tuple[int, ...]]] = {}
    count = 0
    for digest, blank, label in zip(sums, constant, labels, strict=True):
        if blank:
            continue
        count += digest in seen
        seen.setdefault(digest, set()).add(tuple(label))
    if count:
        contrary = sum(len(kinds) > 1 for kinds in seen.values())
        more = f", {contrary} of them with different labels" if contrary else ""
        yield f"{name}: {count} of {len(sums)} images are exact copies of others in it{more}"


def _across(
    first: str,
    second: str,
    hashes: Mapping[str, tuple[list[bytes], np.ndarray]],
    splits: Mapping[str, Split],
    found: Findings,
) -> None:
    """Images of the later split that stand in the earlier one too."""
    known = Counter(digest for digest, blank in zip(*hashes[first], strict=True) if not blank)
    own = [digest for digest, blank in zip(*hashes[second], strict=True) if not blank]
    count = sum(digest in known for digest in own)
    if own and count == len(own):
        found.errors.append(
            f"all {count} images of {second} are in {first} too: figures of {second} would say nothing of unseen images"
        )
    elif count:
        found.warnings.append(
            f"{count} of {len(splits[second])} images of {second} are in {first} too: its figures are too good by that"
        )


def _few(values: np.ndarray) -> str:
    shown = ", ".join(map(str, values[:5]))
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} more"
