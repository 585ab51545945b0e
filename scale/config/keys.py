"""What kind each key of a configuration is: the ONE table that resuming, tables, sweeps and tuning read.

A key that the table does not name has the kind of the nearest key above it that it names, else `WHAT`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from omegaconf import DictConfig, OmegaConf

from scale.utils.cli import warn


class Kind(Enum):
    """What a key decides."""

    WHAT = "what is trained: data, seed, and all else that makes another run"
    RECIPE = "how it is trained: what a row of a table stands for"
    ARITHMETIC = "how numbers are computed: no part of a recipe, but it must not change within a run"
    HARDWARE = "on how many devices: may change when a run is resumed, which says so"
    PLACE = "where files are and what is shown: may change at any time"


DATA_PATHS = ("path", "root", "cache", "labels")  # keys of `data`
_KEYS = {
    # `rank_watch` is in the record of older runs only. That the data are the same is checked by their content.
    Kind.PLACE: """resume rerun allow_changed_code allow paths threads logger evaluation report sweep callbacks.console
        callbacks.rank_watch callbacks.checkpoint.every_n_minutes data.path data.labels data.root data.cache
        data.download data.verify data.num_workers data.workers data.on_gpu data.eval_batch_size""",
    Kind.HARDWARE: """trainer.accelerator trainer.devices trainer.num_nodes trainer.strategy trainer.sync_batchnorm""",
    Kind.ARITHMETIC: """trainer.precision trainer.deterministic trainer.benchmark trainer.detect_anomaly
        trainer.profiler trainer.log_every_n_steps trainer.enable_progress_bar trainer.enable_model_summary task.compile
        task.cuda_graphs optimizer.fused matmul_precision""",
    Kind.RECIPE: """model task optimizer scheduler augment budget trainer callbacks.averaging callbacks.checkpoint
        data.train_fraction data.train_samples data.batch_size data.balance data.drop_last data.normalisation
        data.grades
        data.deciding data.lesions data.decoys init_from freeze
        data.sets data.power data.statistics data.options""",
}
KINDS = {key: kind for kind, keys in _KEYS.items() for key in keys.split()}

# Arguments that the program itself hands to a target: they are no keys of the configuration.
SUPPLIED = {
    "data": frozenset({"augment", "seed"}),
    "model": frozenset({"spatial_dims", "in_channels", "outputs"}),
    "task": frozenset({"net", "problem", "optimizer", "scheduler", "class_weights", "logit_adjustment", "flips"}),
    "trainer": frozenset({"callbacks", "logger", "default_root_dir", "plugins"}),
    "logger": frozenset({"save_dir", "id", "resume", "run_id", "experiment"}),
}
OWN = frozenset({"optimizer.trunk_scale"})  # keys beside a target's arguments, which the program reads itself
# What earlier versions did, which had no such key: a record without it says the same.
LATER: dict[str, Any] = {
    "freeze": "none",
    **{"optimizer.trunk_scale": 1.0, "model.modality_dropout": 0.0, "model.planar_resolution": "reduced"},
    **{"task.gate_entropy": 0.0, "task.flip_consistency": 0.0, "task.cuda_graphs": False},
}
LISTS = ("callbacks", "logger")  # groups of named nodes, each with its own target
# Keys of a logger's node that the program itself reads.
SHOWN = frozenset({"samples", "overlay", "log_predictions"})

UNTUNABLE = {  # keys that would let trials be compared that do not compare
    "seed": "all trials train with the same seed, so that they compare",
    "test": "the test split must not decide anything",
    "data": "val losses of two data sets do not compare",
    "data.flag": "val losses of two data sets do not compare",
    "data.sets": "val losses of two data sets do not compare",
    "data.path": "val losses of two data sets do not compare",
    "data.labels": "val losses of two data sets do not compare",
    "data.fold": "val losses of two val splits do not compare",
    "data.task": "val losses of two data sets do not compare",
    "data.phantom_seed": "val losses of two data sets do not compare",
    "experiment": "name the keys that it sets",
    "study": "it is no key of a training",
}


RENAMED = {  # names of earlier versions, accepted with a warning until 0.3, and in the records of runs
    "augment.quarter_turns": "augment.rotate90",
    "attribution.quality.measures": "attribution.quality.metrics",
}
RENAMED_VALUES = {"data.balance": {"root": "sqrt"}, "logger": {"csv": "none"}}


def current(override: str) -> str:
    """An override in today's words; says so on standard error where it used a name of an earlier version."""
    key, sign, value = override.partition("=")
    mark = key[: len(key) - len(key.lstrip("+~"))]
    name = key_of(override)
    new, text = RENAMED.get(name, name), RENAMED_VALUES.get(name, {}).get(value, value)
    if (new, text) == (name, value):
        return override
    warn(f"{override}: the name is now {new}{sign}{text}; the old one goes with version 0.3")
    return f"{mark}{new}{sign}{text}"


def in_todays_words(config: DictConfig) -> DictConfig:
    """A configuration that an earlier version recorded, with its keys and values renamed."""
    for old, new in RENAMED.items():
        parent, _, name = old.rpartition(".")
        node = OmegaConf.select(config, parent)
        if OmegaConf.is_dict(node) and name in node:
            node[new.rpartition(".")[2]] = node.pop(name)
    for key, values in RENAMED_VALUES.items():
        if (value := OmegaConf.select(config, key)) in values:
            OmegaConf.update(config, key, values[value])
    return config


def deciding(settings: Mapping[str, Any], *, free: Collection[Kind]) -> dict[str, Any]:
    """Recorded settings by today's names, without kinds that may differ; what is null may as well be absent."""
    found = {}
    for key, value in settings.items():
        name, values = RENAMED.get(key, key), RENAMED_VALUES.get(key, {})
        if not is_implied(name, value) and kind(name) not in free:
            found[name] = values.get(value, value) if values else value
    return found


def is_implied(key: str, value: Any) -> bool:
    """Whether a record says the same without this key: what is null may as well be absent."""
    return value is None or (key in LATER and value == LATER[key])


def without_own(key: str, node: Any) -> Any:
    """A plain node without the keys that are no arguments of its target."""
    if not isinstance(node, dict):
        return node
    return {name: value for name, value in node.items() if f"{key}.{name}" not in OWN}


def kind(key: str) -> Kind:
    """The kind of a dotted key, such as `trainer.devices`."""
    while key:
        if key in KINDS:
            return KINDS[key]
        key = key.rpartition(".")[0]
    return Kind.WHAT


def key_of(override: str) -> str:
    """The dotted key of an override such as `+model.width=3`."""
    return override.lstrip("+~").partition("=")[0]


def quoted(path: object) -> str:
    """A path as the value of an override: Hydra's grammar reads signs such as `(`, `=`, `,` and `ü` outside quotes."""
    return "'" + str(path).replace("'", "\\'") + "'"


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
