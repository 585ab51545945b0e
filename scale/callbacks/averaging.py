"""Averaged weights."""

from collections.abc import Iterator
from itertools import chain, groupby
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights, used in validation, in checkpoints and in the end.

    The average of the first n steps uses min(decay, (1 + n) / (10 + n)), so that it forgets the initial weights
    (as in tf.train.ExponentialMovingAverage).

    The steps are counted here and not on the device, which a step would wait for.

    Args:
        decay: share of the average that is kept in a step.
    """

    def __init__(self, *, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"callbacks.averaging.decay={decay}: give a number from 0 to below 1")
        self.decay, self._count = decay, 0
        self._tensors: list[tuple[list[Tensor], list[Tensor]]] = []  # of the average and of the network, by type
        super().__init__(use_buffers=True)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the average, before Lightning converts the network: in double precision where that will have it.

        Of a network in half precision it stays in single precision, in which a hundredth can be added to a number.
        """
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None and trainer.precision == "64-true":
            self._average_model.double()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Brings the average to where the network has come since."""
        assert self._average_model is not None
        self._count = int(self._average_model.n_averaged)
        average = self._average_model.to(pl_module.device).module
        pairs = zip(_tensors(average), _tensors(pl_module), strict=True)
        by_type = groupby(sorted(pairs, key=lambda pair: str(pair[0].dtype)), key=lambda pair: pair[0].dtype)
        self._tensors = [([a for a, _ in same], [w for _, w in same]) for same in (list(s) for _, s in by_type)]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the weights after an optimizer's step to the average."""
        if trainer.global_step > self._latest_update_step:
            self._update()
            self._latest_update_step = trainer.global_step

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Saves the average with its count."""
        if self._average_model is not None:
            self._average_model.n_averaged.fill_(self._count)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Forgets the average, which is in the model now: from then on what is evaluated is what was loaded.

        Also where nothing was left to train, because a finished training was resumed.
        """
        self._average_model, self._tensors = None, []

    @torch.no_grad()
    def _update(self) -> None:
        update = get_ema_multi_avg_fn(min(self.decay, (1 + self._count) / (10 + self._count)))
        for averages, weights in self._tensors:
            newer = [weight.to(average.dtype) for average, weight in zip(averages, weights, strict=True)]
            if self._count and averages[0].is_floating_point():  # counters are copied, and all weights at first
                update(averages, newer, self._count)
            else:
                torch._foreach_copy_(averages, newer)
        self._count += 1


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return (tensor.detach() for tensor in chain(module.parameters(), module.buffers()))
