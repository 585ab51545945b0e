"""What the arrays of a data set in MedMNIST's layout must look like, and what can be read off them."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scale.data import archive
from scale.data.archive import Header
from scale.data.catalog import PROBLEMS
from scale.utils.choices import suggest

SPLITS = ("train", "val", "test")
_CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
_THIN = 4  # an axis up to this long may be one of channels
_MANY = 16  # and up to this long where the other axes are much longer


@dataclass(frozen=True)
class Layout:
    """What the data decide about a network: dimensions, channels, shape S in pixels or voxels, classes or labels."""

    problem: str
    spatial_dims: int
    channels: int
    shape: tuple[int, ...]
    num_classes: int

    @property
    def item(self) -> tuple[int, ...]:
        """Shape of one image as it is read: S, or (*S, C) for more than one channel."""
        return self.shape if self.channels == 1 else (*self.shape, self.channels)


def infer(
    shape: tuple[int, ...], labels: Mapping[str, np.ndarray], *, problem: str, spatial_dims: int | None
) -> Layout:
    """The layout of a user's own file.

    (N, H, W) is grey 2D; (N, H, W, C) with C in 1, 3, 4 and longer other axes is 2D; (N, D, H, W) is grey 3D where no
    axis may be one of channels; (N, D, H, W, C) is 3D. Other arrays of four axes could be either, and `spatial_dims`
    has to say. An axis may be one of channels that is at most 4 long, or at most 16 and less than half the others.

    Args:
        shape: of an array of images, (N, ...).
        labels: of every split, (N, L).
        problem: what the labels ask.
        spatial_dims: 2 or 3, where the shape does not tell.

    Raises:
        ValueError: unknown problem, or a shape that fits nothing or is ambiguous.
    """
    if problem not in PROBLEMS:
        raise ValueError(f"unknown problem {problem!r} (data.problem); {suggest(problem, PROBLEMS)}")
    dims = _spatial_dims(shape) if spatial_dims is None else spatial_dims
    if dims not in (2, 3) or len(shape) - 1 not in (dims, dims + 1):
        raise ValueError(
            f"images of shape {shape} are not {dims}D; allowed are 2D (N, H, W) and (N, H, W, C), 3D (N, D, H, W) and "
            "(N, D, H, W, C) (data.spatial_dims)"
        )
    channels = 1 if len(shape) - 1 == dims else shape[-1]
    if channels > _MANY and channels >= min(shape[1:-1]):
        raise ValueError(
            f"images of shape {shape} would have {channels} channels, as channels come last: if they come first, move "
            "them, np.moveaxis(images, 1, -1); volumes of one channel are (N, D, H, W) with data.spatial_dims=3"
        )
    if problem == "multilabel":
        num_classes = next(iter(labels.values())).shape[1]
    else:
        num_classes = 2 if problem == "binary" else max(int(of.max(initial=0)) for of in labels.values()) + 1
    return Layout(problem, dims, channels, shape[1 : 1 + dims], num_classes)


def _spatial_dims(shape: tuple[int, ...]) -> int:
    if len(shape) == 5 and shape[-1] > _THIN:
        raise ValueError(
            f"images of shape {shape} would be volumes (N, D, H, W, C) of {shape[-1]} channels. Channels must come "
            "last; if they do, say so: data.spatial_dims=3"
        )
    if len(shape) != 4:
        return len(shape) - 1 if len(shape) < 4 else len(shape) - 2
    *others, last = shape[1:]
    if last in _CHANNELS and min(others) > _THIN:
        return 2
    ends = (shape[1], last)  # where channels stand
    if min(shape[1:]) > _THIN and not any(axis <= _MANY and 2 * axis < sorted(shape[1:])[1] for axis in ends):
        return 3
    raise ValueError(
        f"images of shape {shape} may be 2D with channels (N, H, W, C) or thin volumes (N, D, H, W); say which: "
        "data.spatial_dims=2 or 3. Channels must come last"
    )


def missing(headers: Collection[str], splits: Collection[str]) -> str | None:
    """What to say when arrays of the asked splits are not there; None if they are."""
    keys = [f"{split}_{kind}" for split in splits for kind in ("images", "labels")]
    absent = [key for key in keys if key not in headers]
    if not absent:
        return None
    message = f"has no {', '.join(absent)}; it holds {', '.join(sorted(headers)) or 'nothing'}."
    pools = [key.removesuffix("_images") for key in headers if key.endswith("_images")]
    if len(pools) == 1 and f"{pools[0]}_labels" in headers:
        message += (
            " A pool without splits is divided once with "
            f"scale.data.store.split_pool(source, target, split={pools[0]!r}), which writes a new file"
        )
    return message


def check_images(key: str, header: Header, layout: Layout) -> None:
    """Raises ValueError unless the array holds uint8 images of the layout."""
    if header.dtype != np.uint8:
        raise ValueError(f"{key} has type {header.dtype}; images must be uint8, 0 to 255")
    if not header.shape or header.shape[0] == 0:
        raise ValueError(f"{key} is empty, shape {header.shape}")
    items = [layout.item, (*layout.shape, 1)] if layout.channels == 1 else [layout.item]
    if header.shape[1:] not in items:
        expected = ", ".join(map(str, layout.item))
        raise ValueError(f"{key} has shape {header.shape}; expected (N, {expected})")


def as_labels(key: str, labels: np.ndarray) -> np.ndarray:
    """Labels as (N, L) int64; ValueError if they are no whole numbers or no table."""
    if labels.dtype.kind not in "uib":
        raise ValueError(f"{key} has type {labels.dtype}; labels must be integers")
    if labels.ndim not in (1, 2):
        raise ValueError(f"{key} has shape {labels.shape}; expected (N, L) or (N,)")
    return (labels if labels.ndim == 2 else labels[:, None]).astype(np.int64)


def check_labels(key: str, labels: np.ndarray, count: int, layout: Layout) -> None:
    """Raises ValueError unless there is a valid row (L,) for each of `count` images."""
    if len(labels) != count:
        raise ValueError(f"{key} has {len(labels)} rows for {count} images")
    columns = layout.num_classes if layout.problem == "multilabel" else 1
    if layout.problem == "multilabel" and columns < 2:
        raise ValueError(f"{key} has one column; that is not multilabel, use data.problem=binary")
    if labels.shape[1] != columns:
        hint = "" if layout.problem == "multilabel" else "; turn one-hot labels into class numbers with argmax"
        raise ValueError(f"{key} has {labels.shape[1]} columns; {layout.problem} needs {columns}{hint}")
    highest = 1 if layout.problem == "multilabel" else layout.num_classes - 1
    wrong = np.unique(labels[(labels < 0) | (labels > highest)])
    if wrong.size:
        raise ValueError(f"{key} holds {_few(wrong)}; labels must lie in 0..{highest} ({layout.problem})")


def likely_problem(labels: Sequence[np.ndarray]) -> str:
    """What labels (N, L) of all splits seem to ask: grades cannot be told from classes."""
    if labels[0].shape[1] > 1:
        return "multilabel"
    return "binary" if max(int(of.max(initial=0)) for of in labels) < 2 else "multiclass"


def check_classes(labels: np.ndarray, layout: Layout) -> None:
    """Raises ValueError if a class has no sample among the training labels (N, L)."""
    if layout.problem == "multilabel":
        lacking = np.flatnonzero(labels.min(axis=0) == labels.max(axis=0))
        if lacking.size:
            raise ValueError(
                f"train_labels: label {_few(lacking)} is the same in all training samples; it cannot be learnt"
            )
        return
    lacking = np.setdiff1d(np.arange(layout.num_classes), labels)
    if lacking.size or layout.num_classes < 2:
        raise ValueError(
            f"train_labels: no training sample of class {_few(lacking) if lacking.size else 1}; every class from 0 to "
            f"{max(1, layout.num_classes - 1)} needs at least one"
        )


def _few(values: np.ndarray) -> str:
    shown = ", ".join(map(str, values[:5]))
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} more"


def strata(labels: np.ndarray) -> np.ndarray:
    """Stratum of each sample: its class; for several labels its rarest positive one, or -1 where none is positive.

    Args:
        labels: (N, L).

    Returns:
        (N,), int64.
    """
    if labels.shape[1] == 1:
        return labels[:, 0].astype(np.int64)
    by_rarity = np.argsort(labels.sum(axis=0), kind="stable")
    ordered = labels[:, by_rarity] > 0
    return np.where(ordered.any(axis=1), by_rarity[ordered.argmax(axis=1)], -1).astype(np.int64)


def split_pool(
    source: str | Path,
    target: str | Path,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    split: str = "test",
) -> Path:
    """Divides the only split of an npz file, stratified by class, and writes the three parts as a new file.

    `{train,val,test}_index` of the new file are the positions in the pool. Samples with several labels are stratified
    by the rarest label they have.

    Args:
        source: npz file with `{split}_images`, `{split}_labels` and perhaps `{split}_masks`.
        target: npz file to write; must not exist.
        fractions: of train, val and test; they add up to 1.
        seed: of the shuffle. The same seed gives the same file.
        split: name of the pool in `source`.

    Returns:
        The path of the new file.

    Raises:
        FileNotFoundError: there is no `source`.
        FileExistsError: `target` exists.
        ValueError: wrong fractions, missing arrays, or a class with fewer than three samples.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions {fractions} must be three positive numbers that add up to 1")
    if target.exists():
        raise FileExistsError(f"{target} exists; delete it or give another target")
    headers = archive.headers(source)
    message = missing(headers, [split])
    if message:
        raise ValueError(f"{source} {message}")
    pool = {
        kind: archive.read_array(source, f"{split}_{kind}")
        for kind in ("images", "labels", "masks")
        if f"{split}_{kind}" in headers
    }
    labels = as_labels(f"{split}_labels", pool["labels"])
    if len(labels) != len(pool["images"]):
        raise ValueError(f"{source}: {split}_labels has {len(labels)} rows for {len(pool['images'])} images")
    parts = dict(zip(SPLITS, _stratified(strata(labels), fractions, seed), strict=True))
    arrays = {f"{name}_{kind}": array[rows] for name, rows in parts.items() for kind, array in pool.items()}
    archive.write(target, arrays | {f"{name}_index": rows for name, rows in parts.items()})
    return target


def _stratified(groups: np.ndarray, fractions: tuple[float, float, float], seed: int) -> list[np.ndarray]:
    """Sorted row numbers of the three parts; each part has at least one sample of each stratum."""
    generator = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    for stratum, count in zip(*np.unique(groups, return_counts=True), strict=True):
        if count < 3:
            raise ValueError(f"class {stratum} has {count} samples; three splits need at least 3")
        rows = generator.permutation(np.flatnonzero(groups == stratum))
        first = min(max(round(count * fractions[0]), 1), count - 2)
        second = min(max(round(count * (fractions[0] + fractions[1])), first + 1), count - 1)
        for part, (begin, end) in zip(parts, itertools.pairwise((0, first, second, count)), strict=True):
            part.append(rows[begin:end])
    return [np.sort(np.concatenate(part)) for part in parts]
