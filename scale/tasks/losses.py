"""The losses of an epoch's batches, read from the device once in many steps."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

ON_A_GPU = 50  # batches whose losses are read together there: reading one waits for all that the GPU has yet to do


class _Batch(NamedTuple):
    losses: Tensor
    samples: Tensor
    place: str


class EpochLosses:
    """Sums of two losses over an epoch's batches: all terms, and without auxiliary ones.

    A loss that is not finite is found up to `every` batches late, but before anything is saved.

    Args:
        every: batches whose losses are read together.
    """

    def __init__(self, *, every: int = 1) -> None:
        self.sums, self.count, self.every = [0.0, 0.0], 0, every
        self._unread: list[_Batch] = []

    def add(self, losses: Tensor, *, index: Tensor, place: str) -> None:
        """Adds a batch.

        Args:
            losses: (2,), on its device.
            index: numbers (B,) of its samples.
            place: step, epoch and batch in words.

        Raises:
            FloatingPointError: a loss is not finite, of this batch or of one before it.
        """
        self._unread.append(_Batch(losses.detach(), index, place))
        if len(self._unread) >= self.every:
            self.read()

    def read(self) -> list[float]:
        """The sums over all batches so far. Raises as `add`."""
        if self._unread:
            values, batches = torch.stack([batch.losses for batch in self._unread]).tolist(), self._unread
            self._unread = []
            for (value, of_main), batch in zip(values, batches, strict=True):
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the loss is {value} {batch.place}, samples {batch.samples.tolist()}); the last good "
                        "checkpoint is kept. Try a smaller optimizer.lr, hardware=default instead of mixed "
                        "precision, or trainer.detect_anomaly=true to find the operation"
                    )
                self.sums = [self.sums[0] + value, self.sums[1] + of_main]
                self.count += 1
        return self.sums
