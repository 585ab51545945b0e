"""The search space of a tuning: ranges and choices of ordinary overrides, checked before anything runs."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from scale.config import ConfigError, compose
from scale.config.keys import UNTUNABLE, key_of
from scale.utils.choices import nearest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str | None
Space = dict[str, "BaseDistribution"]


def read(node: Mapping[str, Any]) -> Space:
    """Optuna's distributions of a file of `conf/tune/`.

    Args:
        node: by override key, a list of values or a mapping with `low`, `high` and perhaps `log` or `step`.

    Raises:
        ConfigError: with every problem that was found.
    """
    problems, space = [], {}
    if not node:
        problems.append("tune: the space is empty: name at least one key with a range or a list")
    for key, entry in node.items():
        try:
            if key in UNTUNABLE or key.startswith("hydra."):
                raise ValueError(f"cannot be tuned: {UNTUNABLE.get(key, 'it is no key of a training')}")
            space[str(key)] = _choice(entry) if isinstance(entry, list) else _range(entry)
        except ValueError as error:
            problems.append(f"tune: {key}: {error}")
    if problems:
        raise ConfigError(problems)
    return space


def check(space: Space, overrides: Sequence[str], *, config_dir: str | None = None) -> None:
    """Composes every choice and the ends of every range.

    Raises:
        ConfigError: a key does not exist, or does not take a value.
    """
    # Composing takes a fifth of a second, so the keys are changed together: as many times as the longest list is long.
    # What lies between two ends that are valid is valid.
    ends = {key: _ends(distribution) for key, distribution in space.items()}
    problems = []
    for n in range(max(map(len, ends.values()))):
        values = [assignment(key, found[min(n, len(found) - 1)]) for key, found in ends.items()]
        try:
            compose([*overrides, *values], config_dir=config_dir)
        except ConfigError as error:
            problems += [f"tune: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)


def default(
    space: Space, config: DictConfig, overrides: Sequence[str], *, config_dir: str | None = None
) -> dict[str, Value] | None:
    """The trial that is the configuration itself, or None where that lies outside the space.

    Args:
        space: of the study.
        config: without the values of a trial.
        overrides: that it is composed of.
        config_dir: further folder of options.

    Raises:
        ConfigError: a range of whole numbers for a key whose value is a fraction.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    found: dict[str, Value] = {}
    problems = []
    for key, distribution in space.items():
        now = OmegaConf.select(config, key.lstrip("+"))
        if isinstance(distribution, CategoricalDistribution):
            rest = without(overrides, {key})
            for value in distribution.choices:
                same = value == now and type(value) is type(now)
                if not same and isinstance(value, str) and not isinstance(now, str):  # a group's option, or a list
                    same = compose([*rest, assignment(key, value)], config_dir=config_dir) == config
                if same:
                    found[key] = value
                    break
        elif isinstance(distribution, IntDistribution) and isinstance(now, float):
            ends = f"{distribution.low} and {distribution.high}"
            problems.append(f"tune: {key}: {ends} are whole numbers, but the key takes fractions: write {ends}.0")
        elif isinstance(now, int | float) and _inside(now, distribution):
            found[key] = now
    if problems:
        raise ConfigError(problems)
    return found if set(found) == set(space) else None


def assignment(key: str, value: Value) -> str:
    """An override; text stands as it is behind the sign, so that `"[32, 64]"` is a list."""
    named = {None: "null", True: "true", False: "false"}
    return f"{key}={named[value] if value is None or isinstance(value, bool) else value}"


def foreign(space: Space, values: Mapping[str, Any]) -> str | None:
    """The first of a trial's values that its study can never have tried, as a file that was changed has; else None."""
    for key, value in values.items():
        if key not in space or not _holds(space[key], value):
            return f"{key}={value!r:.80}, which is not in the study's space"
    return None


def without(overrides: Sequence[str], keys: Collection[str]) -> list[str]:
    """The overrides of other keys."""
    return [override for override in overrides if key_of(override) not in keys]


def _choice(entry: Sequence[Any]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution

    if any(not isinstance(value, bool | int | float | str | None) for value in entry):
        raise ValueError("a choice is text, a number, true, false or null; write a list as text: '[32, 64]'")
    if len({(type(value), value) for value in entry}) < max(len(entry), 2):
        raise ValueError(f"{list(entry)}: give at least two values, each once")
    return CategoricalDistribution(entry)


def _range(entry: Any) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    if not isinstance(entry, dict):
        raise ValueError(f"{entry!r}: give a range {{low: ..., high: ...}} or a list of values")
    allowed = ["low", "high", "log", "step"]
    for name in entry:
        if name not in allowed:
            raise ValueError(f"a range has no {name!r}{nearest(str(name), allowed)}; allowed: {', '.join(allowed)}")
    low, high = _number(entry, "low"), _number(entry, "high")
    step = _number(entry, "step") if "step" in entry else None
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"log={log}: give true or false")
    if not low < high:
        raise ValueError(f"low={low} is not below high={high}")
    if log and low <= 0:
        raise ValueError(f"low={low}: a logarithmic range begins above 0")
    if log and step is not None:
        raise ValueError("give log or step, not both")
    if step is not None and (step <= 0 or not math.isclose((high - low) / step, round((high - low) / step))):
        raise ValueError(f"step={step} does not lead from low={low} to high={high}")
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, int | None):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def _number(entry: Mapping[str, Any], name: str) -> int | float:
    if name not in entry:
        raise ValueError(f"{name} is missing")
    number = entry[name]
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{name}={number}: give a number")
    return number


def _ends(distribution: Any) -> list[Value]:
    return list(distribution.choices) if hasattr(distribution, "choices") else [distribution.low, distribution.high]


def _inside(value: float, distribution: Any) -> bool:
    if not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / distribution.step if distribution.step else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-9)


def _holds(distribution: Any, value: Any) -> bool:
    if hasattr(distribution, "choices"):
        return any(value == choice and type(value) is type(choice) for choice in distribution.choices)
    return isinstance(value, int | float) and not isinstance(value, bool) and _inside(value, distribution)
