"""Images or volumes: what a model or an experiment is for, and what the data are."""

from typing import Any

from scale.data import catalog


def wrong_dims(wanted: int | None, dims: int | None) -> str | None:
    """What is wrong where a model or an experiment is for data of other dimensions; None in a 2 or 3 is unknown."""
    if None in (wanted, dims) or wanted == dims:
        return None
    kinds = {2: ("images", "2D, such as breastmnist"), 3: ("volumes", "3D, such as vesselmnist3d")}
    if wanted not in kinds:
        return f"data_dims={wanted}: give 2, 3 or null"
    what, example = kinds[wanted]
    return f"data: {dims}D, but the model or experiment that was chosen is for {what} only: choose data in {example}"


def spatial_dims(data: dict[str, Any]) -> int | None:
    """Dimensions of what a plain `data` node names, where it can be told before the files are opened."""
    if data.get("flag") in catalog.FLAGS:
        return catalog.get(data["flag"]).spatial_dims
    dims = data.get("spatial_dims")
    return dims if isinstance(dims, int) else None
