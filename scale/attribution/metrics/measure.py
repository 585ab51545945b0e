"""Measures the maps of many methods on the same samples, the expensive metrics last."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from scale.attribution.catalog import ALL, METHODS
from scale.attribution.metrics import quality
from scale.attribution.metrics.explainer import Explainer, Step, Subjects
from scale.config.schemas import Quality
from scale.utils.choices import nearest

KEPT = 1 << 30  # bytes of maps that are kept from one stage to the next; others are made again
SENSITIVITY_RUNS = 2  # one try of sensitivity_max for so many blocks of infidelity

Values = dict[str, np.ndarray]  # by metric, one value for each sample


def check_metrics(names: Sequence[str] | None) -> list[str]:
    """The metrics of those names, the default ones if None; ValueError, with the nearest name, for one that is none."""
    known = list(quality.METRICS)
    if names is None:
        return [name for name, metric in quality.METRICS.items() if metric.default]
    if ALL in names:
        return known
    for name in names:
        if name not in known:
            raise ValueError(
                f"attribution.quality.metrics: unknown metric {name!r}{nearest(name, known)}; "
                f"allowed: {', '.join(known)}; {ALL}"
            )
    return list(names)


def cost(
    explainer: Explainer,
    methods: Sequence[str],
    metrics: Sequence[str],
    settings: Quality,
    *,
    count: int,
    others: int,
    bytes_each: int,
) -> float:
    """Passes that `measure` makes, about.

    Args:
        explainer: the network.
        methods: names.
        metrics: names of the metrics.
        settings: how.
        count: samples.
        others: networks of other seeds.
        bytes_each: bytes of a map of one sample.
    """
    total, size = 0.0, 0
    few = min(settings.perturbed, count)
    tries = max(1, settings.perturbations // SENSITIVITY_RUNS)
    repeats = {"sensitivity_max": tries + 1, "randomisation": 2}
    stages = len({quality.METRICS[name].stage for name in metrics})
    for method in methods:
        one = explainer.cost(method)
        size += count * bytes_each
        total += one * count * (1 if size <= KEPT else stages)
        total += one * count * others * ("agreement" in metrics)
        total += one * few * sum(times for name, times in repeats.items() if name in metrics)
        total += (settings.steps + 1) * count * sum(name in metrics for name in ("deletion_auc", "insertion_auc"))
        total += settings.perturbations * few * ("infidelity" in metrics)
    return total


def measure(
    explainer: Explainer,
    subjects: Subjects,
    methods: Sequence[str],
    metrics: Sequence[str],
    settings: Quality,
    *,
    step: Callable[[str, float], object],
) -> Iterator[tuple[dict[str, Values], Mapping[str, Tensor]]]:
    """Measures each method, stage by stage: what the map alone says, then curves, then what repeats the map.

    Args:
        explainer: the network.
        subjects: N samples.
        methods: names, of which all fit the network.
        metrics: names of the metrics.
        settings: how.
        step: told the method and the passes that were made.

    Yields:
        After each stage, for each method the metrics' values (N,) so far, nan where there is none; and the maps that
        are kept, as far as there is room, all of one method or none.
    """
    values: dict[str, Values] = {method: {} for method in methods}
    kept: dict[str, Tensor] = {}
    size = 0
    for stage, compute in enumerate((_alone, _curves, _repeated)):
        names = [name for name in metrics if quality.METRICS[name].stage == stage]
        if not names and stage:
            continue
        for method in methods:

            def told(amount: float, method: str = method) -> None:
                step(method, amount)

            maps = kept.get(method)
            if maps is None:
                maps = explainer.maps(method, subjects.images, subjects.target, step=told)
                size += maps.nbytes
                if size <= KEPT:
                    kept[method] = maps
            with warnings.catch_warnings():  # Captum says how it splits what is less than a batch
                warnings.filterwarnings("ignore", message="`max_examples_per_batch`")
                values[method] |= compute(explainer, subjects, names, settings, method=method, maps=maps, told=told)
        yield values, kept


def rows(values: Mapping[str, Values], *, seed: int) -> list[dict[str, Any]]:
    """The table `quality.csv`: a row a method and metric, with the mean over the samples and its interval."""
    return [
        {"method": method, "metric": name, "better": quality.METRICS[name].better}
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
            gains = gain(numbers, values[control][name], quality.METRICS[name].better)
            row = {"method": method, "control": control, "metric": name}
            table.append(row | quality.summarise(gains, seed=seed)._asdict())
    return table


def gain(numbers: np.ndarray, control: np.ndarray, better: str) -> np.ndarray:
    """How much better numbers are than a control's of the same samples; above 0 is better, whatever the direction."""
    if better == "zero":
        return np.asarray(np.abs(control) - np.abs(numbers))
    return np.asarray(numbers - control if better == "higher" else control - numbers)


