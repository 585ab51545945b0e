"""From the arrays of a split to batches."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scale.data.sampling import Batch, TrainBatches
from scale.data.store import Split


class BatchDataset(Dataset[dict[str, Tensor]]):
    """Gathers a whole batch in one indexing operation."""

    def __init__(self, split: Split, *, spatial_dims: int) -> None:
        self.split, self.spatial_dims = split, spatial_dims

    def __getitem__(self, batch: Batch) -> dict[str, Tensor]:
        indices, seed, offset, total = batch
        images = torch.from_numpy(self.split.images.gather(indices))  # (B, *S[, C])
        images = images.movedim(-1, 1) if images.ndim == self.spatial_dims + 2 else images.unsqueeze(1)
        return {
            "image": images,  # (B, C, *S), uint8
            "label": torch.from_numpy(self.split.labels[indices]),  # (B, L)
            "index": torch.from_numpy(np.asarray(indices, dtype=np.int64)),
            "draw": torch.tensor([seed, offset, total]),
        }


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
