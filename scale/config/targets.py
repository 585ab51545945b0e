"""What a `_target_` may be: a list, as a configuration may come from a stranger's run folder."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.utils import get_object

OURS = frozenset(
    {
        "scale.models.scale_net.ScaleNet",
        "scale.models.baselines.ResNet",
        "scale.models.timm_net.TimmNet",
        "scale.data.datamodule.MedMNISTDataModule",
        "scale.data.joint.JointDataModule",
        "scale.data.own.NpzDataModule",
        "scale.data.own.ControlledDataModule",
        "scale.data.own.PhantomDataModule",
        "scale.preparing.datamodule.FolderDataModule",
        "scale.data.augment.Augment",
        "scale.tasks.classification.ClassificationTask",
        "scale.tasks.schedules.constant",
        "scale.tasks.schedules.cosine",
        "scale.tasks.schedules.multistep",
        "scale.callbacks.averaging.AveragedWeights",
        "scale.callbacks.checkpoint.BestAndLast",
        "scale.callbacks.console.Console",
        "scale.callbacks.explain.LogExplanations",
        "scale.callbacks.history.History",
        "lightning.pytorch.Trainer",
    }
)
# Classes of these modules, by the one name that follows and the base that they must have: never through an attribute
# of theirs, as `torch.optim.lr_scheduler.torch.hub.load` would be.
KINDS = {
    "torch.optim": "torch.optim.Optimizer",
    "torch.optim.lr_scheduler": "torch.optim.lr_scheduler.LRScheduler",
    "lightning.pytorch.callbacks": "lightning.pytorch.Callback",
    "lightning.pytorch.loggers": "lightning.pytorch.loggers.Logger",
}
# What a network is read back from. Lightning's loggers and callbacks, which write where they are told and talk to
# servers, have no place in it.
NETWORK = frozenset({"data", "augment", "model", "task", "optimizer", "scheduler"})
# It calls what it is given.
NOT_LISTED = frozenset({"lightning.pytorch.callbacks.LambdaCallback"})
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class TargetError(ValueError):
    """A `_target_` that nobody allowed."""


def of(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Place and text of every `_target_` at and below a plain node."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, str(node["_target_"])
        for key, value in node.items():
            yield from of(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for number, item in enumerate(node):
            yield from of(item, f"{path}[{number}]")


def listed(target: str) -> bool:
    """Whether a target's name is on the list; `find` also looks at what the name stands for."""
    module, _, name = target.rpartition(".")
    return target in OURS or (module in KINDS and name.isidentifier() and target not in NOT_LISTED)


def allowed(target: str, allow: Sequence[str], *, place: str = "") -> bool:
    """Whether a target's name is on the list and fits its place, or is or lies in something that the user allowed."""
    if any(target == name or target.startswith(f"{name}.") for name in allow):
        return True
    return listed(target) and not (re.split(r"[.[]", place)[0] in NETWORK and target.startswith("lightning."))


def unlisted(node: Any) -> list[str]:
    """Targets at and below a plain node that are not on the list, once each."""
    return list(dict.fromkeys(target for _, target in of(node) if not listed(target)))


def check(node: Any, allow: Sequence[str] = (), *, path: str = "", source: str = "") -> None:
    """Raises TargetError for the first `_target_` at or below a plain node that nobody allowed.

    Args:
        node: plain.
        allow: modules, or names in them, that the user allowed.
        path: where the node stands in the configuration.
        source: what the configuration was read from.
    """
    for place, target in of(node, path):
        if not allowed(target, allow, place=place):
            top, where = target.partition(".")[0], f"{source}: " if source else ""
            where += f"{place}._target_" if place else "_target_"
            raise TargetError(
                f"{where}={target}: this names code that is not SCALE's own, or has no place there. "
                f"If you know it and trust it, allow it yourself: allow=[{top}] on the command line, or "
                f"allow=['{top}'] in load_run"
            )


def find(target: str, allow: Sequence[str]) -> Any:
    """The class or function that an allowed target names.

    Raises:
        TargetError: the name is allowed, but what it stands for is no class of the kind that its module is listed
            for, or comes from a module that is not allowed (`my_package.os.system`).
        ValueError: there is no such thing.
    """
    if not NAME.fullmatch(target):
        raise TargetError(f"_target_={target!r:.80} is no name of a class or a function")
    try:
        found = get_object(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"_target_={target}: cannot be imported ({' '.join(str(error).split()):.200})") from error
    module = target.rpartition(".")[0]
    if target in OURS or target in allow:
        return found
    if listed(target):
        if not (isinstance(found, type) and issubclass(found, get_object(KINDS[module]))):
            raise TargetError(f"_target_={target} is no {KINDS[module].rpartition('.')[2]}")
        return found
    home = str(getattr(found, "__module__", ""))
    if not any(home == name or home.startswith(f"{name}.") or target == name for name in allow):
        raise TargetError(
            f"_target_={target} is {home or 'something'}.{getattr(found, '__qualname__', '')}, which lies outside of "
            f"allow=[{', '.join(allow)}]: name it where it is defined, and allow that"
        )
    return found
