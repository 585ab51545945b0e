"""What can be said about a preparation, and what is inferred from the files where it is not."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scale.preparing.pool import picture
from scale.preparing.preprocess import WINDOWS, Preprocessing
from scale.preparing.samples import Sample
from scale.readers import UnreadableError
from scale.utils.choices import suggest

SIZES = {2: (28, 64, 128, 224), 3: (28, 64)}  # MedMNIST's
PROBED = 32  # files from which size, channels and intensities are inferred
SYMMETRIES = {  # what augmentation may do
    "upright": "nothing is flipped in training; where labels allow, give mirrored (left-right) or free (all ways)",
    "mirrored": "left-right flips keep the label",
    "free": "every flip and rotation keeps the label",
}


@dataclass(frozen=True)
class Settings:
    """Keys of `conf/prepare.yaml`; None: inferred.

    Attributes:
        problem: what the labels ask.
        order: classes in the order of their numbers.
        symmetry: changes of pose that keep the label, for augmentation.
        size: pixels of a side.
        channels: 1 or 3.
        orientation: of volumes, as `Preprocessing`.
        spacing: as `Preprocessing`.
        intensity: `as_is`, `percentiles` or `window`.
        percentiles: as `Preprocessing`.
        window: a name of `WINDOWS`, or lower and upper value.
        fit: `pad` or `stretch`.
        fractions: of train, val and test.
        folds: of a cross-validation; none if None.
        seed: of the splits.
        duplicates: `skip` all but one of equal files, or `keep` them.
    """

    problem: str | None = None
    order: tuple[str, ...] | None = None
    symmetry: str = "upright"
    size: int | None = None
    channels: int | None = None
    orientation: str = "SPL"
    spacing: float | str | None = None
    intensity: str | None = None
    percentiles: tuple[float, float] = (0.5, 99.5)
    window: str | tuple[float, float] | None = None
    fit: str = "pad"
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    folds: int | None = None
    seed: int = 0
    duplicates: str = "skip"

    def __post_init__(self) -> None:
        """Raises ValueError for a value that cannot be."""
        for key, given, allowed in (
            ("symmetry", self.symmetry, SYMMETRIES),
            ("duplicates", self.duplicates, ("skip", "keep")),
        ):
            if given not in allowed:
                raise ValueError(f"{key}={given!r}: {suggest(str(given), allowed)}")
        if isinstance(self.window, str) and self.window not in WINDOWS:
            raise ValueError(f"window={self.window!r}: give [lower,upper] or a name; {suggest(self.window, WINDOWS)}")
        if self.window is not None and self.intensity not in (None, "window"):
            raise ValueError(f"intensity={self.intensity} and window={self.window} contradict each other: give one")
        if len(self.fractions) != 3 or min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"fractions={list(self.fractions)}: give three numbers above 0 that add up to 1")
        if self.folds is not None and self.folds < 3:
            raise ValueError(f"folds={self.folds}: give at least 3, or null")
        self.preprocessing(2, 1, 1, "as_is")  # the rest is checked there

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Of a plain node of a configuration, whose lists may hold other types of numbers."""
        tuples = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        if "order" in tuples:
            tuples["order"] = tuple(map(str, tuples["order"]))
        return cls(**{**values, **tuples})

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def preprocessing(self, dims: int, size: int, channels: int, intensity: str) -> Preprocessing:
        """The preprocessing with what was inferred where nothing is given."""
        window = WINDOWS[self.window] if isinstance(self.window, str) else self.window
        return Preprocessing(
            size=(size if self.size is None else self.size,) * dims,
            channels=channels if self.channels is None else self.channels,
            orientation=self.orientation,
            spacing=self.spacing,
            intensity="window" if window is not None else self.intensity or intensity,
            percentiles=self.percentiles,
            window=window,
            fit=self.fit,
        )


def infer(samples: Sequence[Sample], settings: Settings) -> tuple[Preprocessing, list[str]]:
    """The preprocessing that fits most of some files spread over all, and what was inferred, in words.

    Raises:
        ValueError: none of them can be read.
    """
    rows = np.unique(np.linspace(0, len(samples) - 1, PROBED).astype(int))
    found, reasons = [], []
    for row in rows:
        try:
            found.append(picture(samples[row]))
        except UnreadableError as error:
            reasons.append(f"{samples[row].name} {error}")
    if not found:
        raise ValueError(f"none of {len(rows)} files that were tried can be read; the first: {reasons[0]}")
    dims = Counter(one.spatial_dims for one in found).most_common(1)[0][0]
    found = [one for one in found if one.spatial_dims == dims]
    channels = 3 if any(one.channels == 3 for one in found) else 1
    edge = float(np.median([max(one.shape) for one in found]))
    size = next((size for size in SIZES[dims] if size >= edge), SIZES[dims][-1])
    plain = all(one.values.dtype in (np.uint8, np.bool_) for one in found)
    how = settings.preprocessing(dims, size, channels, "as_is" if plain else "percentiles")
    shape = " x ".join(map(str, found[0].shape))
    said = [f"{'volumes' if dims == 3 else 'images'}; of {len(found)} files that were looked at, the first is {shape}"]
    if settings.size is None:
        said.append(f"size={size}: the median longest edge is {edge:.0f}")
    if settings.channels is None:
        said.append(f"channels={channels}: {'a file has' if channels == 3 else 'no file has'} colours")
    if settings.intensity is None and settings.window is None:
        kinds = ", ".join(sorted({str(one.values.dtype) for one in found}))
        said.append(f"intensity={how.intensity}: values are {kinds}")
    return how, said
