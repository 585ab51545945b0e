"""What a run says while it trains: a bar on a terminal with a line an epoch above it, or the lines alone in a log."""

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import lightning as L

from scale.callbacks.checkpoint import BestAndLast
from scale.training.logs import FILE_ONLY
from scale.utils.progress import duration, live

if TYPE_CHECKING:
    from rich.progress import Progress

log = logging.getLogger("scale")
KEPT = "kept"  # the best epoch so far, whose weights the run would end with
NARROW = 80  # columns below which val ACC is left out


class Console(L.Callback):
    """One line an epoch; on a terminal above a bar over the whole training, with the time left.

    Args:
        bar: show the bar; on a terminal only if None.
    """

    def __init__(self, *, bar: bool | None = None) -> None:
        self.show = sys.stdout.isatty() if bar is None else bar
        self._bar: Progress | None = None
        self._validated = self._narrow = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forgets the epoch before."""
        self._validated = False
        if self._bar is not None:
            self._bar.update(self._task, description=self._title(trainer))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes that the epoch has figures of val."""
        self._validated = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Opens the bar."""
        self._epochs, self._started, self._first = trainer.max_epochs or 0, time.perf_counter(), trainer.current_epoch
        if self.show and trainer.is_global_zero:
            self._bar = live("{task.fields[figures]}")
            total = int(trainer.estimated_stepping_batches)
            self._narrow = self._bar.console.width < NARROW
            epoch = self._title(trainer)
            self._task = self._bar.add_task(epoch, total=total, completed=trainer.global_step, figures="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says how the epoch ended, whether it is the best so far, and how long the rest will take."""
        done, values = trainer.current_epoch + 1, trainer.callback_metrics
        own = "train/main_loss" if "train/main_loss" in values else "train/loss"  # beside val's: no auxiliary terms
        names = {own: "loss", "val/loss": "val loss", "val/auc": "val AUC", "val/acc": "val ACC"}
        known = {name: text for name, text in names.items() if self._validated or not name.startswith("val/")}
        shown = {text: float(values[name]) for name, text in known.items() if name in values}
        # The checkpoint's callback comes last, so that what it holds is the best of the epochs before this one.
        keepers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestAndLast)]
        marks = [KEPT] * (self._validated and any(keeper.improves(values) for keeper in keepers))
        left = (time.perf_counter() - self._started) / (done - self._first) * (self._epochs - done)
        figures = [f"{name} {value:.4f}" for name, value in shown.items()]
        line = "  ".join([f"epoch {done - 1:>3} ({done}/{self._epochs})", *figures, f"{duration(left)} left", *marks])
        log.info(line, extra=FILE_ONLY if self._bar is not None else None)
        if self._bar is not None:
            figures = [f"{name} {value:.3f}" for name, value in shown.items() if name != "val ACC" or not self._narrow]
            self._bar.print(
                (" " if self._narrow else "  ").join([self._epoch(trainer), *figures, *marks]), highlight=False
            )
            self._bar.update(self._task, figures=" ".join(figures[:3]))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Closes the bar."""
        self._close()

    def _epoch(self, trainer: L.Trainer) -> str:
        """Its number in history.csv, and how many there are with it."""
        width, number = len(str(self._epochs)), trainer.current_epoch
        text = f"{number:>{width}} ({number + 1:>{width}}/{self._epochs})"
        return text if self._narrow else f"epoch {text}"

    def _title(self, trainer: L.Trainer) -> str:
        return f"{trainer.current_epoch + 1}/{self._epochs}" if self._narrow else self._epoch(trainer)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
