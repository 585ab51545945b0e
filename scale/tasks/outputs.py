"""What a network says of a split, and one prediction from several."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Outputs:
    """What the network said of one split, in the split's order.

    Attributes:
        index: (N,) positions in the split.
        logits: (N, outputs), float32.
        probabilities: (N, columns), float64.
        labels: (N, L).
    """

    index: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Averaged:
    """Averaged predictions of one split.

    Attributes:
        index: (N,) positions in the split.
        probabilities: (N, columns), float64.
        labels: (N, L).
    """

    index: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray


def average(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of several predictions of the same samples, each weighing the same.

    Args:
        probabilities: of each predictor (N, columns).

    Returns:
        (N, columns), float64.

    Raises:
        ValueError: there are none, or their shapes differ.
    """
    shapes = sorted({found.shape for found in probabilities})
    if len(shapes) != 1:
        raise ValueError(f"probabilities of one shape (N, columns) are needed to average them; got {shapes or 'none'}")
    return np.mean(np.stack([np.asarray(found, dtype=np.float64) for found in probabilities]), axis=0)
