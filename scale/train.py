"""`python -m scale.train`: train on one data set, test once, keep the record in a run folder."""

import contextlib
import functools
import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
from omegaconf import DictConfig

from scale import config as configuration
from scale.config.help import groups, show_help
from scale.utils.cli import USAGE, USER_ERRORS, fail, one_line_errors
from scale.utils.files import full_disk

if TYPE_CHECKING:
    import lightning as L

    from scale.data.datamodule import ImageDataModule
    from scale.runs.interruption import Interrupted
    from scale.tasks.classification import ClassificationTask

log = logging.getLogger("scale")
HELP = """\
usage: python -m scale.train [group=option ...] [key=value ...]

Trains on one data set, keeps the epoch of the lowest val loss, tests once, and keeps the record in a run folder.

To start with:
  python -m scale.train                                        synthetic 3D images, offline
  python -m scale.train data=breastmnist                       a real data set, downloaded once
  python -m scale.train data=vesselmnist3d trainer=gpu hardware=amp seed=1

Groups (group=option; * is the default):
{groups}
Keys (key=value), for example:
  seed=1   data.size=64   data.root=DIR   data.batch_size=64   trainer.max_epochs=30   hydra.run.dir=DIR
  python -m scale.train --cfg job                              shows every key with its value
  python -m scale.train -m seed=0,1,2 data=breastmnist         runs a sweep, each job in a process of its own
  python -m scale.train -m sweep=seeds data=breastmnist        the same, ready-made; with hydra.sweep.dir=DIR the same
                                                               command resumes a sweep that was stopped
  python -m scale.train -m sweep=all hydra/launcher=joblib hydra.launcher.n_jobs=4    four jobs at a time
  python -m scale.train -m experiment=ablation seed=0,1,2      runs the network without one of its parts at a time
  python -m scale.train --hydra-help                           shows Hydra's own flags
"""


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

    from scale import runs
    from scale.runs import folder as record
    from scale.runs import resume
    from scale.runs.interruption import StopAtOnce, stopped
    from scale.tasks.build import check_model
    from scale.training import hardware, transfer
    from scale.training.logs import logging_to

    folder = Path(folder)
    rank_zero = getattr(rank_zero_only, "rank", 0) == 0
    hardware.check(config)
    check_model(config)
    transfer.check(config)
    begun = (folder / runs.CONFIG).exists() and not (folder / runs.METRICS).exists()
    resuming = config.resume is not None or (begun and resume.restarted())
    lock, failed_start = None, False
    if rank_zero:
        lock = record.reopen(folder) if resuming else record.claim(folder)
    with logging_to(folder / runs.LOG if rank_zero else None), StopAtOnce():
        try:
            if config.rerun is not None:
                resume.check_rerun(config, Path(config.rerun))
            if resuming:
                resume.check(config, folder)
            elif rank_zero:
                record.write_record(folder, config, overrides)
            checkpoint = resume.last_checkpoint(folder) if resuming else None
            if rank_zero and resuming:
                record.add_to_record(folder, seed=config.seed, checkpoint=checkpoint and checkpoint.name)
            return _train(config, folder, checkpoint)
        except BaseException as error:
            if stop := stopped(error):
                if rank_zero:
                    _say_how_to_go_on(stop, folder)
                raise stop from (None if stop is error else error)
            failed_start = _ended(error, folder, new=rank_zero and not resuming)
            if full := full_disk(error, folder, cure=record.cure(folder)):
                raise full from error
            raise
        finally:
            if lock is not None:
                lock.release()
            if failed_start:
                record.forget(folder)


def _say_how_to_go_on(stop: "Interrupted", folder: Path) -> None:
    """Of a run that was asked to stop; under a cluster it asks for more time."""
    from scale.runs import METRICS
    from scale.runs import folder as record
    from scale.runs.interruption import ask_for_more_time

    if (folder / METRICS).exists():  # it was asked while its page was written
        log.warning("%s; the run is done: %s", stop, record.cure(folder))
    else:
        log.warning("%s; all is saved. Go on with: %s", stop, record.command("resume", folder))
        ask_for_more_time(stop.number)


def _ended(error: BaseException, folder: Path, *, new: bool) -> bool:
    """Notes why a run ended, and gives its folder free; True for a mistake that needs no folder."""
    from scale.runs import folder as record

    # The console gets one line (from the command) or the traceback (in a notebook); the file has it all.
    extra = {"file_only": True}
    log.error("the run ended with %s: %s", type(error).__name__, error, exc_info=True, extra=extra)
    if new:
        record.release(folder)
    return new and (isinstance(error, USER_ERRORS) or full_disk(error, folder) is not None)


