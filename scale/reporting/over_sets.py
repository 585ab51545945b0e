"""Methods over many data sets: average ranks, Friedman's and Nemenyi's tests, and the critical-difference diagram."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from scale.data.catalog import title
from scale.evaluation import statistics
from scale.reporting.entries import FIGURES, Entry
from scale.reporting.leaderboard import Section

SETS, METHODS = 3, 3  # fewer cannot be told apart by ranks
DIGITS = 3  # as in the tables: what is equal there is a tie
TITLES = {"auc": "AUC", "acc": "ACC"}


@dataclass(frozen=True)
class Block:
    """Methods that are all ranked on the same data sets of one size.

    Attributes:
        size: of the images.
        flags: of the data sets.
        methods: names.
        values: by figure of `FIGURES`, (data sets, methods).
    """

    size: int
    flags: Sequence[str]
    methods: Sequence[str]
    values: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """How many methods, on which data sets."""
        return f"{len(self.methods)} methods on {', '.join(map(title, self.flags))}, {self.size} pixels"

    def ranks(self, figure: str) -> statistics.Ranks:
        """Average ranks and their tests (Demšar 2006, jmlr.org/papers/v7/demsar06a.html)."""
        return statistics.ranks(self.values[figure])


def blocks(sections: Iterable[Section]) -> list[Block]:
    """The largest complete comparisons: no method and no data set can be added to one without leaving another out.

    Only ranked rows count, of which both figures are known.
    """
    known: dict[int, list[Entry]] = defaultdict(list)
    for section in sections:
        if section.size:
            known[section.size] += [entry for entry in section.ranked if None not in (entry.auc, entry.acc)]
    return [block for size in sorted(known) for block in _largest(size, _by_method(known[size]))]


def _by_method(known: Sequence[Entry]) -> dict[str, dict[str, Entry]]:
    """Entries by the name of their method and by flag; methods of one name are told apart."""
    alike: dict[str, list[Entry]] = defaultdict(list)
    for entry in known:
        alike[_name(entry)].append(entry)
    found: dict[str, dict[str, Entry]] = {}
    for base, entries in alike.items():
        parts = [{_whose(entry) for entry in entries}, {_weights(entry) for entry in entries}]
        for entry in entries:
            own = [text for text, among in zip((_whose(entry), _weights(entry)), parts, strict=True) if len(among) > 1]
            name = ", ".join([base, *own])
            if entry.flag in found.get(name, {}):
                name = f"{name} ({entry.source})"
            found.setdefault(name, {})[entry.flag] = entry
    return found


def _largest(size: int, methods: dict[str, dict[str, Entry]]) -> list[Block]:
    covered = list(dict.fromkeys(frozenset(found) for found in methods.values()))
    candidates = dict.fromkeys(one & other for one, other in combinations_with_replacement(covered, 2))
    found = {flags: [name for name in methods if flags <= set(methods[name])] for flags in candidates}
    large = {flags: names for flags, names in found.items() if len(flags) >= SETS and len(names) >= METHODS}
    chosen = [
        (flags, names)
        for flags, names in large.items()
        if not any(flags < others and set(names) <= set(more) for others, more in large.items())
    ]
    result = []
    for flags, names in sorted(chosen, key=lambda pair: (-len(pair[0]), -len(pair[1]))):
        ordered = [flag for flag in dict.fromkeys(flag for name in names for flag in methods[name]) if flag in flags]
        values = {
            figure: np.array(
                [[round(getattr(methods[name][flag], figure), DIGITS) for name in names] for flag in ordered]
            )
            for figure in FIGURES
        }
        result.append(Block(size, ordered, names, values))
    return result


def _name(entry: Entry) -> str:
    given = f", {entry.input_size} px" if entry.input_size and entry.input_size != entry.size else ""
    return entry.method + given


def _whose(entry: Entry) -> str:
    return {"published": "published", "ours": "this project", "run": "your runs"}[entry.kind]


def _weights(entry: Entry) -> str:
    return "from scratch" if entry.pretrained in ("", "no") else "pre-trained"
