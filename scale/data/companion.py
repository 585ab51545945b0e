"""The companion of a prepared npz file: what its classes are called, what its labels ask, how it was preprocessed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scale.data.catalog import PROBLEMS
from scale.utils.files import replacing

VERSION = 1


def path_of(npz: Path) -> Path:
    """`NAME.yaml` beside `NAME.npz`, so `dataset.yaml` beside `dataset.npz`."""
    return npz.with_suffix(".yaml")


def write(npz: Path, record: Mapping[str, Any]) -> None:
    """Writes the companion of a file."""
    import yaml

    with replacing(path_of(npz)) as file:
        file.write(yaml.safe_dump({"version": VERSION, **record}, sort_keys=False, allow_unicode=True).encode())


def read(npz: Path) -> dict[str, Any] | None:
    """What the companion of a file says; None if it has none.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    import yaml

    path = path_of(npz)
    if not path.is_file():
        return None
    try:
        record = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML file ({str(error).splitlines()[0]}): prepare the data again") from error
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ValueError(f"{path} is no companion of version {VERSION}: prepare the data again, or move it away")
    classes = record.get("classes")
    if (
        record.get("problem") not in PROBLEMS
        or not isinstance(classes, list)
        or not all(isinstance(c, str) for c in classes)
    ):
        raise ValueError(f"{path} lacks the problem or the names of the classes: prepare the data again")
    return record
