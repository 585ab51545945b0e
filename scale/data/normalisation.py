"""How the published baselines scale their input (doi:10.1038/s41597-022-01721-8, github.com/MedMNIST/experiments)."""

import torch
from torch import Tensor

from scale.data.catalog import DataSet


def official_statistics(info: DataSet, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (channels,) that map [0, 1] to [-1, 1] for images and to itself for volumes.

    Volumes that are mere shapes are halved: their intensity says nothing, and is random in training.
    """
    mean, std = (0.5, 0.5) if info.spatial_dims == 2 else (0.0, 2.0 if info.shapes else 1.0)
    return torch.full((channels,), mean), torch.full((channels,), std)


def fade(images: Tensor, *, seed: int, offset: int, total: int) -> Tensor:
    """Multiplies each shape by a random factor in [0, 2], which its halving makes the official [0, 1].

    Args:
        images: (B, C, *S).
        seed: the draw is a function of the seed alone.
        offset: position of the first image in the global batch.
        total: size of the global batch.
    """
    factors = 2 * torch.rand(total, generator=torch.Generator().manual_seed(seed))
    return images * factors[offset : offset + len(images)].to(images.device).view(-1, *(1,) * (images.ndim - 1))
