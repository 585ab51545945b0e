"""The curves of a run in one table."""

import csv
import io
import time
from pathlib import Path

import lightning as L

from scale.data.files import replacing

COLUMNS = ("epoch", "step", "train/loss", "val/loss", "val/auc", "val/acc", "lr", "seconds")


class History(L.Callback):
    """Writes `history.csv` in the trainer's root folder, a row an epoch, whatever logger is used."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the epoch's clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds the epoch's row."""
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        own = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        values |= own | {"seconds": round(time.perf_counter() - self._started, 3)}
        self.rows.append({column: values[column] for column in COLUMNS if column in values})
        if trainer.is_global_zero:
            self._write(Path(trainer.default_root_dir) / "history.csv")

    def state_dict(self) -> dict[str, list[dict[str, float]]]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, list[dict[str, float]]]) -> None:
        """Goes on behind the rows of an earlier part of the run."""
        self.rows = list(state_dict["rows"])

    def _write(self, path: Path) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        with replacing(path) as file:
            file.write(text.getvalue().encode())


def read(path: str | Path) -> list[dict[str, float]]:
    """The rows of a `history.csv`; what an epoch does not have is left out."""
    with Path(path).open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
