"""Test-time augmentation: the mean prediction over every flip that keeps the label."""

import logging
from collections.abc import Callable, Mapping

from scale.data.augment import mirrors
from scale.data.datamodule import ImageDataModule
from scale.tasks.outputs import Averaged, Outputs, average

log = logging.getLogger("scale")
SUFFIX = "_tta"  # of a split's name, so that these figures are never taken for the plain ones


def predict(
    datamodule: ImageDataModule, plain: Mapping[str, Outputs], again: Callable[[], Mapping[str, Outputs]]
) -> dict[str, Averaged]:
    """Averages the predictions over the flips that the data set's symmetry allows (flip TTA).

    Rotations are left out: but for those by 90 degrees they interpolate, and so change what is seen.

    Args:
        datamodule: set up; what it gives out in evaluation is mirrored while `again` runs.
        plain: for each split what the network says of the images as they are.
        again: says it once more.

    Returns:
        `val_tta` for `val` and so on; nothing, with a warning, where no flip keeps the label.
    """
    views = mirrors(datamodule.info.symmetry)
    if len(views) == 1:
        info = datamodule.info
        log.warning("evaluation.tta: no flip keeps the labels of %s (%s): no figures", info.title, info.symmetry.reason)
        return {}
    seen = {split: [found.probabilities] for split, found in plain.items()}
    for axes in views[1:]:
        with datamodule.mirrored(axes):
            for split, found in again().items():
                seen[split].append(found.probabilities)
    return {split + SUFFIX: Averaged(found.index, average(seen[split]), found.labels) for split, found in plain.items()}
