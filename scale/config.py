"""Where `conf/` is, the root schema, the check of a whole configuration, and the one caller of `instantiate`."""

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scale import signatures
from scale.attribution.catalog import METHODS
from scale.data import catalog
from scale.interruption import slurm_job

VERSION_BASE = "1.3"
PACKAGE = Path(__file__).resolve().parent

# What the program itself hands to a target: it is no key of the configuration.
SUPPLIED = {
    "data": frozenset({"augment", "seed"}),
    "model": frozenset({"spatial_dims", "in_channels", "outputs"}),
    "task": frozenset({"net", "problem", "optimizer", "scheduler", "class_weights"}),
    "trainer": frozenset({"callbacks", "logger", "default_root_dir", "plugins"}),
    "logger": frozenset({"save_dir", "id", "resume"}),
}
LISTS = ("callbacks", "logger")  # groups of named nodes, each with its own target


@dataclass
class Budget:
    """Length of a training: epochs = samples / size of the train split, within the two bounds."""

    samples: int = 32_000
    min_epochs: int = 10
    max_epochs: int = 100


@dataclass
class TrainConfig:
    """Root of `conf/train.yaml`."""

    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    paths: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    compile: bool = False
    threads: int | None = None
    matmul_precision: str = "highest"
    resume: str | None = None
    rerun: str | None = None
    allow_changed_code: bool = False


@dataclass
class EvaluateConfig:
    """Root of `conf/evaluate.yaml`."""

    run: str | None = None
    predictions: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    accelerator: str = "auto"


@dataclass
class Shown:
    """How many samples of each class are shown."""

    right: int = 1
    wrong: int = 1
    uncertain: int = 1


@dataclass
class Quality:
    """How the maps are measured."""

    samples: int = 24
    measures: list[str] | None = None
    steps: int = 12
    baseline: str = "blur"
    perturbed: int = 4
    perturbations: int = 8


@dataclass
class Attribution:
    """How the maps are made."""

    methods: list[str] | None = None
    batch_size: int = 16
    baseline: str = "zero"
    seed: int = 0
    steps: int = 32
    noise_samples: int = 16
    noise: float = 0.15
    window: float = 2 / 7
    quality: Quality = field(default_factory=Quality)


@dataclass
class ExplainConfig:
    """Root of `conf/explain.yaml`."""

    run: str | None = None
    split: str = "test"
    checkpoint: str = "best"
    samples: Shown = field(default_factory=Shown)
    indices: list[int] | None = None
    target: Any = "predicted"
    compare: list[str] = field(default_factory=list)
    groups: bool = True
    attribution: Attribution = field(default_factory=Attribution)
    data: dict[str, Any] = field(default_factory=dict)
    accelerator: str = "auto"
    threads: int | None = None


SCHEMAS = {"train": TrainConfig, "evaluate": EvaluateConfig, "explain": ExplainConfig}
for _name, _schema in SCHEMAS.items():
    ConfigStore.instance().store(name=f"{_name}_schema", node=_schema)


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
OmegaConf.register_new_resolver("stamp", _stamp, use_cache=True)


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
    try:
        for overrides in _jobs(given.overrides, sweep=given.multirun):
            compose(overrides, name=name, config_dir=given.config_dir)
    except (ConfigError, HydraException) as error:
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(2)


