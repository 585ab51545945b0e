"""The trainer of a run, as long as its budget says."""

import io
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.plugins.layer_sync import LayerSync
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler
from omegaconf import DictConfig
from torch import nn

from scale.config import instantiate
from scale.config.schemas import Budget
from scale.models.sync import separate, synchronise

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}  # they write to the run folder


class Direct(TorchCheckpointIO):
    """Writes a checkpoint where it belongs: Lightning's own writes it to the machine's temporary folder first.

    That may be small, and a process that is killed leaves the file there. What must not be half written is given the
    name of a partial file (`callbacks.checkpoint`).
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint to a path of this machine."""
        if storage_options is not None:
            raise TypeError("storage_options are for remote paths")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        whole = io.BytesIO()  # torch's own writer hides what a full disk says
        torch.save(checkpoint, whole)
        with Path(path).open("wb") as file:
            file.write(whole.getbuffer())


class SyncOnCPU(LayerSync):
    """What `sync_batchnorm` means on CPUs, where torch has no synchronised batch normalisation."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronises the batch normalisations in place."""
        return synchronise(model)

    def revert(self, model: nn.Module) -> nn.Module:
        """Undoes `apply`."""
        return separate(model)


def build_trainer(config: DictConfig, folder: Path, *, samples: int, logger: Any) -> L.Trainer:
    """The trainer, as long as the budget says.

    Args:
        config: of a run.
        folder: of the run.
        samples: size of the train split.
        logger: Lightning loggers.
    """
    callbacks = [instantiate(node) for node in config.callbacks.values() if node]
    settings: dict[str, Any] = {"max_epochs": config.trainer.get("max_epochs") or epochs(config.budget, samples)}
    supplied: dict[str, Any] = {"callbacks": callbacks, "logger": logger, "default_root_dir": str(folder)}
    supplied["plugins"] = [Direct()]
    if config.trainer.get("sync_batchnorm") and config.trainer.accelerator == "cpu":
        settings["sync_batchnorm"] = False
        supplied["plugins"].append(SyncOnCPU())
    if config.trainer.get("profiler") in PROFILERS:
        supplied["profiler"] = PROFILERS[config.trainer.profiler](dirpath=str(folder), filename="profile")
    node = {key: value for key, value in {**config.trainer, **settings}.items() if key not in supplied}
    trainer: L.Trainer = instantiate(node, allow=config.get("allow"), **supplied)
    return trainer


def epochs(budget: Budget | DictConfig, samples: int) -> int:
    """Epochs in which about `budget.samples` samples are drawn, within the budget's bounds."""
    if not 1 <= budget.min_epochs <= budget.max_epochs:
        raise ValueError(
            f"budget.min_epochs={budget.min_epochs} and budget.max_epochs={budget.max_epochs}: give 1 <= min <= max"
        )
    return min(max(round(budget.samples / samples), budget.min_epochs), budget.max_epochs)
