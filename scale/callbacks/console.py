"""What a run says while it trains: a bar on a terminal, a line an epoch in a log."""

import logging
import sys
import time
from typing import Any

import lightning as L
from tqdm.auto import tqdm

log = logging.getLogger("scale")
FILE_ONLY = {"file_only": True}  # for the log file, because a terminal shows it in the bar


class Console(L.Callback):
    """One progress bar over the whole training with loss, val AUC and time left, or one line an epoch.

    Args:
        bar: show the bar; on a terminal only if None.
    """

    def __init__(self, *, bar: bool | None = None) -> None:
        self.show = sys.stdout.isatty() if bar is None else bar
        self._bar: tqdm[Any] | None = None
        self._validated = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forgets the epoch before."""
        self._validated = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes that the epoch has figures of val."""
        self._validated = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Opens the bar."""
        self._epochs, self._started, self._first = trainer.max_epochs or 0, time.perf_counter(), trainer.current_epoch
        if self.show and trainer.is_global_zero:
            total = int(trainer.estimated_stepping_batches)
            self._bar = tqdm(total=total, initial=trainer.global_step, unit="step", dynamic_ncols=True, file=sys.stdout)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says how far the training is."""
        done, values = trainer.current_epoch + 1, trainer.callback_metrics
        own = "train/main_loss" if "train/main_loss" in values else "train/loss"  # beside val's: no auxiliary terms
        names = {own: "loss", "val/loss": "val loss", "val/auc": "val AUC", "val/acc": "val ACC"}
        known = {name: text for name, text in names.items() if self._validated or not name.startswith("val/")}
        shown = {text: f"{float(values[name]):.4f}" for name, text in known.items() if name in values}
        if self._bar is not None:
            self._bar.set_postfix(epoch=f"{done - 1} ({done}/{self._epochs})", **shown)
        left = (time.perf_counter() - self._started) / (done - self._first) * (self._epochs - done)
        text = "  ".join(f"{name} {value}" for name, value in shown.items())
        number = f"epoch {done - 1:>3} ({done}/{self._epochs})"  # its number in history.csv, and how many are done
        line = f"{number}  {text}  {tqdm.format_interval(left)} left"
        log.info(line, extra=FILE_ONLY if self._bar is not None else None)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Closes the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
