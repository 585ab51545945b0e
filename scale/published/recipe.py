"""Whether a run was trained with the recipe that its row in a table stands for."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scale.config import compose, flat, options, plain
from scale.config.keys import KINDS, LATER, Kind, kind
from scale.runs import read_config

ABSENT = object()
OWN_FILE = ("data=npz", "data.path=.", "data.problem=binary", "data.symmetry=free")


def pretrained(config: Mapping[str, Any]) -> str:
    """Whether a run's network began with weights that were learned before: `yes` or `no`."""
    model = config.get("model") or {}
    return "yes" if config.get("init_from") or model.get("pretrained") else "no"


def differences(folder: Path, metrics: Mapping[str, Any]) -> list[str]:
    """How a run's configuration differs from the default recipe of its model, or of its ablation.

    Args:
        folder: of the run.
        metrics: its `metrics.json`.

    Returns:
        `key=value (default)` for each key that differs; nothing for a run whose variant was named by its user or its
        experiment, as that name tells it apart in tables.
    """
    variant = metrics.get("variant", "")
    if variant and variant not in options("ablation"):
        return []
    # Composing the default again, in place of a list of it here, is what keeps this true when a default changes.
    before = values(folder)
    default = _default(*_choices(metrics))
    same_network = _option(metrics) in options("model")  # one that was built in Python has no option to compare with
    return [
        f"{key}={value} ({default.get(key, 'not set')})"
        for key, value in before.items()
        if (key not in default or value != default[key]) and (same_network or not key.startswith("model."))
    ]


def values(folder: Path) -> dict[str, Any]:
    """A run's recipe, by key: what two runs that are averaged over their seeds must share."""
    return _values(plain(read_config(folder)))


def question(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a user says of own data that changes what a network learns from the same file, by key; None: nothing."""
    data = config.get("data") or {}
    return {f"data.{key}": data.get(key) for key in ("problem", "symmetry", "fold")}


def name_of(folder: Path, metrics: Mapping[str, Any], *, given: str = "") -> str:
    """What a run is called in tables beside its model: its variant, or the one that is given.

    Raises:
        ValueError: it has none, though it was not trained with the default recipe.
    """
    if given:
        return given
    changed = differences(folder, metrics)
    if changed:
        raise ValueError(
            f"{folder} was not trained with the default recipe: {', '.join(changed)}; give it a name of its own in the "
            f"tables: python -m scale.report variant=NAME {folder}"
        )
    return str(metrics.get("variant", ""))


@cache
def _default(*choices: str) -> dict[str, Any]:
    return _values(plain(compose(choices)))


def _choices(metrics: Mapping[str, Any]) -> list[str]:
    name, option = metrics["model"]["name"], _option(metrics)
    kind, _, task = metrics["flag"].partition("-")
    if kind == "controlled":
        chosen = [f"data={kind}", f"data.task={task}"]
    else:
        chosen = [f"data={metrics['flag']}"] if metrics["flag"] in options("data") else list(OWN_FILE)
    if option in options("model"):
        chosen.append(f"model={option}")
        chosen += [f"model.name={name.partition('/')[2]}"] if option == "timm" else []
        chosen += [f"model.conv={name.partition('+')[2]}"] if "+" in name else []
    return chosen + ([f"ablation={metrics['variant']}"] if metrics.get("variant") else [])


def _option(metrics: Mapping[str, Any]) -> str:
    """Option of the group `model` behind a name in tables, such as `resnet18+acs` or `timm/vit_tiny`."""
    return str(metrics["model"]["name"].partition("+")[0].partition("/")[0])


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    parts = {key: _select(config, key) for key, found in KINDS.items() if found is Kind.RECIPE}
    present = {key: value for key, value in parts.items() if value is not ABSENT}
    return {key: value for key, value in flat(present) if kind(key) is Kind.RECIPE and not _is_later(key, value)}


def _is_later(key: str, value: Any) -> bool:
    """Whether a value is what earlier versions did, whose records do not have the key."""
    return key in LATER and value in (None, LATER[key])


def _select(config: Mapping[str, Any], place: str) -> Any:
    """A value by its dotted key; a part that is left out counts as null, a key of `data` as absent."""
    node: Any = config
    for name in place.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return ABSENT if place.startswith("data.") else None
        node = node[name]
    return node
