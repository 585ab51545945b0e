"""All that `python -m scale.explain` has to know before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from scale import config as configuration
from scale.attribution import selection
from scale.attribution.catalog import CONTROLS
from scale.attribution.methods import attribute as methods
from scale.attribution.metrics import measure as measuring
from scale.attribution.metrics.measure import Explainer
from scale.attribution.selection import Choice
from scale.config import schemas
from scale.data.store import Split
from scale.runs.load import Run, load_run
from scale.runs.predict import find_device, predict


@dataclass(frozen=True)
class Job:
    """All that is known before anything is computed."""

    config: DictConfig
    run: Run
    others: dict[str, Run]
    explainer: Explainer
    split: Split
    methods: list[str]
    measures: list[str]
    choices: list[Choice]
    measured: np.ndarray
    device: str

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """What the run's network says of the split."""
        return self.run.predictions[self.config.split]

    def images(self, rows: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Normalised samples (B, C, *S) on the device, by their rows in the predictions."""
        module = self.run.datamodule
        places = self.predictions["index"][np.asarray(rows, dtype=int)]
        raw = torch.from_numpy(self.split.images.gather(places))
        raw = raw.movedim(-1, 1) if raw.ndim == module.info.spatial_dims + 2 else raw.unsqueeze(1)
        return module.prepare({"image": raw.to(self.device)})["image"]

    def masks(self, rows: Sequence[int] | np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """The lesions (B, *S) of the classes (B,), bool; None where the data set has none.

        Where one sample may have lesions of several labels, that of label k has the value k + 1.
        """
        if self.split.masks is None:
            return None
        found = self.split.masks.gather(self.predictions["index"][np.asarray(rows, dtype=int)])
        if self.run.metrics["problem"] == "multilabel":
            return found == (targets + 1).reshape(-1, *(1,) * (found.ndim - 1))
        return found > 0

    def cost(self) -> float:
        """Passes through the network that the whole job takes, about."""
        shown = sum(self.explainer.cost(method) for method in self.methods) * len(self.choices)
        settings = self.explainer.settings.quality
        count, others = len(self.measured), len(self.others)
        quality = measuring.cost(self.explainer, self.methods, settings, count=count, others=others) if count else 0
        return shown + quality + (len(self.predictions["index"]) if self.config.groups else 0)


def prepare(config: DictConfig) -> Job:
    """Reads the run, and finds all mistakes that can be found before anything runs.

    Args:
        config: composed by `scale.config.compose(..., name="explain")`.

    Raises:
        FileNotFoundError: there is no such run, or it has not finished.
        ValueError: a method, sample, class or run that does not exist or does not fit.
    """
    settings = OmegaConf.to_object(config.attribution)
    assert isinstance(settings, schemas.Attribution)
    measures = measuring.check_measures(settings.quality.measures) if settings.quality.samples else []
    device = find_device(config.accelerator)
    if config.threads:
        torch.set_num_threads(config.threads)
    changes = {key: value for key, value in configuration.plain(config.data).items() if value is not None}
    run = load_run(config.run, checkpoint=config.checkpoint, data=changes)
    net, problem = run.model.net, run.model.problem
    chosen = methods.applicable(net) if settings.methods is None else list(dict.fromkeys(settings.methods))
    problems = {name: methods.obstacle(net, name) for name in chosen}
    for name, reason in problems.items():
        if reason:
            fitting = ", ".join(methods.applicable(net))
            raise ValueError(f"attribution.methods: {name} does not apply: {reason}; what does: {fitting}")
    if measures:  # controls run beside every method
        chosen += [name for name in CONTROLS if name not in chosen]
    if isinstance(config.target, int) and not 0 <= config.target < problem.columns:
        raise ValueError(f"target={config.target} does not exist: the classes are 0 to {problem.columns - 1}")
    others = {str(Path(folder).name): load_run(folder, checkpoint=config.checkpoint) for folder in config.compare}
    for name, other in others.items():
        if any(other.metrics[key] != run.metrics[key] for key in ("flag", "image_shape", "problem", "num_classes")):
            raise ValueError(f"compare: {name} is a run on other data than {run.folder.name}")
        unfit = [method for method in chosen if methods.obstacle(other.model.net, method)]
        if unfit:
            raise ValueError(f"compare: {unfit[0]} does not apply to {name}, whose network is another one")
        other.model.to(device)
    run.model.to(device)
    run.datamodule.setup()
    if config.split not in run.predictions or config.checkpoint != "best":
        run.predictions[config.split] = predict(run, config.split, device=device)
    found = run.predictions[config.split]
    if config.indices is not None:
        choices = selection.given(
            config.indices, found["index"], found["labels"], found["probabilities"], target=config.target
        )
    else:
        choices = selection.telling(found["labels"], found["probabilities"], target=config.target, **config.samples)
    if not choices:
        raise ValueError("no sample is chosen: give indices=[...], or samples.right, wrong or uncertain above 0")
    count = settings.quality.samples if measures else 0
    return Job(
        config=config,
        run=run,
        others=others,
        explainer=measuring.Explainer(net, problem, settings),
        split=run.datamodule.splits[config.split],
        methods=chosen,
        measures=measures,
        choices=choices,
        measured=selection.spread(found["labels"], count, seed=settings.seed),
        device=device,
    )
