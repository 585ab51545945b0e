"""What a prediction really rests on, by intervention: the same scene without its lesion, elsewhere, on other ground.

A map that misses the lesion is wrong only where the network used the lesion. Of a phantom that can be known, because
the scene can be rendered again (`scale.data.counterfactual`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scale.data.counterfactual import CHANGES

RESTS_ON = ("lesion", "other", "missed", "")  # what a prediction of the lesion's class rests on; "" without a lesion


@dataclass(frozen=True)
class Effects:
    """What interventions do to the score of the true class.

    Attributes:
        score: (N,), log odds of the true class.
        changed: by intervention of `CHANGES`, the score after it (N,).
        has_lesion: (N,).
    """

    score: np.ndarray
    changed: Mapping[str, np.ndarray]
    has_lesion: np.ndarray

    def drop(self, change: str = "without") -> np.ndarray:
        """What an intervention costs the score (N,); nan without a lesion."""
        return np.where(self.has_lesion, self.score - self.changed[change], np.nan)

    @property
    def falls(self) -> np.ndarray:
        """Whether the true class is predicted with the lesion and not without it (N,)."""
        return self.has_lesion & (self.score > 0) & (self.changed["without"] <= 0)

    @property
    def rests_on(self) -> list[str]:
        """For each sample one of `RESTS_ON`.

        `lesion`: the prediction falls with it. `other`: the class is predicted without the lesion too. `missed`: it is
        not predicted, lesion or no lesion.
        """
        kinds = np.where(self.falls, "lesion", np.where(self.score > 0, "other", "missed"))
        return [str(kind) if there else "" for kind, there in zip(kinds, self.has_lesion, strict=True)]

    def summary(self) -> str:
        """One line: how many predictions fall with the lesion, and what the others do."""
        kinds = self.rests_on
        total = int(self.has_lesion.sum())
        parts = [f"{kinds.count('lesion')} of {total} predictions fall with the lesion"]
        parts += [f"{kinds.count('other')} stay without it"] * ("other" in kinds)
        parts += [f"{kinds.count('missed')} lesions are missed"] * ("missed" in kinds)
        return ", ".join(parts)


def effects(
    scores: Callable[[Tensor], Tensor],
    images: Mapping[str, Tensor],
    truth: Tensor,
    has_lesion: np.ndarray,
    *,
    batch_size: int,
) -> Effects:
    """Measures what interventions do.

    Args:
        scores: maps images (b, C, *S) to log odds (b, columns).
        images: `same` and each of `CHANGES`, (N, C, *S), normalised.
        truth: (N,), the true classes.
        has_lesion: (N,), bool.
        batch_size: images in one pass.
    """
    found = {}
    for name in ("same", *CHANGES):
        parts = [scores(part).float().cpu() for part in images[name].split(batch_size)]
        found[name] = torch.cat(parts).gather(1, truth.cpu()[:, None])[:, 0].double().numpy()
    return Effects(found.pop("same"), found, np.asarray(has_lesion, dtype=bool))
