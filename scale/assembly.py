"""From a configuration to the objects of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.plugins.layer_sync import LayerSync
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler
from omegaconf import DictConfig
from torch import Tensor, nn

from scale.config import instantiate
from scale.data.datamodule import ImageDataModule
from scale.dims import wrong_dims
from scale.models.sync import separate, synchronise
from scale.schemas import Budget
from scale.tasks.classification import ClassificationTask
from scale.tasks.problem import Problem

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}  # they write to the run folder


class SyncOnCPU(LayerSync):
    """What `sync_batchnorm` means on CPUs, where torch has no synchronised batch normalisation."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronises the batch normalisations in place."""
        return synchronise(model)

    def revert(self, model: nn.Module) -> nn.Module:
        """Undoes `apply`."""
        return separate(model)


def build_datamodule(config: DictConfig) -> ImageDataModule:
    """The data module, not yet set up."""
    augment = instantiate(config.augment) if config.augment else None
    datamodule: ImageDataModule = instantiate(config.data, augment=augment, seed=config.seed)
    return datamodule


def build_task(
    config: DictConfig,
    problem: Problem,
    *,
    image_shape: Sequence[int],
    class_weights: Tensor | None = None,
    logit_adjustment: Tensor | None = None,
) -> ClassificationTask:
    """The network in its LightningModule.

    Args:
        config: of a run.
        problem: what the labels ask.
        image_shape: (C, *S).
        class_weights: (K,), weights in the loss.
        logit_adjustment: (K,), added to the logits in the training loss.
    """
    channels, *size = image_shape
    wrong = wrong_dims(config.get("data_dims"), len(size))
    if wrong:
        raise ValueError(wrong)
    net = instantiate(config.model, spatial_dims=len(size), in_channels=channels, outputs=problem.outputs)
    task: ClassificationTask = instantiate(
        config.task,
        net=net,
        problem=problem,
        optimizer=instantiate(config.optimizer),
        scheduler=instantiate(config.scheduler),
        class_weights=class_weights,
        logit_adjustment=logit_adjustment,
    )
    return task


def check_model(config: DictConfig) -> None:
    """Raises what can be told of a network before the data are opened: a library or a name that does not exist."""
    if config.model._target_.endswith(".TimmNet"):
        from scale.models.timm_net import check_name

        check_name(config.model.name)


def model_name(config: DictConfig, *, choice: str, spatial_dims: int) -> str:
    """What a network is called in tables: the option's name, with what tells its networks apart.

    Args:
        config: of a run.
        choice: option of the group `model`.
        spatial_dims: 2 or 3.
    """
    if config.model._target_.endswith(".TimmNet"):
        return f"timm/{config.model.name}"
    return f"{choice}+{config.model.conv}" if spatial_dims == 3 and "conv" in config.model else choice


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
    if config.trainer.get("sync_batchnorm") and config.trainer.accelerator == "cpu":
        settings["sync_batchnorm"], supplied["plugins"] = False, [SyncOnCPU()]
    if config.trainer.get("profiler") in PROFILERS:
        supplied["profiler"] = PROFILERS[config.trainer.profiler](dirpath=str(folder), filename="profile")
    node = {key: value for key, value in {**config.trainer, **settings}.items() if key not in supplied}
    trainer: L.Trainer = instantiate(node, **supplied)
    return trainer


def epochs(budget: Budget | DictConfig, samples: int) -> int:
    """Epochs in which about `budget.samples` samples are drawn, within the budget's bounds."""
    if not 1 <= budget.min_epochs <= budget.max_epochs:
        raise ValueError(
            f"budget.min_epochs={budget.min_epochs} and budget.max_epochs={budget.max_epochs}: give 1 <= min <= max"
        )
    return min(max(round(budget.samples / samples), budget.min_epochs), budget.max_epochs)