def _train(config: DictConfig, folder: Path, checkpoint: Path | None) -> dict[str, Any]:
    from scale import runs
    from scale.callbacks.checkpoint import load_best
    from scale.runs import resume, tta
    from scale.runs.folder import write_averaged
    from scale.tasks.build import is_joint
    from scale.training import before, hardware, joint, loggers, outcome, shown, transfer
    from scale.training.trainer import build_trainer
    from scale.utils.files import strict

    hardware.prepare(config)
    started = time.perf_counter()
    datamodule, task = _built(config)
    results: Any = joint if is_joint(config) else outcome
    resume.check_weights(task, checkpoint)
    cost = before.announce(task, datamodule)
    begun = transfer.begin(config, task, datamodule, folder, resumed=checkpoint is not None)
    name = outcome.choice(config, task, datamodule, folder)
    tags = [*datamodule.members, name]
    backends = loggers.build_loggers(config, folder, name="-".join([*tags, f"seed{config.seed}"]), tags=tags)
    failed = True
    try:
        loggers.check_maps(backends, task.net)
        trainer = build_trainer(
            config, folder, samples=datamodule.train_count, logger=[backend.logger for backend in backends]
        )
        if trainer.is_global_zero:
            loggers.log_configuration(backends, config, folder)
        clock = [started, time.perf_counter()]
        trainer.fit(task, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        clock.append(time.perf_counter())
        if not trainer.global_step:
            raise ValueError("nothing was trained, not one step: see trainer.limit_train_batches and trainer.max_steps")
        kept, outputs = load_best(trainer, task, folder), _evaluate(trainer, task, datamodule, test=config.test)
        spent = (after - before for before, after in itertools.pairwise([*clock, time.perf_counter()]))
        seconds = dict(zip(("prepare", "fit", "evaluate"), spent, strict=True))
        if checkpoint is not None and (folder / runs.HISTORY).exists():  # the earlier parts of the run count too
            seconds["fit"] = sum(row["seconds"] for row in runs.read_history(folder))
        averaged = (
            tta.predict(datamodule, outputs, lambda: _evaluate(trainer, task, datamodule, test=config.test))
            if config.evaluation.tta
            else {}
        )
        more = {
            **kept,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            **begun,
            "model": {"name": name, **cost},
        }
        metrics = results.metrics(config, trainer, task, datamodule, {**outputs, **averaged}, more=more)
        if trainer.is_global_zero:
            write_averaged(folder, averaged)
            figures = results.write(
                folder,
                metrics,
                datamodule,
                outputs,
                net=task.net,
                device=trainer.strategy.root_device,
                figures=config.report,
            )
            if not is_joint(config):
                found = functools.partial(shown.results, task, datamodule, outputs, metrics, figures, folder=folder)
                loggers.log_results(backends, found)
        failed = False
    finally:
        loggers.close_loggers(backends, failed=failed)
    if trainer.is_global_zero:
        results.finish(folder, metrics, report=config.report, rerun=config.rerun)
    return cast(dict[str, Any], strict(metrics))


def _built(config: DictConfig) -> tuple["ImageDataModule", "ClassificationTask"]:
    """The data, looked at, and what is trained on them."""
    from scale.runs import resume
    from scale.tasks.build import build_datamodule, build_training
    from scale.training import before

    datamodule = build_datamodule(config)
    datamodule.setup()
    if config.rerun is not None:
        resume.check_data(datamodule, Path(config.rerun))
    before.examine(datamodule)
    task = build_training(config, datamodule)
    return datamodule, task


def _evaluate(
    trainer: "L.Trainer", task: "ClassificationTask", datamodule: "ImageDataModule", *, test: bool
) -> dict[str, Any]:
    """Val and, where asked for, test, once."""
    found: dict[str, Any] = {}
    for split, evaluate in {"val": trainer.validate, **({"test": trainer.test} if test else {})}.items():
        task.outputs = None  # a split that is not evaluated must not be given another one's outputs
        evaluate(task, datamodule=datamodule, verbose=False)
        if task.outputs is None:
            raise ValueError(f"nothing of {split} was evaluated: look at trainer.limit_{split}_batches")
        found[split] = task.outputs
    return found


def _job(config: DictConfig) -> str | None:
    """What Hydra runs."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from scale.runs import resume
    from scale.runs.interruption import Interrupted, end_with_parent
    from scale.sweeps import job as sweep_job

    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN:
        return sweep_job.run(config)
    end_with_parent()
    if os.environ.get("LOCAL_RANK", "0") == "0":  # before anything heavy is imported
        network, data = (settings.runtime.choices[group] for group in ("model", "data"))
        with one_line_errors():
            print(f"scale: {network} on {data}, seed {config.seed}: loading PyTorch and the data", flush=True)
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    try:
        with one_line_errors(also=(MisconfigurationException,)):  # Lightning's, of settings that contradict each other
            config = configuration.grant(config)  # the user's own words, or a record's that `expand` has compared
            metrics = train(config, Path(settings.runtime.output_dir), overrides=settings.overrides.task)
    except Interrupted as stop:
        sys.exit(128 + stop.number)
    except SystemExit:
        with contextlib.suppress(OSError):  # Hydra has made it; a start that failed leaves nothing in it
            Path(settings.runtime.output_dir).rmdir()
        raise
    if config.rerun is not None and resume.differing(metrics, Path(config.rerun)):
        sys.exit(1)
    return None


def main() -> None:
    """The command."""
    from scale.runs.resume import expand

    if show_help(sys.argv[1:], HELP, groups=groups):
        return
    sys.argv[1:] = configuration.options_first(sys.argv[1:])
    with one_line_errors(status=USAGE):
        sys.argv[1:] = expand(sys.argv[1:])
    configuration.check_command_line(sys.argv[1:])
    configuration.check_run_folder(sys.argv[1:])
    configuration.share_stamp()
    folder = str(configuration.directory())
    try:
        hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="train")(_job)()
    except KeyboardInterrupt:  # before the run began, or a second Ctrl-C
        fail("stopped by SIGINT", status=128 + signal.SIGINT)


if __name__ == "__main__":
    main()
