"""What is in a data set: counts, shares, intensities, copies of images. Numbers only; pages are drawn from them."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from scale.data.catalog import DataSet
from scale.data.store import Split

BATCH_BYTES = 32 << 20  # of images in memory at a time
APART = 0.1  # difference of a class' share between train and test that is told
RARE = 0.1  # a class this much rarer than the largest is told


@dataclass(frozen=True)
class SplitFacts:
    """One split.

    Attributes:
        images: number of samples.
        counts: samples that have each class or label (K,).
        labels_per_image: samples that have 0, 1, 2 ... labels; empty unless multilabel.
        histogram: how often each of the 256 intensities occurs, (C, 256).
        blank: images of one intensity.
        copies: images that are the exact copy of another one before them in the split.
    """

    images: int
    counts: np.ndarray
    labels_per_image: np.ndarray
    histogram: np.ndarray
    blank: int
    copies: int

    @property
    def mean(self) -> np.ndarray:
        """Mean intensity of each channel (C,)."""
        return np.asarray(self.histogram @ np.arange(256) / self.histogram.sum(axis=1))

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation of the intensities of each channel (C,)."""
        square = self.histogram @ np.arange(256) ** 2 / self.histogram.sum(axis=1)
        return np.sqrt(np.maximum(square - self.mean**2, 0))

    @property
    def limits(self) -> tuple[int, int]:
        """Lowest and highest intensity."""
        found = np.flatnonzero(self.histogram.any(axis=0))
        return int(found[0]), int(found[-1])


@dataclass(frozen=True)
class Description:
    """A data set.

    Attributes:
        title: its name.
        problem: what its labels ask.
        names: of the classes or labels.
        channels: of an image.
        shape: S of an image in pixels.
        splits: by name.
        shared: how many images of the second split are exact copies of one in the first, by the pair of names.
        contradicting: distinct images that occur with different labels.
        together: samples that have both labels (L, L), over all splits; empty unless multilabel.
        caveats: what a reader must know, from the catalog.
        found: what the numbers show.
        examples: of each class, images (n, *S[, C]) of train.
    """

    title: str
    problem: str
    names: tuple[str, ...]
    channels: int
    shape: tuple[int, ...]
    splits: Mapping[str, SplitFacts]
    shared: Mapping[tuple[str, str], int]
    contradicting: int
    together: np.ndarray
    caveats: tuple[str, ...]
    found: tuple[str, ...]
    examples: Sequence[np.ndarray]

    @property
    def copies(self) -> int:
        """Exact copies within and across splits."""
        return sum(split.copies for split in self.splits.values()) + sum(self.shared.values())


def describe(info: DataSet, splits: Mapping[str, Split], *, examples: int = 8) -> Description:
    """Reads every image once.

    Args:
        info: what is published of the data set, or said of a custom one.
        splits: its images and labels.
        examples: images of each class to keep; they are spread evenly over the train split.
    """
    multilabel = info.problem == "multilabel"
    classes = len(info.labels)
    hashes: dict[str, list[bytes]] = {name: [] for name in splits}
    facts = {}
    for name, split in splits.items():
        histogram, blank = np.zeros((info.channels, 256), dtype=np.int64), 0
        for images in _batches(split):
            flat = images.reshape(len(images), -1)
            hashes[name] += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in flat]
            blank += int((flat.min(axis=1) == flat.max(axis=1)).sum())
            pixels = images.reshape(-1, info.channels)
            histogram += np.stack([np.bincount(pixels[:, c], minlength=256) for c in range(info.channels)])
        has = split.labels > 0 if multilabel else split.labels == np.arange(classes)
        facts[name] = SplitFacts(
            images=len(split),
            counts=has.sum(axis=0),
            labels_per_image=np.bincount(has.sum(axis=1)) if multilabel else np.zeros(0, dtype=np.int64),
            histogram=histogram,
            blank=blank,
            copies=len(split) - len(set(hashes[name])),
        )
    shared = {pair: len(set(hashes[pair[0]]) & set(hashes[pair[1]])) for pair in combinations(splits, 2)}
    everything = np.concatenate([split.labels for split in splits.values()])
    first = "train" if "train" in splits else next(iter(splits))
    shape = splits[first].images.shape[1 : 1 + info.spatial_dims]
    contradicting = _contradicting([one for name in splits for one in hashes[name]], everything)
    return Description(
        title=info.title,
        problem=info.problem,
        names=info.labels,
        channels=info.channels,
        shape=shape,
        splits=facts,
        shared=shared,
        contradicting=contradicting,
        together=(everything > 0).astype(np.int64).T @ (everything > 0) if multilabel else np.zeros((0, 0), np.int64),
        caveats=info.caveats,
        found=tuple(_remarks(facts, shared, contradicting, info)),
        examples=[_examples(splits[first], number, multilabel, examples) for number in range(classes)],
    )


def _batches(split: Split) -> Iterator[np.ndarray]:
    step = max(1, BATCH_BYTES // max(1, split.images.nbytes // len(split)))
    for start in range(0, len(split), step):
        yield split.images.gather(np.arange(start, min(start + step, len(split))))


def _contradicting(hashes: Sequence[bytes], labels: np.ndarray) -> int:
    repeated = {one for one, count in Counter(hashes).items() if count > 1}
    given: dict[bytes, set[tuple[int, ...]]] = {}
    for one, row in zip(hashes, labels.tolist(), strict=True):
        if one in repeated:
            given.setdefault(one, set()).add(tuple(row))
    return sum(len(different) > 1 for different in given.values())


def _examples(split: Split, number: int, multilabel: bool, count: int) -> np.ndarray:
    rows = np.flatnonzero(split.labels[:, number] > 0 if multilabel else split.labels[:, 0] == number)
    chosen = rows[np.unique(np.linspace(0, max(0, len(rows) - 1), min(count, len(rows))).astype(np.int64))]
    return split.images.gather(chosen)


def _remarks(
    facts: Mapping[str, SplitFacts], shared: Mapping[tuple[str, str], int], contradicting: int, info: DataSet
) -> Iterator[str]:
    for (one, other), count in shared.items():
        if count:
            yield f"{_are(count, 'image')} both in {one} and in {other}: results on {other} are optimistic."
    for name, split in facts.items():
        if split.copies:
            yield f"{_are(split.copies, 'image')} an exact copy of another one in {name}."
        if split.blank:
            yield f"{_are(split.blank, 'image')} blank (of one intensity) in {name}."
        absent = [info.labels[number] for number in np.flatnonzero(split.counts == 0)]
        if absent:
            yield (
                f"No sample of {', '.join(absent)} in {name}: metrics of {'it' if len(absent) == 1 else 'them'} are "
                "undefined there."
            )
    if contradicting:
        yield f"{_are(contradicting, 'image')} given with different labels."
    first = next(iter(facts))
    shares = {name: split.counts / split.images for name, split in facts.items()}
    for name in list(facts)[1:]:
        gap = np.abs(shares[name] - shares[first])
        if gap.max() >= APART:
            widest = int(gap.argmax())
            yield (
                f"The share of {info.labels[widest]} is {shares[first][widest]:.2f} in {first} and "
                f"{shares[name][widest]:.2f} in {name}: ACC depends on the prior that was learnt."
            )
    counts = facts[first].counts
    if counts.min() < RARE * counts.max():
        rarest = int(counts.argmin())
        yield (
            f"{info.labels[rarest]} has {counts[rarest]} of {facts[first].images} samples in {first}: look at the "
            "recall of each class."
        )


def _are(count: int, noun: str) -> str:
    return f"{count} {noun}{'s are' if count > 1 else ' is'}"
