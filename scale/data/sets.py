"""Which data sets can be learned from together: `data.sets` of `data=joint`."""

from collections.abc import Iterator, Mapping
from typing import Any

from scale.data import catalog
from scale.utils.choices import suggest

PHANTOMS = {"phantom2d": 2, "phantom3d": 3}  # dimensions
NAMES = (*catalog.FLAGS, *PHANTOMS)


def problems(sets: Any, options: Any = None) -> Iterator[str]:
    """What is wrong with `data.sets` and, of single sets, `data.options`."""
    if not isinstance(sets, list) or len(set(map(str, sets))) != len(sets) or len(sets) < 2:
        yield f"data.sets={sets}: give at least two data sets, each once: 'data.sets=[breastmnist,vesselmnist3d]'"
        return
    for name in sets:
        if name not in NAMES:
            yield f"data.sets: there is no data set {name!r}; {suggest(str(name), NAMES)}"
    if not isinstance(options, Mapping | None) or not all(isinstance(own, Mapping) for own in (options or {}).values()):
        yield f"data.options={options}: give options by the set's name, such as {{phantom2d: {{size: 28}}}}"
        return
    for name in options or {}:
        if name not in sets:
            yield f"data.options names {name}, which is not in data.sets={list(sets)}"
