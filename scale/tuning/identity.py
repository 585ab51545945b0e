"""What a study is of: by this a command that goes on with it is told from one that is for something else."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from scale.config.keys import Kind, deciding, flat, kind

if TYPE_CHECKING:
    from scale.tuning.space import Space

CONTENT = "content"  # a study of an earlier version does not have it
FREE = (Kind.PLACE, Kind.HARDWARE)  # what may differ between the commands and machines that share a study


def of(space: "Space", config: Mapping[str, Any], content: str | None) -> dict[str, Any]:
    """Plain values that Optuna's record keeps.

    Args:
        space: that is searched.
        config: of all trials.
        content: a hash of the data at `data.path`, if there are any.
    """
    from optuna.distributions import distribution_to_json

    return {
        "space": {key: json.loads(distribution_to_json(value)) for key, value in space.items()},
        "config": {key: value for key, value in flat(config) if kind(key) not in FREE},
        **({} if content is None else {CONTENT: content}),
    }


def differing(known: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two studies, a text each; an earlier version's names and keys are read as today's."""
    contents = [study.get(CONTENT) for study in (known, here)]
    if None not in contents and contents[0] != contents[1]:
        yield "the images or labels at data.path are not the study's"
    known, here = ({**study, "config": deciding(study["config"], free=FREE)} for study in (known, here))
    for part, title in (("config", ""), ("space", "the space of ")):
        for key in sorted(set(known[part]) | set(here[part])):
            if known[part].get(key) != here[part].get(key):
                yield f"{title}{key} is {_shown(known[part], key)} there and {_shown(here[part], key)} here"


def _shown(part: Mapping[str, Any], key: str) -> str:
    if key not in part:
        return "not set"
    value = part[key]
    if isinstance(value, Mapping):  # a distribution
        settings = value["attributes"]
        return (
            str(list(settings["choices"]))
            if "choices" in settings
            else f"{settings['low']} to {settings['high']}" + (", log" if settings.get("log") else "")
        )
    return str(value)
