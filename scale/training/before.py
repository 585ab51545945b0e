"""What is checked and said before the first step: the data, and what is trained on them."""

import logging

from scale.data import quality
from scale.data.datamodule import ImageDataModule
from scale.models.joint import JointNet
from scale.models.layers import macs, parameters
from scale.tasks.classification import ClassificationTask
from scale.training import outcome

log = logging.getLogger("scale")


def examine(datamodule: ImageDataModule) -> None:
    """Warns of data whose figures mean less than they seem to; raises ValueError where they would mean nothing."""
    for name, module in datamodule.members.items():
        info, of_set = module.info, f"data: {name}: " if len(datamodule.members) > 1 else "data: "
        found = quality.examine(module.splits, problem=info.problem, num_classes=len(info.labels))
        for text in found.warnings:
            log.warning("%s%s", of_set, text)
        if found.errors:
            raise ValueError(f"{of_set}{'; '.join(found.errors)}. Mend the file: other images, or other splits")


def announce(task: ClassificationTask, datamodule: ImageDataModule) -> dict[str, int]:
    """Says what is trained on what; returns what the network costs."""
    cost = {"parameters": parameters(task.net), "macs": 0}
    for name, module in datamodule.members.items():
        if isinstance(task.net, JointNet):
            task.net.use(name)
        cost["macs"] = max(cost["macs"], macs(task.net, module.image_shape))  # of several sets the largest
        log.info("%s: %s", module.info.title, outcome.describe(module))
    size = f"{cost['parameters']:,} parameters, {cost['macs'] / 1e9:.3f} G multiply-adds"
    log.info("%s: %s", type(task.net).__name__, size)
    there = min(module.train_count for module in datamodule.members.values())
    if datamodule.batch_size > there:
        log.warning(
            "data.batch_size=%d, but there are %d samples: a batch has all of them", datamodule.batch_size, there
        )
    return cost
