"""How far a prediction can be believed: calibrated probabilities, conformal sets, entropy, unlikeness to the training.

All of it is fitted on what a run said of its val split, which its folder keeps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scale.evaluation.calibration import apply_temperature, fit_temperature
from scale.evaluation.conformal import Conformal, calibrate, least_samples
from scale.inference import familiarity

MAHALANOBIS, ENERGY = "mahalanobis", "energy"
CALLED = {MAHALANOBIS: "Mahalanobis distance of the features", ENERGY: "energy of the logits"}


@dataclass(frozen=True)
class Unlike:
    """What tells a file that looks unlike the training data.

    Attributes:
        score: `mahalanobis`, the distance of `scale.inference.familiarity`, or where it is not known `energy`.
        threshold: a file whose score is above looks unlike them; a share `familiarity.UNLIKE` of val's does.
    """

    score: str
    threshold: float


@dataclass(frozen=True)
class Uncertainty:
    """What val said.

    Attributes:
        problem: what the labels ask.
        alpha: share of conformal sets that may miss the true class.
        temperature: by which logits are divided; 1 where probabilities are left as they are.
        conformal: the sets' thresholds.
        unlike: what tells a file that looks unlike the training data.
    """

    problem: str
    alpha: float
    temperature: float
    conformal: Conformal
    unlike: Unlike

    def probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated ones (N, columns)."""
        if self.temperature == 1:
            return probabilities
        return apply_temperature(probabilities, self.temperature, self.problem)

    def sets(self, calibrated: np.ndarray) -> np.ndarray:
        """Members (N, K) of each set; for multilabel (N, L, 2), whether absent and present are in it."""
        return self.conformal.sets(calibrated, self.problem)

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "alpha": self.alpha,
            "temperature": self.temperature,
            "conformal_thresholds": [float(value) for value in self.conformal.thresholds],
            "calibration_samples": self.conformal.samples,
            "unlike_score": self.unlike.score,
            "unlike_threshold": self.unlike.threshold,
            "unlike_threshold_quantile": 1 - familiarity.UNLIKE,
        }


def fit(
    logits: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    problem: str,
    *,
    alpha: float,
    calibrated: bool,
    distances: np.ndarray | None = None,
) -> Uncertainty:
    """From predictions of the val split, which chose the epoch: coverage is to be measured, not taken for granted.

    Args:
        logits: (N, outputs); with several runs (runs, N, outputs).
        probabilities: (N, columns).
        labels: (N, L).
        problem: what the labels ask.
        alpha: share of sets that may miss the true class.
        calibrated: divide logits by a temperature (doi:10.48550/arXiv.1706.04599).
        distances: (N,), from the training data; None where they are not known, then the energy stands for them.

    Raises:
        ValueError: alpha out of range, or too few samples for it.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: give a share between 0 and 1, such as 0.1")
    least = least_samples(1 - alpha)
    if len(labels) < least:
        raise ValueError(
            f"alpha={alpha} needs at least {least} val samples, but the run has {len(labels)}: give a larger alpha"
        )
    temperature = fit_temperature(probabilities, labels, problem) if calibrated else 1.0
    own = apply_temperature(probabilities, temperature, problem) if temperature != 1 else probabilities
    conformal = calibrate(own, labels, problem, coverage=1 - alpha)
    if distances is None:
        unlike = Unlike(ENERGY, familiarity.threshold(energy(logits, problem)))
    else:
        unlike = Unlike(MAHALANOBIS, familiarity.threshold(distances))
    return Uncertainty(problem, alpha, temperature, conformal, unlike)


def energy(logits: np.ndarray, problem: str) -> np.ndarray:
    """Energy (N,) of logits (..., N, outputs), mean over runs; high where nothing looks like the training data.

    -log sum exp over the classes (arXiv:2010.03759); over labels and grades the sum of that of each one's two options.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if problem in ("multilabel", "ordinal"):
        found = -np.logaddexp(logits / 2, -logits / 2).sum(axis=-1)
    else:
        found = -np.logaddexp.reduce(logits, axis=-1)
    return np.asarray(found if found.ndim == 1 else found.mean(axis=0))


def entropy(probabilities: np.ndarray, problem: str) -> np.ndarray:
    """Entropy (N,) in bits of probabilities (N, columns); for multilabel the mean over the labels."""
    p = np.clip(probabilities, 1e-12, 1)
    if problem == "multilabel":
        q = np.clip(1 - probabilities, 1e-12, 1)
        return np.asarray(-(p * np.log2(p) + q * np.log2(q)).mean(axis=1))
    return np.asarray(-(p * np.log2(p)).sum(axis=1))
