"""Experiment loggers: Lightning's own, made safe to run unattended, and what each is handed in its own form."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from scale.config import instantiate, plain
from scale.sweeps.folder import PLAN
from scale.training.backend import Backend

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from matplotlib.figure import Figure
    from torch import nn

    from scale.training.shown import Results

log = logging.getLogger("scale")
EXTRAS = {"TensorBoardLogger": "tensorboard", "MLFlowLogger": "mlflow"}  # packages, which are also the extras' names


def build_loggers(config: DictConfig, folder: Path, *, name: str = "", tags: Sequence[str] = ()) -> list[Backend]:
    """The configured loggers, writing into the run folder or, MLflow, beside it.

    Args:
        config: of a run.
        folder: of the run.
        name: of the run among others.
        tags: what a person may look for: the data set, the model.

    Raises:
        ValueError: a package is not installed, a setting is none, a map does not exist.
    """
    nodes: list[dict[str, Any]] = [dict(plain(node)) for node in (config.logger or {}).values()]
    for settings in nodes:
        _check(settings)
    made: list[Backend] = []
    try:
        for settings in nodes:
            made.append(_build(settings, config, folder, name=name, tags=list(tags)))
    except BaseException:
        close_loggers(made, failed=True)
        raise
    return made


def of(logger: "Logger", settings: Mapping[str, Any] | None = None) -> Backend:
    """What hands a Lightning logger things in its form."""
    from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

    if isinstance(logger, WandbLogger):
        from scale.training.in_wandb import WandbBackend

        return WandbBackend(logger, settings)
    if isinstance(logger, TensorBoardLogger):
        from scale.training.in_tensorboard import TensorBoardBackend

        return TensorBoardBackend(logger, settings)
    if isinstance(logger, MLFlowLogger):
        from scale.training.in_mlflow import MLflowBackend

        return MLflowBackend(logger, settings)
    return Backend(logger, settings)


def check_maps(backends: Sequence[Backend], net: "nn.Module") -> None:
    """Raises ValueError for a map that does not fit the network, before the training begins."""
    from scale.attribution.methods.attribute import applicable, obstacle

    for backend in backends:
        method = backend.settings.get("overlay") if backend.settings.get("samples") else None
        reason = obstacle(net, method) if method else None
        if reason:
            fitting = ", ".join(applicable(net))
            raise ValueError(f"logger: overlay={method} does not apply: {reason}; what does: {fitting}")


def log_configuration(backends: Sequence[Backend], config: DictConfig, folder: Path) -> None:
    """Hands each logger the resolved configuration."""
    for backend in backends:
        backend.configuration(plain(config), folder)


def log_figures(
    loggers: "Sequence[Logger]", figures: "Mapping[str, Figure]", *, step: int, epoch: int, folder: Path
) -> None:
    """Hands pictures of an epoch to a folder, as `{name}_epoch_{epoch}.png`, and to each logger that takes any.

    A training goes on where a logger fails, such as one whose server is away: that is said.

    Args:
        loggers: of the trainer.
        figures: by name, such as `explanations/sample_3`.
        step: of the training.
        epoch: of the training.
        folder: of the run's figures.
    """
    for name, figure in figures.items():
        path = folder / f"{name}_epoch_{epoch:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    for logger in loggers:
        with _not_lost(backend := of(logger), "figures"):
            backend.figures(figures, step=step, epoch=epoch)


def log_results(backends: Sequence[Backend], make: Callable[[], "Results"]) -> None:
    """Hands each logger what the training found. A run is not lost over a logger that fails: that is said."""
    results: Results | None = None
    for backend in backends:
        with _not_lost(backend, "results"):
            results = results or make()
            backend.results(results)


def close_loggers(backends: Sequence[Backend], *, failed: bool) -> None:
    """Ends each logger's run."""
    for backend in backends:
        with _not_lost(backend, "last lines"):
            backend.close(failed=failed)


@contextmanager
def _not_lost(backend: Backend, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        kind = type(backend.logger).__name__
        text = "; ".join(str(error).splitlines()) or type(error).__name__
        log.warning("%s: not all %s were logged (%s); they are in the run folder", kind, what, text)


def _check(settings: Mapping[str, Any]) -> None:
    from importlib.util import find_spec

    from scale.attribution.catalog import check_name

    package = EXTRAS.get(settings["_target_"].rpartition(".")[2])
    if package and find_spec(package) is None:
        raise ValueError(f"logger={package}: it is not installed: pip install 'scale-medvision[{package}]'")
    if settings.get("overlay") is not None:
        check_name(settings["overlay"])


def _build(settings: dict[str, Any], config: DictConfig, folder: Path, *, name: str, tags: list[str]) -> Backend:
    from lightning.pytorch.loggers.logger import DummyLogger
    from lightning.pytorch.utilities import rank_zero_only

    if getattr(rank_zero_only, "rank", 0):
        return Backend(DummyLogger())
    sweep = folder.absolute().parent
    group = sweep.name if (sweep / PLAN).is_file() else None
    supplied: dict[str, Any] = {"save_dir": str(folder)}
    ours: Sequence[str] = ()
    match settings["_target_"].rpartition(".")[2]:
        case "WandbLogger":
            from scale.training import in_wandb

            supplied["experiment"] = in_wandb.begin(settings, folder, name=name, tags=tags, group=group)
            ours = [key for key in settings if key not in ("_target_", "project", "prefix")]  # wandb.init has had them
        case "TensorBoardLogger":
            from scale.training import in_tensorboard

            ours = in_tensorboard.OURS
        case "MLFlowLogger":
            from scale.training import in_mlflow

            known = dict(zip(("data", "model"), tags, strict=False)) | ({"sweep": group} if group else {})
            supplied |= in_mlflow.arguments(settings, folder, Path(config.paths.runs), name=name, tags=known)
            ours = in_mlflow.OURS
    given = {key: value for key, value in settings.items() if key not in ours and key not in supplied}
    return of(instantiate(given, allow=config.get("allow"), **supplied), settings)
