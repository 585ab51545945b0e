"""Where `conf/` is; composing, with all errors in one report; the one caller of Hydra's `instantiate`."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scale.config import checks, schemas, signatures, targets
from scale.config.keys import LISTS, SHOWN, SUPPLIED, current, flat, key_of, plain, without_own
from scale.utils.choices import nearest
from scale.utils.slurm import slurm_job

VERSION_BASE = "1.3"
PACKAGE = Path(__file__).resolve().parents[1]
Check = Callable[[Mapping[str, Any]], Iterable[str]]  # what is wrong with the values of a plain configuration

EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}  # of launchers


def _stamp() -> str:
    """What makes a run folder's name its own: the time, or under a cluster what all processes of the job agree on."""
    if STAMP in os.environ:
        return os.environ[STAMP]
    if "SLURM_JOB_ID" in os.environ:  # the same after a requeue, another one for another command of the job
        command = hashlib.sha256("\n".join(sys.argv[1:]).encode()).hexdigest()[:6]
        return f"slurm{slurm_job()}-{command}"
    return f"{datetime.now():%Y%m%d-%H%M%S-%f}"


def share_stamp() -> None:
    """Under torchrun: lets all processes use the stamp of rank 0, by the store in which torchrun's agent keeps them."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or STAMP in os.environ:
        return
    from torch.distributed import TCPStore

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    os.environ[STAMP] = store.compare_set("scale/stamp", "", _stamp()).decode()


STAMP = "SCALE_STAMP"  # environment variable: the stamp that rank 0 has chosen for all
schemas.register()
OmegaConf.register_new_resolver("stamp", _stamp, use_cache=True)
OmegaConf.register_new_resolver("not_mixed", lambda precision: not checks.is_mixed(precision))


class ConfigError(Exception):
    """All that is wrong with a configuration, one problem a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        count = len(self.problems)
        super().__init__(f"the configuration has {count} problem{'s' * (count > 1)}:\n{lines}")


def directory() -> Path:
    """The folder `conf/`: beside the package in a source tree, inside it in a wheel."""
    for candidate in (PACKAGE.parent / "conf", PACKAGE / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"no conf/ beside or inside {PACKAGE}: the installation is incomplete, install it again")


def options(group: str) -> list[str]:
    """Names of a group's options, in alphabetical order."""
    return sorted(p.stem for p in (directory() / group).glob("*.yaml") if not p.name.startswith("_"))


def compose(
    overrides: Sequence[str] = (), *, name: str = "train", config_dir: str | None = None, check: Check | None = None
) -> DictConfig:
    """Composes and checks a configuration, as in `compose(["data=breastmnist", "seed=1"])`.

    Args:
        overrides: as on the command line.
        name: of the root, a file of `conf/`.
        config_dir: further folder of options.
        check: says what else is wrong with the values, a problem a text.

    Raises:
        ConfigError: with every problem that was found.
    """
    overrides = [current(override) for override in overrides]
    problems: list[str] = []
    config = None
    try:
        config = compose_unchecked(overrides, name, config_dir)
    except (HydraException, OmegaConfBaseException) as error:
        accepted: list[str] = []
        try:
            config = compose_unchecked([], name, config_dir)
        except (HydraException, OmegaConfBaseException):
            raise ConfigError([_explain(error, "", None, name)]) from error
        for override in overrides:  # which of them are at fault, in one report
            try:
                config = compose_unchecked([*accepted, override], name, config_dir)
                accepted.append(override)
            except (HydraException, OmegaConfBaseException) as single:
                problems.append(_explain(single, override, config, name))
        if not problems:
            problems.append(_explain(error, "", config, name))
    if config is not None:
        problems.extend(_problems(config) if name == "train" else ())
        problems.extend(check(plain(config)) if check else ())
    if problems or config is None:
        raise ConfigError(problems)
    return grant(config) if name == "train" else config


def grant(config: DictConfig) -> DictConfig:
    """Adds to `allow` what a configuration names that is not on the list: for one that the user's own words made.

    A configuration that was read from a file is never granted anything: there the user gives `allow` himself.
    """
    config.allow = list(dict.fromkeys([*config.allow, *targets.unlisted(plain(config))]))
    return config


def instantiate(node: Any, *, allow: Sequence[str] | None = None, **supplied: Any) -> Any:
    """Builds what `_target_` says from plain values, so that nothing of OmegaConf gets into a checkpoint.

    Args:
        node: of a run's configuration, or plain.
        allow: names of code that is not on the list of `config.targets`; `allow` of the node's configuration if None.
        supplied: further arguments.

    Raises:
        TargetError: a target at or below the node that nobody allowed, or text that Hydra would make one of.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    settings = plain(node)
    if any("${" in str(value) for _, value in flat(settings)):  # Hydra would resolve it, after what is checked here
        raise targets.TargetError(f"{settings.get('_target_')}: an argument holds an interpolation (${{...}})")
    root = node._get_root() if isinstance(node, DictConfig) else None
    if allow is None:
        allow = list(root.get("allow") or ()) if isinstance(root, DictConfig) and root is not node else []
    targets.check(settings, allow)
    for _, target in targets.of(settings):
        targets.find(target, allow)
    try:
        build = hydra_instantiate(OmegaConf.create(settings), _partial_=True, _convert_="all")
    except (InstantiationException, OmegaConfBaseException) as error:  # an argument below, such as a list's member
        raise ValueError(f"{settings.get('_target_')}: {' '.join(str(error).split()):.300}") from error
    if settings.get("_partial_"):
        return build
    return build(**supplied)  # called here: inside Hydra a dataclass among the arguments would become a DictConfig


def compose_unchecked(
    overrides: Sequence[str], name: str = "train", config_dir: str | None = None, *, hydra: bool = False
) -> DictConfig:
    """What Hydra composes, unchecked; with Hydra's own part, unresolved, if `hydra`."""
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with initialize_config_dir(config_dir=str(directory()), version_base=VERSION_BASE):
        try:
            config = hydra_compose(name, overrides=[*search, *overrides], return_hydra_config=hydra)
        except ValueError as error:  # Hydra's own for a group that is null: `augment=null` in place of `augment=none`
            raise HydraException(f"{error} (a group takes the name of one of its options)") from error
        except yaml.YAMLError as error:
            raise HydraException(_yaml_error(error)) from error
    if not hydra:  # parts of Hydra's own are known only when it runs
        OmegaConf.resolve(config)
    return config


