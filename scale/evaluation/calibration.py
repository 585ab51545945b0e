"""How far probabilities can be believed, and the one number that repairs most of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURES = (0.05, 20.0)  # beyond these the validation data say nothing but "as far as you can"


@dataclass(frozen=True)
class Bins:
    """Reliability of predictions, in bins of equal width; each field (bins,), with nan where a bin is empty.

    Attributes:
        edges: (bins + 1,), from 0 to 1.
        confidence: mean confidence of a bin.
        accuracy: share of the bin's predictions that hold.
        counts: number of predictions.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray


def reliability_bins(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> Bins:
    """Group predictions by confidence, a bin being (lower, upper].

    Args:
        confidence: (N,), in [0, 1].
        correct: (N,), true where the prediction holds.
        bins: number of bins.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(which, weights=confidence, minlength=bins) / counts
        accuracy = np.bincount(which, weights=np.asarray(correct, dtype=np.float64), minlength=bins) / counts
    return Bins(edges=edges, confidence=mean_confidence, accuracy=accuracy, counts=counts)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """Mean gap of confidence and accuracy, weighted by the bins' counts (Guo et al. 2017, arXiv:1706.04599)."""
    found = reliability_bins(confidence, correct, bins=bins)
    return float(np.nansum(found.counts * np.abs(found.accuracy - found.confidence)) / found.counts.sum())


def fit_temperature(logits: "Tensor", labels: "Tensor", *, loss: "Callable[[Tensor, Tensor], Tensor]") -> float:
    """Temperature by which to divide logits so that the loss is least (Guo et al. 2017, arXiv:1706.04599).

    The negative log likelihoods of softmax, sigmoid and CORN are convex in the inverse temperature, so the sign of the
    derivative tells on which side the optimum lies, and bisection finds it without a step size to choose.

    Args:
        logits: (N, outputs) of the validation split, never of the test split.
        labels: (N, L).
        loss: negative log likelihood of (logits, labels), up to a factor: `Problem.loss`.

    Returns:
        The temperature, within `TEMPERATURES`; their end where the loss has no minimum inside (separable data).

    Raises:
        ValueError: no sample, or logits that are not finite.
    """
    import torch  # here, so that scoring a file of predictions does not wait for it

    logits = logits.detach().double()
    if len(logits) == 0 or not torch.isfinite(logits).all():
        raise ValueError(f"temperature needs finite logits of at least one sample; got shape {tuple(logits.shape)}")
    low, high = (float(np.log(1 / t)) for t in reversed(TEMPERATURES))  # logarithm of the inverse temperature
    for _ in range(50):
        middle = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(loss(logits * middle.exp(), labels), middle)
        if slope > 0:
            high = middle.item()
        else:
            low = middle.item()
    return float(np.exp(-(low + high) / 2))
