"""Where `conf/` is, the root schema, the check of a whole configuration, and the one caller of `instantiate`."""

import hashlib
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scale import limits, schemas, signatures, sweep_plan
from scale.data import catalog, companion
from scale.dims import spatial_dims, wrong_dims
from scale.interruption import slurm_job

VERSION_BASE = "1.3"
PACKAGE = Path(__file__).resolve().parent

# What the program itself hands to a target: it is no key of the configuration.
SUPPLIED = {
    "data": frozenset({"augment", "seed"}),
    "model": frozenset({"spatial_dims", "in_channels", "outputs"}),
    "task": frozenset({"net", "problem", "optimizer", "scheduler", "class_weights", "logit_adjustment"}),
    "trainer": frozenset({"callbacks", "logger", "default_root_dir", "plugins"}),
    "logger": frozenset({"save_dir", "id", "resume"}),
}
EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}  # of launchers
LISTS = ("callbacks", "logger")  # groups of named nodes, each with its own target


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
OmegaConf.register_new_resolver("not_mixed", lambda precision: not limits.is_mixed(precision))


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


def compose(overrides: Sequence[str] = (), *, name: str = "train", config_dir: str | None = None) -> DictConfig:
    """Composes and checks a configuration, as in `compose(["data=breastmnist", "seed=1"])`.

    Raises:
        ConfigError: with every problem that was found.
    """
    problems: list[str] = []
    config = None
    try:
        config = _compose(overrides, name, config_dir)
    except (HydraException, OmegaConfBaseException) as error:
        accepted: list[str] = []
        try:
            config = _compose([], name, config_dir)
        except (HydraException, OmegaConfBaseException):
            raise ConfigError([_explain(error, "", None, name)]) from error
        for override in overrides:  # which of them are at fault, in one report
            try:
                config = _compose([*accepted, override], name, config_dir)
                accepted.append(override)
            except (HydraException, OmegaConfBaseException) as single:
                problems.append(_explain(single, override, config, name))
        if not problems:
            problems.append(_explain(error, "", config, name))
    if config is not None:
        problems.extend(_problems(config, name))
    if problems or config is None:
        raise ConfigError(problems)
    return config


def check_command_line(arguments: Sequence[str], *, name: str = "train") -> None:
    """Ends the program with status 2 and one report if the command line's configuration is wrong. Imports no torch."""
    from hydra._internal.utils import get_args_parser  # the parser that Hydra's own main uses

    given = get_args_parser().parse_args(list(arguments))
    if given.help or given.hydra_help or given.info or given.shell_completion:
        return
    if given.config_dir and not Path(given.config_dir).is_dir():
        print(f"scale: --config-dir {given.config_dir}: there is no such folder", file=sys.stderr)
        sys.exit(2)
    try:
        whole = partial(_compose, name=name, config_dir=given.config_dir, hydra=True)
        for overrides in sweep_plan.jobs_to_check(given.overrides, multirun=given.multirun, compose=whole):
            compose(overrides, name=name, config_dir=given.config_dir)
    except (ConfigError, HydraException) as error:
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(2)


def options_first(arguments: Sequence[str]) -> list[str]:
    """A command line with `-m` and `--config-dir DIR` in front, where Hydra's parser wants them."""
    front, rest = [], []
    remaining = iter(arguments)
    for text in remaining:
        if text in ("--config-dir", "-cd"):
            front += [text, *itertools.islice(remaining, 1)]
        elif text in ("-m", "--multirun") or text.startswith(("--config-dir=", "-cd=")):
            front.append(text)
        else:
            rest.append(text)
    return [*front, *rest]


def check_run_folder(arguments: Sequence[str]) -> None:
    """Ends the program with status 1 if a run's folder cannot be made, before Hydra tries to."""
    from hydra._internal.utils import get_args_parser
    from hydra.core.hydra_config import HydraConfig

    given = get_args_parser().parse_args(list(arguments))
    if given.help or given.hydra_help or given.info or given.shell_completion or given.cfg or given.multirun:
        return
    config = _compose(given.overrides, "train", given.config_dir, hydra=True)
    HydraConfig.instance().set_config(config)
    folder = Path(config.hydra.run.dir).absolute()
    HydraConfig.instance().cfg = None
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        print(
            f"scale: cannot write the run folder {folder} ({error.strerror}: {nearest}); give another with "
            "hydra.run.dir=... or paths.runs=...",
            file=sys.stderr,
        )
        sys.exit(1)


