"""`python -m scale.benchmark`: how fast networks train and answer, side by side on one machine."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from omegaconf import DictConfig

from scale import config as configuration
from scale.config.help import show_help
from scale.utils.cli import USAGE, fail, one_line_errors

PRECISIONS = {"32-true": None, "bf16-mixed": "bfloat16", "16-mixed": "float16"}
Job = Callable[[], None]
HELP = """\
usage: python -m scale.benchmark [models=[scale,resnet18]] [accelerator=auto|cpu|gpu] [group=option ...] [key=value ...]

Times networks on images of a data set's shape, in turns: samples a second in training (augmentation, losses, backward,
optimizer) and in evaluation, median and range of five rounds, and the GPU's peak memory. Needs no data.

  python -m scale.benchmark data=vesselmnist3d models=[scale,scale_tiny,resnet18]
  python -m scale.benchmark data=breastmnist hardware=amp data.batch_size=128 threads=1
"""


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


def measure(configs: Mapping[str, DictConfig], *, device: str, steps: int = 4, rounds: int = 5) -> dict[str, Speed]:
    """Times networks on random images of a data set's shape, in turns, so that what else runs slows all of them.

    A step of training is augmentation, normalisation, the losses forward and backward, and the optimizer.

    Args:
        configs: of a run with each network, by the network's name.
        device: `cpu` or `cuda`.
        steps: batches in a round.
        rounds: that count; one more comes first, in which kernels are chosen.
    """
    import torch

    found, jobs = {}, {}
    for name, config in configs.items():
        found[name], *jobs[name] = _prepare(config, device)
    for number in range(rounds + 1):
        for name, (train, evaluate) in jobs.items():
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            speed, samples = found[name], steps * configs[name].data.batch_size
            seconds = _time(train, steps, device), _time(evaluate, steps, device)
            if number:
                speed.train.append(samples / seconds[0])
                speed.evaluate.append(samples / seconds[1])
            if device == "cuda":
                speed.memory = max(speed.memory, torch.cuda.max_memory_allocated())
    return found


def table(found: Mapping[str, Speed]) -> str:
    """A Markdown table: medians over the rounds, with the range."""
    rows = [["model", "M params", "G MACs", "train samples/s", "evaluate samples/s"]]
    if any(speed.memory for speed in found.values()):
        rows[0].append("peak GPU GiB")
    rows.append(["---"] * len(rows[0]))
    for name, speed in found.items():
        row = [f"`{name}`", f"{speed.parameters / 1e6:.2f}", f"{speed.macs / 1e9:.3f}"]
        row += [f"{statistics.median(s):.1f} ({min(s):.1f}–{max(s):.1f})" for s in (speed.train, speed.evaluate)]
        rows.append(row + [f"{speed.memory / 2**30:.2f}"] * (len(rows[0]) - 5))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _time(job: Job, steps: int, device: str) -> float:
    import torch

    started = time.perf_counter()
    for _ in range(steps):
        job()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _prepare(config: DictConfig, device: str) -> tuple[Speed, Job, Job]:
    """A network's size, a step of its training, a step of its evaluation."""
    import torch

    from scale.models.layers import macs, parameters
    from scale.tasks.build import announced, build_task

    if config.trainer.precision not in PRECISIONS:
        raise ValueError(f"trainer.precision={config.trainer.precision}: give one of {', '.join(PRECISIONS)}")
    kind = PRECISIONS[config.trainer.precision]
    info, shape, problem = announced(config)
    task = build_task(config, problem, image_shape=shape).to(device)
    net, augment = task.net, configuration.instantiate(config.augment) if config.augment else None
    optimizer = configuration.instantiate(config.optimizer)(net.parameters())
    raw = torch.randint(0, 256, (config.data.batch_size, *shape), dtype=torch.uint8, device=device)
    labels = torch.zeros(len(raw), problem.label_width, dtype=torch.long, device=device)
    scaler = torch.amp.GradScaler(device, enabled=kind == "float16")
    low = torch.autocast(device, dtype=getattr(torch, kind or "bfloat16"), enabled=kind is not None)

    def train() -> None:
        images = raw.float() / 255
        if augment is not None:
            images = augment(images, symmetry=info.symmetry, seed=0)
        net.train()
        with low:
            if hasattr(net, "forward_auxiliary"):
                logits, others = net.forward_auxiliary(images * 2 - 1)  # type: ignore[operator]
            else:
                logits, others = net(images * 2 - 1), {}
        loss = torch.stack([problem.loss(each, labels) for each in (logits, *others.values())]).sum()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def evaluate() -> None:
        with torch.inference_mode(), low:
            net.eval()(raw.float() / 127.5 - 1)

    return Speed(parameters(net), macs(net, shape)), train, evaluate


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    import torch

    from scale.runs.predict import find_device

    given = list(sys.argv[1:] if arguments is None else arguments)
    if show_help(given, HELP):
        return
    own = dict(a.split("=", 1) for a in given if a.startswith(("models=", "accelerator=")))
    overrides = [a for a in given if a.split("=", 1)[0] not in own]
    if any(override.startswith("model=") for override in overrides):
        fail("model=... is for one network: give models=[...] with all that are timed", status=USAGE)
    names = own.get("models", "scale,resnet18").strip("[]").replace(" ", "").split(",")
    for name in names:
        configuration.check_command_line([f"model={name}", *overrides])
    with one_line_errors():
        configs = {name: configuration.compose([f"model={name}", *overrides]) for name in names}
        first = configs[names[0]]
        if first.threads:
            torch.set_num_threads(first.threads)
        device = find_device(own.get("accelerator", "auto"))
        found = measure(configs, device=device)
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{where}, batch {first.data.batch_size}, {first.trainer.precision}\n\n{table(found)}")


if __name__ == "__main__":
    main()
