"""AUC and average precision of one score, for many weightings of the samples at a time."""

import numpy as np


class Ranked:
    """A score, sorted once.

    Args:
        truth: (N,), true for positives.
        score: (N,).
    """

    def __init__(self, truth: np.ndarray, score: np.ndarray) -> None:
        positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
        self.positive = positive[np.argsort(-score[positive], kind="stable")]
        self.negative = negative[np.argsort(-score[negative], kind="stable")]
        values, self.first = np.unique(-score[self.positive], return_index=True)  # the positives' distinct scores
        below = -score[self.negative]
        self.above = np.searchsorted(below, values, side="left")  # negatives above each
        self.level = np.searchsorted(below, values, side="right")  # and those that are not below

    def __call__(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """AUC and average precision (R,) for weights (N, R); nan where a class has no weight.

        The AUC is the share of (positive, negative) pairs in order, a tie counting half (Mann and Whitney 1947,
        doi:10.1214/aoms/1177730491); the average precision is the sum over distinct scores of the step in recall times
        the precision, as in scikit-learn.
        """
        if not (self.positive.size and self.negative.size):
            undefined = np.full(weights.shape[1], np.nan)
            return undefined, undefined
        step = np.add.reduceat(weights[self.positive], self.first, axis=0)
        below = np.zeros((len(self.negative) + 1, weights.shape[1]), dtype=weights.dtype)
        np.cumsum(weights[self.negative], axis=0, out=below[1:])
        above, level = below[self.above], below[self.level]
        positives, negatives = step.sum(axis=0), below[-1]
        found = np.cumsum(step, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            area = np.einsum("gr,gr->r", step, negatives - (above + level) / 2) / (positives * negatives)
            precision = np.nan_to_num(found / (found + level))  # 0 / 0 where the step is 0 too
            average = np.einsum("gr,gr->r", step, precision) / positives
        return area, np.where(negatives > 0, average, np.nan)
