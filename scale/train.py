"""`python -m scale.train`: train on one data set, test once, keep the record in a run folder."""

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
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

    from scale import resume, runs
    from scale.interruption import Interrupted
    from scale.logs import logging_to

    folder = Path(folder)
    main = getattr(rank_zero_only, "rank", 0) == 0
    _check_devices(config)
    begun = (folder / runs.CONFIG).exists() and not (folder / runs.METRICS).exists()
    going_on = config.resume is not None or (begun and resume.restarted())
    lock = None
    if main:
        lock = runs.reopen(folder) if going_on else runs.claim(folder)
    with logging_to(folder / runs.LOG if main else None):
        try:
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
    from scale import loggers, resume, runs
    from scale.assembly import build_datamodule, build_task, build_trainer
    from scale.callbacks import history
    from scale.models.layers import macs, parameters
    from scale.tasks.problem import Problem

    _quiet()
    _prepare_torch(config)
    started = time.perf_counter()
    datamodule = build_datamodule(config)
    datamodule.setup()
    problem = Problem(datamodule.info.problem, len(datamodule.info.labels))
    labels = datamodule.train_labels
    weights = problem.class_weights(labels) if datamodule.balance == "weights" else None
    task = build_task(config, problem, image_shape=datamodule.image_shape, class_weights=weights)
    cost = {"parameters": parameters(task.net), "macs": macs(task.net, datamodule.image_shape)}
    log.info("%s: %s", datamodule.info.title, _describe(datamodule))
    size = f"{cost['parameters']:,} parameters, {cost['macs'] / 1e9:.3f} G multiply-adds"
    log.info("%s: %s", type(task.net).__name__, size)

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
        outputs = _evaluate(trainer, task, datamodule)
        seconds = {"prepare": prepared - started, "fit": fitted - prepared, "evaluate": time.perf_counter() - fitted}
        if checkpoint is not None and (folder / runs.HISTORY).exists():  # the earlier parts of the run count too
            seconds["fit"] = sum(row["seconds"] for row in history.read(folder / runs.HISTORY))
        metrics = _metrics(config, trainer, task, datamodule, outputs)
        metrics |= {"best_epoch": best, "seconds": {name: round(value, 3) for name, value in seconds.items()}}
        metrics["model"] = {"name": _choice(config, task), **cost}
        if trainer.is_global_zero:
            figures = _write(folder, metrics, datamodule, outputs, partial=bool(config.trainer.fast_dev_run))
            summary = {f"{split}/{name}": value for split in outputs for name, value in metrics[split].items()}
            loggers.log_results(logger, summary, figures, step=trainer.global_step)
        failed = False
    finally:
        loggers.close_loggers(logger, failed=failed)
    if trainer.is_global_zero:
        runs.write_json(folder / runs.METRICS, metrics)
        log.info("%s", _table(metrics))
        log.info("run folder: %s", folder)
        if config.rerun is not None:
            resume.compare(metrics, Path(config.rerun))
    return metrics


def _prepare_torch(config: DictConfig) -> None:
    """Threads, precision of products, seeds."""
    import lightning as L
    import torch

    if config.threads:
        torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision(config.matmul_precision)
    torch.backends.cudnn.allow_tf32 = config.matmul_precision != "highest"  # torch's default is TF32, whatever is asked
    L.seed_everything(config.seed, workers=True, verbose=False)


def _quiet() -> None:
    """Silences the libraries' warnings that do not apply here."""
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # a batch is one indexing operation
    warnings.filterwarnings("ignore", message=".*fast_dev_run.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*")  # all processes log the same value
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # curves are by epoch


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


def _check_devices(config: DictConfig) -> None:
    """Raises ValueError where the machine lacks what `trainer` asks for."""
    import torch

    wanted = config.trainer.get("devices", 1)
    processes = wanted * config.trainer.get("num_nodes", 1) if isinstance(wanted, int) else 1
    size = config.data.batch_size
    if size < 1 or size % processes:
        raise ValueError(
            f"data.batch_size={size} is the batch of all processes: give a positive multiple of {processes}"
        )
    if size == 1 or (size == processes and not config.trainer.get("sync_batchnorm")):
        raise ValueError(
            f"data.batch_size={size} on {processes} processes leaves a batch of one sample, which has no variance to "
            "normalise by: give at least two samples a process"
        )
    if config.trainer.accelerator == "cpu" and isinstance(wanted, int) and wanted > (os.cpu_count() or 1):
        raise ValueError(f"trainer.devices={wanted}, but there are {os.cpu_count()} CPU cores: give at most that many")
    if config.trainer.accelerator not in ("gpu", "cuda"):
        return
    present = torch.cuda.device_count()
    if not present:
        raise ValueError("trainer.accelerator=gpu, but no CUDA device is visible: use trainer=cpu or trainer=ddp_cpu")
    if isinstance(wanted, int) and wanted > present:
        raise ValueError(f"trainer.devices={wanted}, but {present} CUDA devices are visible: give at most that many")


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


