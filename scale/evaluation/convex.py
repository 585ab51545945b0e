"""Convex weights of several logits for the same samples, chosen by their loss."""

from collections.abc import Callable
from itertools import product

import numpy as np

STEP = 0.05  # between weights that are tried


def fit(logits: np.ndarray, loss: Callable[[np.ndarray], float], *, step: float = STEP) -> tuple[np.ndarray, float]:
    """The weights (H,) of heads whose mixed logits have the lowest loss, and that loss.

    All weights on a grid of the simplex are tried, so that the answer depends on nothing but the logits; of equal ones
    the most even ones are taken.

    Args:
        logits: of each head (H, N, outputs).
        loss: of mixed logits (N, outputs).
        step: between neighbours on the grid; 1 / step must be whole.
    """
    heads, parts = len(logits), round(1 / step)
    grid = [(*counts, parts - sum(counts)) for counts in product(range(parts + 1), repeat=heads - 1)]
    tried = np.array([counts for counts in grid if counts[-1] >= 0]) / parts
    losses = np.array([loss(mix(logits, weights)) for weights in tried])
    unevenness = np.square(tried - 1 / heads).sum(axis=1)
    best = np.lexsort((unevenness, losses))[0]
    return tried[best], float(losses[best])


def mix(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """logits: (H, N, outputs), weights: (H,); returns their weighted sum (N, outputs)."""
    mixed: np.ndarray = np.tensordot(weights, logits, axes=1)
    return mixed
