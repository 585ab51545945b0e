"""Experiment loggers: Lightning's own, made safe to run unattended."""

import itertools
import logging
import netrc
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from omegaconf import DictConfig

from scale.config import instantiate, plain
from scale.runs.folder import run_id
from scale.training.privacy import PRIVATE, without_places

log = logging.getLogger("scale")
REACH_SECONDS = 3.0


def build_loggers(config: DictConfig, folder: Path) -> list[Logger]:
    """The configured loggers, each writing into the run folder, with the resolved configuration logged."""
    loggers: list[Logger] = []
    for node in (config.logger or {}).values():
        settings: dict[str, Any] = dict(plain(node))
        supplied: dict[str, Any] = {"save_dir": str(folder)}
        if settings["_target_"].endswith("WandbLogger"):
            import wandb

            settings = _unattended(settings)
            # Not Lightning's `offline`, which sets WANDB_MODE for everything that follows in this process.
            mode: Any = "offline" if settings.pop("offline", False) else os.environ.get("WANDB_MODE", "online")
            # The same W&B run when this one is gone on with.
            supplied |= {"id": run_id(folder), "resume": "allow"}
            hidden = PRIVATE if settings.pop("private", False) else {}
            supplied["settings"] = wandb.Settings(silent=True, init_timeout=30, mode=mode, **hidden)
        if settings["_target_"].endswith("CSVLogger"):
            settings["version"] = _unused(folder, settings["version"])
        loggers.append(instantiate(settings, allow=config.get("allow"), **supplied))
    return loggers


def log_configuration(loggers: list[Logger], config: DictConfig) -> None:
    """Hands each logger the resolved configuration."""
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            continue  # config.yaml stands beside it
        private = isinstance(logger, WandbLogger) and any(node.get("private") for node in config.logger.values())
        logger.log_hyperparams(without_places(plain(config)) if private else plain(config))


def log_results(
    loggers: list[Logger], results: Mapping[str, float], figures: Mapping[str, Figure], *, step: int
) -> None:
    """Hands each logger the final figures: official scores as the summary, pictures as images."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(dict(results))
            continue
        tested = {name: value for name, value in results.items() if name.startswith("test/")}  # val has its curves
        logger.log_metrics(tested, step=step)
    log_figures(loggers, {f"figures/{name}": figure for name, figure in figures.items()}, step=step)


def log_figures(
    loggers: list[Logger], figures: Mapping[str, Figure], *, step: int, folder: Path | None = None, label: str = ""
) -> None:
    """Hands pictures to W&B, to TensorBoard and to a folder; other loggers take none.

    Args:
        loggers: of the run.
        figures: by name, such as `explanations/sample_3`.
        step: of the training.
        folder: where `{name}{label}.png` is written too; nowhere if None.
        label: tells the pictures of one name in the folder apart.
    """
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


def close_loggers(loggers: list[Logger], *, failed: bool) -> None:
    """Ends each logger's run, so that a second run in the same process is another one."""
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish(exit_code=int(failed))


def _unused(folder: Path, name: str) -> str:
    """`name`, or `name-2` and so on where an earlier part of the run has written: Lightning would delete it."""
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(name for name in names if not (folder / name).exists())


def _unattended(settings: dict[str, Any]) -> dict[str, Any]:
    """Never ask for a key and never wait for a network: go offline instead, and say so."""
    reason = None
    mode = os.environ.get("WANDB_MODE")
    if not settings.get("offline") and mode not in ("offline", "disabled", "dryrun"):
        server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
        reason = _unreachable(server)
    if settings.get("offline") or reason:
        if settings.get("log_model"):
            log.warning("W&B: logger.wandb.log_model needs a connection and is left out")
        settings = settings | {"offline": True, "log_model": False}
    if reason:
        log.warning("W&B: %s, so this run is logged offline; `wandb sync` uploads it later", reason)
    return settings


def _unreachable(server: str) -> str | None:
    """Why no run can be sent to the server, or None."""
    address = urlparse(server)
    host = address.hostname or server
    if not os.environ.get("WANDB_API_KEY") and not _has_login(host):
        return "no API key (WANDB_API_KEY or `wandb login`)"
    try:
        socket.create_connection((host, address.port or 443), timeout=REACH_SECONDS).close()
    except OSError:
        return f"{host} cannot be reached"
    return None


def _has_login(host: str) -> bool:
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return path.is_file() and netrc.netrc(path).authenticators(host) is not None
    except netrc.NetrcParseError:
        return False
