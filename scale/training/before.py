"""What is checked and said before the first step: the data, and what is trained on them."""

import logging

from scale.data import quality
from scale.data.datamodule import ImageDataModule
from scale.models.layers import macs, parameters
from scale.tasks.classification import ClassificationTask
from scale.training import outcome

log = logging.getLogger("scale")


def examine(datamodule: ImageDataModule) -> None:
    """Warns of data whose figures mean less than they seem to; raises ValueError where they would mean nothing."""
    info = datamodule.info
    found = quality.examine(datamodule.splits, problem=info.problem, num_classes=len(info.labels))
    for text in found.warnings:
        log.warning("data: %s", text)
    if found.errors:
        raise ValueError(f"data: {'; '.join(found.errors)}. Mend the file: other images, or other splits")


def announce(task: ClassificationTask, datamodule: ImageDataModule) -> dict[str, int]:
    """Says what is trained on what; returns what the network costs."""
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