def _yaml_error(error: yaml.YAMLError) -> str:
    """Where a file of options is no YAML, in one line."""
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else "a file of options"
    reason = getattr(error, "problem", None) or str(error)
    return f"{where}: this is no YAML ({' '.join(str(reason).split())}); mend the file"


def _problems(config: DictConfig) -> Iterator[str]:
    """What is wrong with a configuration of `scale.train`: its values, and the arguments of its targets."""
    node: dict[str, Any] = plain(config)
    yield from checks.of_train(node)
    if node.get("augment") and "_target_" not in node["augment"]:
        yield f"augment.{next(iter(node['augment']))}: augment=none has no keys; give augment=light, which has"
    for key, value in node.items():
        supplied = SUPPLIED.get(key, frozenset())
        if key in LISTS:
            for child, settings in (value or {}).items():
                given = settings
                if key == "logger" and isinstance(settings, dict):
                    given = {name: value for name, value in settings.items() if name not in SHOWN}
                yield from signatures.check(given, path=f"{key}.{child}", supplied=supplied)
        else:
            yield from signatures.check(without_own(key, value), path=key, supplied=supplied)


def _explain(error: Exception, override: str, config: DictConfig | None, name: str) -> str:
    """One line that says what was given, what is nearest and what is allowed."""
    text = str(error).strip().splitlines()
    key = key_of(override)
    missing = getattr(error, "missing_cfg_file", None)
    if missing and getattr(error, "options", None) is not None:
        group, _, given = str(missing).rpartition("/")
        if group == "hydra/launcher" and given in EXTRAS:
            return f"{group}={given} is not installed: pip install 'scale-medvision[{EXTRAS[given]}]'"
        allowed = [name for name in error.options if not name.startswith("_")]  # type: ignore[attr-defined]
        where = "" if override == f"{group}={given}" else f"{override}: "
        return f"{where}{group}={given}: there is no such option{nearest(given, allowed)}; allowed: " + ", ".join(
            allowed
        )
    if isinstance(error, OverrideParseException) and (quoted := _in_quotes(override)):
        return (
            f"{override}: signs such as = , ( ) [ ] {{ }} mean something to Hydra; put the value in quotes: '{quoted}'"
        )
    prefix = f"{override}: " if override else ""
    if config is not None and (
        "Could not override" in text[0] or "not in struct" in " ".join(text) or "Key '" in " ".join(text)
    ):
        inside = re.search(r"full_key: (\S+)", f"{error}\n{error.__cause__}")
        inside = inside if inside and (inside[1].startswith(f"{key}.") or (directory() / key).is_dir()) else None
        given = f"{inside[1]}: " if inside else ""
        if not inside and _takes(config, key):
            return f"{prefix}the configuration does not have this key, but its target takes it: write +{override}"
        close = nearest(inside[1] if inside else key, list(_keys(config)))
        return f"{prefix}{given}there is no such key{close}"
    if error.__cause__ is not None and "Error merging override" in text[0]:
        text = str(error.__cause__).strip().splitlines()
    return prefix + " ".join(line.strip() for line in text if not line.strip().startswith(("full_key", "object_type")))


def _in_quotes(override: str) -> str | None:
    """An override with its value in quotes, as text; None where that is no override either."""
    key, equals, value = override.partition("=")
    quoted = f'{key}="{value}"'
    if not equals or set("\"'") & set(value) or value.startswith(("[", "{")):  # the latter are meant as lists
        return None
    try:
        OverridesParser.create().parse_override(quoted)
    except OverrideParseException:
        return None
    return quoted


def _takes(config: DictConfig, key: str) -> bool:
    """Whether `key` is an argument of the `_target_` of the node it would stand in."""
    place, _, name = key.rpartition(".")
    node = OmegaConf.select(config, place) if place else None
    if not isinstance(node, DictConfig) or "_target_" not in node:
        return False
    try:
        return name in signatures.find(str(node["_target_"])).parameters
    except LookupError:
        return False


def _keys(config: Any, path: str = "") -> Iterator[str]:
    if OmegaConf.is_dict(config):
        for key in config:
            name = f"{path}.{key}" if path else str(key)
            yield name
            yield from _keys(config._get_node(key), name)
