"""Maps averaged over the flips that keep the label: what one training happened to see from one side drops out.

The network is asked about each flipped sample and the map is flipped back; the mean is the same, flipped, for a flipped
sample, as the label is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from scale.attribution.methods import gradients
from scale.attribution.methods.combined import SMOOTH, stream_cam
from scale.data.augment import mirror

Views = Sequence[tuple[int, ...]]


def over_views(explain: Callable[[Tensor], Tensor], images: Tensor, views: Views) -> Tensor:
    """The mean over the views of `explain`, which maps images (B, C, *S) to maps (B, C, *S), flipped back."""
    total = torch.zeros_like(images)
    for axes in views:
        total += mirror(explain(mirror(images, axes)), axes)
    return total / len(views)
