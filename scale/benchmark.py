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
from scale.utils.cli import USAGE, fail, one_line_errors

if TYPE_CHECKING:
    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask

HELP = """\
usage: python -m scale.benchmark [models=[scale,resnet18]] [group=option ...] [key=value ...]
       python -m scale.benchmark prepare=COUNT [size=224] [workers=N]

Times networks on random images of a data set's shape, in turns: samples a second in training, in Lightning's own loop
with all that a run does in a step, and in evaluation; median and range of five rounds, and the GPU's peak memory.
With prepare=COUNT it times scale.prepare on as many PNG files, beside Pillow's decoding of the same files.

  python -m scale.benchmark data=vesselmnist3d models=[scale,scale_tiny,resnet18]
  python -m scale.benchmark data=breastmnist trainer=gpu hardware=amp data.batch_size=128
  python -m scale.benchmark prepare=2000 size=224 workers=2
"""
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
    """

    parameters: int
    macs: int
    train: list[float] = field(default_factory=list)
    evaluate: list[float] = field(default_factory=list)
    memory: int = 0


@dataclass(frozen=True)
class _Network:
    """A network with random images of its data set's shape, as `scale.train` would train it."""

    config: DictConfig
    task: "ClassificationTask"
    datamodule: "ImageDataModule"
    speed: Speed


def measure(configs: Mapping[str, DictConfig], *, steps: int = 4, rounds: int = 5) -> dict[str, Speed]:
    """Times networks on random images of a data set's shape, in turns, so that what else runs slows all of them.

    What is timed is Lightning's own loop over the run's own task, data module and trainer: augmentation, normalisation,
    losses forward and backward, optimizer and averaged weights, with every setting of `trainer` and `hardware`.

    Args:
        configs: of a run with each network, by the network's name.
        steps: batches in a round; one more comes before them and does not count.
        rounds: that count; one more comes first, in which kernels are chosen.
    """
    import torch

    from scale.training import hardware

    for config in configs.values():
        hardware.check(config)
    networks = {name: _prepare(config) for name, config in configs.items()}
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
    return {name: network.speed for name, network in networks.items()}


def table(found: Mapping[str, Speed]) -> str:
    """A Markdown table: medians over the rounds, with the range."""
    head = ["model", "M params", "G MACs", "train samples/s", "evaluate samples/s"]
    gpu = any(speed.memory for speed in found.values())
    rows = []
    for name, speed in found.items():
        row = [f"`{name}`", f"{speed.parameters / 1e6:.2f}", f"{speed.macs / 1e9:.3f}"]
        row += [f"{statistics.median(s):.1f} ({min(s):.1f}–{max(s):.1f})" for s in (speed.train, speed.evaluate)]
        rows.append(row + [f"{speed.memory / 2**30:.2f}"] * gpu)
    return tables.markdown(head + ["peak GPU GiB"] * gpu, rows)


def _prepare(config: DictConfig) -> _Network:
    """A network's task, and a data module of random images."""
    import numpy as np

    from scale.data.images import Images
    from scale.data.store import Split
    from scale.models.layers import macs, parameters
    from scale.tasks.build import announced, build_datamodule, build_training

    info, shape, problem = announced(config)
    datamodule = build_datamodule(config)
    count = 2 * max(config.data.batch_size, config.data.eval_batch_size)
    size = (count, *shape[1:], *(() if shape[0] == 1 else shape[:1]))
    images = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    classes = 2 if problem.name == "multilabel" else problem.num_classes
    labels = np.arange(count * problem.label_width).reshape(count, -1) % classes  # each class occurs
    split = Split(Images(images), labels)
    datamodule.info, datamodule.splits = info, dict.fromkeys(("train", "val", "test"), split)
    datamodule.train_indices = np.arange(count)
    datamodule.setup()
    task = build_training(config, datamodule)
    return _Network(config, task, datamodule, Speed(parameters(task.net), macs(task.net, shape)))


def _round(network: _Network, steps: int) -> tuple[float, float]:
    """Samples a second in training and in evaluation."""
    from scale.training.trainer import build_trainer

    config, data = network.config.copy(), network.datamodule
    limit = {"max_epochs": 1, "limit_train_batches": steps + 1, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    rates = []
    for training in (True, False):
        config.trainer = {**network.config.trainer, **limit, **({} if training else {"limit_val_batches": steps + 1})}
        with tempfile.TemporaryDirectory() as folder:
            trainer = build_trainer(config, Path(folder), samples=len(data.train_labels), logger=False)
            clock = _clock()
            trainer.callbacks.append(clock)  # type: ignore[attr-defined]
            if training:
                trainer.fit(network.task, datamodule=data)
            else:
                trainer.validate(network.task, datamodule=data, verbose=False)
        size = data.batch_size if training else data.eval_batch_size
        rates.append(size * (len(clock.ends) - 1) / (clock.ends[-1] - clock.ends[0]))
    return rates[0], rates[1]


def _clock() -> Any:
    """A callback that notes when each batch has ended."""
    import lightning as L
    import torch

    class Clock(L.Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_batch_end(self, *_: Any) -> None:
            self._note()

        def on_validation_batch_end(self, *_: Any) -> None:
            self._note()

        def _note(self) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter())

    return Clock()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if show_help(given, HELP):
        return
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
