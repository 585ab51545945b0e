"""What a sweep consists of, from its command line and the configuration (a `sweep=` file)."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from scale.config.overrides import params


def plan(config: DictConfig) -> dict[str, Any]:
    """What is swept: `choices`, as given, and the overrides of all `jobs`, in Hydra's order."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    # Hydra's own parser and splitter, so that the plan has the jobs that Hydra will run, in its order: a job's number
    # names its folder, and resuming finds it by that.
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
