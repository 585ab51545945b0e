"""Reading data sets in MedMNIST's npz layout: the 18 official ones, and a user's own.

The layout: `{train,val,test}_images` uint8 (N, *S) or (N, *S, C), `{split}_labels` (N, L) or (N,) integers, and, if
there are lesion masks, `{split}_masks` uint8 (N, *S). Images stay uint8. If a file's images are larger than `LARGE`,
they are unpacked once into a folder `{stem}.unpacked` beside the file (or in `cache`) and memory-mapped from there.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scale.data import archive, catalog
from scale.data.archive import Header, Unpacked
from scale.data.download import by_hand, fetch
from scale.data.images import Images
from scale.data.layout import (
    SPLITS,
    Layout,
    as_labels,
    check_classes,
    check_images,
    check_labels,
    infer,
    missing,
    split_pool,
)
from scale.utils.choices import suggest
from scale.utils.files import md5_of

__all__ = ["SPLITS", "Images", "Layout", "Split", "layout", "load", "locate", "read", "split_pool"]

LARGE = 512 << 20  # bytes of images and masks in one file


@dataclass
class Split:
    """One split: images (N, *S[, C]) uint8, labels (N, L) int64 and, where there are some, masks (N, *S) uint8."""

    images: Images
    labels: np.ndarray
    masks: Images | None = None

    def __len__(self) -> int:
        return len(self.images)


def locate(flag: str, *, size: int, root: str | Path | None = None) -> Path:
    """Where the official file is looked for: in `root`, else $SCALE_DATA_ROOT, else ~/.medmnist."""
    return folder(root) / catalog.get(flag).file_name(size)


def folder(root: str | Path | None = None) -> Path:
    """The data folder: `root`, else $SCALE_DATA_ROOT, else ~/.medmnist."""
    return Path(root or os.environ.get("SCALE_DATA_ROOT") or "~/.medmnist").expanduser()


def refuse_foreign(named: Sequence[str]) -> None:
    """Raises ValueError if a run's record names folders that are not here (`data.root=...`)."""
    if named:
        raise ValueError(
            f"{named[0]}: there is no such folder here, and none is made on the word of a run's record; give your own: "
            f"{named[0].partition('=')[0]}=..."
        )


def load(
    flag: str,
    *,
    size: int,
    root: str | Path | None = None,
    cache: str | Path | None = None,
    download: bool = True,
    verify: bool = True,
    splits: Sequence[str] = SPLITS,
    large: int = LARGE,
) -> dict[str, Split]:
    """Official data, downloaded first if it is not there.

    Args:
        flag: name of the data set, such as `pathmnist`.
        size: pixels along an edge.
        root: folder of the npz files; None = $SCALE_DATA_ROOT, else ~/.medmnist.
        cache: folder for unpacked arrays; None = beside the npz file.
        download: fetch a missing file.
        verify: compare the file's md5 sum with the published one.
        splits: which to read.
        large: bytes of images above which they are unpacked and memory-mapped.

    Raises:
        ValueError: unknown flag or size; wrong md5 sum; the file is damaged or is not what its name says.
        FileNotFoundError: the file is missing and `download` is off.
        ConnectionError: the file is missing and cannot be downloaded.
        PermissionError: a folder cannot be written.
        OSError: with errno ENOSPC, the disk is full.
    """
    data = catalog.get(flag)
    path = locate(flag, size=size, root=root)
    unpacked = Unpacked(path, cache=_folder(cache))
    fetched = not path.exists()
    if fetched:
        _provide(path, url=data.url(size), md5=data.md5(size), download=download)
    headers = archive.headers(path)
    is_large = _images_bytes(headers) > large
    if verify and not fetched:
        _verify(unpacked, md5=data.md5(size), remember=is_large)
    layout = Layout(data.problem, data.spatial_dims, data.channels, (size,) * data.spatial_dims, len(data.labels))
    return _read(path, headers, layout, splits=splits, unpacked=unpacked if is_large else None)


