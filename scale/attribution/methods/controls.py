"""Maps that know nothing of the network: what every other map must beat."""

import zlib

import torch
from torch import Tensor


def random(images: Tensor, target: Tensor, *, seed: int) -> Tensor:
    """Uniform noise (B, *S) that depends on the seed and the sample (C, *S) alone."""
    maps = []
    for image in images:
        digest = zlib.crc32(image.cpu().numpy().tobytes(), seed % 2**32)
        maps.append(torch.rand(image.shape[1:], generator=torch.Generator().manual_seed(digest)))
    return torch.stack(maps).to(images)


def edges(images: Tensor, target: Tensor) -> Tensor:
    """Length of the intensities' gradient by central differences: (B, C, *S)."""
    axes = [axis for axis in range(2, images.ndim) if images.shape[axis] > 1]
    if not axes:
        return torch.zeros_like(images)
    return torch.stack(torch.gradient(images, dim=axes)).square().sum(dim=0).sqrt()
