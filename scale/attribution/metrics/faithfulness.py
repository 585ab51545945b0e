"""Metrics by Captum: does a map foretell what a change costs (infidelity), does it hold still (sensitivity)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scale.attribution.metrics.maps import on_grid
from scale.attribution.metrics.perturbation import BASELINES, Score, checked_score, removed, slices
from scale.utils.choices import check_choice


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
        perturbations: blocks for each sample; the same for every method.
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
    draws = torch.rand(len(images), perturbations, images.ndim - 1, generator=generator)  # edge and centre of a block

    def measure(rows: slice) -> Tensor:
        given, done = images[rows], 0

        def remove_blocks(inputs: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal done
            count = len(inputs) // len(given)  # Captum repeats each sample so many times
            inside = _blocks(draws[rows, done : done + count].flatten(0, 1), tuple(inputs.shape[2:])).to(inputs.device)
            done += count
            return inside.expand_as(inputs).to(inputs), torch.where(inside, removed(inputs, baseline), inputs)

        return captum_infidelity(
            checked_score(score, is_selected=target is None),
            remove_blocks,
            given,
            maps[rows].to(images),
            target=_part(target, rows),
            n_perturb_samples=perturbations,
            max_examples_per_batch=min(batch_size, len(given) * perturbations),
            normalize=True,
        )

    parts = [measure(rows) for rows in slices(len(images), batch_size)]
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
    for rows in slices(len(images), batch_size):
        options = {} if target is None else {"target": _part(target, rows)}
        parts.append(
            captum_sensitivity(
                explained,
                images[rows],
                perturb_func=shake,
                perturb_radius=radius,
                n_perturb_samples=perturbations,
                max_examples_per_batch=min(batch_size, len(images[rows]) * perturbations),
                **options,
            )
        )
    return torch.cat(parts).flatten().float().cpu()


def _blocks(draws: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Boxes (N, 1, *S) bool from numbers (N, 1 + len(S)) in [0, 1].

    The first one sets the edges, an eighth to a half of each axis, the others the centre, anywhere on the grid.
    """
    inside = torch.ones(len(draws), 1, *shape, dtype=torch.bool)
    share = draws[:, :1] * 3 / 8 + 1 / 8
    for axis, size in enumerate(shape):
        centre, half = draws[:, axis + 1, None] * size, (share * size).clamp(min=1) / 2
        cell = torch.arange(size)
        line = ((cell + 0.5 - centre).abs() <= half) | (cell == centre.floor())
        inside &= line.view(-1, 1, *(size if other == axis else 1 for other in range(len(shape))))
    return inside


def _part(target: Tensor | int | None, rows: slice) -> Tensor | int | None:
    return target[rows] if isinstance(target, Tensor) and target.ndim else target
