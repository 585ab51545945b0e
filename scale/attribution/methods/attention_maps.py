"""What the SCALE network's own attention looks at, brought to the input: no gradient, no explained class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scale.attribution.catalog import LEVELS
from scale.attribution.methods.activation import density, outputs_of, token_grids
from scale.attribution.methods.grid import InputGrid
from scale.models.attention import CrossAttention
from scale.models.scale_net import STREAMS, ScaleNet


@torch.no_grad()
def scale_attention(net: ScaleNet, images: Tensor, *, stream: str, level: str) -> Tensor:
    """The weight of a level in a stream: (B, *S), in [0, 1]; the levels' maps sum to 1."""
    grid = InputGrid(net, images.shape[2:], device=images.device)
    weights = net.forward_intermediates(images).scale_attention[stream]
    number = LEVELS.index(level)
    return grid.planar(weights[:, :, number]) if stream == "planar" else grid.volumetric(weights[:, number])


@torch.no_grad()
def cross_attention(net: ScaleNet, images: Tensor, *, reader: str) -> Tensor:
    """How much the tokens of stream `reader` read what lies here in the other stream: (B, *S).

    The mean over heads and readers, relative to even reading (1 everywhere).
    """
    grid = InputGrid(net, images.shape[2:], device=images.device)
    weights = net.forward_intermediates(images).cross_attention[reader].mean(dim=(1, 2))  # (B, tokens read)
    cells, relative = token_grids(net, images), weights * weights.shape[1]
    if reader == "planar":
        return grid.volumetric_tokens(relative, cells["volumetric"])
    return grid.planar_tokens(relative, cells["planar"])


@torch.no_grad()
def rollout(net: ScaleNet, images: Tensor) -> Tensor:
    """Attention rollout through the rounds of the fusion: (B, *S), 1 on the average where tokens are alike.

    In each round half of a token stays and half is read from the other stream (the residual path and the attention,
    averaged over the heads). In the end the tokens of a stream are pooled alike, and the gate weighs the streams. Where
    the native stream answers too, half of the answer is of its tokens as they enter.
    """
    grid = InputGrid(net, images.shape[2:], device=images.device)
    planar, volumetric = rollout_weights(net, images)
    return density(grid, planar, volumetric, token_grids(net, images))


def rollout_weights(net: ScaleNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """Shares in the answer of the tokens that enter the fusion: (B, N) and (B, M); both together sum to 1."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, CrossAttention)}
    with outputs_of(layers) as found:
        gate = net.forward_intermediates(images).stream_gate
    maps = {name: output[1].mean(dim=1) for name, output in found.items()}  # heads averaged
    planar = [maps[name] for name in layers if "planar_reads" in name]
    volumetric = [maps[name] for name in layers if "volumetric_reads" in name]
    n, m = planar[0].shape[1:]
    shares = planar[0].new_full((len(images), 2), 0.5) if gate is None else gate
    here, there = shares[:, :1].expand(-1, n) / n, shares[:, 1:].expand(-1, m) / m
    for of_planar, of_volumetric in zip(reversed(planar), reversed(volumetric), strict=True):
        back_here = (there[:, None] @ of_volumetric)[:, 0]  # what volumetric readers took from planar tokens
        back_there = (here[:, None] @ of_planar)[:, 0]
        here, there = (here + back_here) / 2, (there + back_there) / 2
    if not net.auxiliary_heads:
        return here, there
    own = {"planar": 0.0, "volumetric": 0.0} | {net.native: 1.0}
    return (here + own["planar"] / n) / 2, (there + own["volumetric"] / m) / 2


def stream_shares(net: nn.Module, images: Tensor) -> Tensor | None:
    """The weights of the streams in the answer (B, 2), planar first; None where a network has no gate.

    The gate's, and, where the native stream answers too, half of the answer is that stream's alone.
    """
    gate = stream_gate(net, images)
    if gate is None or not isinstance(net, ScaleNet) or not net.auxiliary_heads:
        return gate
    return (gate + gate.new_tensor([net.native == name for name in STREAMS])) / 2


def stream_gate(net: nn.Module, images: Tensor) -> Tensor | None:
    """The weights of the streams in the fused features (B, 2), planar first; None where a network has no gate."""
    forward = getattr(net, "forward_intermediates", None)
    if forward is None:
        return None
    with torch.no_grad():
        gate: Tensor | None = forward(images).stream_gate
    return gate
