"""How far a sample's map can be trusted to stay where it is: over flips that keep the label, and over epochs.

A network that sees a flipped sample should point at the flipped place, and one of a few epochs later at the same place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from scale.attribution.catalog import METHODS
from scale.attribution.metrics.explainer import Explainer, Step
from scale.attribution.metrics.maps import on_grid, rank_correlation
from scale.data.augment import mirror

WIDTH = 0.25  # of the longest edge: a lesion where none is marked


class Agreement(NamedTuple):
    """How a map agrees with others of the same sample.

    Attributes:
        correlation: (N,), mean rank correlation with them.
        shift: (N,), largest distance of their peaks from its own, in cells.
    """

    correlation: np.ndarray
    shift: np.ndarray


def single_flips(views: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The flips along one axis of all flips that keep the label."""
    return [axes for axes in views if len(axes) == 1]


def over_flips(
    explainer: Explainer, method: str, images: Tensor, target: Tensor, maps: Tensor, *, step: Step
) -> Agreement:
    """Agreement of maps with those of the sample flipped along each axis, flipped back.

    A method that averages over flips would agree with itself whatever the network does: of such a one, the maps from
    each side alone are compared.

    Args:
        explainer: the network; its `views` say which flips keep the label.
        method: name.
        images: (N, C, *S), normalised.
        target: (N,).
        maps: of the method, (N, C, *S).
        step: told the passes that were made.
    """
    alone = one_sided(explainer)
    if averages(method):
        maps = alone.maps(method, images, target, step=step)
    others = [
        mirror(alone.maps(method, mirror(images, axes), target, step=step), axes)
        for axes in single_flips(explainer.views)
    ]
    return compare(maps, others)


def one_sided(explainer: Explainer) -> Explainer:
    """The explainer without flips."""
    return replace(explainer, views=((),))


def averages(method: str) -> bool:
    """Whether a method averages over the flips."""
    return "views" in METHODS[method].per


def cost(explainer: Explainer, method: str, *, count: int, has_epoch: bool) -> float:
    """Passes that the agreements of `count` samples take, about."""
    flips = single_flips(explainer.views)
    sides = len(flips) + averages(method) if flips else 0
    return count * (one_sided(explainer).cost(method) * sides + explainer.cost(method) * has_epoch)


def over_networks(
    explainer: Explainer, method: str, images: Tensor, target: Tensor, maps: Tensor, *, net: nn.Module, step: Step
) -> Agreement:
    """Agreement of maps with those of another network, such as another epoch's; arguments as for `over_flips`."""
    return compare(maps, [explainer.maps(method, images, target, net=net, step=step)])


def compare(maps: Tensor, others: Sequence[Tensor]) -> Agreement:
    """maps, and each of others: (N, C, *S); nan where there are no others, or a map is constant."""
    if not others:
        nothing = np.full(len(maps), np.nan)
        return Agreement(nothing, nothing)
    own = peaks(maps)
    correlations = torch.stack([rank_correlation(maps, other) for other in others]).mean(dim=0)
    shifts = torch.stack([(peaks(other) - own).square().sum(dim=1).sqrt() for other in others]).amax(dim=0)
    return Agreement(correlations.double().numpy(), shifts.numpy())


def peaks(maps: Tensor) -> Tensor:
    """Cells (N, dims), double, where maps (N, C, *S), summed over the channels, are largest; the first of several."""
    grids = on_grid(maps).cpu()
    places = np.unravel_index(grids.flatten(1).argmax(dim=1).numpy(), grids.shape[1:])
    return torch.from_numpy(np.stack(places, axis=1)).double()


def lesion_width(mask: np.ndarray | None, shape: Sequence[int]) -> float:
    """Diameter in cells of a disc or ball as large as the mask (*S); `WIDTH` of the longest edge without one."""
    cells = 0 if mask is None else int(np.count_nonzero(mask))
    if not cells:
        return WIDTH * max(shape)
    return 2 * (math.sqrt(cells / math.pi) if len(shape) == 2 else math.cbrt(3 * cells / (4 * math.pi)))
