"""Metrics that take the image away or give it back, most relevant cells first: deletion and insertion."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from scale.attribution.metrics.maps import on_grid
from scale.models.lifting import gaussian_matrix
from scale.utils.choices import check_choice

BASELINES = ("blur", "mean", "zero")
ROUNDING = 1e-5  # normalised values that are nearer are equal: a blank image has no map of rounding errors
BLUR = 1 / 6  # standard deviation of the blur, in longest edges: wider than a lesion

Score = Callable[[Tensor], Tensor]


class Curve(NamedTuple):
    """How the score changes while an image is taken away or given back.

    Attributes:
        shares: (steps + 1,), share of the cells that were changed, from 0 to 1.
        scores: (B, steps + 1).
        auc: (B,), area under each curve by the trapezoidal rule.
    """

    shares: Tensor
    scores: Tensor
    auc: Tensor


def deletion(
    score: Score,
    images: Tensor,
    maps: Tensor,
    *,
    steps: int = 20,
    baseline: str = "blur",
    batch_size: int = 16,
    target: Tensor | int | None = None,
    seed: int = 0,
) -> Curve:
    """Takes the cells away, most relevant first: with a good map the score falls soon.

    Source: RISE, Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421.

    Args:
        score: maps images (b, C, *S) to the explained class's score (b,), or to all scores (b, columns) if there is a
            `target`.
        images: (B, C, *S), normalised.
        maps: (B, C, *S); cells are ranked by the sum over the channels, ties in random order.
        steps: number of equal steps in which all cells are changed.
        baseline: what a removed cell becomes: `blur`, the blurred image; `mean`, the mean of the image's channel;
            `zero`, which in normalised images is the mean of the training split.
        batch_size: images that the network sees at once.
        target: explained column, one for all or (B,).
        seed: of the order of ties.

    Returns:
        The curves, on the CPU.

    Raises:
        ValueError: an unknown baseline, shapes that do not fit, values that are not finite.
    """
    check_choice("baseline", baseline, BASELINES)
    ends = images, removed(images, baseline)
    return _curve(score, ends, maps, steps=steps, batch_size=batch_size, target=target, seed=seed)


def insertion(
    score: Score,
    images: Tensor,
    maps: Tensor,
    *,
    steps: int = 20,
    baseline: str = "blur",
    batch_size: int = 16,
    target: Tensor | int | None = None,
    seed: int = 0,
) -> Curve:
    """Starts from the baseline and gives the most relevant cells back first: a good map's score rises soon.

    Source, arguments, result and errors as for `deletion`.
    """
    check_choice("baseline", baseline, BASELINES)
    ends = removed(images, baseline), images
    return _curve(score, ends, maps, steps=steps, batch_size=batch_size, target=target, seed=seed)


def removed(images: Tensor, baseline: str) -> Tensor:
    """images: (B, C, *S); returns what they become where they are taken away, one of `BASELINES`."""
    if baseline == "zero":
        return torch.zeros_like(images)
    if baseline == "mean":
        mean = images.mean(dim=tuple(range(2, images.ndim)), keepdim=True)
        return torch.where((mean - images).abs() < ROUNDING, images, mean)
    given, width = images, torch.tensor([BLUR * max(images.shape[2:])], device=images.device)
    for axis in range(2, images.ndim):
        matrix = gaussian_matrix(images.shape[axis], width)[0].to(images.dtype)
        images = (images.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return torch.where((images - given).abs() < ROUNDING, given, images)


@torch.no_grad()
def _curve(
    score: Score,
    ends: tuple[Tensor, Tensor],
    maps: Tensor,
    *,
    steps: int,
    batch_size: int,
    target: Tensor | int | None,
    seed: int,
) -> Curve:
    """Scores on the way from the first images to the last, the most relevant cells first."""
    start, end = ends
    if maps.shape != start.shape:
        raise ValueError(f"maps {tuple(maps.shape)} do not fit images {tuple(start.shape)}")
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps={steps}, batch_size={batch_size}: both must be at least 1")
    shape = start.shape[2:]
    places = _places(on_grid(maps).flatten(1), seed).to(start.device)  # (B, cells)
    cells = places.shape[1]
    counts = torch.linspace(0, cells, steps + 1, dtype=torch.float64).round().long()
    scored, found = checked_score(score, is_selected=target is None), []
    for rows in slices(len(start) * (steps + 1), batch_size):
        pair = torch.arange(rows.start, rows.stop)
        sample, step = pair // (steps + 1), pair % (steps + 1)
        changed = places[sample] < counts[step, None].to(places.device)
        mixed = torch.where(changed.view(-1, 1, *shape), end[sample], start[sample])
        values = scored(mixed)
        if target is not None:
            columns = torch.as_tensor(target, device=values.device).expand(len(start))[sample]
            values = values.gather(1, columns[:, None])[:, 0]
        found.append(values.float().cpu())
    scores = torch.cat(found).view(len(start), steps + 1)
    shares = counts / cells
    return Curve(shares.float(), scores, torch.trapezoid(scores.double(), shares, dim=1).float())


def _places(values: Tensor, seed: int) -> Tensor:
    """Place (B, cells) of each cell when values (B, cells) are sorted from the largest; ties in random order."""
    shuffle = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(seed)).to(values.device)
    order = shuffle[values[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    return torch.empty_like(order).scatter_(
        1, order, torch.arange(values.shape[1], device=order.device).expand_as(order)
    )


def checked_score(score: Score, *, is_selected: bool) -> Score:
    """`score`, which must be finite and (b,), or (b, columns) where the column is still to be selected."""

    def checked(images: Tensor) -> Tensor:
        values = score(images)
        if values.ndim != (1 if is_selected else 2) or len(values) != len(images):
            wanted = "(B,) without a target" if is_selected else "(B, columns) with one"
            raise ValueError(f"score gave {tuple(values.shape)} for {len(images)} images; it must be {wanted}")
        if not torch.isfinite(values).all():
            raise ValueError("the network's scores are not finite, so no map can be measured by them")
        return values

    return checked


def slices(count: int, size: int) -> Iterator[slice]:
    """The parts, of at most `size`, of `count` rows."""
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))
