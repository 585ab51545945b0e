"""Measures the maps of many methods on the same samples, and what one seed's maps have in common with another's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scale.attribution.catalog import METHODS
from scale.attribution.methods.attribute import Explained, attribute
from scale.attribution.metrics import quality
from scale.attribution.metrics.perturbation import removed
from scale.config.schemas import Attribution, Quality
from scale.tasks.problem import Problem
from scale.utils.choices import nearest

COMPARED = 12  # samples whose maps of all methods are kept at once
SENSITIVITY_RUNS = 2  # one try of sensitivity_max for so many blocks of infidelity
STAGES = 5  # parts of a network that randomisation draws anew, about

Values = dict[str, np.ndarray]  # by measure, one value for each sample
Step = Callable[[float], object]


@dataclass(frozen=True)
class Explainer:
    """A network and how its maps are made.

    Attributes:
        net: maps images to logits.
        problem: what the labels ask.
        settings: of all methods.
    """

    net: nn.Module
    problem: Problem
    settings: Attribution

    def maps(
        self, method: str, images: Tensor, target: Tensor, *, net: nn.Module | None = None, step: Step | None = None
    ) -> Tensor:
        """Maps (B, C, *S) of images (B, C, *S) and classes (B,), on the CPU.

        Args:
            method: name of a method.
            images: normalised, on the network's device.
            target: explained classes.
            net: another network than the explainer's own.
            step: told the passes that were made.
        """
        s = self.settings
        options: dict[str, dict[str, Any]] = {
            "integrated_gradients": {"steps": s.steps},
            "scale_relevance": {"steps": s.steps},
            "gradient_shap": {"samples": s.noise_samples},
            "smoothgrad": {"samples": s.noise_samples, "stdev": s.noise},
            "occlusion": {"window": s.window},
        }
        return attribute(
            self.net if net is None else net,
            images,
            problem=self.problem,
            method=method,
            target=target,
            batch_size=s.batch_size,
            baseline=removed(images, s.baseline),
            seed=s.seed,
            progress=None if step is None else lambda count: step(count * self.cost(method)),
            **options.get(method, {}),
        ).cpu()

    def cost(self, method: str) -> float:
        """Passes for a map of one sample, about."""
        s = self.settings
        known = {"integrated_gradients": 3 * s.steps, "scale_relevance": 3 * s.steps + 3}
        known |= dict.fromkeys(("gradient_shap", "smoothgrad"), 3 * s.noise_samples)
        return known.get(method, METHODS[method].cost)

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities (B, columns) of images (B, C, *S)."""
        with torch.no_grad():
            return self.problem.probabilities(self.net(images))

    def scores(self, images: Tensor) -> Tensor:
        """What the maps explain: log odds (B, columns)."""
        with torch.no_grad():
            found: Tensor = Explained(self.net, self.problem)(images)
        return found


@dataclass(frozen=True)
class Subjects:
    """The samples that maps are measured on.

    Attributes:
        images: (N, C, *S), normalised.
        target: (N,), the explained classes.
        truth: (N,), the true classes: where there is a mask, its lesion is looked for in their maps.
        masks: (N, *S), the lesions of the true class; None where they are not known.
        others: networks of other seeds by name, for `agreement`.
    """

    images: Tensor
    target: Tensor
    truth: Tensor
    masks: Tensor | None = None
    others: Mapping[str, nn.Module] = field(default_factory=dict)


def check_measures(names: Sequence[str] | None) -> list[str]:
    """The measures of those names, all if None; raises ValueError, with the nearest name, for one that is none."""
    known = list(quality.MEASURES)
    for name in names or ():
        if name not in known:
            raise ValueError(
                f"attribution.quality.measures: unknown measure {name!r}{nearest(name, known)}; "
                f"allowed: {', '.join(known)}"
            )
    return known if names is None else list(names)


def cost(explainer: Explainer, methods: Sequence[str], settings: Quality, *, count: int, others: int) -> float:
    """Passes that `measure` makes, about."""
    total = 0.0
    dear = min(settings.perturbed, count)
    for method in methods:
        one = explainer.cost(method)
        repeats = settings.perturbations // SENSITIVITY_RUNS + 2 + STAGES + 1
        total += one * (count * (1 + others) + dear * repeats)
        total += 2 * (settings.steps + 1) * count + settings.perturbations * dear
    return total


