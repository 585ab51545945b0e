"""Checkpoints in the run folder."""

import math
import shutil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


class BestAndLast(Checkpoint):
    """Keeps `checkpoints/best.ckpt` and `checkpoints/last.ckpt` in the trainer's root folder, each written atomically.

    The best epoch has the highest val AUC and, among equal ones, the lowest val loss: on a small val split many epochs
    reach the same AUC. Lightning's own ModelCheckpoint keeps the first of equals, and writes `last.ckpt` only when the
    best has changed.

    Args:
        first_of_equals: of epochs with equal val AUC take the first, whatever the loss, as the official code does.
    """

    def __init__(self, *, first_of_equals: bool = False) -> None:
        self.first_of_equals = first_of_equals
        self.best: tuple[float, float] | None = None
        self.best_epoch: int | None = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the epoch, and once more as the best one if it is."""
        values = trainer.callback_metrics
        better = False
        if "val/auc" in values:
            auc = float(values["val/auc"])
            loss = 0.0 if self.first_of_equals else float(values["val/loss"])
            rank = (-1.0 if math.isnan(auc) else auc, -loss)
            better = self.best is None or rank > self.best
            if better:
                self.best, self.best_epoch = rank, trainer.current_epoch
        self.save(trainer, best=better)

    def save(self, trainer: L.Trainer, *, best: bool) -> None:
        """Writes `last.ckpt` and, where asked for, `best.ckpt`; all processes must call it."""
        folder = Path(trainer.default_root_dir) / "checkpoints"
        partial = folder / "partial.ckpt"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            if best:
                copy = folder / "copy.ckpt"
                shutil.copyfile(partial, copy)
                copy.replace(folder / "best.ckpt")
            partial.replace(folder / "last.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best epoch so far."""
        best = state_dict["best"]
        self.best, self.best_epoch = None if best is None else (best[0], best[1]), state_dict["best_epoch"]
