"""`python -m scale.benchmark`: how fast networks train and predict, and files are prepared, on one machine."""

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from scale import config as configuration
from scale.config.help import show_help
from scale.utils import tables
from scale.utils.cli import USAGE, fail, one_line_errors, refuse_flags

if TYPE_CHECKING:
    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask

HELP = """\
usage: python -m scale.benchmark [models=[scale,resnet18]] [group=option ...] [key=value ...]
       python -m scale.benchmark prepare=COUNT [size=224] [workers=N]

Times networks on random images of a data set's shape, in turns: samples a second in training, in Lightning's own loop
with all that a run does in a step, and in evaluation; median and range of five rounds. On a GPU also its peak memory,
and the share of a training's time in which it runs a kernel.
With prepare=COUNT it times scale.prepare on as many PNG files, beside Pillow's decoding of the same files.

  python -m scale.benchmark data=vesselmnist3d models=[scale,scale_tiny,resnet18]
  python -m scale.benchmark data=breastmnist trainer=gpu hardware=amp data.batch_size=128
  python -m scale.benchmark prepare=2000 size=224 workers=2
"""
WARM_UP, PROFILED = 4, 6  # batches that do not count, and those that are profiled on a GPU
LEAST = 40  # files of a preparation that is timed
ALWAYS = ["logger=none", "callbacks.console=null", "callbacks.history=null", "callbacks.checkpoint=null", "test=false"]


@dataclass
class Speed:
    """What was measured of one network.

    Attributes:
        parameters: trainable values.
        macs: multiply-adds of one sample.
        train: samples a second in training, one value a round.
        evaluate: the same in evaluation.
        memory: peak of the GPU in bytes; 0 on a CPU.
        busy: share of the time in training in which a GPU runs a kernel, under the profiler, which slows the CPU down;
            None on a CPU.
    """

    parameters: int
    macs: int
    train: list[float] = field(default_factory=list)
    evaluate: list[float] = field(default_factory=list)
    memory: int = 0
    busy: float | None = None


@dataclass(frozen=True)
class _Network:
    """A network with random images of its data set's shape, as `scale.train` would train it."""

    config: DictConfig
    task: "ClassificationTask"
    datamodule: "ImageDataModule"
    speed: Speed


def measure(configs: Mapping[str, DictConfig], *, steps: int | None = None, rounds: int = 5) -> dict[str, Speed]:
    """Times networks on random images of a data set's shape, in turns, so that what else runs slows all of them.

    What is timed is Lightning's own loop over the run's own task, data module and trainer: augmentation, normalisation,
    losses forward and backward, optimizer and averaged weights, with every setting of `trainer` and `hardware`.

    Args:
        configs: of a run with each network, by the network's name.
        steps: batches in a round; some more come before them and do not count. 4 if None, or 20 on a GPU, where the
            time is taken once all of them have ended, as in a training nothing waits for a single one.
        rounds: that count; one more comes first, in which kernels are chosen.
    """
    import torch

    from scale.training import hardware

    for config in configs.values():
        hardware.check(config)
    gpu = torch.cuda.is_available() and all(config.trainer.accelerator != "cpu" for config in configs.values())
    steps = steps or (20 if gpu else 4)
    networks = {name: _prepare(config, batches=steps + WARM_UP) for name, config in configs.items()}
    for number in range(rounds + 1):
        for network in networks.values():
            hardware.prepare(network.config)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            train, evaluate = _round(network, steps)
            if number:
                network.speed.train.append(train)
                network.speed.evaluate.append(evaluate)
            if torch.cuda.is_available():
                network.speed.memory = max(network.speed.memory, torch.cuda.max_memory_allocated())
    for network in networks.values() if gpu else ():
        hardware.prepare(network.config)
        network.speed.busy = _busy(network)
    return {name: network.speed for name, network in networks.items()}


def table(found: Mapping[str, Speed]) -> str:
    """A Markdown table: medians over the rounds, with the range."""
    head = ["model", "M params", "G MACs", "train samples/s", "evaluate samples/s"]
    gpu = any(speed.memory for speed in found.values())
    rows = []
    for name, speed in found.items():
        row = [f"`{name}`", f"{speed.parameters / 1e6:.2f}", f"{speed.macs / 1e9:.3f}"]
        row += [f"{statistics.median(s):.1f} ({min(s):.1f}–{max(s):.1f})" for s in (speed.train, speed.evaluate)]
        rows.append(row + [f"{speed.memory / 2**30:.2f}", f"{speed.busy or 0:.0%}"] * gpu)
    return tables.markdown(head + ["peak GPU GiB", "in kernels"] * gpu, rows)


