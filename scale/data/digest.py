"""Whether data are the same: hashes that checkpoints keep."""

import hashlib
from collections.abc import Mapping

import numpy as np

from scale.data.store import Split

SOME = 20  # images of each split


def refuse_others(splits: Mapping[str, Split], expected: tuple[str, str | None], content: str) -> None:
    """Raises ValueError if the data are not those of a checkpoint.

    Args:
        splits: by name.
        expected: the checkpoint's `of_some` and `of_all`; the latter is None in those of earlier versions.
        content: `of_all` of the splits.
    """
    some, whole = expected
    if some != of_some(splits) or (whole is not None and whole != content):
        raise ValueError(
            "the images or labels are not those the run was begun with (labels, shapes or pixels differ): give its "
            "own with data.root=... or data.path=..., or begin another run"
        )


def of_some(splits: Mapping[str, Split]) -> str:
    """Tells other data cheaply: a hash of the shapes, all labels, and images spread over each split."""
    digest = hashlib.sha256()
    for split in splits.values():
        chosen = np.unique(np.linspace(0, len(split.images) - 1, SOME).astype(np.int64))
        digest.update(repr(split.images.shape).encode())
        digest.update(np.ascontiguousarray(split.labels).tobytes())
        digest.update(np.ascontiguousarray(split.images.gather(chosen)).tobytes())
    return digest.hexdigest()


def of_all(splits: Mapping[str, Split]) -> str:
    """Tells any other pixel: a hash of all images and labels."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        digest.update(f"{name} {split.images.shape} {split.images.sha256()}".encode())
        digest.update(np.ascontiguousarray(split.labels).tobytes())
    return digest.hexdigest()
