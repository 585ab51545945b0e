"""Which epoch a run keeps: one ranking for the checkpoint, the console and the tuning."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from omegaconf import OmegaConf

from scale.runs.reading import HISTORY, read_config, read_history


def rank(values: Mapping[str, float], *, monitor: str = "loss", first_of_equals: bool = False) -> tuple[float, float]:
    """What the kept epoch has most of; an AUC or a loss that is not defined is the worst there is.

    Args:
        values: of an epoch, with `val/auc` and `val/loss`.
        monitor: what is best: the lowest val `loss` or the highest val `auc`.
        first_of_equals: of epochs with equal val AUC take the first, whatever the loss.
    """
    auc, loss = float(values["val/auc"]), float(values["val/loss"])
    auc, loss = -1.0 if math.isnan(auc) else auc, math.inf if math.isnan(loss) else loss
    return (-loss, 0.0) if monitor == "loss" else (auc, 0.0 if first_of_equals else -loss)


def objective(folder: Path) -> dict[int, float]:
    """For each epoch with figures of val so far: the val AUC of the epoch that the run would keep if it ended there.

    Args:
        folder: of a run that has begun, finished or not.
    """
    if not (folder / HISTORY).is_file():
        return {}
    # A run without the callback keeps what its training ended with.
    settings = OmegaConf.select(read_config(folder), "callbacks.checkpoint")
    rows = [row for row in read_history(folder) if "val/auc" in row]
    if settings is None:
        return {int(row["epoch"]): row["val/auc"] for row in rows}
    chosen = {name: settings[name] for name in ("monitor", "first_of_equals") if name in settings}
    return dict(_kept(rows, **chosen))


def _kept(rows: Iterable[Mapping[str, float]], **chosen: object) -> Iterator[tuple[int, float]]:
    best: Mapping[str, float] | None = None
    for row in rows:
        if best is None or rank(row, **chosen) > rank(best, **chosen):  # type: ignore[arg-type]
            best = row
        yield int(row["epoch"]), best["val/auc"]
