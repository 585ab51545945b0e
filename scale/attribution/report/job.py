"""All that `python -m scale.explain` has to know before anything is computed."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from scale import config as configuration
from scale.attribution import selection
from scale.attribution.catalog import ALL, CONTROLS, DEFAULT, RECOMMENDED
from scale.attribution.methods import attribute as methods
from scale.attribution.metrics import measure as measuring
from scale.attribution.metrics import stability
from scale.attribution.metrics.causal import Effects, effects
from scale.attribution.metrics.explainer import Explainer, Subjects
from scale.attribution.selection import Choice
from scale.config import schemas
from scale.data.augment import mirrors
from scale.data.store import Split
from scale.runs import CHECKPOINTS, PREDICTIONS
from scale.runs.load import Run, load_run
from scale.runs.predict import find_device, predict
from scale.runs.sets import home
from scale.runs.verify import wrong_predictions

log = logging.getLogger("scale")


@dataclass(frozen=True)
class Job:
    """All that is known before anything is computed.

    Attributes:
        config: of the command.
        run: what is explained.
        others: runs of other seeds by name.
        explainer: the run's network and how its maps are made.
        split: images and masks.
        methods: names, the controls last.
        metrics: names of the metrics.
        choices: samples that are shown.
        measured: rows of the samples that are measured.
        device: of the computations.
        epoch: the same run at its other checkpoint, where there is one with other weights.
    """

    config: DictConfig
    run: Run
    others: dict[str, Run]
    explainer: Explainer
    split: Split
    methods: list[str]
    metrics: list[str]
    choices: list[Choice]
    measured: np.ndarray
    device: str
    epoch: Run | None

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """What the run's network says of the split."""
        return self.run.predictions[self.config.split]

    def images(self, rows: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Normalised samples (B, C, *S) on the device, by their rows in the predictions."""
        places = self.predictions["index"][np.asarray(rows, dtype=int)]
        return self._prepared(self.split.images.gather(places))

    def _prepared(self, images: np.ndarray) -> torch.Tensor:
        module, raw = self.run.datamodule, torch.from_numpy(images)
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

    def effects(self, rows: np.ndarray, of: np.ndarray, *, net: nn.Module | None = None) -> Effects | None:
        """What predictions rest on; None where scenes cannot be rendered again.

        Args:
            rows: (N,), of the predictions.
            of: (N,), the classes or labels whose lesions are taken out and whose scores are looked at.
            net: another network than the run's.
        """
        render = getattr(self.run.datamodule, "counterfactuals", None)
        masks = self.masks(rows, of)
        if render is None or masks is None:
            return None
        changed = render(self.config.split, self.predictions["index"][rows], of)
        return effects(
            (self.explainer if net is None else replace(self.explainer, net=net)).scores,
            {name: self._prepared(images) for name, images in changed.items()},
            torch.as_tensor(of.astype(np.int64)),
            np.asarray(masks.reshape(len(masks), -1).any(axis=1)),
            batch_size=self.explainer.settings.batch_size,
        )

    def subjects(self, truth: np.ndarray, found: Effects | None) -> Subjects:
        """The samples that are measured, of true classes (N,), and what their predictions rest on."""
        explained = {"predicted": selection.predicted(self.predictions["probabilities"])[self.measured], "truth": truth}
        target = explained.get(self.config.target, np.full(len(truth), self.config.target))
        masks = self.masks(self.measured, truth)
        return Subjects(
            self.images(self.measured),
            torch.as_tensor(target.astype(np.int64), device=self.device),
            torch.as_tensor(truth.astype(np.int64), device=self.device),
            None if masks is None else torch.from_numpy(masks),
            {name: other.model.net for name, other in self.others.items()},
            None if found is None else found.falls,
        )

    @property
    def best(self) -> str:
        """The method that the page opens with, which is drawn large and whose stability is measured."""
        return next((name for name in RECOMMENDED if name in self.methods), self.methods[0])

    def cost(self) -> float:
        """Passes through the network that the whole job takes, about."""
        shown = sum(self.explainer.cost(method) for method in self.methods) * len(self.choices)
        shown += stability.cost(self.explainer, self.best, count=len(self.choices), has_epoch=self.epoch is not None)
        quality = measuring.cost(
            self.explainer,
            self.methods,
            self.metrics,
            self.explainer.settings.quality,
            count=len(self.measured),
            others=len(self.others),
            bytes_each=4 * math.prod(self.run.metrics["image_shape"]),
        )
        return shown + quality + (len(self.predictions["index"]) if self.config.groups else 0)

    def pace(self) -> float:
        """Seconds of a pass of one sample."""
        images = self.images(np.arange(min(len(self.predictions["index"]), 4)))
        for _ in range(2):  # the first pass allocates
            start = time.perf_counter()
            self.explainer.probabilities(images).cpu()
            seconds = time.perf_counter() - start
        return seconds / len(images)


def _methods(net: nn.Module, names: Sequence[str] | None) -> list[str]:
    fitting = methods.applicable(net)
    if names is None:
        return [name for name in DEFAULT if name in fitting]
    return fitting if ALL in names else list(dict.fromkeys(names))


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
    metrics = measuring.check_metrics(settings.quality.metrics) if settings.quality.samples else []
    device = find_device(config.accelerator)
    if config.threads:
        torch.set_num_threads(config.threads)
    changes = {key: value for key, value in configuration.plain(config.data).items() if value is not None}
    run = load_run(config.run, checkpoint=config.checkpoint, data=changes, allow=config.allow)
    net, problem = run.model.net, run.model.problem
    chosen = _methods(net, settings.methods)
    problems = {name: methods.obstacle(net, name) for name in chosen}
    for name, reason in problems.items():
        if reason:
            fitting = ", ".join(methods.applicable(net))
            raise ValueError(f"attribution.methods: {name} does not apply: {reason}; what does: {fitting}")
    if metrics:  # controls run beside every method
        chosen += [name for name in CONTROLS if name not in chosen]
    if isinstance(config.target, int) and not 0 <= config.target < problem.columns:
        raise ValueError(f"target={config.target} does not exist: the classes are 0 to {problem.columns - 1}")
    others = _others(config, run, chosen, device)
    run.model.to(device)
    run.datamodule.setup()
    if config.split not in run.predictions or config.checkpoint != "best":
        run.predictions[config.split] = predict(run, config.split, device=device)
    found = run.predictions[config.split]
    _check_saved(run, config.split)
    if config.indices is not None:
        choices = selection.given(
            config.indices, found["index"], found["labels"], found["probabilities"], target=config.target
        )
    else:
        choices = selection.telling(found["labels"], found["probabilities"], target=config.target, **config.samples)
    if not choices:
        raise ValueError("no sample is chosen: give indices=[...], or samples.right, wrong or uncertain above 0")
    count = settings.quality.samples if metrics else 0
    return Job(
        config=config,
        run=run,
        others=others,
        explainer=measuring.Explainer(net, problem, settings, mirrors(run.datamodule.info.symmetry)),
        split=run.datamodule.splits[config.split],
        methods=chosen,
        metrics=metrics,
        choices=choices,
        measured=selection.spread(found["labels"], count, seed=settings.seed),
        device=device,
        epoch=_other_epoch(run, config.checkpoint, device),
    )


def _others(config: DictConfig, run: Run, chosen: Sequence[str], device: str) -> dict[str, Run]:
    """The runs to compare, by name. Raises ValueError for one that the same images and methods do not fit."""
    names = [home(folder).name for folder in (config.run, *config.compare)]
    others = {  # runs whose folders have one name are told apart by their paths
        name if names.count(name) == 1 else str(folder): load_run(
            folder, checkpoint=config.checkpoint, allow=config.allow
        )
        for name, folder in zip(names[1:], config.compare, strict=True)
    }
    for name, other in others.items():
        if any(other.metrics[key] != run.metrics[key] for key in ("flag", "image_shape", "problem", "num_classes")):
            raise ValueError(f"compare: {name} is a run on other data than {run.folder.name}")
        statistics = zip(_statistics(run), _statistics(other), strict=True)
        if not all(torch.allclose(own, theirs, atol=0.02) for own, theirs in statistics):
            raise ValueError(
                f"compare: {name} normalises its images otherwise than {run.folder.name} (data.normalisation), so that "
                "the same images would not be the same to both"
            )
        unfit = [method for method in chosen if methods.obstacle(other.model.net, method)]
        if unfit:
            raise ValueError(f"compare: {unfit[0]} does not apply to {name}, whose network is another one")
        other.model.to(device)
    return others


def _statistics(run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation by which a run normalises, as its checkpoint has them."""
    mean, std = run.datamodule.mean, run.datamodule.std
    assert mean is not None
    assert std is not None
    return mean, std


def _other_epoch(run: Run, checkpoint: str, device: str) -> Run | None:
    """The run at its other checkpoint; None where the file was removed, or has the same weights and so says nothing."""
    other = "last" if checkpoint == "best" else "best"
    if not (home(run.folder) / CHECKPOINTS / f"{other}.ckpt").is_file():
        return None
    epoch = load_run(run.folder, checkpoint=other, allow=run.config.allow)
    own, weights = run.model.net.state_dict(), epoch.model.net.state_dict()
    if all(torch.equal(value.cpu(), weights[name]) for name, value in own.items()):
        log.info("the best epoch is the last one: how far maps agree over epochs is not known")
        return None
    epoch.model.to(device)
    return epoch


def _check_saved(run: Run, split: str) -> None:
    """Raises ValueError if saved predictions are not those of the split: maps of other labels would look right."""
    found, labels = run.predictions[split], run.datamodule.splits[split].labels
    wrong = wrong_predictions(found, run.metrics)
    if wrong is None and found["index"].max() >= len(labels):
        wrong = f"it has {found['index'].max() + 1} samples, the split {len(labels)}"
    if wrong is None and not np.array_equal(found["labels"], labels[found["index"]]):
        wrong = "its labels are not those of the data"
    if wrong is not None:
        raise ValueError(
            f"{run.folder / PREDICTIONS / split}.npz: {wrong}; python -m scale.evaluate run={run.folder} says what "
            "else differs from the run's record"
        )
