"""Reading checkpoints that may be damaged, or a stranger's."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

from scale.runs.reading import ANOTHER


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU: tensors and plain containers only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds more than that; names the file.
    """
    import torch

    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; {ANOTHER}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("torch compresses nothing, but this file is compressed")
        found = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not isinstance(found.get("state_dict"), dict):
            raise ValueError("it has no weights")
        int(found["epoch"]), int(found["global_step"])
    except (
        *(RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError),
        *(AssertionError, OverflowError, ImportError, RecursionError, NotImplementedError, MemoryError),
        *(zipfile.BadZipFile, pickle.UnpicklingError),
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is damaged or no checkpoint ({reason:.160}); {ANOTHER}") from error
    return found


def of_member(state: dict[str, Any], name: str) -> dict[str, Any]:
    """A joint network's checkpoint as that of the network of one of its data sets.

    Raises:
        KeyError: it has none of that name.
    """
    prefix = f"net.members.{name}."
    found = {key: value for key, value in state["state_dict"].items() if key.startswith(prefix)}
    if not found:
        raise KeyError(prefix)
    return {**state, "state_dict": {f"net.{key.removeprefix(prefix)}": value for key, value in found.items()}}