def measure(
    explainer: Explainer,
    subjects: Subjects,
    methods: Sequence[str],
    measures: Sequence[str],
    settings: Quality,
    *,
    step: Callable[[str, float], object],
) -> tuple[dict[str, Values], dict[str, Tensor]]:
    """Measures each method.

    Args:
        explainer: the network.
        subjects: N samples.
        methods: names, of which all fit the network.
        measures: names.
        settings: how.
        step: told the method and the passes that were made.

    Returns:
        For each method the measures' values (N,), nan where there is none; and the maps of the first samples.
    """
    values: dict[str, Values] = {}
    kept: dict[str, Tensor] = {}
    for method in methods:

        def told(amount: float, method: str = method) -> None:
            step(method, amount)

        maps = explainer.maps(method, subjects.images, subjects.target, step=told)
        kept[method] = maps[:COMPARED]
        with warnings.catch_warnings():  # Captum says how it splits what is less than a batch
            warnings.filterwarnings("ignore", message="`max_examples_per_batch`")
            found = _perturbed(explainer, subjects, measures, settings, method=method, maps=maps, told=told)
        found |= _located(explainer, subjects, measures, method=method, maps=maps)
        if "sparseness" in measures:
            found["sparseness"] = quality.sparseness(maps).numpy()
        if "agreement" in measures and subjects.others:
            parts = [
                quality.rank_correlation(
                    maps, explainer.maps(method, subjects.images, subjects.target, net=net, step=told)
                ).numpy()
                for net in subjects.others.values()
            ]
            found["agreement"] = np.mean(parts, axis=0)
        values[method] = {name: found[name] for name in measures if name in found}
    return values, kept


def rows(values: Mapping[str, Values], *, seed: int) -> list[dict[str, Any]]:
    """The table `quality.csv`: a row a method and measure, with the mean over the samples and its interval."""
    return [
        {"method": method, "measure": name, "better": quality.MEASURES[name].better}
        | quality.summarise(numbers, seed=seed)._asdict()
        for method, measured in values.items()
        for name, numbers in measured.items()
    ]


def against(values: Mapping[str, Values], control: str, *, seed: int) -> list[dict[str, Any]]:
    """How much better than a control each method is on the same samples; above 0 is better, whatever the direction."""
    table = []
    for method, measured in values.items():
        for name, numbers in measured.items():
            if method == control or control not in values or name not in values[control]:
                continue
            better = quality.MEASURES[name].better
            gain = (numbers - values[control][name]) * (1 if better == "higher" else -1)
            row = {"method": method, "control": control, "measure": name}
            table.append(row | quality.summarise(gain, seed=seed)._asdict())
    return table


def _perturbed(
    explainer: Explainer,
    subjects: Subjects,
    measures: Sequence[str],
    settings: Quality,
    *,
    method: str,
    maps: Tensor,
    told: Step,
) -> Values:
    """Measures that change the sample or the network."""
    images, target, size = subjects.images, subjects.target, explainer.settings.batch_size
    found: Values = {}
    for name, curve in (("deletion_auc", quality.deletion), ("insertion_auc", quality.insertion)):
        if name in measures:
            options: dict[str, Any] = {"steps": settings.steps, "baseline": settings.baseline, "batch_size": size}
            found[name] = curve(explainer.probabilities, images, maps.to(images), target=target, **options).auc.numpy()
            told((settings.steps + 1) * len(images))
    few = slice(0, settings.perturbed)
    image, explained = images[few], target[few]

    def padded(numbers: Tensor) -> np.ndarray:
        return np.concatenate([numbers.cpu().numpy(), np.full(len(images) - len(numbers), np.nan)])

    if "infidelity" in measures:
        found["infidelity"] = padded(
            quality.infidelity(
                explainer.scores,
                image,
                maps[few].to(image),
                perturbations=settings.perturbations,
                batch_size=size,
                target=explained,
            )
        )
        told(settings.perturbations * len(image))
    if "sensitivity_max" in measures:
        found["sensitivity_max"] = padded(
            quality.sensitivity_max(
                lambda x, target: explainer.maps(method, x, target, step=told).to(x),
                image,
                perturbations=max(1, settings.perturbations // SENSITIVITY_RUNS),
                batch_size=size,
                target=explained,
            )
        )
    if "randomisation" in measures:
        redrawn = quality.randomisation(
            explainer.net, lambda net, x: explainer.maps(method, x, explained, net=net, step=told), image
        )
        found["randomisation"] = padded(redrawn.last)
    return found


def _located(explainer: Explainer, subjects: Subjects, measures: Sequence[str], *, method: str, maps: Tensor) -> Values:
    """Measures that know where the lesion is; a false negative is asked why it could have been a lesion."""
    names = [name for name in measures if quality.MEASURES[name].needs_masks]
    if subjects.masks is None or not names:
        return {}
    inside = subjects.masks.flatten(1).any(dim=1).cpu()
    other = (inside & (subjects.target != subjects.truth).cpu()).nonzero()[:, 0]
    if len(other) and METHODS[method].depends_on_target:
        maps = maps.clone()
        maps[other] = explainer.maps(method, subjects.images[other], subjects.truth[other])
    functions = {
        "pointing_game": quality.pointing_game,
        "relevance_mass": quality.relevance_mass,
        "relevance_rank": quality.relevance_rank,
    }
    return {name: functions[name](maps, subjects.masks.cpu()).numpy() for name in names}
