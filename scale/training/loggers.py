"""Experiment loggers: Lightning's own, made safe to run unattended."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from scale.config import instantiate, plain
from scale.runs.folder import run_id
from scale.training.privacy import PRIVATE, without_places

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from matplotlib.figure import Figure

log = logging.getLogger("scale")
BEGIN_SECONDS = 30  # that a W&B run may take to begin


def build_loggers(config: DictConfig, folder: Path) -> "list[Logger]":
    """The configured loggers, each writing into the run folder."""
    loggers: list[Logger] = []
    for node in (config.logger or {}).values():
        settings: dict[str, Any] = dict(plain(node))
        supplied: dict[str, Any] = {"save_dir": str(folder)}
        if settings["_target_"].endswith("WandbLogger"):
            settings, more = _wandb(settings, folder)
            supplied |= more
        loggers.append(instantiate(settings, allow=config.get("allow"), **supplied))
    return loggers


def log_configuration(loggers: "list[Logger]", config: DictConfig) -> None:
    """Hands each logger the resolved configuration."""
    from lightning.pytorch.loggers import WandbLogger

    for logger in loggers:
        private = isinstance(logger, WandbLogger) and any(node.get("private") for node in config.logger.values())
        logger.log_hyperparams(without_places(plain(config)) if private else plain(config))


def log_results(
    loggers: "list[Logger]", results: Mapping[str, float], figures: "Mapping[str, Figure]", *, step: int
) -> None:
    """Hands each logger the final figures: official scores as the summary, pictures as images."""
    from lightning.pytorch.loggers import WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(dict(results))
            continue
        tested = {name: value for name, value in results.items() if name.startswith("test/")}  # val has its curves
        logger.log_metrics(tested, step=step)
    log_figures(loggers, {f"figures/{name}": figure for name, figure in figures.items()}, step=step)


def log_figures(
    loggers: "list[Logger]", figures: "Mapping[str, Figure]", *, step: int, folder: Path | None = None, label: str = ""
) -> None:
    """Hands pictures to W&B, to TensorBoard and to a folder; other loggers take none.

    Args:
        loggers: of the run.
        figures: by name, such as `explanations/sample_3`.
        step: of the training.
        folder: where `{name}{label}.png` is written too; nowhere if None.
        label: tells the pictures of one name in the folder apart.
    """
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    for name, figure in figures.items():
        if folder is not None:
            path = folder / f"{name}{label}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path)
        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure(name, figure, global_step=step, close=False)
    for logger in loggers:
        if isinstance(logger, WandbLogger) and figures:
            import wandb

            pictures = {name: wandb.Image(figure) for name, figure in figures.items()}
            logger.experiment.log({**pictures, "trainer/global_step": step})


def close_loggers(loggers: "list[Logger]", *, failed: bool) -> None:
    """Ends each logger's run, so that a second run in the same process is another one."""
    from lightning.pytorch.loggers import WandbLogger

    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish(exit_code=int(failed))


def _wandb(settings: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and further arguments of a W&B logger that never asks for a key, and waits for no network in vain."""
    import wandb

    # Not Lightning's `offline`, which sets WANDB_MODE for everything that follows in this process.
    mode: Any = "offline" if settings.get("offline") else os.environ.get("WANDB_MODE", "online")
    reason = _no_login() if mode in ("online", "run") else None
    if reason:
        mode = "offline"
        log.warning(
            "W&B: %s, so this run is logged offline; to upload it: wandb sync %s/wandb/offline-*", reason, folder
        )
    found = {key: value for key, value in settings.items() if key not in ("offline", "private")}
    if mode != "online" and settings.get("log_model"):
        found["log_model"] = False
        log.warning("W&B: logger.wandb.log_model needs a connection and is left out")
    # The same W&B run when this one is resumed.
    hidden = PRIVATE if settings.get("private") else {}
    how = wandb.Settings(silent=True, init_timeout=BEGIN_SECONDS, mode=mode, **hidden)
    return found, {"id": run_id(folder), "resume": "allow", "settings": how}


def _no_login() -> str | None:
    """Why no run can be sent to the W&B server, or None: W&B itself looks for a key and tries it."""
    import wandb

    try:
        known = wandb.login(prompt=False, verify=True)
    except wandb.errors.Error as error:  # a server that cannot be reached, in about ten seconds; a key that it refuses
        return str(error).splitlines()[0].rstrip(".")
    return None if known else "there is no API key (WANDB_API_KEY or `wandb login`)"
