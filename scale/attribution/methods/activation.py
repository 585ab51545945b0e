"""Grad-CAM on the streams, on the fusion, and on a network with one stack of layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scale.attribution.methods.grid import InputGrid, between
from scale.models.baselines import ResNet
from scale.models.fusion import Fusion
from scale.models.scale_net import ScaleNet

RESNET_STRIDE = 8  # its three strided convolutions have their middle at voxel 2i, so cell i of the last looks at 8i


@contextlib.contextmanager
def outputs_of(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """Collects what modules return while the context is open; no hook stays behind."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            found[name] = output

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def gradcam_stack(model: nn.Module, images: Tensor, target: Tensor, *, net: ResNet) -> Tensor:
    """Grad-CAM of the last of a network's layers, which returns (B, width, *cells): (B, *S)."""
    layer = net.blocks
    with outputs_of({"layer": layer}) as found:
        scores = model(images.detach().requires_grad_())
    cam = _cam(_gradients(scores, target, [found["layer"]])[0], found["layer"].detach(), channel=1)
    for axis, count in enumerate(images.shape[2:], start=1):
        cam = between(cam, axis, torch.arange(count) / RESNET_STRIDE)
    return cam


def gradcam_stream(model: nn.Module, images: Tensor, target: Tensor, *, net: ScaleNet, stream: str) -> Tensor:
    """Grad-CAM of a stream's features on the middle level's cells, behind the scale attention: (B, *S).

    The images of the planar stream are one layer: a channel weighs the same in all of them.
    """
    grid = InputGrid(net, images.shape[2:], device=images.device)
    with outputs_of({"mixed": net.scale_attention[stream]}) as found:
        scores = model(images.detach().requires_grad_())
    features = found["mixed"][0]  # (B * images, h, w, dim) or (B, d, h, w, dim)
    slopes = _gradients(scores, target, [features])[0]
    if stream == "planar":
        slopes, features = (x.unflatten(0, (len(images), -1)) for x in (slopes, features))
    cam = _cam(slopes, features.detach(), channel=-1)
    return grid.planar(cam) if stream == "planar" else grid.volumetric(cam)


def gradcam_fusion(model: nn.Module, images: Tensor, target: Tensor, *, net: ScaleNet) -> Tensor:
    """Grad-CAM of the tokens that are pooled for the head, those of both streams together: (B, *S).

    A map is a density: what a token says is spread over the voxels that it stands for.
    """
    grid = InputGrid(net, images.shape[2:], device=images.device)
    fusion = net.fusion
    assert isinstance(fusion, Fusion)
    with contextlib.ExitStack() as stack:
        if fusion.planar_reads:
            layers = {"planar": fusion.planar_reads[-1], "volumetric": fusion.volumetric_reads[-1]}
            found = stack.enter_context(outputs_of(layers))
            scores = model(images.detach().requires_grad_())
            tokens = [found["planar"][0], found["volumetric"][0]]
        else:
            entered: list[Tensor] = []
            handle = fusion.register_forward_pre_hook(lambda _, streams: entered.extend(streams))
            stack.callback(handle.remove)
            scores = model(images.detach().requires_grad_())
            tokens = entered
    cells = token_grids(net, images)
    slopes = _gradients(scores, target, tokens)
    planar, volumetric = (_cam(slope, x.detach(), channel=-1) for slope, x in zip(slopes, tokens, strict=True))
    return density(grid, planar, volumetric, cells)


def density(grid: InputGrid, planar: Tensor, volumetric: Tensor, cells: Mapping[str, tuple[int, ...]]) -> Tensor:
    """What the tokens of both streams hold, planar (B, N) and volumetric (B, M), spread over their voxels: (B, *S)."""
    flat = grid.planar_tokens(planar, cells["planar"])
    solid = grid.volumetric_tokens(volumetric, cells["volumetric"])
    # a voxel lies in one volumetric token and, along each axis, in one planar token
    return flat * planar.shape[1] / grid.planar_share + solid * volumetric.shape[1]


def token_grids(net: ScaleNet, images: Tensor) -> dict[str, tuple[int, ...]]:
    """The cells of each stream's tokens: `planar` (h, w) of one image, `volumetric` (d, h, w)."""
    with torch.no_grad(), outputs_of(dict(net.streams.items())) as found:
        net(images[:1])
    return {name: tuple(pyramid[-1].shape[2:]) for name, pyramid in found.items()}


def _gradients(scores: Tensor, target: Tensor, of: list[Tensor]) -> list[Tensor]:
    chosen = scores.gather(1, target[:, None]).sum()
    return list(torch.autograd.grad(chosen, of))


def _cam(slopes: Tensor, features: Tensor, *, channel: int) -> Tensor:
    """(B, ..., width, ...) to (B, ...): the positive part of the features, weighed by their mean gradients."""
    slopes, features = slopes.movedim(channel, -1), features.movedim(channel, -1)
    weights = slopes.flatten(1, -2).mean(dim=1)  # (B, width)
    return torch.einsum("b...c,bc->b...", features, weights).relu()
