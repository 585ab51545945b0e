"""Which samples make up a batch: stratified subsets, balanced draws, shares of several processes.

Everything is a function of the seed, the epoch and the batch number, so that an interrupted run draws what an
uninterrupted one would have drawn.
"""

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from scale.data.layout import strata

CHOICES = {
    "balance": ("none", "weights", "sampler", "sqrt"),
    "normalisation": ("standard", "official"),
    "grades": ("ordinal", "classes"),
}


def stratified_subset(labels: np.ndarray, *, fraction: float, seed: int) -> np.ndarray:
    """Indices of a random `fraction` of each stratum, at least one of each, in ascending order.

    Args:
        labels: (N, L).
        fraction: in (0, 1].
        seed: the choice is a function of it alone.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"data.train_fraction={fraction}: give a number above 0 and at most 1")
    if fraction == 1:
        return np.arange(len(labels))
    groups, generator = strata(labels), np.random.default_rng(seed)
    chosen = [
        generator.permutation(members)[: max(1, round(fraction * len(members)))]
        for members in (np.flatnonzero(groups == group) for group in np.unique(groups))
    ]
    return np.sort(np.concatenate(chosen))


def stratified_sample(labels: np.ndarray, *, samples: int, seed: int) -> np.ndarray:
    """Indices of `samples` samples in ascending order, each stratum with its share rounded down or up.

    Args:
        labels: (N, L).
        samples: from 1 to N.
        seed: the choice is a function of it alone.
    """
    if not 1 <= samples <= len(labels):
        raise ValueError(f"data.train_samples={samples}: give a number from 1 to {len(labels)}, the size of the split")
    groups, generator = strata(labels), np.random.default_rng(seed)
    members = [generator.permutation(np.flatnonzero(groups == group)) for group in np.unique(groups)]
    # Spread over [0, 1), the first samples of this order hold each stratum in proportion.
    places = np.concatenate([(np.arange(len(m)) + 0.5) / len(m) for m in members])
    return np.sort(np.concatenate(members)[np.argsort(places, kind="stable")][:samples])


def check_part(fraction: float, samples: int | None) -> None:
    """Raises ValueError for a share of the train split that is none, and where a number is given too."""
    if not 0 < fraction <= 1:
        raise ValueError(f"data.train_fraction={fraction}: give a number above 0 and at most 1")
    if samples is not None and fraction < 1:
        raise ValueError(f"data.train_fraction={fraction} and data.train_samples={samples}: give one")


def check_options(**given: str) -> None:
    """Raises ValueError for a choice of `data.balance`, `data.normalisation` or `data.grades` that does not exist."""
    for key, value in given.items():
        *first, last = CHOICES[key]
        if value not in CHOICES[key]:
            raise ValueError(f"data.{key}={value!r}: give {', '.join(first)} or {last}")


def stratified_part(labels: np.ndarray, *, fraction: float, samples: int | None, seed: int) -> np.ndarray:
    """`stratified_sample` where a number is given, else `stratified_subset`."""
    if samples is None:
        return stratified_subset(labels, fraction=fraction, seed=seed)
    return stratified_sample(labels, samples=samples, seed=seed)


def of_square_roots(labels: np.ndarray, *, classes: int) -> np.ndarray:
    """Logarithm (classes,) of a class' share by square-root sampling over its true share (arXiv:2007.07314), float32.

    It is what the logits of a network that answers for the true shares lack for those that are drawn.

    Args:
        labels: (N,), numbers of classes.
        classes: their number.
    """
    counts = np.bincount(labels, minlength=classes).clip(min=1)
    drawn = np.sqrt(counts)
    found: np.ndarray = (np.log(drawn / drawn.sum()) - np.log(counts / counts.sum())).astype(np.float32)
    return found


def balancing(labels: np.ndarray, *, power: float) -> np.ndarray:
    """Weights (N,) with which each stratum is drawn as often as its size to the power 1 - `power` says.

    Args:
        labels: (N, L).
        power: 0: as often as it is there; 1: all strata alike.
    """
    _, inverse, counts = np.unique(strata(labels), return_inverse=True, return_counts=True)
    weights: np.ndarray = counts[inverse] ** -power
    return weights


def draw_seed(*numbers: int) -> int:
    """A seed in [0, 2**63) that depends on all of `numbers`."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Batch(tuple[np.ndarray, int, int, int]):
    """Indices of one process' share of a batch, the draw's seed, the share's offset and the global batch's size."""

    __slots__ = ()


class TrainBatches(Sampler[Batch]):
    """Shuffled batches of equal size; what does not fill the last batch waits for another epoch, if `drop_last`.

    `first` is the number of the batch with which the next pass begins, once: an interrupted epoch resumes with it.

    Args:
        indices: (N,), what to draw from.
        batch_size: samples of a batch over all processes.
        seed: of the whole run.
        weights: (N,), probabilities for drawing with replacement (balanced classes); without them each sample is
            drawn once an epoch.
        drop_last: leave a smaller last batch out; only one process can keep it.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        indices: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        weights: np.ndarray | None = None,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"data.batch_size={batch_size} is the global batch size: give a positive multiple of the "
                f"{world_size} processes"
            )
        if not drop_last and world_size > 1:
            raise ValueError(
                f"data.drop_last=false needs one process, but there are {world_size}: use trainer.devices=1"
            )
        self.indices, self.drop_last = indices, drop_last
        self.batch_size = min(batch_size, max(len(indices) // world_size, 1) * world_size)
        self.seed, self.weights, self.rank, self.world_size = seed, weights, rank, world_size
        self.epoch, self.first = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.indices), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        generator = np.random.default_rng(draw_seed(self.seed, self.epoch))
        if self.weights is None:
            order = generator.permutation(self.indices)
        else:
            order = generator.choice(self.indices, size=len(self.indices), p=self.weights / self.weights.sum())
        share = self.batch_size // self.world_size
        first, self.first = self.first, 0
        for number in range(first, len(self)):
            start = number * self.batch_size + self.rank * share
            seed = draw_seed(self.seed, self.epoch, number)
            chosen = order[start : start + share]
            yield Batch((chosen, seed, self.rank * share, self.batch_size if self.drop_last else len(chosen)))


class EvalBatches(Sampler[Batch]):
    """All samples in order; each is seen by one process, exactly once.

    Args:
        count: number of samples.
        batch_size: samples of a batch over all processes.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, count: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = np.arange(rank, count, world_size)
        self.batch_size = max(batch_size // world_size, 1)

    def __len__(self) -> int:
        return math.ceil(len(self.indices) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.indices), self.batch_size):
            chosen = self.indices[start : start + self.batch_size]
            yield Batch((chosen, 0, 0, len(chosen)))
