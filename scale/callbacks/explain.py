"""Maps of the same few samples while a network trains."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from matplotlib.figure import Figure

from scale.attribution.catalog import METHODS, check_name
from scale.config.schemas import Attribution
from scale.data.augment import mirrors
from scale.training.loggers import log_figures
from scale.training.samples import gathered

log = logging.getLogger("scale")
DEFAULT = (  # cheap, and what moves while a network learns where to look
    "gradcam",
    "gradcam_planar",
    "gradcam_volumetric",
    "gradcam_fusion",
    "cross_attention_planar_reads_volumetric",
    "cross_attention_volumetric_reads_planar",
    "scale_attention_planar_fine",
    "scale_attention_volumetric_fine",
)


class LogExplanations(L.Callback):
    """Draws maps of fixed val samples every few epochs and at the end, for the loggers and `figures/` of the run.

    Sees the averaged weights where there are such, which takes a place behind their callback. Only the first process
    works, on a copy of the network, without a word to the others; nothing of the training changes, not even its random
    numbers. A map that fails is told of and left out.

    Args:
        every_n_epochs: from the first epoch on.
        samples: number of samples, all classes alike.
        methods: names; those of `DEFAULT` that fit the network if None.
        batch_size: samples in one pass.
    """

    def __init__(
        self,
        *,
        every_n_epochs: int = 5,
        samples: int = 4,
        methods: list[str] | None = None,
        batch_size: int = 16,
    ) -> None:
        for key, value in (("every_n_epochs", every_n_epochs), ("samples", samples), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"callbacks.explanations.{key}={value}: give a number of at least 1")
        for name in methods or ():
            check_name(name)
        self.every_n_epochs, self.samples, self.methods, self.batch_size = every_n_epochs, samples, methods, batch_size
        self._last: int | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raises ValueError for a method that does not fit the network, before the training begins."""
        from scale.attribution.methods.attribute import applicable, obstacle

        net: Any = pl_module.net
        fitting = applicable(net)
        for name in self.methods or ():
            reason = obstacle(net, name)
            if reason:
                raise ValueError(
                    f"callbacks.explanations.methods: {name} does not apply: {reason}; what does: {', '.join(fitting)}"
                )
        self._chosen = self.methods or [name for name in DEFAULT if name in fitting]

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws, every `every_n_epochs`: now the averaged weights are in the network."""
        epoch = trainer.current_epoch
        if trainer.state.fn == "fit" and not trainer.sanity_checking and epoch % self.every_n_epochs == 0:
            self._draw(trainer, pl_module, epoch)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws what the training ended with."""
        self._draw(trainer, pl_module, max(trainer.current_epoch - 1, 0))

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero or self._last == epoch:
            return
        self._last = epoch
        figures = self._figures(trainer, pl_module, epoch)
        folder = Path(trainer.default_root_dir) / "figures"
        log_figures(trainer.loggers, figures, step=trainer.global_step, epoch=epoch, folder=folder)

    def _figures(self, trainer: L.Trainer, pl_module: L.LightningModule, epoch: int) -> dict[str, Figure]:
        from scale.attribution import selection
        from scale.attribution.metrics.explainer import Explainer
        from scale.attribution.report import figures
        from scale.attribution.report import files as record

        module: Any = trainer.datamodule  # type: ignore[attr-defined]
        task: Any = pl_module
        split, dims = module.splits["val"], module.info.spatial_dims
        rows = selection.spread(split.labels, self.samples)
        raw, images = gathered(module, "val", rows, device=pl_module.device)
        truth = selection.truths(split.labels[rows])
        chances = self._probabilities(task, images)
        target = torch.from_numpy(truth).to(pl_module.device)
        settings = Attribution(batch_size=self.batch_size)
        explainer = Explainer(task.net, task.problem, settings, mirrors(module.info.symmetry))
        maps: dict[str, np.ndarray] = {}
        for name in self._chosen:
            try:
                found = explainer.maps(name, images, target)
            except (FloatingPointError, MemoryError) as error:
                log.warning("explanations of epoch %d: %s", epoch, error)
                continue
            maps[name] = found.sum(dim=1).numpy()
        drawn = {}
        for number, row in enumerate(rows if maps else ()):
            mask = None if split.masks is None else split.masks.gather(rows[number : number + 1])[0]
            if mask is not None and task.problem.name == "multilabel":  # that of the explained label
                mask = mask == truth[number] + 1
            # the same planes in every epoch
            point = None if dims == 2 or (mask is not None and mask.any()) else [n // 2 for n in raw[number].shape[:3]]
            names, chance = selection.named(split.labels[row], chances[number], int(truth[number]), module.info.labels)
            title = figures.sample_title(names[0], names[1], chance)
            drawn[f"explanations/sample_{row}"] = figures.side_by_side(
                record.picture_of(raw[number], dims=dims),
                {record.label_of(name): values[number] for name, values in maps.items()},
                title=f"epoch {epoch}   {title}",
                mask=mask,
                point=point,
                signed={record.label_of(name): METHODS[name].signed for name in maps},
                orientation=module.orientation,
            )
        return drawn

    def _probabilities(self, task: Any, images: torch.Tensor) -> np.ndarray:
        """Probabilities (B, columns) in evaluation mode; the modes stay as they are."""
        from scale.attribution.methods.attribute import copied

        with torch.inference_mode():
            found: np.ndarray = task.problem.probabilities(copied(task.net)(images)).cpu().numpy()
        return found
