"""How images are scaled: by their own statistics, or as for the published baselines.

The latter: doi:10.1038/s41597-022-01721-8, github.com/MedMNIST/experiments.
"""

import numpy as np
import torch
from torch import Tensor

from scale.data.catalog import DataSet
from scale.data.images import Images

STATISTICS_IMAGES = 2000  # enough for mean and standard deviation to three digits


def statistics(normalisation: str, info: DataSet, images: Images, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (channels,), in [0, 1], by which `data.normalisation` scales a data set."""
    return official_statistics(info, channels) if normalisation == "official" else measured_statistics(images, channels)


def measured_statistics(images: Images, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (channels,), in [0, 1], of at most `STATISTICS_IMAGES` images spread over a split."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), STATISTICS_IMAGES)).astype(np.int64))
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for part in np.array_split(chosen, max(len(chosen) // 64, 1)):
        values = images.gather(part).reshape(-1, channels) / 255
        total, squares, count = total + values.sum(0), squares + (values**2).sum(0), count + len(values)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return torch.from_numpy(mean).float(), torch.from_numpy(np.maximum(std, 1e-3)).float()


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
    return images * factors[offset : offset + len(images)].to(images.device, non_blocking=True).view(
        -1, *(1,) * (images.ndim - 1)
    )
