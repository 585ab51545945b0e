"""Averaged weights."""

from collections.abc import Sequence

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


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
        super().__init__(use_buffers=True, multi_avg_fn=self._average)

    def _average(self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        if not averaged[0].is_floating_point():  # counters; all tensors of one call have one dtype
            for tensor, newer in zip(averaged, current, strict=True):
                tensor.copy_(newer)
            return
        get_ema_multi_avg_fn(self._decay(count))(averaged, current, count)

    def _average_one(self, averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        """The same for one tensor of a network in half precision, whose average has single precision."""
        if not averaged.is_floating_point():
            return current
        return averaged.lerp(current.to(averaged.dtype), 1 - self._decay(count))

    def _decay(self, count: Tensor | int) -> float:
        return min(self.decay, (1 + float(count)) / (10 + float(count)))

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the average, before Lightning converts the network: in double precision where that will have it.

        Of a network in half precision it stays in single precision, in which a hundredth can be added to a number.
        """
        super().setup(trainer, pl_module, stage)
        if self._average_model is None:
            return
        if trainer.precision == "64-true":
            self._average_model.double()
        elif trainer.precision in ("bf16-true", "16-true"):  # all tensors at once only where they have one type
            self._average_model.multi_avg_fn = None
            self._average_model.avg_fn = self._average_one

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forgets the average, which is in the model now: from then on what is evaluated is what was loaded.

        Also where nothing was left to train, because a finished training was resumed.
        """
        self._average_model = None
