"""A configuration as an experiment file: what differs from the options that it is made of."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from scale.config.compose import VERSION_BASE, compose, compose_unchecked, directory, grant, options
from scale.config.keys import plain
from scale.utils.files import write_text

FOLDER = "experiment"


def write(
    folder: Path, name: str, overrides: Sequence[str], *, config_dir: str | None = None, comment: str = ""
) -> Path:
    """Writes `<folder>/experiment/<name>.yaml`, which gives the same configuration as the overrides do.

    An option that is not ours is written beside it, so that the folder needs no other one.

    Args:
        folder: what `--config-dir` will name.
        name: of the experiment.
        overrides: of a command line.
        config_dir: further folder of options that they use.
        comment: lines for the head of the file.

    Raises:
        ValueError: a key was removed, which a file cannot say.
    """
    config = compose(overrides, config_dir=config_dir)
    chosen = choices(overrides, config_dir=config_dir)
    for group, option in chosen.items():
        if option not in options(group):
            _save(folder / group / f"{option}.yaml", OmegaConf.to_yaml(config[group]))
    # Unchecked, as an option may wait for a value (`path: ???` of data=npz); granted, as `config` is.
    base = grant(compose_unchecked([f"{group}={option}" for group, option in chosen.items()], config_dir=str(folder)))
    changed = difference(plain(config), plain(base))
    usual = _usual()
    defaults = [{f"override /{group}": option} for group, option in chosen.items() if option != usual[group]]
    body = {**({"defaults": defaults} if defaults else {}), **changed}
    lines = ["# @package _global_", *(f"# {line}" for line in comment.splitlines())]
    path = folder / FOLDER / f"{name}.yaml"
    _save(path, "\n".join(lines) + "\n" + (OmegaConf.to_yaml(OmegaConf.create(body)) if body else ""))
    return path


def difference(config: Mapping[str, Any], base: Mapping[str, Any], *, path: str = "") -> dict[str, Any]:
    """What must be merged into `base` to get `config`.

    Raises:
        ValueError: `base` has a key that `config` has not.
    """
    found: dict[str, Any] = {}
    for key in base:
        if key not in config:
            raise ValueError(f"an experiment file cannot remove {path}{key}: set it to null instead of ~{path}{key}")
    for key, value in config.items():
        if key not in base or type(base[key]) is not type(value):
            found[key] = value
        elif isinstance(value, Mapping):
            inside = difference(value, base[key], path=f"{path}{key}.")
            if inside:
                found[key] = inside
        elif value != base[key]:
            found[key] = value
    return found


def choices(overrides: Sequence[str], *, config_dir: str | None = None) -> dict[str, str]:
    """The option of each group that is a node of the configuration."""
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with initialize_config_dir(config_dir=str(directory()), version_base=VERSION_BASE):
        composed = hydra_compose("train", overrides=[*search, *overrides], return_hydra_config=True)
    return {group: option for group, option in composed.hydra.runtime.choices.items() if option and group in composed}


@cache
def _usual() -> dict[str, str]:
    return choices([])


def _save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