def _prepare(config: DictConfig, *, batches: int) -> _Network:
    """A network's task, and a data module of random images."""
    import numpy as np

    from scale.data.folds import Selected
    from scale.data.images import Images
    from scale.data.store import Split
    from scale.models.layers import macs, parameters
    from scale.tasks.build import announced, build_datamodule, build_training

    info, shape, problem = announced(config)
    datamodule = build_datamodule(config)
    count = 2 * max(config.data.batch_size, config.data.eval_batch_size)
    rounds = -(-batches * max(config.data.batch_size, config.data.eval_batch_size) // count)  # over the same images
    size = (count, *shape[1:], *(() if shape[0] == 1 else shape[:1]))
    images = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    classes = 2 if problem.name == "multilabel" else problem.num_classes
    labels = np.arange(count * problem.label_width).reshape(count, -1) % classes  # each class occurs
    split = Split(Images(images), labels)
    rows = np.tile(np.arange(count), rounds)
    often = Split(Selected([split.images], rows), labels[rows])
    datamodule.info, datamodule.splits = info, {"train": split, "val": often, "test": often}
    datamodule.train_indices = rows
    datamodule.setup()
    task = build_training(config, datamodule)
    return _Network(config, task, datamodule, Speed(parameters(task.net), macs(task.net, shape)))


def _round(network: _Network, steps: int) -> tuple[float, float]:
    """Samples a second in training and in evaluation."""
    rates = []
    for training in (True, False):
        clock = _clock()
        _run(network, clock, batches=steps + WARM_UP, training=training)
        data = network.datamodule
        size = data.batch_size if training else data.eval_batch_size
        rates.append(size * clock.batches / clock.seconds)
    return rates[0], rates[1]


def _run(network: _Network, callback: Any, *, batches: int, training: bool) -> None:
    """A part of an epoch with one more callback."""
    from scale.training.trainer import build_trainer

    config, data = network.config.copy(), network.datamodule
    limit = {"max_epochs": 1, "limit_train_batches": batches, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    config.trainer = {**network.config.trainer, **limit, **({} if training else {"limit_val_batches": batches})}
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(config, Path(folder), samples=len(data.train_labels), logger=False)
        trainer.callbacks.append(callback)  # type: ignore[attr-defined]
        if training:
            trainer.fit(network.task, datamodule=data)
        else:
            trainer.validate(network.task, datamodule=data, verbose=False)


def _clock() -> Any:
    """A callback that times the batches behind the first ones, once all of them have ended."""
    import lightning as L
    import torch

    class Clock(L.Callback):
        batches, seconds = 0, 0.0

        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            self._note(trainer.num_training_batches)

        def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            self._note(int(sum(trainer.num_val_batches)))

        def _note(self, count: float) -> None:
            self.batches += 1
            skipped = min(WARM_UP, int(count) - 1)
            if torch.cuda.is_available() and self.batches in (skipped, count):
                torch.cuda.synchronize()
            if self.batches == skipped:
                self._start = time.perf_counter()
            elif self.batches == count:
                self.seconds, self.batches = time.perf_counter() - self._start, self.batches - skipped

    return Clock()


def _busy(network: _Network) -> float:
    """Share of the time in training in which a GPU runs a kernel."""
    import lightning as L
    import torch
    from torch.autograd import DeviceType

    class Profile(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *rest: Any) -> None:
            if rest[-1] + 1 == WARM_UP:
                torch.cuda.synchronize()
                self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
                self.profile.start()
            elif rest[-1] + 1 == trainer.num_training_batches:
                torch.cuda.synchronize()
                self.profile.stop()

    found = Profile()
    _run(network, found, batches=WARM_UP + PROFILED, training=True)
    spans = [event.time_range for event in found.profile.events() if event.device_type == DeviceType.CUDA]
    return covered([(span.start, span.end) for span in spans])


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Share of the time from the first start to the last end that lies in at least one of `spans` (start, end)."""
    total, reached = 0.0, -float("inf")
    for start, end in sorted(spans):
        total += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return total / (reached - min(spans)[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if show_help(given, HELP):
        return
    refuse_flags(given)
    if any(argument.startswith("prepare=") for argument in given):
        with one_line_errors(status=USAGE):
            options = _of_preparation(given)
        print(_prepared(**options))
        return
    own = [a for a in given if a.startswith("models=")]
    overrides = [a for a in given if a not in own]
    if any(override.startswith("model=") for override in overrides):
        fail("model=... is for one network: give models=[...] with all that are timed", status=USAGE)
    names = (own[-1] if own else "models=scale,resnet18").partition("=")[2].strip("[]").replace(" ", "").split(",")
    for name in names:
        configuration.check_command_line([f"model={name}", *overrides])
    import lightning  # noqa: F401 - its import adds the handlers that are set aside next

    from scale.training.logs import logging_to

    with one_line_errors(), logging_to(None):  # Lightning says the same at each of the many starts
        configs = {name: configuration.compose([f"model={name}", *overrides, *ALWAYS]) for name in names}
        found = measure(configs)
    print(f"{_where(configs[names[0]])}\n\n{table(found)}")


def _of_preparation(given: Sequence[str]) -> dict[str, int]:
    """`prepare=COUNT size=PIXELS workers=PROCESSES` as numbers."""
    import os

    found = {"prepare": 0, "size": 224, "workers": os.cpu_count() or 1}
    for argument in given:
        key, _, value = argument.partition("=")
        if key not in found:
            raise ValueError(f"{argument}: with prepare=COUNT only size=PIXELS and workers=PROCESSES can be given")
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"{argument}: give a number of at least 1")
        found[key] = int(value)
    if found["prepare"] < LEAST:
        raise ValueError(f"prepare={found['prepare']}: give at least {LEAST} files, as each split needs some")
    return found


def _prepared(*, prepare: int, size: int, workers: int) -> str:
    from scale.preparing import speed

    found = speed.measure(prepare, size=size, workers=workers)
    head = f"{prepare} PNG files of {size} x {size} x 3, {workers} processes, {len(found.prepare)} rounds in turns"
    return f"{head}\n\n{speed.table(found)}"


def _where(config: DictConfig) -> str:
    import torch

    cpu = config.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    device = f"{torch.get_num_threads()} CPU threads" if cpu else torch.cuda.get_device_name()
    return f"{device}, batch {config.data.batch_size}, {config.trainer.precision}"


if __name__ == "__main__":
    main()
