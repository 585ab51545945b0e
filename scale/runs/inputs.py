"""What a run says of the files it can be given: their preprocessing and the names of the classes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scale.data import catalog
from scale.preparing.preprocess import CHANNELS, Preprocessing

NAME = "preprocessing.json"


@dataclass(frozen=True)
class Inputs:
    """What goes in and how the classes are called.

    Attributes:
        how: what is done to a file; None of channels that no file is read as.
        classes: names of the classes or labels.
        title: of the data set.
        flips: spatial axes along which the mirror image keeps the label; None where a run of before does not say.
    """

    how: Preprocessing | None
    classes: tuple[str, ...]
    title: str
    flips: tuple[int, ...] | None = field(default=None, compare=False)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to a file; raises ValueError where the network takes channels that no file is read as."""
        if self.how is None:
            raise ValueError(
                f"a network for {self.title} takes other channels than grey (1) or RGB (3), as which files are read: "
                "python -m scale.evaluate and scale.explain work on its data set"
            )
        return self.how


def content(
    image_shape: Sequence[int],
    classes: Sequence[str],
    title: str,
    preprocessing: Mapping[str, Any] | None,
    flips: Sequence[int],
) -> dict[str, Any]:
    """What a run keeps in `preprocessing.json`.

    Args:
        image_shape: (C, *S).
        classes: names.
        title: of the data set.
        preprocessing: of the training's files; None where they are unknown: grey levels as they are, to the run's size.
        flips: spatial axes along which the mirror image keeps the label.
    """
    how = plain(image_shape)
    said = preprocessing or (None if how is None else how.record())
    return {
        "title": title,
        "classes": list(classes),
        "preprocessing": None if said is None else dict(said),
        "flips": list(flips),
    }


def read(folder: Path, metrics: Mapping[str, Any]) -> Inputs:
    """Of a finished run, also one that was made before runs kept it.

    Args:
        folder: of the run.
        metrics: its `metrics.json`.

    Raises:
        ValueError: the file is damaged, or does not fit the run.
    """
    path, shape = folder / NAME, metrics["image_shape"]
    if not path.is_file():
        flag = metrics["flag"]
        if flag in catalog.FLAGS:
            known = catalog.get(flag)
            return Inputs(plain(shape), tuple(known.labels), known.title, known.symmetry.flips)
        return Inputs(plain(shape), tuple(f"class {number}" for number in range(metrics["num_classes"])), flag)
    try:
        record = json.loads(path.read_text())
        said, flips = record["preprocessing"], record.get("flips")
        inputs = Inputs(
            None if said is None else Preprocessing.from_record(said),
            tuple(map(str, record["classes"])),
            str(record["title"]),
            flips_of(flips, len(shape) - 1) if flips is not None else _of_catalog(metrics["flag"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    makes = tuple(shape) if inputs.how is None else (inputs.how.channels, *inputs.how.size)
    if makes != tuple(shape) or len(inputs.classes) != metrics["num_classes"]:
        raise ValueError(f"{path} is not of this run: it makes {makes}, the run takes {tuple(shape)}")
    return inputs


def plain(image_shape: Sequence[int]) -> Preprocessing | None:
    """Grey levels as they are, to a run's size; None of channels that no file is read as."""
    channels, *size = image_shape
    if channels not in CHANNELS:
        return None
    return Preprocessing(size=tuple(int(edge) for edge in size), channels=int(channels))


def flips_of(given: Any, dims: int) -> tuple[int, ...]:
    """A record's `flips`.

    Raises:
        ValueError: they are no spatial axes.
    """
    if not isinstance(given, list) or not all(type(axis) is int and 0 <= axis < dims for axis in given):
        raise ValueError(f"flips={given!r:.80}: a list of spatial axes, 0 to {dims - 1}, is needed")
    return tuple(given)


def _of_catalog(flag: str) -> tuple[int, ...] | None:
    return catalog.get(flag).symmetry.flips if flag in catalog.FLAGS else None
