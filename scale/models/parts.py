"""The parts that a network is made of, and taking over those of another network."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scale.models.scale_net import STREAMS, ScaleNet

FUSION, HEAD = "fusion", "head"


@dataclass(frozen=True)
class Part:
    """What is taken over whole or not at all: half a stream, or a head without what it reads, is of no use.

    Attributes:
        modules: names of the modules.
        needs: parts that must have been taken over too.
        stem: name of the weight that reads the samples' channels; None where there is none.
        halves: of the stem: 2 where the second half of its channels reads what a reduced sample has beside them.
    """

    modules: tuple[str, ...]
    needs: tuple[str, ...] = ()
    stem: str | None = None
    halves: int = 1

    def has(self, name: str) -> bool:
        """Whether a parameter or buffer of this name is of the part."""
        return any(name.startswith(f"{module}.") for module in self.modules)


@dataclass
class Taken:
    """What of another network was taken over.

    Attributes:
        loaded: names of parameters and buffers.
        parts: names of the parts that were taken over.
        new: why, by the names of the parts that were not.
    """

    loaded: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    new: dict[str, str] = field(default_factory=dict)


def parts(net: nn.Module) -> dict[str, Part]:
    """The parts of a network by name, what is needed before what needs it; `head` or names that begin so are heads."""
    if not isinstance(net, ScaleNet):
        names = tuple(name for name, _ in net.named_children() if name != HEAD)
        stem = "stem.weight" if isinstance(getattr(net, "stem", None), nn.Module) else None
        return {"trunk": Part(names, stem=stem), HEAD: Part((HEAD,), needs=("trunk",))}
    found = {
        name: Part((f"streams.{name}", f"scale_attention.{name}"), stem=f"streams.{name}.stem.weight", halves=2)
        for name in net.stream_names
    }
    if len(net.stream_names) == 1:  # what calibrates the one stream belongs to its head, as in those of two
        return {**found, HEAD: Part((HEAD, FUSION), needs=net.stream_names)}
    found[FUSION] = Part((FUSION, "position"), needs=net.stream_names)
    for name in net.auxiliary_heads:
        found[f"{HEAD} of {name}"] = Part((f"auxiliary_heads.{name}",), needs=(name,))
    return {**found, HEAD: Part((HEAD,), needs=(FUSION,))}


def frozen(net: nn.Module, choice: str) -> tuple[str, ...]:
    """Names of the parts that `freeze=<choice>` keeps as they are.

    Raises:
        ValueError: the network has no such part.
    """
    names = [name for name in parts(net) if not name.startswith(HEAD)]
    chosen = {
        "none": [],
        "trunk": [name for name in names if name != FUSION],
        "all_but_head": names,
    }.get(choice, [name for name in names if name == choice])
    if choice != "none" and not chosen:
        raise ValueError(
            f"freeze={choice}: this {type(net).__name__} has no {choice} stream; its parts: {', '.join(names)}"
        )
    return tuple(chosen)


def take_over(net: nn.Module, state: Mapping[str, Tensor], *, same_dims: bool, same_labels: bool) -> Taken:
    """Loads what fits of another network's parameters and buffers, part by part.

    A stem is brought to other channels: it says of a sample whose channels are all alike what it said before.

    Args:
        net: changed in place.
        state: of the other network, by name.
        same_dims: whether it is for data of the same dimensions; a fusion weighs other views otherwise.
        same_labels: whether its heads say what this one's heads are to say.
    """
    state, own = _as_of(net, state), net.state_dict()
    taken, values = Taken(), dict[str, Tensor]()
    for title, part in parts(net).items():
        names = [name for name in own if part.has(name)]
        fitted = {name: _fitted(name, part, state, own[name]) for name in names}
        reason = _reason(title, part, taken, same_dims=same_dims, same_labels=same_labels)
        odd = [name for name in names if fitted[name] is None]
        if not reason and odd:
            there = state.get(odd[0])
            reason = "not there" if there is None else f"{odd[0]} is {_shape(there)} there, {_shape(own[odd[0]])} here"
        if reason:
            taken.new[title] = reason
            continue
        taken.parts.append(title)
        taken.loaded += names
        values |= {name: value for name, value in fitted.items() if value is not None}
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    return taken


def _reason(title: str, part: Part, taken: Taken, *, same_dims: bool, same_labels: bool) -> str:
    """Why a part is not wanted, whatever its shapes."""
    if title.startswith(HEAD) and not same_labels:
        return "other labels"
    if title == FUSION and not same_dims:
        return "other dimensions"
    lacking = [name for name in part.needs if name not in taken.parts]
    return f"{lacking[0]} is new" if lacking else ""


def _fitted(name: str, part: Part, state: Mapping[str, Tensor], wanted: Tensor) -> Tensor | None:
    """A value that fits; None where there is none."""
    value = state.get(name)
    if value is None or value.shape == wanted.shape:
        return value
    if name != part.stem or value.ndim != wanted.ndim or value[:, :0].shape != wanted[:, :0].shape:
        return None
    if value.shape[1] % part.halves:
        return None
    channels = wanted.shape[1] // part.halves
    spread = [half.sum(dim=1, keepdim=True) / channels for half in value.chunk(part.halves, dim=1)]
    return torch.cat([half.expand(-1, channels, *half.shape[2:]) for half in spread], dim=1)


def _as_of(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Another network's state in the names of this one, where one has a single stream and the other has both.

    The head of a single stream is what a network of both calls that stream's own head.
    """
    found = dict(state)
    if not isinstance(net, ScaleNet):
        return found
    there = [name for name in STREAMS if any(key.startswith(f"streams.{name}.") for key in state)]
    if len(there) == 1 and len(net.stream_names) == 2:
        return own_head(state, there[0])
    if len(there) == 2 and len(net.stream_names) == 1:
        names = {f"auxiliary_heads.{net.stream_names[0]}.{n}.": new for n, new in ((0, "fusion."), (2, "head.1."))}
        rest = {key: value for key, value in state.items() if not key.startswith(("fusion.", "head."))}
        return {_renamed(key, names): value for key, value in rest.items()}
    return found


def own_head(state: Mapping[str, Tensor], stream: str) -> dict[str, Tensor]:
    """The state of a network of one stream in the names of one of both, whose head for that stream alone it is."""
    names = {"fusion.": f"auxiliary_heads.{stream}.0.", "head.1.": f"auxiliary_heads.{stream}.2."}
    return {_renamed(key, names): value for key, value in state.items()}


def _renamed(name: str, names: Mapping[str, str]) -> str:
    old = next((old for old in names if name.startswith(old)), None)
    return name if old is None else names[old] + name.removeprefix(old)


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"
