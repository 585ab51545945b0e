"""A network with the settings of its maps, and the samples that maps are measured on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from scale.attribution.catalog import METHODS
from scale.attribution.methods.attribute import Explained, attribute
from scale.attribution.metrics.perturbation import removed
from scale.config.schemas import Attribution
from scale.tasks.problem import Problem

Step = Callable[[float], object]


@dataclass(frozen=True)
class Explainer:
    """A network and how its maps are made.

    Attributes:
        net: maps images to logits.
        problem: what the labels ask.
        settings: of all methods.
        views: spatial axes of every flip that keeps the label, none first.
    """

    net: nn.Module
    problem: Problem
    settings: Attribution
    views: Sequence[tuple[int, ...]] = ((),)

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
        options = {argument: getattr(s, key) for argument, key in METHODS[method].settings.items()}
        return attribute(
            self.net if net is None else net,
            images,
            problem=self.problem,
            method=method,
            target=target,
            batch_size=s.batch_size,
            baseline=removed(images, s.baseline),
            seed=s.seed,
            views=self.views,
            progress=None if step is None else lambda count: step(count * self.cost(method)),
            **options,
        ).cpu()

    def cost(self, method: str) -> float:
        """Passes for a map of one sample, about."""
        entry = METHODS[method]
        factors = (len(self.views) if key == "views" else getattr(self.settings, key) for key in entry.per)
        return math.prod(factors, start=entry.cost)

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
        falls: (N,), whether the true class is predicted with the lesion and not without it; None where it is not known.
    """

    images: Tensor
    target: Tensor
    truth: Tensor
    masks: Tensor | None = None
    others: Mapping[str, nn.Module] = field(default_factory=dict)
    falls: np.ndarray | None = None
