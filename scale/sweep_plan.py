"""What a sweep consists of, from its command line and the configuration (a `sweep=` file)."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException


def jobs_to_check(
    overrides: Sequence[str], *, multirun: bool, compose: Callable[[Sequence[str]], DictConfig]
) -> Iterator[list[str]]:
    """The job of a plain command; of a sweep, as many as show every value once, then all but for other seeds.

    Args:
        overrides: of the command line.
        multirun: whether `-m` is given.
        compose: gives a configuration with Hydra's own part.

    Raises:
        HydraException: a file that sweeps, without `-m`.
    """
    if not multirun and "hydra.mode=MULTIRUN" not in overrides:
        _refuse_several(overrides, compose)
        yield list(overrides)
        return
    parsed = OverridesParser.create().parse_overrides(overrides=list(overrides))
    try:
        config = compose([override.input_line or "" for override in parsed if not override.is_sweep_override()])
        lines = params(config)
    except (HydraException, OmegaConfBaseException):
        lines = []  # the check of the jobs says why
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(overrides=[*lines, *overrides]):
        key = override.get_key_element()
        chosen_value = override.value()
        if isinstance(chosen_value, Glob):
            from scale.config import options

            choices[key] = [f"{key}={name}" for name in chosen_value.filter(options(str(key)))]
        elif override.is_sweep_override():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            choices[key] = [override.input_line or ""]
    yield from _every_value_once(choices)


def _refuse_several(overrides: Sequence[str], compose: Callable[[Sequence[str]], DictConfig]) -> None:
    chosen = [text for text in overrides if text.startswith(("sweep=", "experiment=")) and not text.endswith("=null")]
    if not chosen or any(text.startswith(("hydra.mode=RUN", "resume=", "rerun=")) for text in overrides):
        return
    given = {text.lstrip("+~").partition("=")[0] for text in overrides}
    try:
        wanted = [line for line in params(compose(overrides)) if line.partition("=")[0] not in given]
    except (HydraException, OmegaConfBaseException):
        return  # the check of the job says why
    if wanted:
        raise HydraException(
            f"{chosen[0]} is for several runs ({', '.join(wanted)}): python -m scale.train -m {chosen[0]}"
        )


def _every_value_once(choices: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Jobs that show every value, the fewest first: a misspelt one is found early."""
    given = {key: values for key, values in choices.items() if values}
    longest = max(map(len, given.values()), default=1)
    shown = [[values[min(n, len(values) - 1)] for values in given.values()] for n in range(longest)]
    yield from shown
    seen = [set(job) for job in shown]
    rest = itertools.product(*(values for key, values in given.items() if key != "seed"))
    yield from (list(job) for job in rest if not any(known.issuperset(job) for known in seen))


def params(config: DictConfig) -> list[str]:
    """What the configuration itself sweeps, as overrides."""
    return [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]


def plan(config: DictConfig) -> dict[str, Any]:
    """What is swept: `choices`, as given, and the overrides of all `jobs`, in Hydra's order."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = [
        override
        for override in parser.parse_overrides([*params(config), *config.hydra.overrides.task])
        if override.get_key_element() != "sweep.resume"
    ]
    choices = {override.get_key_element(): (override.input_line or "").partition("=")[2] for override in overrides}
    (batch,) = BasicSweeper.split_arguments(overrides, None)
    return {"choices": choices, "jobs": batch}


def settings_of(overrides: Sequence[str]) -> dict[str, str]:
    """A job's overrides by key, without the choice of a `sweep=` file."""
    return dict(override.split("=", 1) for override in overrides if not override.startswith("sweep="))


def varied(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys in which a sweep's jobs differ."""
    keys = dict.fromkeys(key for found in settings for key in found)
    return [key for key in keys if len({found.get(key) for found in settings}) > 1]