def plain(node: Any) -> Any:
    """Dicts, lists and values with all interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def instantiate(node: Any, **supplied: Any) -> Any:
    """Builds what `_target_` says from plain values, so that nothing of OmegaConf gets into a checkpoint."""
    from hydra.utils import instantiate as hydra_instantiate

    settings = plain(node)
    build = hydra_instantiate(OmegaConf.create(settings), _partial_=True, _convert_="all")
    if settings.get("_partial_"):
        return build
    return build(**supplied)  # called here: inside Hydra a dataclass among the arguments would become a DictConfig


def _compose(overrides: Sequence[str], name: str, config_dir: str | None) -> DictConfig:
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with initialize_config_dir(config_dir=str(directory()), version_base=VERSION_BASE):
        config = hydra_compose(name, overrides=[*search, *overrides])
    OmegaConf.resolve(config)
    return config


def _jobs(overrides: Sequence[str], *, sweep: bool) -> Iterator[list[str]]:
    """The job of a plain command; of a sweep, as many jobs as show every value of every override once."""
    if not sweep:
        yield list(overrides)
        return
    choices = []
    for override in OverridesParser.create().parse_overrides(overrides=list(overrides)):
        key = override.get_key_element()
        chosen = override.value()
        if isinstance(chosen, Glob):
            choices.append([f"{key}={name}" for name in chosen.filter(options(str(key)))])
        elif override.is_sweep_override():
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([override.input_line or ""])
    longest = max(map(len, choices), default=1)
    yield from ([values[min(n, len(values) - 1)] for values in choices if values] for n in range(longest))


def _problems(config: DictConfig, name: str) -> Iterator[str]:
    node: dict[str, Any] = plain(config)
    if name == "explain":
        yield from _explain_problems(node)
    if name != "train":
        return
    for key, value in node.items():
        supplied = SUPPLIED.get(key, frozenset())
        if key in LISTS:
            for child, settings in (value or {}).items():
                yield from signatures.check(settings, path=f"{key}.{child}", supplied=supplied)
        else:
            yield from signatures.check(value, path=key, supplied=supplied)
    data = node["data"]
    if data.get("flag") is not None:
        try:
            catalog.get(data["flag"]).check_size(data.get("size", 28))
        except ValueError as error:
            yield f"data: {error}"


def _explain_problems(node: dict[str, Any]) -> Iterator[str]:
    """Names that do not exist, and numbers that are not possible."""
    maps = node["attribution"]
    quality = maps["quality"]
    choices = [
        ("split", node["split"], ("train", "val", "test")),
        ("checkpoint", node["checkpoint"], ("best", "last")),
        ("attribution.baseline", maps["baseline"], ("zero", "mean", "blur")),
        ("attribution.quality.baseline", quality["baseline"], ("zero", "mean", "blur")),
        *(("attribution.methods", name, tuple(METHODS)) for name in maps["methods"] or ()),
    ]
    if not isinstance(node["target"], int) or isinstance(node["target"], bool):
        choices.append(("target", node["target"], ("predicted", "truth")))
    for key, given, allowed in choices:
        if given not in allowed:
            yield (
                f"{key}={given}: there is no such choice{signatures.nearest(str(given), list(allowed))}; allowed: "
                + (", ".join(allowed))
            )
    least = {("samples", name): 0 for name in node["samples"]}
    least |= {("attribution", name): 1 for name in ("batch_size", "steps", "noise_samples")}
    least |= {("quality", name): 1 for name in ("steps", "perturbed", "perturbations")} | {("quality", "samples"): 0}
    parts = {"samples": node["samples"], "attribution": maps, "quality": quality}
    for (part, name), low in least.items():
        if parts[part][name] < low:
            place = "attribution.quality" if part == "quality" else part
            yield f"{place}.{name}={parts[part][name]}: give a number of at least {low}"
    if not 0 < maps["window"] <= 1 or maps["noise"] < 0:
        yield f"attribution.window={maps['window']} and noise={maps['noise']}: give 0 < window <= 1 and noise >= 0"


def _explain(error: Exception, override: str, config: DictConfig | None, name: str) -> str:
    """One line that says what was given, what is nearest and what is allowed."""
    text = str(error).strip().splitlines()
    key = override.lstrip("+~").partition("=")[0]
    missing = getattr(error, "missing_cfg_file", None)
    if missing and getattr(error, "options", None) is not None:
        group, _, given = str(missing).rpartition("/")
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
        close = signatures.nearest(inside[1] if inside else key, list(_keys(config)))
        return f"{prefix}{given}there is no such key{close}"
    if error.__cause__ is not None and "Error merging override" in text[0]:
        text = str(error.__cause__).strip().splitlines()
    return prefix + " ".join(line.strip() for line in text if not line.strip().startswith(("full_key", "object_type")))


def _keys(config: Any, path: str = "") -> Iterator[str]:
    if OmegaConf.is_dict(config):
        for key in config:
            name = f"{path}.{key}" if path else str(key)
            yield name
            yield from _keys(config._get_node(key), name)
