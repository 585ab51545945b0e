"""One trunk for several data sets: networks that share their streams, each with a head of its own."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scale.models.scale_net import ScaleNet
from scale.models.streams import Stream


class JointNet(nn.Module):
    """Several `ScaleNet`s, one a data set, whose streams, scale attention and fusion are the same parameters.

    A stem reads the channels of its own kind of sample: members with other channels or dimensions have another first
    convolution, and all behind it is shared. A batch is of one data set; `use` says of which.

    Args:
        members: by the name of the data set; a stream that several have must have one shape in all of them. Changed
            in place.
        own_statistics: whether each member keeps running means and variances of its own in batch normalisation, whose
            weights are shared all the same (as in arXiv:1603.04779); otherwise all data sets share them.

    Raises:
        ValueError: fewer than two members, or streams that do not fit each other.
    """

    def __init__(self, members: Mapping[str, ScaleNet], *, own_statistics: bool = True) -> None:
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"a joint network needs at least two data sets, got {len(members)}")
        self.members = nn.ModuleDict(members)
        self.active = next(iter(members))
        owners: dict[str, nn.Module] = {}
        stems: dict[tuple[str, torch.Size], nn.Parameter] = {}
        for title, net in members.items():
            names = [f"{part}.{name}" for part in ("streams", "scale_attention") for name in net.stream_names]
            if len(net.stream_names) == 2:  # the fusion of a single stream is a calibration, which belongs to its head
                names += ["fusion", *(["position"] if net.position is not None else [])]
            for name in names:
                module = net.get_submodule(name)
                owner = owners.setdefault(name, module)
                if owner is not module:
                    tie(module, owner, own_statistics=own_statistics, where=f"{title}: {name}")
            for name, stream in net.streams.items():
                stem = cast(Stream, stream).stem
                stem.weight = stems.setdefault((name, stem.weight.shape), stem.weight)

    def use(self, name: str) -> ScaleNet:
        """Makes a data set's member the one that `forward` runs, and returns it."""
        self.active = name
        return cast(ScaleNet, self.members[name])

    @property
    def has_gate(self) -> bool:
        """Whether the streams of a member are weighed by a gate."""
        return any(cast(ScaleNet, net).has_gate for net in self.members.values())

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised samples (B, C, *S) of the data set in use; returns logits (B, outputs)."""
        return cast(Tensor, self.members[self.active](x))


def tie(module: nn.Module, owner: nn.Module, *, own_statistics: bool, where: str) -> None:
    """Lets a module have the parameters of another one of the same structure.

    Args:
        module: changed in place.
        owner: whose parameters it gets.
        own_statistics: whether its batch normalisation keeps buffers of its own.
        where: what to call the module in an error.

    Raises:
        ValueError: the two differ in more than the channels that a stem reads.
    """
    mine, theirs = dict(module.named_children()), dict(owner.named_children())
    if list(mine) != list(theirs):
        raise ValueError(f"{where}: the streams of joint data sets must have the same depths")
    for name, parameter in owner.named_parameters(recurse=False):
        before = getattr(module, name)
        if before.shape == parameter.shape:
            setattr(module, name, parameter)
        elif before.shape[:1] != parameter.shape[:1] or before.ndim < 4 or before.shape[2:] != parameter.shape[2:]:
            raise ValueError(f"{where}.{name}: {tuple(before.shape)} and {tuple(parameter.shape)} cannot be shared")
    for name, child in mine.items():
        if isinstance(child, _BatchNorm) and not own_statistics:
            setattr(module, name, theirs[name])
        else:
            tie(child, theirs[name], own_statistics=own_statistics, where=where)
