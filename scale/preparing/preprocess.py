"""Preprocessing of custom images: one object, so that prediction does to a new file what preparation did to others."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from scale.data.orientation import SPL, check_orientation
from scale.preparing.resample import resample
from scale.readers.picture import Picture, UnreadableError, check_size

WINDOWS = {"lung": (-1350.0, 150.0), "bone": (-500.0, 1300.0), "brain": (0.0, 80.0), "soft": (-160.0, 240.0)}  # HU
CHANNELS = (1, 3)  # grey, RGB
INTENSITIES = ("as_is", "percentiles", "window")
FITS = ("pad", "stretch")
VERSION = 1  # of the operations; a record of another version is refused


@dataclass(frozen=True)
class Geometry:
    """Where the network's grid lies in a file's own.

    Attributes:
        axes: for each axis of the network's grid the file's axis.
        flipped: for each axis of the network's grid whether it runs against the file's.
        shape: of the file, in the network's order of axes.
        inner: size of the whole file on the network's grid.
        start: first place of the file on the network's grid; negative where it was cropped.
        size: of the network's grid.
    """

    axes: tuple[int, ...]
    flipped: tuple[bool, ...]
    shape: tuple[int, ...]
    inner: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]

    def place(self, values: np.ndarray) -> np.ndarray:
        """Values on the file's region (*inner[, C]), cropped or padded with 0 to the network's grid (*size[, C])."""
        if self.inner == self.size:
            return values
        grid = np.zeros((*self.size, *values.shape[len(self.size) :]), values.dtype)
        grid[self._inside()] = values[self._covered()]
        return grid

    def back(self, values: np.ndarray) -> np.ndarray:
        """A map on the network's grid (*size), on the file's own grid and axes; 0 where the network saw nothing.

        Returns:
            float32, of the file's shape.
        """
        region = np.zeros(self.inner, np.float32)
        region[self._covered()] = values[self._inside()]
        found = resample(region, self.shape)
        found = np.flip(found, tuple(axis for axis, flip in enumerate(self.flipped) if flip))
        return np.ascontiguousarray(np.moveaxis(found, range(found.ndim), self.axes))

    def _inside(self) -> tuple[slice, ...]:
        return tuple(
            slice(max(first, 0), min(first + inner, size))
            for first, inner, size in zip(self.start, self.inner, self.size, strict=True)
        )

    def _covered(self) -> tuple[slice, ...]:
        return tuple(
            slice(max(-first, 0), min(inner, size - first))
            for first, inner, size in zip(self.start, self.inner, self.size, strict=True)
        )


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a picture before a network sees it.

    Volumes with an affine are turned to `orientation` along their nearest axes, intensities become 0 to 255, and the
    picture is resampled to `size`, anti-aliased.

    Attributes:
        size: of the network's grid S, two or three numbers.
        channels: 1 (grey) or 3 (RGB). Grey files become RGB of three equal channels; colour for a grey network is
            refused, unless all channels are equal.
        orientation: of volumes: where index 0, 1 and 2 point to, of R/L, A/P and S/I. `SPL` are axial slices from below
            as radiologists look at them, `RAS` the axes of NIfTI. Volumes without an affine count as lying so.
        spacing: None: a voxel counts as a cube; `isotropic`: proportions in millimetres; a number: each value of the
            grid is as many millimetres wide, and what does not fit is cropped around the centre.
        intensity: `as_is` (0 to 255, 16 bits by their range, 0 to 1), `percentiles` of each picture, or a `window`.
        percentiles: lower and upper, for `percentiles`.
        window: lower and upper value, in Hounsfield units in CT.
        fit: `pad` with 0 to keep proportions, or `stretch`.
    """

    size: tuple[int, ...]
    channels: int = 1
    orientation: str = SPL
    spacing: float | str | None = None
    intensity: str = "as_is"
    percentiles: tuple[float, float] = (0.5, 99.5)
    window: tuple[float, float] | None = None
    fit: str = "pad"

    def __post_init__(self) -> None:
        """Raises ValueError for a value that cannot be."""
        if len(self.size) not in (2, 3) or min(self.size) < 1:
            raise ValueError(f"size={list(self.size)}: give two or three numbers of at least 1")
        if self.channels not in CHANNELS:
            raise ValueError(f"channels={self.channels}: give 1 (grey) or 3 (RGB)")
        check_orientation(self.orientation)
        if isinstance(self.spacing, str) and self.spacing != "isotropic":
            raise ValueError(f"spacing={self.spacing!r}: give null, isotropic or millimetres")
        if isinstance(self.spacing, int | float) and not self.spacing > 0:
            raise ValueError(f"spacing={self.spacing}: give millimetres above 0")
        for key, given, allowed in (("intensity", self.intensity, INTENSITIES), ("fit", self.fit, FITS)):
            if given not in allowed:
                raise ValueError(f"{key}={given!r}: give {', '.join(allowed)}")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles={list(self.percentiles)}: give 0 <= lower < upper <= 100")
        if (self.intensity == "window") != (self.window is not None):
            raise ValueError("intensity=window and window=[lower,upper] go together: give both or neither")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"window={list(self.window)}: the lower value comes first")
        if self.fit == "stretch" and self.spacing is not None:
            raise ValueError(f"fit=stretch and spacing={self.spacing} contradict each other: give one of them")

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.size)

    def record(self) -> dict[str, Any]:
        """Plain values for JSON or YAML; `from_record` reads them."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"version": VERSION, **plain}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Preprocessing":
        """The object of a record. Raises ValueError where it is none of this version."""
        names = {field.name for field in fields(cls)}
        if not isinstance(record, Mapping) or record.get("version") != VERSION:
            raise ValueError(f"the preprocessing is not of version {VERSION}: prepare the data again")
        if unknown := set(record) - names - {"version"}:
            raise ValueError(f"the preprocessing has an unknown key {min(unknown)!r}")
        try:
            values = {key: record[key] for key in record if key in names}
            lists = {
                key: tuple(values[key]) for key in ("size", "percentiles", "window") if values.get(key) is not None
            }
            lists = {k: tuple(int(n) if k == "size" else float(n) for n in v) for k, v in lists.items()}
            return cls(**{**values, **lists})
        except TypeError as error:
            raise ValueError(f"the preprocessing cannot be read: {error}") from error

    def apply(self, picture: Picture) -> tuple[np.ndarray, Geometry]:
        """What the network sees of a picture.

        Returns:
            (*S) or (*S, 3), uint8, and where that lies in the file.

        Raises:
            UnreadableError: the picture does not fit: its dimensions, channels, values or unknown spacing.
        """
        values = self._channels(picture)
        axes, flipped = self._axes(picture)
        values = values.transpose(*axes, *range(self.spatial_dims, values.ndim))
        values = np.flip(values, tuple(axis for axis, flip in enumerate(flipped) if flip))
        values = _eight_bits(values, self)
        geometry = self._geometry(picture, axes, flipped)
        grid = geometry.place(values if geometry.inner == geometry.shape else resample(values, geometry.inner))
        if grid.dtype == np.uint8:
            return np.ascontiguousarray(grid), geometry
        return np.clip(np.rint(grid), 0, 255).astype(np.uint8), geometry

    def _channels(self, picture: Picture) -> np.ndarray:
        kinds = {2: "an image", 3: "a volume"}
        if picture.spatial_dims != self.spatial_dims:
            raise UnreadableError(
                f"is {kinds.get(picture.spatial_dims)} of {' x '.join(map(str, picture.shape))}, but the network takes "
                f"{'images' if self.spatial_dims == 2 else 'volumes'}"
            )
        values = picture.values
        if picture.channels == self.channels:
            return values[..., 0] if self.channels == 1 and values.ndim > self.spatial_dims else values
        if picture.channels == 1:
            grey = values if values.ndim == self.spatial_dims else values[..., 0]
            return np.repeat(grey[..., None], self.channels, axis=-1)
        if self.channels == 1 and (values == values[..., :1]).all():
            return values[..., 0]
        wanted = "grey" if self.channels == 1 else f"{self.channels} channels"
        raise UnreadableError(f"has {picture.channels} channels (colour), but the network takes {wanted}")

    def _axes(self, picture: Picture) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        plain = tuple(range(self.spatial_dims))
        if picture.affine is None or self.spatial_dims == 2:
            return plain, (False,) * self.spatial_dims
        from nibabel.orientations import axcodes2ornt, io_orientation

        own = io_orientation(picture.affine)  # for each file axis: world axis and direction
        wanted = axcodes2ornt(tuple(self.orientation))
        axes = tuple(int(np.flatnonzero(own[:, 0] == world)[0]) for world, _ in wanted)
        return axes, tuple(bool(own[axis, 1] != way) for axis, (_, way) in zip(axes, wanted, strict=True))

    def _geometry(self, picture: Picture, axes: tuple[int, ...], flipped: tuple[bool, ...]) -> Geometry:
        shape = tuple(picture.shape[axis] for axis in axes)
        steps = (1.0,) * len(shape)  # of the file's values
        if self.spacing is not None:
            if picture.spacing is None:
                raise UnreadableError(f"has no voxel size, which spacing={self.spacing} needs")
            steps = tuple(picture.spacing[axis] for axis in axes)
        extent = tuple(count * step for count, step in zip(shape, steps, strict=True))
        if self.fit == "stretch":
            inner = self.size
        else:
            pitch = max(length / size for length, size in zip(extent, self.size, strict=True))
            pitch = float(self.spacing) if isinstance(self.spacing, int | float) else pitch
            inner = tuple(max(1, round(length / pitch)) for length in extent)
        check_size(inner)
        start = tuple((size - count) // 2 for size, count in zip(self.size, inner, strict=True))
        return Geometry(axes, flipped, shape, inner, start, self.size)


def _eight_bits(values: np.ndarray, how: Preprocessing) -> np.ndarray:
    """Values from 0 to 255: uint8 where they are so already, else float32."""
    if how.intensity == "as_is":
        return _as_they_are(values)
    numbers = values.astype(np.float32)
    if how.intensity == "window":
        assert how.window is not None
        low, high = how.window
    else:
        low, high = (float(value) for value in np.percentile(numbers, how.percentiles))
    if high <= low:  # one value only
        return np.zeros(values.shape, np.uint8)
    return np.clip((numbers - low) * (255 / (high - low)), 0, 255)


def _as_they_are(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        return values.astype(np.float32) / 257
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255 and (values == np.rint(values)).all() and (high > 1 or values.dtype.kind in "ui"):
        return values.astype(np.uint8)
    if low >= 0 and high <= 1:
        return values.astype(np.float32) * 255
    raise UnreadableError(
        f"holds values from {low:.6g} to {high:.6g} ({values.dtype}), which are no grey levels: prepare with "
        "intensity=percentiles or window=[lower,upper]"
    )
