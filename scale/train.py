"""`python -m scale.train`: train on one data set, test once, keep the record in a run folder."""

import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from scale import config as configuration

if TYPE_CHECKING:
    import lightning as L

    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask, Outputs

log = logging.getLogger("scale")


def train(config: DictConfig, folder: str | Path, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Trains, tests and writes the run folder.

    Args:
        config: composed by `scale.config.compose` or by the command line.
        folder: of the run; made here, and must hold no other run.
        overrides: what the command line said, for the record.

    Returns:
        The content of `metrics.json`.

    Raises:
        FileExistsError: the folder holds another run.
        ValueError: the data, the devices or a value are not what the configuration needs.
        FloatingPointError: the loss is not finite.
    """
    from lightning.pytorch.utilities import rank_zero_only

    from scale import hardware, resume, runs
    from scale.assembly import check_model
    from scale.interruption import Interrupted, StopAtOnce
    from scale.logs import logging_to

    folder = Path(folder)
    main = getattr(rank_zero_only, "rank", 0) == 0
    hardware.check(config)
    check_model(config)
    begun = (folder / runs.CONFIG).exists() and not (folder / runs.METRICS).exists()
    going_on = config.resume is not None or (begun and resume.restarted())
    lock = None
    if main:
        lock = runs.reopen(folder) if going_on else runs.claim(folder)
    with logging_to(folder / runs.LOG if main else None), StopAtOnce():
        try:
            if config.rerun is not None:
                resume.check_rerun(config, Path(config.rerun))
            if going_on:
                resume.check(config, folder)
            elif main:
                runs.write_record(folder, config, overrides)
            checkpoint = resume.last_checkpoint(folder) if going_on else None
            if main and going_on:
                runs.add_to_record(folder, seed=config.seed, checkpoint=checkpoint and checkpoint.name)
            return _train(config, folder, checkpoint)
        except Interrupted as stop:
            if main:
                log.warning("%s; all is saved. Go on with: python -m scale.train resume=%s", stop, folder)
                _requeue(stop.number)
            raise
        except BaseException as error:
            # The console gets one line (from the command) or the traceback (in a notebook); the file has it all.
            extra = {"file_only": True}
            log.error("the run ended with %s: %s", type(error).__name__, error, exc_info=True, extra=extra)
            if main and not going_on:
                runs.release(folder)
            raise
        finally:
            if lock is not None:
                lock.release()


def _train(config: DictConfig, folder: Path, checkpoint: Path | None) -> dict[str, Any]:
    from scale import hardware, loggers, outcome, resume, runs, tta
    from scale.assembly import build_datamodule, build_task, build_trainer
    from scale.callbacks import history
    from scale.tasks.problem import Problem

    hardware.prepare(config)
    started = time.perf_counter()
    datamodule = build_datamodule(config)
    datamodule.setup()
    if config.rerun is not None:
        resume.check_data(datamodule, Path(config.rerun))
    problem = Problem(datamodule.info.problem, len(datamodule.info.labels))
    labels = datamodule.train_labels
    weights = problem.class_weights(labels) if datamodule.balance == "weights" else None
    task = build_task(
        config,
        problem,
        image_shape=datamodule.image_shape,
        class_weights=weights,
        logit_adjustment=datamodule.logit_adjustment,
    )
    cost = _announce(task, datamodule)
    logger = loggers.build_loggers(config, folder)
    failed = True
    try:
        trainer = build_trainer(config, folder, samples=len(labels), logger=logger)
        if trainer.is_global_zero:
            loggers.log_configuration(logger, config)
        prepared = time.perf_counter()
        trainer.fit(task, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        fitted = time.perf_counter()
        best = _load_best(trainer, task, folder)
        outputs = _evaluate(trainer, task, datamodule, test=config.test)
        seconds = {"prepare": prepared - started, "fit": fitted - prepared, "evaluate": time.perf_counter() - fitted}
        if checkpoint is not None and (folder / runs.HISTORY).exists():  # the earlier parts of the run count too
            seconds["fit"] = sum(row["seconds"] for row in history.read(folder / runs.HISTORY))
        again = functools.partial(_evaluate, trainer, task, datamodule, test=config.test)
        averaged = tta.predict(datamodule, outputs, again) if config.evaluation.tta else {}
        metrics = {
            **outcome.metrics(config, trainer, task, datamodule, {**outputs, **averaged}),
            "best_epoch": best,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "model": {"name": outcome.choice(config, task, datamodule.image_shape), **cost},
        }
        if trainer.is_global_zero:
            runs.write_averaged(folder, averaged)
            figures = outcome.write(folder, metrics, datamodule, outputs, partial=metrics["partial"])
            summary = {f"{s}/{name}": value for s in (*outputs, *averaged) for name, value in metrics[s].items()}
            loggers.log_results(logger, summary, figures, step=trainer.global_step)
        failed = False
    finally:
        loggers.close_loggers(logger, failed=failed)
    if trainer.is_global_zero:
        runs.write_json(folder / runs.METRICS, metrics)
        log.info("%s", outcome.table(metrics))
        log.info("run folder: %s", folder)
        if config.rerun is not None:
            resume.compare(metrics, Path(config.rerun))
    return metrics


def _announce(task: "ClassificationTask", datamodule: "ImageDataModule") -> dict[str, int]:
    """Says what is trained on what; returns what the network costs."""
    from scale import outcome
    from scale.models.layers import macs, parameters

    cost = {"parameters": parameters(task.net), "macs": macs(task.net, datamodule.image_shape)}
    log.info("%s: %s", datamodule.info.title, outcome.describe(datamodule))
    size = f"{cost['parameters']:,} parameters, {cost['macs'] / 1e9:.3f} G multiply-adds"
    log.info("%s: %s", type(task.net).__name__, size)
    there = len(datamodule.train_labels)
    if datamodule.batch_size > there:
        log.warning(
            "data.batch_size=%d, but there are %d samples: a batch has all of them", datamodule.batch_size, there
        )
    return cost


def _requeue(number: int) -> None:
    """After SLURM's warning that a job's time is up: asks for another run of it, which goes on here."""
    from scale.interruption import requeue, slurm_job

    if number != signal.SIGUSR1:
        return
    refused = requeue()
    if refused:
        log.warning("SLURM did not requeue job %s: %s", slurm_job(), refused)
    else:
        log.info("SLURM job %s is requeued", slurm_job())


def _load_best(trainer: "L.Trainer", task: "ClassificationTask", folder: Path) -> int:
    """Loads the best epoch's averaged weights into the task; returns the epoch."""
    import torch

    from scale import runs

    folder = Path(trainer.strategy.broadcast(str(folder)))  # processes that a cluster started have names of their own
    path = folder / runs.CHECKPOINTS / "best.ckpt"
    if not path.exists():  # fast_dev_run, or no checkpoint callback: what the training ended with
        trainer.save_checkpoint(path)
    trainer.strategy.barrier()
    state = torch.load(path, map_location="cpu", weights_only=True)
    task.load_state_dict(state["state_dict"])
    return int(state["epoch"])


def _evaluate(
    trainer: "L.Trainer", task: "ClassificationTask", datamodule: "ImageDataModule", *, test: bool
) -> dict[str, "Outputs"]:
    """Val and, where asked for, test, once."""
    found: dict[str, Outputs] = {}
    trainer.validate(task, datamodule=datamodule, verbose=False)
    assert task.outputs is not None
    found["val"] = task.outputs
    if test:
        trainer.test(task, datamodule=datamodule, verbose=False)
        found["test"] = task.outputs
    return found


def _job(config: DictConfig) -> str | None:
    """What Hydra runs."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from scale import resume, sweep_job
    from scale.interruption import Interrupted, end_with_parent
    from scale.usage import USER_ERRORS

    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        return sweep_job.run(config)
    end_with_parent()
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    try:
        metrics = train(config, Path(settings.runtime.output_dir), overrides=settings.overrides.task)
    except Interrupted as stop:
        sys.exit(128 + stop.number)
    except USER_ERRORS as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(1)
    if config.rerun is not None and resume.differing(metrics, Path(config.rerun)):
        sys.exit(1)
    return None


def main() -> None:
    """The command."""
    from scale.resume import expand
    from scale.usage import TRAIN, USER_ERRORS, show_help

    if show_help(sys.argv[1:], TRAIN):
        return
    sys.argv[1:] = configuration.options_first(sys.argv[1:])
    try:
        sys.argv[1:] = expand(sys.argv[1:])
    except USER_ERRORS as error:
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(2)
    configuration.check_command_line(sys.argv[1:])
    configuration.check_run_folder(sys.argv[1:])
    configuration.share_stamp()
    folder = str(configuration.directory())
    try:
        hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="train")(_job)()
    except KeyboardInterrupt:  # before the run began, or a second Ctrl-C
        print("scale: stopped by SIGINT", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
