"""Averaged weights."""

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights, used in validation, in checkpoints and in the end.

    The average of the first n steps uses min(decay, (1 + n) / (10 + n)), so that it forgets the initial weights
    (as in tf.train.ExponentialMovingAverage).

    Args:
        decay: share of the average that is kept in a step.
    """

    def __init__(self, *, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"callbacks.averaging.decay={decay}: give a number from 0 to below 1")
        self.decay = decay
        super().__init__(use_buffers=True, avg_fn=self._average)

    def _average(self, averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        decay = min(self.decay, (1 + float(count)) / (10 + float(count)))
        if not averaged.is_floating_point():
            return current
        return averaged + (current - averaged) * (1 - decay)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forgets the average, which is in the model now: from then on what is evaluated is what was loaded.

        Also where nothing was left to train, because a finished training was gone on with.
        """
        self._average_model = None
