"""From the arrays of a split to batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from scale.data.sampling import Batch, TrainBatches
from scale.data.store import Split


class BatchDataset(Dataset[dict[str, Tensor]]):
    """Gathers a whole batch in one indexing operation."""

    def __init__(self, split: Split, *, spatial_dims: int, with_images: bool = True) -> None:
        self.split, self.spatial_dims, self.with_images = split, spatial_dims, with_images

    def __getitem__(self, batch: Batch) -> dict[str, Tensor]:
        indices, seed, offset, total = batch
        found = {
            "label": torch.from_numpy(self.split.labels[indices]),  # (B, L)
            "index": torch.from_numpy(np.asarray(indices, dtype=np.int64)),
            "draw": torch.tensor([seed, offset, total]),
        }
        if self.with_images:
            images = torch.from_numpy(self.split.images.gather(indices))
            found["image"] = channels_first(images, spatial_dims=self.spatial_dims)  # (B, C, *S), uint8
        return found


def channels_first(images: Tensor, *, spatial_dims: int) -> Tensor:
    """images: (B, *S) or (B, *S, C); returns (B, C, *S)."""
    return images.movedim(-1, 1) if images.ndim == spatial_dims + 2 else images.unsqueeze(1)


def resident(split: Split, device: torch.device) -> Tensor | None:
    """All images (N, *S[, C]) of a split on a GPU; None on a CPU, or if mapped or above a quarter of its memory."""
    images = split.images
    if device.type != "cuda" or images.is_mapped or images.nbytes > torch.cuda.mem_get_info(device)[1] // 4:
        return None
    return torch.from_numpy(images.gather(np.arange(len(images)))).to(device)


class TrainLoader(DataLoader[dict[str, Tensor]]):
    """Keeps its place within an epoch, so that Lightning can save and restore it."""

    drawn = 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        assert isinstance(self.sampler, TrainBatches)
        self.drawn = self.sampler.first
        for batch in super().__iter__():
            self.drawn += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Number of batches that the current epoch has given to the training."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Lets the next pass begin behind those batches."""
        assert isinstance(self.sampler, TrainBatches)
        self.sampler.first = state["drawn"]


def loader(
    dataset: Dataset[dict[str, Tensor]],
    sampler: Sampler[Any],
    *,
    workers: int,
    kind: type[DataLoader[Any]] = DataLoader,
) -> DataLoader[dict[str, Tensor]]:
    """Batches of a data set that gathers whole ones, as a sampler of batches says."""
    return kind(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