def read(
    path: str | Path,
    *,
    problem: str,
    spatial_dims: int | None = None,
    cache: str | Path | None = None,
    splits: Sequence[str] = SPLITS,
    large: int = LARGE,
) -> dict[str, Split]:
    """A user's own file; its `layout` is read from it.

    Args:
        path: the npz file.
        problem: what the labels ask: binary, multiclass, multilabel or ordinal.
        spatial_dims: 2 or 3; needed only where the shape of the images does not tell (see `layout.infer`).
        cache: folder for unpacked arrays; None = beside the npz file.
        splits: which to read.
        large: bytes of images above which they are unpacked and memory-mapped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, lacks arrays, or they contradict each other or the problem.
        PermissionError, OSError: as `load`.
    """
    path = Path(path).expanduser()
    headers = archive.headers(path)
    unpacked = Unpacked(path, cache=_folder(cache)) if _images_bytes(headers) > large else None
    return _read(
        path, headers, layout(path, problem=problem, spatial_dims=spatial_dims), splits=splits, unpacked=unpacked
    )


def layout(path: str | Path, *, problem: str, spatial_dims: int | None = None) -> Layout:
    """Dimensions, channels, shape and classes of a user's own file, from its headers and labels. Raises as `read`."""
    path = Path(path).expanduser()
    headers = archive.headers(path)
    with _named(path):
        _check_present(headers, SPLITS)
        labels = {split: _labels(path, split) for split in SPLITS}
        return infer(headers["train_images"].shape, labels, problem=problem, spatial_dims=spatial_dims)


def _provide(path: Path, *, url: str, md5: str, download: bool) -> None:
    if not download:
        raise FileNotFoundError(f"{path} is missing and data.download=false; {by_hand(url, path, md5)}")
    fetch(url, path, md5=md5)


def _verify(unpacked: Unpacked, *, md5: str, remember: bool) -> None:
    """Compares md5 sums; a large file is hashed once and remembered as long as it does not change."""
    path = unpacked.source
    if remember and unpacked.verified_md5() == md5:
        return
    found = md5_of(path)
    if found != md5:
        raise ValueError(
            f"{path} has md5 {found}, the published file has {md5}: it is damaged or was changed. Delete it to "
            "download it again, or use data.verify=false for a file of your own"
        )
    if remember:
        unpacked.remember_md5(md5)


def _read(
    path: Path, headers: Mapping[str, Header], layout: Layout, *, splits: Sequence[str], unpacked: Unpacked | None
) -> dict[str, Split]:
    """Reads and checks the asked splits; large images come from the unpacked folder."""
    with _named(path):
        _check_present(headers, splits)
        for split in splits:
            check_images(f"{split}_images", headers[f"{split}_images"], layout)
            if f"{split}_masks" in headers:
                _check_masks(f"{split}_masks", headers, layout)
        labels = {split: _labels(path, split) for split in splits}
        for split in splits:
            check_labels(f"{split}_labels", labels[split], headers[f"{split}_images"].shape[0], layout)
        if "train" in splits:
            check_classes(labels["train"], layout)
    kinds = {"images": layout.item, "masks": layout.shape}
    items = {
        f"{split}_{kind}": item for split in splits for kind, item in kinds.items() if f"{split}_{kind}" in headers
    }
    if unpacked is None:
        images = {key: Images(archive.read_array(path, key).reshape(-1, *item)) for key, item in items.items()}
    else:
        files = unpacked.arrays(items)
        images = {key: Images.open(files[key], item) for key, item in items.items()}
    return {split: Split(images[f"{split}_images"], labels[split], images.get(f"{split}_masks")) for split in splits}


def _labels(path: Path, split: str) -> np.ndarray:
    return as_labels(f"{split}_labels", archive.read_array(path, f"{split}_labels"))


def _check_present(headers: Mapping[str, Header], splits: Sequence[str]) -> None:
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown:
        raise ValueError(f"unknown split {unknown[0]!r}; {suggest(unknown[0], SPLITS)}")
    message = missing(headers, splits)
    if message:
        raise ValueError(message)


def _check_masks(key: str, headers: Mapping[str, Header], layout: Layout) -> None:
    mask, images = headers[key], headers[key.replace("_masks", "_images")]
    if mask.dtype != np.uint8 or mask.shape != (images.shape[0], *layout.shape):
        expected = ", ".join(map(str, (images.shape[0], *layout.shape)))
        raise ValueError(f"{key} is {mask.dtype} of shape {mask.shape}; expected uint8 of shape ({expected})")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the name of the file before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _images_bytes(headers: Mapping[str, Header]) -> int:
    return sum(header.nbytes for key, header in headers.items() if key.endswith(("_images", "_masks")))


def _folder(cache: str | Path | None) -> Path | None:
    return None if cache is None else Path(cache).expanduser()
