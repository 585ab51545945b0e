"""The curves of a run in one table."""

import time
from pathlib import Path
from typing import Any

import lightning as L

from scale.runs import HISTORY
from scale.utils.files import write_csv

COLUMNS = ("epoch", "step", "train/loss", "train/main_loss", "val/loss", "val/auc", "val/acc", "lr", "seconds")


class History(L.Callback):
    """Writes `history.csv` in the trainer's root folder, a row an epoch, whatever logger is used."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._validated = False
        self._started, self._spent = (
            time.perf_counter(),
            0.0,
        )  # seconds of the current epoch in an earlier part of the run

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock; within an epoch that is resumed, no epoch starts."""
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the epoch's clock."""
        self._started, self._spent, self._validated = time.perf_counter(), 0.0, False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes that the epoch has figures of val; of others the trainer keeps those of an earlier one."""
        self._validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds the epoch's row."""
        values = {
            key: float(value)
            for key, value in trainer.callback_metrics.items()
            if self._validated or not key.startswith("val/")
        }
        own = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        own["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        values |= own | {"seconds": round(self._clock(), 3)}
        of_sets = [key for key in values if key.startswith("val/") and key not in COLUMNS]
        self.rows.append({column: values[column] for column in (*COLUMNS, *of_sets) if column in values})
        if trainer.is_global_zero:
            every = dict.fromkeys([*COLUMNS, *(key for row in self.rows for key in row)])
            write_csv(Path(trainer.default_root_dir) / HISTORY, list(every), self.rows)
        self._started, self._spent = time.perf_counter(), 0.0

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, and the seconds of an epoch that has not ended."""
        return {"rows": self.rows, "spent": self._clock()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on behind the rows of an earlier part of the run."""
        self.rows, self._spent = list(state_dict["rows"]), state_dict["spent"]

    def _clock(self) -> float:
        return self._spent + time.perf_counter() - self._started
