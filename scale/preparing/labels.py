"""From the texts of labels to numbers: which problem it is and what the classes are called."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scale.data.catalog import PROBLEMS
from scale.utils.choices import suggest

MANY = 1000  # classes; more are measurements


@dataclass(frozen=True)
class Encoding:
    """The problem, and the names of the classes (or labels) in the order of their numbers."""

    problem: str
    names: tuple[str, ...]

    def encode(self, labels: Sequence[Sequence[str]]) -> np.ndarray:
        """Labels (N, L), int64."""
        if self.problem == "multilabel":
            return np.array([[int(float(text)) for text in row] for row in labels], dtype=np.int64)
        numbers = {name: number for number, name in enumerate(self.names)}
        return np.array([[numbers[plain(row[0])]] for row in labels], dtype=np.int64)


def infer(
    labels: Sequence[Sequence[str]], columns: Sequence[str], *, problem: str | None, order: Sequence[object] | None
) -> Encoding:
    """The encoding of labels.

    One column of two values is binary, of more multiclass; several columns of 0 and 1 are multilabel.

    Args:
        labels: (N, L) texts.
        columns: (L,) names.
        problem: given, or None.
        order: classes in the order of their numbers; by value where they are numbers, else by name, if None.

    Raises:
        ValueError: one class only, values that are no classes, or a problem or order that does not fit.
    """
    if problem is not None and problem not in PROBLEMS:
        raise ValueError(f"unknown problem {problem!r}; {suggest(problem, PROBLEMS)}")
    if not columns:
        raise ValueError("the table has no column of labels")
    if len(columns) > 1:
        return _several(labels, columns, problem, order)
    if problem == "multilabel":
        raise ValueError(f"problem=multilabel needs several columns of labels, there is only {columns[0]}")
    if problem == "ordinal" and order is None and not all(_is_whole(row[0]) for row in labels):
        raise ValueError("problem=ordinal needs the order of its grades: order=[lowest,...,highest]")
    found = set(map(plain, (row[0] for row in labels)))
    names = tuple(plain(str(name)) for name in order) if order is not None else tuple(sorted(found, key=_rank))
    if len(set(names)) != len(names):
        raise ValueError(f"order={list(names)}: a class is named twice")
    if found - set(names):
        raise ValueError(f"order={list(names)} lacks the class {min(found - set(names))!r}")
    if set(names) - found:
        raise ValueError(f"no sample has the class {min(set(names) - found)!r} of order={list(names)}")
    if len(names) < 2:
        raise ValueError(
            f"all samples are of one class, {names[0]!r}: there is nothing to learn" if names else "no samples"
        )
    if len(names) > MANY or (len(names) > 20 and len(names) > len(labels) / 2):
        raise ValueError(
            f"{len(names)} different labels for {len(labels)} samples: these are measurements, not classes"
        )
    problem = problem or ("binary" if len(names) == 2 else "multiclass")
    if problem == "binary" and len(names) != 2:
        raise ValueError(f"problem=binary, but there are {len(names)} classes: {', '.join(names[:10])}")
    return Encoding(problem, names)


def _several(
    labels: Sequence[Sequence[str]], columns: Sequence[str], problem: str | None, order: Sequence[object] | None
) -> Encoding:
    if problem not in (None, "multilabel"):
        raise ValueError(f"problem={problem} takes one column of labels, but there are {', '.join(columns)}")
    if order is not None:
        raise ValueError("order is for one column of labels; the labels of several are named by the columns")
    for column, values in zip(columns, zip(*labels, strict=True), strict=True):
        odd = next((value for value in values if plain(value) not in ("0", "1")), None)
        if odd is not None:
            raise ValueError(f"the column {column} holds {odd!r}: several columns of labels hold 0 and 1 each")
    return Encoding("multilabel", tuple(columns))


def plain(text: str) -> str:
    """A label as it is named: what a spreadsheet saves as `1.0` is `1`."""
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def _is_whole(text: str) -> bool:
    return plain(text).lstrip("-").isdigit()


def _rank(text: str) -> tuple[bool, int, str]:
    """Numbers by value and before names."""
    return (not _is_whole(text), int(text) if _is_whole(text) else 0, text)
