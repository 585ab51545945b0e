"""Maps of single voxels, kept where Grad-CAM says that the network looks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from scale.attribution.methods import activation, gradients
from scale.attribution.methods.attention_maps import stream_shares
from scale.models.baselines import ResNet
from scale.models.scale_net import ScaleNet

SMOOTH = 1.5 / 28  # of the longest edge: less than a cell of the stem


def gradcam_of(net: nn.Module, where: str) -> Callable[..., Tensor]:
    """Grad-CAM of the only stack of layers, else of the `planar` or `volumetric` stream or of the `fusion`."""
    if isinstance(net, ResNet):
        return partial(activation.gradcam_stack, net=net)
    assert isinstance(net, ScaleNet)
    if where == "fusion":
        return partial(activation.gradcam_fusion, net=net)
    return partial(activation.gradcam_stream, net=net, stream=where)


def guided_gradcam(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """Guided backpropagation times Grad-CAM of the fusion, or of the only stream: (B, C, *S)."""
    net = model.get_submodule("net")
    streams = list(getattr(net, "stream_names", []))
    cam = gradcam_of(net, streams[0] if len(streams) == 1 else "fusion")
    return gradients.guided_backprop(model, images, target) * cam(model, images, target)[:, None]


def scale_relevance(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    *,
    rows: int,
    baseline: Tensor,
    steps: int = 32,
    smooth: float = SMOOTH,
) -> Tensor:
    """Smoothed integrated gradients times Grad-CAM: (B, C, *S).

    Integrated gradients say which voxels speak for the class, and are noisy; Grad-CAM says in which cells the network
    finds it, and is coarse (`streams_cam`).

    Args:
        model: gives scores (B, columns) from its part `net`.
        images: (B, C, *S).
        target: (B,).
        rows: samples in one pass.
        baseline: (B, C, *S).
        steps: of the integrated gradients.
        smooth: as for `gradients.integrated_gradients`.
    """
    maps = gradients.integrated_gradients(
        model, images, target, rows=rows, baseline=baseline, steps=steps, smooth=smooth
    )
    return maps * streams_cam(model, images, target)[:, None]


def streams_cam(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """The Grad-CAMs of the streams, each with mean 1, weighed by the streams' shares in the prediction: (B, *S).

    The streams weigh alike where there is no gate.
    """
    net = model.get_submodule("net")
    streams = list(getattr(net, "stream_names", [""]))
    shares = stream_shares(net, images)
    cam = torch.zeros_like(images[:, 0])
    for number, stream in enumerate(streams):
        own = gradcam_of(net, stream)(model, images, target)
        mean = own.flatten(1).mean(dim=1).clamp(min=torch.finfo(own.dtype).tiny)
        share = torch.full_like(mean, 1 / len(streams)) if shares is None else shares[:, number]
        cam += own * (share / mean).reshape(-1, *(1,) * (own.ndim - 1))
    return cam