def _alone(
    explainer: Explainer,
    subjects: Subjects,
    names: Sequence[str],
    settings: Quality,
    *,
    method: str,
    maps: Tensor,
    told: Step,
) -> Values:
    """Metrics of the map alone, and of the maps of other seeds."""
    found = _located(explainer, subjects, names, method=method, maps=maps)
    if "sparseness" in names:
        found["sparseness"] = quality.sparseness(maps).numpy()
    if "agreement" in names and subjects.others:
        parts = [
            quality.rank_correlation(
                maps, explainer.maps(method, subjects.images, subjects.target, net=net, step=told)
            ).numpy()
            for net in subjects.others.values()
        ]
        found["agreement"] = np.mean(parts, axis=0)
    return found


def _curves(
    explainer: Explainer,
    subjects: Subjects,
    names: Sequence[str],
    settings: Quality,
    *,
    method: str,
    maps: Tensor,
    told: Step,
) -> Values:
    """Deletion and insertion."""
    images = subjects.images
    found: Values = {}
    for name, curve in (("deletion_auc", quality.deletion), ("insertion_auc", quality.insertion)):
        if name in names:
            found[name] = curve(
                explainer.probabilities,
                images,
                maps.to(images),
                target=subjects.target,
                steps=settings.steps,
                baseline=settings.baseline,
                batch_size=explainer.settings.batch_size,
            ).auc.numpy()
            told((settings.steps + 1) * len(images))
    return found


def _repeated(
    explainer: Explainer,
    subjects: Subjects,
    names: Sequence[str],
    settings: Quality,
    *,
    method: str,
    maps: Tensor,
    told: Step,
) -> Values:
    """Metrics that change the sample or the network many times, of a few samples."""
    few, size = slice(0, settings.perturbed), explainer.settings.batch_size
    image, target, found = subjects.images[few], subjects.target[few], Values()

    def padded(numbers: Tensor) -> np.ndarray:
        return np.concatenate([numbers.cpu().numpy(), np.full(len(maps) - len(numbers), np.nan)])

    if "infidelity" in names:
        found["infidelity"] = padded(
            quality.infidelity(
                explainer.scores,
                image,
                maps[few].to(image),
                perturbations=settings.perturbations,
                batch_size=size,
                target=target,
            )
        )
        told(settings.perturbations * len(image))
    if "sensitivity_max" in names:
        found["sensitivity_max"] = padded(
            quality.sensitivity_max(
                # Captum repeats the targets of several samples, and not that of one
                lambda x, target: explainer.maps(method, x, target.expand(len(x)), step=told).to(x),
                image,
                perturbations=max(1, settings.perturbations // SENSITIVITY_RUNS),
                batch_size=size,
                target=target,
            )
        )
    if "randomisation" in names:
        found["randomisation"] = padded(
            quality.randomisation(
                explainer.net, lambda net, x: explainer.maps(method, x, target, net=net, step=told), image
            )
        )
    return found


def _located(explainer: Explainer, subjects: Subjects, metrics: Sequence[str], *, method: str, maps: Tensor) -> Values:
    """Metrics that know where the lesion is; a false negative is asked why it could have been a lesion."""
    names = [name for name in metrics if quality.METRICS[name].needs_masks]
    if subjects.masks is None or not names:
        return {}
    inside = subjects.masks.flatten(1).any(dim=1).cpu()
    other = (inside & (subjects.target != subjects.truth).cpu()).nonzero()[:, 0]
    if len(other) and METHODS[method].depends_on_target:
        maps = maps.clone()
        maps[other] = explainer.maps(method, subjects.images[other], subjects.truth[other])
    found: Values = {}
    for name in names:
        plain = name.removesuffix(quality.CAUSAL)
        numbers = getattr(quality, plain)(maps, subjects.masks.cpu()).numpy()
        if plain != name:
            if subjects.falls is None:
                continue
            numbers = np.where(subjects.falls, numbers, np.nan)
        found[name] = numbers
    return found
