"""Metrics that compare a map with the known place of what decides the label; chance level is the mask's share."""

import torch
from torch import Tensor

from scale.attribution.metrics.maps import on_grid


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether the map's peak lies in the mask (Zhang et al. 2018, doi:10.1007/s11263-017-1059-x).

    Args:
        maps: (B, C, *S), summed over the channels.
        masks: (B, *S), inside where not 0.

    Returns:
        (B,): 1 or 0, or the share of the peaks that lie inside if there are several; nan without a mask.

    Raises:
        ValueError: shapes that do not fit, values that are not finite.
    """
    values, inside = _flat(maps, masks)
    peak = values == values.amax(dim=1, keepdim=True)
    return _share((peak & inside).sum(dim=1), peak.sum(dim=1), inside)


def relevance_mass(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the positive relevance that lies in the mask (Arras et al. 2022, doi:10.1016/j.inffus.2021.11.008).

    A map without positive relevance says nothing and counts as an even one.

    Args:
        maps: (B, C, *S), summed over the channels.
        masks: (B, *S), inside where not 0.

    Returns:
        (B,) in [0, 1]; nan without a mask.

    Raises:
        ValueError: as `pointing_game`.
    """
    values, inside = _flat(maps, masks)
    positive = values.clamp(min=0)
    positive = torch.where(positive.sum(dim=1, keepdim=True) > 0, positive, 1.0)
    return _share((positive * inside).sum(dim=1), positive.sum(dim=1), inside)


def relevance_rank(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the mask among as many cells of highest relevance (Arras et al. 2022, as `relevance_mass`).

    Cells of equal relevance are drawn at random; the result is the expectation over the draws.

    Args:
        maps: (B, C, *S), summed over the channels.
        masks: (B, *S), inside where not 0.

    Returns:
        (B,) in [0, 1]; nan without a mask.

    Raises:
        ValueError: as `pointing_game`.
    """
    values, inside = _flat(maps, masks)
    size = inside.sum(dim=1, keepdim=True)
    last = values.sort(dim=1, descending=True).values.gather(1, (size - 1).clamp(min=0))
    above, tied = values > last, values == last
    drawn = (size - above.sum(dim=1, keepdim=True)) / tied.sum(dim=1, keepdim=True)
    hits = (above & inside).sum(dim=1) + (tied & inside).sum(dim=1) * drawn[:, 0]
    return _share(hits, size[:, 0], inside)


def _flat(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance (B, cells), double, and membership (B, cells)."""
    if masks.shape != (len(maps), *maps.shape[2:]):
        raise ValueError(f"masks {tuple(masks.shape)} do not fit maps {tuple(maps.shape)}; (B, *S) needed")
    values = on_grid(maps)
    return values.double().flatten(1), (masks != 0).flatten(1).to(values.device)


def _share(part: Tensor, whole: Tensor, inside: Tensor) -> Tensor:
    share = part.double() / whole
    return torch.where(inside.any(dim=1), share, torch.nan).float().cpu()
