"""Measures that change the image and watch the network or the map: deletion, insertion, infidelity, sensitivity."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scale.attribution.maps import on_grid
from scale.models.lifting import gaussian_matrix
from scale.models.scale_net import check_choice

BASELINES = ("blur", "mean", "zero")
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


def infidelity(
    score: Score,
    images: Tensor,
    maps: Tensor,
    *,
    perturbations: int = 50,
    baseline: str = "mean",
    batch_size: int = 16,
    target: Tensor | int | None = None,
    seed: int = 0,
) -> Tensor:
    """Mean squared difference between the loss of score and the relevance lost when a random block is removed.

    Yeh et al. 2019 (https://arxiv.org/abs/1901.09392), their square removal, by Captum. A map is first multiplied with
    the factor that fits each sample best, because most maps have no unit. Blocks have an eighth to a half of each edge.

    Args:
        score: as for `deletion`.
        images: (B, C, *S), normalised.
        maps: (B, C, *S).
        perturbations: blocks for each sample; the same for the same seed, batch size and shape of images.
        baseline: as for `deletion`.
        batch_size: images that the network sees at once.
        target: as for `deletion`.
        seed: of the blocks.

    Returns:
        (B,) in squared units of the score; 0 for a map that adds up to every change.
    """
    from captum.metrics import infidelity as captum_infidelity

    check_choice("baseline", baseline, BASELINES)
    on_grid(maps)
    generator = torch.Generator().manual_seed(seed)

    def remove_blocks(inputs: Tensor) -> tuple[Tensor, Tensor]:
        inside = _blocks(len(inputs), tuple(inputs.shape[2:]), generator).to(inputs.device)[:, None]
        return inside.expand_as(inputs).to(inputs.dtype), torch.where(inside, removed(inputs, baseline), inputs)

    parts = [
        captum_infidelity(
            _checked(score),
            remove_blocks,
            images[rows],
            maps[rows].to(images),
            target=_part(target, rows),
            n_perturb_samples=perturbations,
            max_examples_per_batch=batch_size,
            normalize=True,
        )
        for rows in _slices(len(images), batch_size)
    ]
    return torch.cat(parts).flatten().float().clamp(min=0).cpu()  # the expanded square may round below 0


def sensitivity_max(
    explain: Callable[..., Tensor],
    images: Tensor,
    *,
    radius: float = 0.1,
    perturbations: int = 10,
    batch_size: int = 16,
    target: Tensor | int | None = None,
    seed: int = 0,
) -> Tensor:
    """Largest relative change of the map under a change of the image too small to see.

    Yeh et al. 2019 (https://arxiv.org/abs/1901.09392), by Captum.

    Args:
        explain: maps images (b, C, *S) to maps (b, C, *S); called with `target=` too if there is one.
        images: (B, C, *S), normalised.
        radius: largest change of a cell, in standard deviations of the training split.
        perturbations: tries for each sample.
        batch_size: images that `explain` gets at once.
        target: explained column, one for all or (B,).
        seed: of the changes.

    Returns:
        (B,), in norms of the map; 0 for a map that does not move.
    """
    from captum.metrics import sensitivity_max as captum_sensitivity

    generator = torch.Generator().manual_seed(seed)

    def shake(inputs: Tensor, size: float) -> Tensor:
        noise = torch.rand(inputs.shape, generator=generator) * 2 - 1
        return inputs + size * noise.to(inputs)

    def explained(inputs: Tensor | tuple[Tensor, ...], **options: Any) -> Tensor | tuple[Tensor, ...]:
        found = explain(inputs[0] if isinstance(inputs, tuple) else inputs, **options)
        on_grid(found)
        return (found.contiguous(),) if isinstance(inputs, tuple) else found.contiguous()

    parts = []
    for rows in _slices(len(images), batch_size):
        options = {} if target is None else {"target": _part(target, rows)}
        parts.append(
            captum_sensitivity(
                explained,
                images[rows],
                perturb_func=shake,
                perturb_radius=radius,
                n_perturb_samples=perturbations,
                max_examples_per_batch=batch_size,
                **options,
            )
        )
    return torch.cat(parts).flatten().float().cpu()


def removed(images: Tensor, baseline: str) -> Tensor:
    """images: (B, C, *S); returns what they become where they are taken away, one of `BASELINES`."""
    if baseline == "zero":
        return torch.zeros_like(images)
    if baseline == "mean":
        return images.mean(dim=tuple(range(2, images.ndim)), keepdim=True).expand_as(images)
    width = torch.tensor([BLUR * max(images.shape[2:])], device=images.device)
    for axis in range(2, images.ndim):
        matrix = gaussian_matrix(images.shape[axis], width)[0].to(images.dtype)
        images = (images.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return images


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
    scored, found = _checked(score), []
    for rows in _slices(len(start) * (steps + 1), batch_size):
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


def _checked(score: Score) -> Score:
    def checked(images: Tensor) -> Tensor:
        values = score(images)
        if values.ndim not in (1, 2) or len(values) != len(images):
            raise ValueError(f"score gave {tuple(values.shape)} for {len(images)} images; (B,) or (B, columns) needed")
        if not torch.isfinite(values).all():
            raise ValueError("the network's scores are not finite, so no map can be measured by them")
        return values

    return checked


def _blocks(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random boxes (count, *S) bool: edges of an eighth to a half of each axis, centres anywhere on the grid."""
    inside = torch.ones(count, *shape, dtype=torch.bool)
    share = torch.rand(count, 1, generator=generator) * 3 / 8 + 1 / 8
    for axis, size in enumerate(shape):
        centre = torch.rand(count, 1, generator=generator) * size
        half = (share * size).clamp(min=1) / 2
        cell = torch.arange(size) + 0.5
        line = ((cell - centre).abs() <= half) | (cell - 0.5 == centre.floor())
        inside &= line.view(count, *(size if other == axis else 1 for other in range(len(shape))))
    return inside


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def _part(target: Tensor | int | None, rows: slice) -> Tensor | int | None:
    return target[rows] if isinstance(target, Tensor) and target.ndim else target
