"""A map of what two methods agree on from every side: averaged over the flips that keep the label.

The network is asked about each flipped sample and the map is flipped back. What it happened to see from one side alone
drops out, and a flipped sample has the flipped map, as it has the same label.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scale.attribution.methods import gradients
from scale.data.augment import mirror

GRAIN, AROUND = 0.5 / 28, 2 / 28  # of the longest edge: less than a cell; about the width of a small lesion


def consensus(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    *,
    rows: int,
    baseline: Tensor,
    views: Sequence[tuple[int, ...]],
    steps: int = 4,
    smooth: float = GRAIN,
    around: float = AROUND,
) -> Tensor:
    """Integrated gradients times DeepLift, where both speak for the class, each averaged over flips: (B, *S).

    Both share the effect of the sample out over its voxels, by other rules: gradients on the way from the baseline, and
    differences at each unit. No Grad-CAM is in it, whose cells depend on the draw of a training. What stands alone,
    such as a voxel at the rim of a lesion, counts as far as its neighbourhood does.

    Args:
        model: gives scores (B, columns).
        images: (B, C, *S).
        target: (B,).
        rows: samples in one pass.
        baseline: (B, C, *S).
        views: spatial axes of every flip that keeps the label, none first.
        steps: of the integrated gradients of one view.
        smooth: standard deviation of the Gaussian under both maps, as a share of the longest edge.
        around: the same of a voxel's neighbourhood; 0: voxels count alone.
    """
    path, lift = (torch.zeros_like(images[:, :1]) for _ in range(2))
    for axes in views:
        seen, origin = mirror(images, axes), mirror(baseline, axes)
        along = gradients.integrated_gradients(model, seen, target, rows=rows, baseline=origin, steps=steps)
        lifted = gradients.deeplift(model, seen, target, baseline=origin)
        path += mirror(along, axes).sum(dim=1, keepdim=True)
        lift += mirror(lifted, axes).sum(dim=1, keepdim=True)
    edge = max(images.shape[2:])
    if smooth:
        path, lift = (gradients.smoothed(maps, smooth * edge) for maps in (path, lift))
    agreed = path.clamp(min=0) * lift.clamp(min=0) / len(views) ** 2
    if around:
        agreed = agreed * gradients.smoothed(agreed, around * edge)
    return agreed[:, 0]