def _evaluate(trainer: "L.Trainer", task: "ClassificationTask", datamodule: "ImageDataModule") -> dict[str, "Outputs"]:
    """Val and test, once."""
    found: dict[str, Outputs] = {}
    trainer.validate(task, datamodule=datamodule, verbose=False)
    assert task.outputs is not None
    found["val"] = task.outputs
    trainer.test(task, datamodule=datamodule, verbose=False)
    found["test"] = task.outputs
    return found


def _metrics(
    config: DictConfig,
    trainer: "L.Trainer",
    task: "ClassificationTask",
    datamodule: "ImageDataModule",
    outputs: Mapping[str, "Outputs"],
) -> dict[str, Any]:
    from scale.evaluation.metrics import scores
    from scale.provenance import hardware

    problem, info = task.problem, datamodule.info
    return {
        "flag": info.flag,
        "size": datamodule.image_shape[-1],
        "seed": config.seed,
        "problem": problem.name,
        "num_classes": problem.num_classes,
        "image_shape": list(datamodule.image_shape),
        **{split: scores(found.labels, found.probabilities, problem.name) for split, found in outputs.items()},
        "samples": {"train": len(datamodule.train_labels), **{s: len(found.labels) for s, found in outputs.items()}},
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "fast_dev_run": bool(config.trainer.fast_dev_run),
        "hardware": hardware(trainer.strategy.root_device.type, trainer.world_size),
        "precision": str(trainer.precision),
    }


def _write(
    folder: Path,
    metrics: Mapping[str, Any],
    datamodule: "ImageDataModule",
    outputs: Mapping[str, "Outputs"],
    *,
    partial: bool,
) -> dict[str, Any]:
    """Predictions, official files and figures; returns the figures."""
    from scale import runs
    from scale.callbacks import history
    from scale.evaluation import figures, official

    names, problem = list(datamodule.info.labels), metrics["problem"]
    for split, found in outputs.items():
        runs.write_predictions(folder, split, found)
        if not partial:  # an official file has a row for every sample
            official.write(
                folder / runs.PREDICTIONS,
                found.probabilities,
                labels=found.labels,
                problem=problem,
                flag=metrics["flag"],
                size=metrics["size"],
                split=split,
                run=f"scale-seed{metrics['seed']}",
            )
    drawn = {}
    if (folder / runs.HISTORY).exists():
        drawn["history"] = figures.history(history.read(folder / runs.HISTORY))
    if not partial:
        truth, probabilities = outputs["test"].labels, outputs["test"].probabilities
        for name in ("roc", "precision_recall", "confusion", "reliability"):
            drawn[f"test_{name}"] = getattr(figures, name)(truth, probabilities, problem, names)
    (folder / runs.FIGURES).mkdir(exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(folder / runs.FIGURES / f"{name}.png", dpi=150)
    return drawn


def _choice(config: DictConfig, task: "ClassificationTask") -> str:
    """What the model is called: the option's name on the command line, else the class."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        return str(HydraConfig.get().runtime.choices["model"])
    return type(task.net).__name__


def _describe(datamodule: "ImageDataModule") -> str:
    counts = ", ".join(f"{len(split.labels):,} {name}" for name, split in datamodule.splits.items())
    shape = " x ".join(map(str, datamodule.image_shape))
    return f"{datamodule.info.problem}, {len(datamodule.info.labels)} classes, images {shape}, {counts}"


def _table(metrics: Mapping[str, Any]) -> str:
    """Val and test beside the best published result."""
    from scale.evaluation import published

    rows = [(split, metrics[split]["auc"], metrics[split]["acc"], "") for split in ("val", "test")]
    best = published.best(metrics["flag"])
    if best:
        methods = dict.fromkeys(f"{row.method} ({row.input_size})" for row in best)
        rows.append(("best published", best[0].auc, best[1].acc, " / ".join(methods)))
    lines = [
        f"{'':16}{'AUC':>7}{'ACC':>7}",
        *(f"{name:16}{auc:7.3f}{acc:7.3f}  {note}".rstrip() for name, auc, acc, note in rows),
    ]
    return "\n".join(lines)


def _job(config: DictConfig) -> None:
    """What Hydra runs."""
    from hydra.core.hydra_config import HydraConfig

    from scale.interruption import Interrupted, end_with_parent
    from scale.usage import USER_ERRORS

    end_with_parent()
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    settings = HydraConfig.get()
    try:
        train(config, Path(settings.runtime.output_dir), overrides=settings.overrides.task)
    except Interrupted as stop:
        sys.exit(128 + stop.number)
    except USER_ERRORS as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(1)


def main() -> None:
    """The command."""
    from scale.resume import expand
    from scale.usage import TRAIN, USER_ERRORS, show_help

    if show_help(sys.argv[1:], TRAIN):
        return
    try:
        sys.argv[1:] = expand(sys.argv[1:])
    except USER_ERRORS as error:
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(2)
    configuration.check_command_line(sys.argv[1:])
    configuration.share_stamp()
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="train")(_job)()


if __name__ == "__main__":
    main()
