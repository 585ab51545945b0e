"""Where the axes of a volume point to: three letters, one of R or L, A or P and S or I for index 0, 1 and 2."""

from collections.abc import Mapping
from typing import Any

import numpy as np

SPL = "SPL"  # axial slices from below, as radiologists look at them
_WORLD = {"R": (0, 1.0), "L": (0, -1.0), "A": (1, 1.0), "P": (1, -1.0), "S": (2, 1.0), "I": (2, -1.0)}  # axis of RAS
_ACROSS = ("sagittal", "coronal", "axial")  # the plane across each axis of RAS


def check_orientation(orientation: object) -> str:
    """The orientation; raises ValueError where it is none."""
    if (
        not isinstance(orientation, str)
        or len(orientation) != 3
        or any(len(set(pair) & set(orientation)) != 1 for pair in ("RL", "AP", "SI"))
    ):
        raise ValueError(f"orientation={orientation!r}: give one of R or L, A or P and S or I each, such as SPL")
    return orientation


def of(preprocessing: Mapping[str, Any] | None) -> str:
    """The orientation that a record of preprocessing says, `SPL` where it says none; raises ValueError as the check."""
    if not isinstance(preprocessing, Mapping | None):
        raise ValueError("it is no mapping")
    return check_orientation((preprocessing or {}).get("orientation", SPL))


def mirrored_axis(orientation: str) -> int:
    """The axis that runs between right and left."""
    return next(axis for axis, letter in enumerate(orientation) if letter in "RL")


def planes(orientation: str) -> tuple[str, ...]:
    """The plane across each axis: axial, coronal or sagittal."""
    return tuple(_ACROSS[_WORLD[letter][0]] for letter in orientation)


def affine(orientation: str) -> np.ndarray:
    """(4, 4), from the indices of the volume's axes to millimetres to the right, front and top (RAS), 1 mm a voxel."""
    found = np.zeros((4, 4))
    found[3, 3] = 1
    for axis, letter in enumerate(orientation):
        world, way = _WORLD[letter]
        found[world, axis] = way
    return found
