"""Configurations: composed from `conf/`, checked whole, and built from."""

from scale.config.compose import (
    VERSION_BASE,
    ConfigError,
    compose,
    directory,
    grant,
    instantiate,
    options,
    share_stamp,
)
from scale.config.keys import flat, plain
from scale.config.overrides import check_command_line, check_run_folder, options_first

__all__ = [
    "VERSION_BASE",
    "ConfigError",
    "check_command_line",
    "check_run_folder",
    "compose",
    "directory",
    "flat",
    "grant",
    "instantiate",
    "options",
    "options_first",
    "plain",
    "share_stamp",
]