def plain(node: Any) -> Any:
    """Dicts, lists and values with all interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf of a plain node."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def under(key: str, places: Iterable[str]) -> bool:
    """Whether a dotted key is one of `places` or lies below one."""
    return any(key == place or key.startswith(f"{place}.") for place in places)


def instantiate(node: Any, **supplied: Any) -> Any:
    """Builds what `_target_` says from plain values, so that nothing of OmegaConf gets into a checkpoint."""
    from hydra.utils import instantiate as hydra_instantiate

    settings = plain(node)
    build = hydra_instantiate(OmegaConf.create(settings), _partial_=True, _convert_="all")
    if settings.get("_partial_"):
        return build
    return build(**supplied)  # called here: inside Hydra a dataclass among the arguments would become a DictConfig


def _compose(overrides: Sequence[str], name: str, config_dir: str | None, *, hydra: bool = False) -> DictConfig:
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with initialize_config_dir(config_dir=str(directory()), version_base=VERSION_BASE):
        try:
            config = hydra_compose(name, overrides=[*search, *overrides], return_hydra_config=hydra)
        except ValueError as error:  # Hydra's own for a group that is null: `augment=null` in place of `augment=none`
            raise HydraException(f"{error} (a group takes the name of one of its options)") from error
    if not hydra:  # parts of Hydra's own are known only when it runs
        OmegaConf.resolve(config)
    return config


def _problems(config: DictConfig, name: str) -> Iterator[str]:
    node: dict[str, Any] = plain(config)
    if name == "explain":
        yield from limits.of_explain(node)
    if name != "train":
        return
    yield from limits.of_train(node)
    for key, value in node.items():
        supplied = SUPPLIED.get(key, frozenset())
        if key in LISTS:
            for child, settings in (value or {}).items():
                yield from signatures.check(settings, path=f"{key}.{child}", supplied=supplied)
        else:
            yield from signatures.check(value, path=key, supplied=supplied)
    data = node["data"]
    own = str(data.get("_target_")).endswith(".NpzDataModule") and data.get("problem") is None
    if own and not companion.path_of(Path(str(data["path"])).expanduser()).is_file():
        yield "data.problem must be given: binary, multiclass, multilabel or ordinal (a prepared file says it itself)"
    if wrong := wrong_dims(node["data_dims"], spatial_dims(data)):
        yield wrong
    if data.get("flag") is not None:
        try:
            catalog.get(data["flag"]).check_size(data.get("size", 28))
        except ValueError as error:
            yield f"data: {error}"


def _explain(error: Exception, override: str, config: DictConfig | None, name: str) -> str:
    """One line that says what was given, what is nearest and what is allowed."""
    text = str(error).strip().splitlines()
    key = override.lstrip("+~").partition("=")[0]
    missing = getattr(error, "missing_cfg_file", None)
    if missing and getattr(error, "options", None) is not None:
        group, _, given = str(missing).rpartition("/")
        if group == "hydra/launcher" and given in EXTRAS:
            return f"{group}={given} is not installed: pip install 'scale-medvision[{EXTRAS[given]}]'"
        allowed = [name for name in error.options if not name.startswith("_")]  # type: ignore[attr-defined]
        where = "" if override == f"{group}={given}" else f"{override}: "
        return (
            f"{where}{group}={given}: there is no such option{signatures.nearest(given, allowed)}; allowed: "
            + ", ".join(allowed)
        )
    prefix = f"{override}: " if override else ""
    if config is not None and (
        "Could not override" in text[0] or "not in struct" in " ".join(text) or "Key '" in " ".join(text)
    ):
        inside = re.search(r"full_key: (\S+)", str(error)) if (directory() / key).is_dir() else None
        given = f"{inside[1]}: " if inside else ""
        if not inside and _takes(config, key):
            return f"{prefix}the configuration does not have this key, but its target takes it: write +{override}"
        close = signatures.nearest(inside[1] if inside else key, list(_keys(config)))
        return f"{prefix}{given}there is no such key{close}"
    if error.__cause__ is not None and "Error merging override" in text[0]:
        text = str(error.__cause__).strip().splitlines()
    return prefix + " ".join(line.strip() for line in text if not line.strip().startswith(("full_key", "object_type")))


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
