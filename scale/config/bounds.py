"""Numbers of a configuration of `scale.train` that lead to a wrong result or to none: where each must lie."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scale.config.keys import flat


@dataclass(frozen=True)
class Range:
    """Where a number must lie; None: no bound. `above`: more than `low`; `below`: less than `high`."""

    low: float | None
    high: float | None
    above: bool = False
    below: bool = False
    null: bool = False  # whether null may stand there
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        low = self.low is None or (value > self.low if self.above else value >= self.low)
        return low and (self.high is None or (value < self.high if self.below else value <= self.high))

    def __str__(self) -> str:
        low = None if self.low is None else f"{'above' if self.above else 'of at least'} {self.low:g}"
        high = None if self.high is None else f"{'below' if self.below else 'of at most'} {self.high:g}"
        if low and high and not (self.above or self.below):
            low, high = f"from {self.low:g} to {self.high:g}", None
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} {' and '.join(filter(None, (low, high)))}" + (", or null" if self.null else "")


SHARE = Range(0, 1, below=True)
WHOLE_SHARE = Range(0, 1)
COUNT = Range(1, 4096, whole=True)
WIDTH, DEPTH, FEW = Range(1, 4096, whole=True), Range(0, 64, whole=True), Range(1, 256, whole=True)
LARGEST = 2**53  # whole numbers beyond are not exact everywhere
BATCHES = {  # what follows from none of them
    "limit_train_batches": "nothing would be trained",
    "limit_val_batches": "the epoch is chosen on val, which needs at least one batch",
    "limit_test_batches": "nothing of test would be seen; to leave test out give test=false",
}
RANGES: dict[str, Range] = {
    "optimizer.lr": Range(0, 10, above=True),
    "optimizer.weight_decay": Range(0, 10),
    "optimizer.trunk_scale": Range(0, 1, above=True),
    "optimizer.momentum": SHARE,
    "optimizer.eps": Range(0, 1, above=True),
    "scheduler.warmup": SHARE,
    "scheduler.final": WHOLE_SHARE,
    "scheduler.factor": Range(0, 1, above=True),
    "model.dropout": SHARE,
    "model.drop_path": SHARE,
    "model.lifted_width": Range(0, 8, above=True),
    **dict.fromkeys(("model.fusion_layers", "model.slabs", "model.scales", "model.heads"), FEW),
    "model.dim": WIDTH,
    "model.in_channels": FEW,  # of an exported network
    "model.outputs": COUNT,
    "model.image_size": Range(1, 4096, whole=True, null=True),
    "task.label_smoothing": SHARE,
    **dict.fromkeys(("task.auxiliary_weight", "task.gate_entropy", "task.flip_consistency"), Range(0, 1000)),
    "model.modality_dropout": SHARE,
    "callbacks.averaging.decay": SHARE,
    "callbacks.checkpoint.every_n_minutes": Range(0, None),
    "data.power": WHOLE_SHARE,
    "data.train_fraction": Range(0, 1, above=True),
    "data.batch_size": Range(1, 1 << 20, whole=True),
    "data.num_workers": Range(0, max(64, 4 * (os.cpu_count() or 1)), whole=True),
    "data.size": COUNT,
    "data.channels": FEW,
    "data.num_classes": Range(2, 4096, whole=True),
    "data.phantom_seed": Range(0, 2**32 - 1, whole=True),
    "threads": Range(1, max(64, 4 * (os.cpu_count() or 1)), null=True, whole=True),
    "budget.max_epochs": Range(1, 1_000_000, whole=True),
    "trainer.max_epochs": Range(1, 1_000_000, null=True, whole=True),
    "trainer.gradient_clip_val": Range(0, None, null=True),
    "trainer.log_every_n_steps": Range(1, None, whole=True),
    "trainer.num_sanity_val_steps": Range(0, None, whole=True),
    "trainer.overfit_batches": Range(0, None),
    "trainer.val_check_interval": Range(0, None, above=True, null=True),
    "trainer.min_epochs": Range(1, 1_000_000, null=True, whole=True),
    "trainer.min_steps": Range(1, None, null=True, whole=True),
}
LISTED = {  # each number of a list
    "scheduler.milestones": Range(0, 1, above=True, below=True),
    **dict.fromkeys(("model.planar_widths", "model.volumetric_widths"), WIDTH),
    **dict.fromkeys(("model.planar_depths", "model.volumetric_depths", "model.lifted_depths"), DEPTH),
    "optimizer.betas": SHARE,
}


def problems(node: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the numbers of a plain configuration."""
    for key, value in flat(dict(node)):
        items = value if isinstance(value, list) else [value]
        odd = [item for item in items if _is_number(item) and not _is_possible(item)]
        if odd:
            yield f"{key}={value}: give a finite number of at most 2^53"
            continue
        if key in RANGES:
            yield from _outside(key, value, RANGES[key])
        elif key in LISTED:
            for item in items if isinstance(value, list) else []:
                yield from _outside(key, item, LISTED[key])
    for key, allowed in {**RANGES, **LISTED}.items():
        part: Any = node
        for name in key.split("."):
            part = part.get(name) if isinstance(part, Mapping) else None
        if isinstance(part, Mapping):
            yield f"{key}={part}: give {allowed}"
    yield from _of_trainer(node["trainer"])


def _of_trainer(trainer: Mapping[str, Any]) -> Iterator[str]:
    steps = trainer.get("max_steps", -1)
    if not _is_number(steps) or (steps != -1 and steps < 1):
        yield f"trainer.max_steps={steps}: give a number of at least 1, or -1 for none"
    for name, follows in BATCHES.items():
        value = trainer.get(name)
        if value is None or name not in trainer:
            continue
        if value == 0 and _is_number(value):
            yield f"trainer.{name}={value}: {follows}"
        elif not _is_number(value) or value < 0 or (isinstance(value, float) and value > 1):
            yield f"trainer.{name}={value}: give a number of batches of at least 1, or a share above 0 and at most 1.0"


def _outside(key: str, value: Any, allowed: Range) -> Iterator[str]:
    if value is None and allowed.null:
        return
    if value == "???":
        return  # said by the check of the signature
    if not _is_number(value) or value not in allowed:  # a fraction in place of a whole number: see `signatures`
        yield f"{key}={'null' if value is None else value}: give {allowed}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_possible(value: float) -> bool:
    return math.isfinite(value) and (isinstance(value, float) or abs(value) <= LARGEST)
