"""What a run says of the files it can be given: their preprocessing and the names of the classes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scale.data import catalog
from scale.preparing.preprocess import Preprocessing

NAME = "preprocessing.json"


@dataclass(frozen=True)
class Inputs:
    """What goes in and how the classes are called.

    Attributes:
        preprocessing: what is done to a file.
        classes: names of the classes or labels.
        title: of the data set.
    """

    preprocessing: Preprocessing
    classes: tuple[str, ...]
    title: str


def content(
    image_shape: Sequence[int], classes: Sequence[str], title: str, preprocessing: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a run keeps in `preprocessing.json`.

    Args:
        image_shape: (C, *S).
        classes: names.
        title: of the data set.
        preprocessing: of the training's files; None where they are unknown: grey levels as they are, to the run's size.
    """
    how = preprocessing or plain(image_shape).record()
    return {"title": title, "classes": list(classes), "preprocessing": dict(how)}


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
        known = flag in catalog.FLAGS
        names = catalog.get(flag).labels if known else [f"class {number}" for number in range(metrics["num_classes"])]
        return Inputs(plain(shape), tuple(names), catalog.get(flag).title if known else flag)
    try:
        record = json.loads(path.read_text())
        inputs = Inputs(
            Preprocessing.from_record(record["preprocessing"]), tuple(map(str, record["classes"])), str(record["title"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    how = inputs.preprocessing
    if (how.channels, *how.size) != tuple(shape) or len(inputs.classes) != metrics["num_classes"]:
        raise ValueError(
            f"{path} is not of this run: it makes {(how.channels, *how.size)}, the run takes {tuple(shape)}"
        )
    return inputs


def plain(image_shape: Sequence[int]) -> Preprocessing:
    """Grey levels as they are, to a run's size."""
    channels, *size = image_shape
    return Preprocessing(size=tuple(int(edge) for edge in size), channels=int(channels))
