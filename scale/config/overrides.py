"""The command line before Hydra: put in order, checked whole, and the jobs of a sweep that show every value."""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from scale.config.compose import Check, ConfigError, compose, compose_unchecked, options
from scale.config.keys import current, key_of
from scale.utils.cli import USAGE, fail


def check_command_line(arguments: Sequence[str], *, name: str = "train", check: Check | None = None) -> None:
    """Ends the program with status 2 and one report if the command line's configuration is wrong. Imports no torch."""
    from hydra._internal.utils import get_args_parser  # the parser that Hydra's own main uses

    given = get_args_parser().parse_args(list(arguments))
    if given.help or given.hydra_help or given.info or given.shell_completion:
        return
    if given.config_dir and not Path(given.config_dir).is_dir():
        fail(f"--config-dir {given.config_dir}: there is no such folder", status=USAGE)
    try:
        whole = partial(compose_unchecked, name=name, config_dir=given.config_dir, hydra=True)
        for overrides in jobs_to_check(given.overrides, multirun=given.multirun, compose=whole):
            compose(overrides, name=name, config_dir=given.config_dir, check=check)
    except (ConfigError, HydraException) as error:
        fail(error, status=USAGE)


def options_first(arguments: Sequence[str]) -> list[str]:
    """A command line in today's words, `-m` and `--config-dir DIR` in front, where Hydra's parser wants them."""
    front, rest = [], []
    remaining = iter(arguments)
    for text in remaining:
        if text in ("--config-dir", "-cd"):
            front += [text, *itertools.islice(remaining, 1)]
        elif text in ("-m", "--multirun") or text.startswith(("--config-dir=", "-cd=")):
            front.append(text)
        else:
            rest.append(current(text))
    return [*front, *rest]


def check_run_folder(arguments: Sequence[str]) -> None:
    """Ends the program with status 1 if a run's folder cannot be made, before Hydra tries to."""
    from hydra._internal.utils import get_args_parser
    from hydra.core.hydra_config import HydraConfig

    given = get_args_parser().parse_args(list(arguments))
    if given.help or given.hydra_help or given.info or given.shell_completion or given.cfg or given.multirun:
        return
    config = compose_unchecked(given.overrides, "train", given.config_dir, hydra=True)
    HydraConfig.instance().set_config(config)
    folder = Path(config.hydra.run.dir).absolute()
    HydraConfig.instance().cfg = None
    nearest = folder
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        with tempfile.TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        fail(
            f"cannot write the run folder {str(folder)[:200]} ({error.strerror}: {str(nearest)[:200]}); give another "
            "with hydra.run.dir=... or paths.runs=..."
        )


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
    given = {key_of(text) for text in overrides}
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
