"""Checkpoints in the run folder: of every epoch, every few minutes, and when the run is asked to stop."""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from scale.runs import CHECKPOINTS, checkpoints, kept
from scale.runs.interruption import Interrupted, Signals

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"


class BestAndLast(Checkpoint):
    """Keeps `best.ckpt`, `last.ckpt` and the one before it in the trainer's folder, each written whole or not at all.

    The best epoch has the lowest val loss or, as `monitor` says, the highest val AUC and, among equal ones, the lowest
    val loss: on a small val split many epochs reach the same AUC. Lightning's own ModelCheckpoint keeps the first of
    equals, and writes `last.ckpt` only when the best has changed.

    SIGTERM, Ctrl-C and SLURM's SIGUSR1 let the step finish, save, and end the training with `Interrupted`; of several
    processes one has to hear the signal.

    Args:
        every_n_minutes: save within epochs too, this long after the save before; 0: at the end of epochs only.
        first_of_equals: of epochs with equal val AUC take the first, whatever the loss, as the official code does.
        monitor: what is best: the lowest val `loss` or the highest val `auc`.
    """

    def __init__(
        self,
        *,
        every_n_minutes: float = 10.0,
        first_of_equals: bool = False,
        monitor: Literal["auc", "loss"] = "loss",
    ) -> None:
        if every_n_minutes < 0:
            raise ValueError(f"callbacks.checkpoint.every_n_minutes={every_n_minutes}: give 0 (never) or more")
        if monitor not in ("auc", "loss"):
            raise ValueError(f"callbacks.checkpoint.monitor={monitor!r}: give auc or loss")
        if first_of_equals and monitor != "auc":
            raise ValueError(
                "callbacks.checkpoint.first_of_equals=true chooses among epochs of equal val AUC: "
                "give callbacks.checkpoint.monitor=auc with it"
            )
        self.every_n_minutes, self.first_of_equals, self.monitor = every_n_minutes, first_of_equals, monitor
        self.best: tuple[float, float] | None = None
        self.best_epoch: int | None = None
        self._batches = 0  # of an epoch that has not ended
        self._signals = Signals()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begins to listen to signals; Lightning's own handlers would stop in the middle of things.

        Raises:
            ValueError: some of the training would end without val, by which the epoch is chosen.
        """
        _check_length(trainer)
        if self._batches:
            # Lightning loads the loader's state when it first makes it, which estimating the steps does too early.
            loader: Any = trainer.train_dataloader
            loader.load_state_dict({"drawn": self._batches})
        self._signals.listen()
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves within an epoch if it is time to, or if the run is asked to stop."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches or batch_idx + 1 >= trainer.num_training_batches:
            return  # gradients that wait for their step are in no checkpoint; an epoch's last batch is saved behind val
        waited = time.monotonic() - self._saved
        received, due = self._agree(trainer, due=0 < self.every_n_minutes * 60 <= waited)
        if received or due:
            self._batches = batch_idx + 1
            self.save(trainer, best=False)
        if received:
            raise Interrupted(received)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the epoch, and once more as the best one if it is."""
        better = self.improves(trainer.callback_metrics)
        if better:
            self.best, self.best_epoch = self._rank(trainer.callback_metrics), trainer.current_epoch
        self._batches = 0
        self.save(trainer, best=better)
        received, _ = self._agree(trainer, due=False)
        if received:
            raise Interrupted(received)

    def improves(self, values: Mapping[str, Any]) -> bool:
        """Whether an epoch with these figures takes the place of the best one so far."""
        return "val/auc" in values and (self.best is None or self._rank(values) > self.best)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gives the signals back."""
        self._signals.release()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self._signals.release()

    def save(self, trainer: L.Trainer, *, best: bool) -> None:
        """Writes `last.ckpt` and, where asked for, `best.ckpt`; all processes must call it."""
        folder = Path(trainer.default_root_dir) / CHECKPOINTS
        partial, copy = folder / "partial.ckpt", folder / "copy.ckpt"
        try:
            self._write(trainer, partial, copy, best=best)
        except (OSError, RuntimeError):  # torch's own writer raises RuntimeError where the disk is full
            if trainer.is_global_zero:
                partial.unlink(missing_ok=True)
                copy.unlink(missing_ok=True)
            raise
        self._saved = time.monotonic()

    def _write(self, trainer: L.Trainer, partial: Path, copy: Path, *, best: bool) -> None:
        folder = partial.parent
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            _to_disk(partial)
            if best:
                shutil.copyfile(partial, copy)
                _to_disk(copy)
                copy.replace(folder / BEST)
            if (folder / LAST).exists():
                (folder / LAST).replace(folder / PREVIOUS)
            partial.replace(folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far, and how far an epoch has come that has not ended."""
        return {"best": self.best, "best_epoch": self.best_epoch, "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores them."""
        self._batches = state_dict["batches"]
        best = state_dict["best"]
        self.best, self.best_epoch = None if best is None else (best[0], best[1]), state_dict["best_epoch"]

    def _rank(self, values: Mapping[str, Any]) -> tuple[float, float]:
        return kept.rank(values, monitor=self.monitor, first_of_equals=self.first_of_equals)

    def _agree(self, trainer: L.Trainer, *, due: bool) -> tuple[int, bool]:
        """The signal that any process received, 0 for none, and whether any of them is due to save."""
        received = self._signals.received
        if trainer.world_size > 1:
            asked = torch.tensor([received, int(due)], device=trainer.strategy.root_device)
            torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
            received, due = int(asked[0]), bool(asked[1])
        return received, due


def load_best(trainer: L.Trainer, task: L.LightningModule, folder: Path) -> dict[str, Any]:
    """Loads the averaged weights of the best epoch, or of the last where none was kept; returns epoch and which."""
    folder = Path(trainer.strategy.broadcast(str(folder)))  # processes that a cluster started have names of their own
    path = folder / CHECKPOINTS / BEST
    fast_dev_run = getattr(trainer, "fast_dev_run", False)  # Lightning sets it behind its annotations
    chooses = any(isinstance(callback, BestAndLast) for callback in trainer.checkpoint_callbacks)
    written = {str(getattr(callback, "best_model_path", "")) for callback in trainer.checkpoint_callbacks}
    # A file that an earlier attempt left is none of this training.
    ended = not path.exists() if fast_dev_run else not chooses and str(path) not in written
    if ended:  # what the training ended with
        trainer.save_checkpoint(path)
    trainer.strategy.barrier()
    state = checkpoints.read(path)
    task.load_state_dict(state["state_dict"])
    # After a training Lightning's epoch is their number.
    return {"best_epoch": max(int(state["epoch"]) - ended, 0), "selected_on": "nothing" if ended else "val"}


def _to_disk(path: Path) -> None:
    """Waits until a file is on the disk, so that not even a power failure leaves a half-written one under its name."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _check_length(trainer: L.Trainer) -> None:
    last, every = trainer.max_epochs or 0, trainer.check_val_every_n_epoch or 1
    if 0 < last < every:
        raise ValueError(
            f"trainer.check_val_every_n_epoch={every}, but the training has {last} epochs: no epoch would be judged on "
            f"val and kept; give at most {last}"
        )
    if last > 0 and last % every:
        raise ValueError(
            f"trainer.check_val_every_n_epoch={every} does not divide the {last} epochs: the last {last % every} would "
            f"be trained and never judged; give trainer.max_epochs={last - last % every} or another multiple"
        )
    steps = max(-(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches), 1)  # of an epoch
    given = trainer.max_steps
    if given > 0 and given % steps and (last < 0 or given < last * steps):
        least = max(given // steps, 1) * steps
        raise ValueError(
            f"trainer.max_steps={given} ends within an epoch of {steps} steps, and val judges whole ones, so that the "
            f"rest would be lost: give {least} or another multiple, or trainer.max_epochs"
        )
