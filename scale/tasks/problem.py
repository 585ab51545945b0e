"""What the labels ask: output width, loss, probabilities and score columns, decided in one place."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scale.data.catalog import PROBLEMS
from scale.utils.choices import suggest


@dataclass(frozen=True)
class Problem:
    """One of MedMNIST's four kinds of labels, with everything that follows from it.

    * ``binary`` and ``multiclass``: softmax and cross entropy.
    * ``multilabel``: one sigmoid per label, binary cross entropy averaged over the labels.
    * ``ordinal``: CORN (Shi, Cao, Raschka 2023, doi:10.1007/s10044-023-01181-9). Logit k is that of
      P(y > k | y >= k), so the class probabilities are products of conditionals and sum to one.

    Attributes:
        name: one of `PROBLEMS`.
        num_classes: number of classes; for ``multilabel`` the number of labels.
    """

    name: str
    num_classes: int

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown problem or an impossible number of classes."""
        if self.name not in PROBLEMS:
            raise ValueError(f"unknown problem {self.name!r}; {suggest(self.name, PROBLEMS)}")
        least = 1 if self.name == "multilabel" else 2
        if self.num_classes < least or (self.name == "binary" and self.num_classes != 2):
            allowed = "exactly 2" if self.name == "binary" else f"at least {least}"
            raise ValueError(
                f"num_classes={self.num_classes} is impossible for a {self.name} problem: {allowed} needed"
            )

    @property
    def outputs(self) -> int:
        """Width of the logits."""
        return self.num_classes - 1 if self.name == "ordinal" else self.num_classes

    @property
    def columns(self) -> int:
        """Number of score columns in an official prediction file."""
        return self.num_classes

    @property
    def label_width(self) -> int:
        """L, the number of columns of the labels (N, L)."""
        return self.num_classes if self.name == "multilabel" else 1

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        partner_labels: Tensor | None = None,
        mix: Tensor | None = None,
        share_amount: Callable[[Tensor], Tensor] = lambda amount: amount,
    ) -> Tensor:
        """Mean loss of a batch, in float32 or better whatever autocast says.

        Each sample has a numerator and a weight, and the loss is the ratio of their sums: `F.cross_entropy` with its
        class weights for the softmax problems, the mean binary cross entropy for labels, and CORN's mean over all
        conditional tasks of all samples for grades. Smoothing moves the target distribution towards the uniform one
        (each label's target towards 0.5): the unweighted loss is least where the probabilities equal that target.

        Args:
            logits: (B, outputs).
            labels: (B, L), class numbers, or 0 and 1 for multilabel.
            label_smoothing: in [0, 1).
            class_weights: (num_classes,) as `class_weights` gives them.
            partner_labels: (B, L), labels of the sample mixed into each one (MixUp, CutMix); needs `mix`.
            mix: (B,) in [0, 1], share of the sample's own labels; the loss is the convex combination of both.
            share_amount: gives the mean over all processes of each one's sum of weights, so that the mean of their
                losses is the loss of the global batch.

        Returns:
            Scalar tensor.
        """
        self._check(logits, labels)
        if (partner_labels is None) != (mix is None):
            raise ValueError("partner_labels and mix go together: give both or neither")
        with torch.autocast(logits.device.type, enabled=False):
            logits = _precise(logits)
            weights = None if class_weights is None else class_weights.to(logits)
            total, amount = self._terms(logits, labels, label_smoothing, weights)
            if partner_labels is not None and mix is not None:
                self._check(logits, partner_labels)
                share = mix.to(logits)
                other_total, other_amount = self._terms(logits, partner_labels, label_smoothing, weights)
                total = share * total + (1 - share) * other_total
                amount = share * amount + (1 - share) * other_amount
            return total.sum() / share_amount(amount.sum())

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (B, columns), float32 or better, of logits (B, outputs)."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = _precise(logits)
            if self.name == "multilabel":
                return logits.sigmoid()
            if self.name != "ordinal":
                return logits.softmax(dim=1)
            beyond = logits.sigmoid().cumprod(dim=1)  # P(y > k), (B, K-1)
            reach = torch.cat([torch.ones_like(beyond[:, :1]), beyond[:, :-1]], dim=1)  # P(y >= k)
            return torch.cat([reach * (-logits).sigmoid(), beyond[:, -1:]], dim=1)

    def class_weights(self, labels: np.ndarray) -> Tensor:
        """Inverse-frequency weights (num_classes,) for `loss`, from the labels (N, L) of the training split.

        A class weighs N / (K * count), so that the mean over the samples is 1. For multilabel it is the weight of a
        positive beside a negative of the same label, negatives / positives.

        Raises:
            ValueError: a class has no sample (or a label no positive), so its weight does not exist.
        """
        n = len(labels)
        if self.name == "multilabel":
            counts = (labels != 0).sum(axis=0)
        else:
            counts = np.bincount(labels[:, 0], minlength=self.num_classes)
        if not counts.all():
            absent = ", ".join(map(str, np.flatnonzero(counts == 0)))
            raise ValueError(
                f"no sample of class {absent} among {n}: no weight by frequency exists; use unweighted data"
            )
        weights = (n - counts) / counts if self.name == "multilabel" else n / (self.num_classes * counts)
        return torch.as_tensor(weights, dtype=torch.float32)

    def _check(self, logits: Tensor, labels: Tensor) -> None:
        batch = logits.shape[0]
        if logits.shape != (batch, self.outputs) or labels.shape != (batch, self.label_width):
            raise ValueError(
                f"a {self.name} problem with {self.num_classes} classes needs logits (B, {self.outputs}) and "
                f"labels (B, {self.label_width}); got {tuple(logits.shape)} and {tuple(labels.shape)}"
            )

    def _terms(self, logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Numerator (B,) and weight (B,) of each sample's loss."""
        if self.name == "multilabel":
            target = labels.to(logits) * (1 - smoothing) + smoothing / 2
            loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weights, reduction="none").mean(dim=1)
            return loss, torch.ones_like(loss)
        target = labels[:, 0].long()
        weight = torch.ones_like(logits[:, 0]) if weights is None else weights[target]
        if self.name == "ordinal":
            loss, tasks = self._corn(logits, target, smoothing)
            return weight * loss, weight * tasks
        return F.cross_entropy(logits, target, weights, label_smoothing=smoothing, reduction="none"), weight

    def _corn(self, logits: Tensor, target: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        """Negative log likelihood (B,) of the smoothed class, and the expected number of tasks (B,) it sums."""
        share = F.one_hot(target, self.num_classes).to(logits) * (1 - smoothing) + smoothing / self.num_classes
        reach = share.flip(1).cumsum(dim=1).flip(1)  # target's P(y >= k), (B, K)
        loss = -(reach[:, 1:] * F.logsigmoid(logits) + share[:, :-1] * F.logsigmoid(-logits))
        return loss.sum(dim=1), reach[:, :-1].sum(dim=1)


def _precise(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
