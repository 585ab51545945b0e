"""Which samples to look at: the telling ones of each class, or some of all. Arrays in, numbers out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Choice:
    """A sample and the class that is explained.

    Attributes:
        row: place in the arrays.
        target: explained class or label.
        why: `right`, `wrong`, `uncertain`, or `chosen`.
        of: the class or label it was chosen for.
    """

    row: int
    target: int
    why: str
    of: int


def predicted(probabilities: np.ndarray) -> np.ndarray:
    """Classes (N,) with the highest probability; of several labels the likeliest one."""
    return np.asarray(probabilities.argmax(axis=1))


def truths(labels: np.ndarray) -> np.ndarray:
    """Classes (N,); of several labels the first that is present, or 0."""
    return np.asarray(labels[:, 0] if labels.shape[1] == 1 else (labels != 0).argmax(axis=1))


def whose_lesion(labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The class or label (N,) whose lesion belongs to a map: of several labels the explained one, else the true class.

    Args:
        labels: (N, L), of the samples.
        targets: (N,), what is explained of each.
    """
    return np.asarray(targets) if labels.shape[1] > 1 else truths(labels)


def named(
    labels: np.ndarray, probabilities: np.ndarray, target: int, names: Sequence[str]
) -> tuple[tuple[str, str, str], float]:
    """Names of the true, the predicted and the explained class of a sample, and the prediction's probability.

    Args:
        labels: (L,).
        probabilities: (columns,).
        target: what is explained; of several labels truth and prediction are those of this one.
        names: of the classes or labels.
    """
    if len(labels) == 1:
        guess = int(predicted(probabilities[None])[0])
        return (names[int(labels[0])], names[guess], names[target]), float(probabilities[guess])
    present, said, chance = labels[target] != 0, probabilities[target] > 0.5, float(probabilities[target])
    truth, guessed = (names[target] if yes else f"no {names[target]}" for yes in (present, said))
    return (truth, guessed, names[target]), chance if said else 1 - chance


def telling(
    labels: np.ndarray, probabilities: np.ndarray, *, right: int, wrong: int, uncertain: int, target: str | int
) -> list[Choice]:
    """The most confident right, the most confident wrong and the least certain samples of each class.

    A class's samples are those that belong to it; of several labels, those for which the label is (or should be) said:
    right are hits, wrong are misses and false alarms. A sample is taken once.

    Args:
        labels: (N, L).
        probabilities: (N, columns).
        right: number of right ones for each class.
        wrong: number of wrong ones.
        uncertain: number of uncertain ones.
        target: class that is explained: `predicted`, `truth` or a number. With several labels the two words mean the
            label that the sample was chosen for, and a number that samples are chosen for this label alone.
    """
    several = labels.shape[1] > 1
    guess, truth = predicted(probabilities), truths(labels)
    found: list[Choice] = []
    taken: set[int] = set()
    for of in [target] if several and isinstance(target, int) else range(probabilities.shape[1]):
        if several:
            score = probabilities[:, of]
            said, present = score > 0.5, labels[:, of] != 0
            sure, doubt = np.where(said, score, 1 - score), np.abs(score - 0.5)
            groups = {"right": present & said, "wrong": present != said, "uncertain": present | said}
        else:
            sure = probabilities.max(axis=1)
            ordered = np.sort(probabilities, axis=1)
            doubt = ordered[:, -1] - ordered[:, -2]
            own = truth == of
            groups = {"right": own & (guess == of), "wrong": own & (guess != of), "uncertain": own}
        for why, count in (("right", right), ("wrong", wrong), ("uncertain", uncertain)):
            rank = doubt if why == "uncertain" else -sure
            rows = [int(row) for row in np.argsort(rank, kind="stable") if groups[why][row] and int(row) not in taken]
            for row in rows[:count]:
                taken.add(row)
                explained = of if several and isinstance(target, str) else _target(row, guess, truth, target)
                found.append(Choice(row, explained, why, of))
    return found


def given(
    wanted: Sequence[int], index: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, *, target: str | int
) -> list[Choice]:
    """The samples that are named.

    Args:
        wanted: positions in the split.
        index: (N,), positions of the samples.
        labels: (N, L).
        probabilities: (N, columns).
        target: as for `telling`; with several labels `predicted` is the likeliest one, `truth` the first present.

    Raises:
        ValueError: a sample that does not exist; says which do.
    """
    rows = {int(position): row for row, position in enumerate(index)}
    missing = [position for position in wanted if position not in rows]
    if missing:
        raise ValueError(
            f"indices: there is no sample {missing[0]}; the split has {len(index)}, {index.min()} to {index.max()}"
        )
    guess, truth = predicted(probabilities), truths(labels)
    chosen = [rows[position] for position in dict.fromkeys(wanted)]
    return [Choice(row, _target(row, guess, truth, target), "chosen", int(truth[row])) for row in chosen]


def spread(labels: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """Rows of about `count` random samples, all classes alike as far as they have any, in ascending order."""
    if count >= len(labels):
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    classes = truths(labels)[order]
    # the place of each sample among those of its class: the first of every class come first
    place = np.empty(len(order), dtype=int)
    for value in np.unique(classes):
        member = classes == value
        place[member] = np.arange(member.sum())
    return np.asarray(np.sort(order[np.argsort(place, kind="stable")[:count]]))


def _target(row: int, guess: np.ndarray, truth: np.ndarray, target: str | int) -> int:
    if isinstance(target, int):
        return target
    return int((guess if target == "predicted" else truth)[row])
