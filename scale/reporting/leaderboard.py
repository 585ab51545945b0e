"""Who is ranked, where, and who cannot be told from the best."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scale.data import catalog
from scale.data.catalog import title
from scale.evaluation import delong, statistics
from scale.reporting.entries import FIGURES, SEEDS, Entry

LEVEL = 0.05
BESIDE = {
    "best": "the best of the ranked ones",
    "same": "not distinguishable from the best: paired test on the test samples, p >= .05 after Holm's adjustment",
    "apart": "distinguishable from the best: paired test, p < .05 after Holm's adjustment",
    "inside": "the best has no predictions to test against; its figure is inside this row's 95 % interval",
    "outside": "the best has no predictions to test against; its figure is outside this row's 95 % interval",
    "untested": "no predictions, so that nothing can be tested",
}


@dataclass(frozen=True)
class Section:
    """A data set in one size: the ranked rows, best first, and the others, each with its reason."""

    flag: str
    size: int | None
    ranked: Sequence[Entry]
    others: Sequence[Entry]

    @property
    def name(self) -> str:
        """Title and size."""
        return f"{title(self.flag)}, {f'images of {self.size} pixels' if self.size else 'size of the images not known'}"


def sections(entries: Iterable[Entry]) -> list[Section]:
    """Entries by data set and size in the catalog's order, ranked and compared with the best.

    A row is ranked when its model was selected on val and its figures are means of at least three seeds.
    """
    places: dict[tuple[str, int | None], list[Entry]] = {}
    for entry in entries:
        entry.reason = entry.reason or not_ranked(entry)
        places.setdefault((entry.flag, entry.size), []).append(entry)
    found = []
    for flag, size in sorted(places, key=_place):
        members = places[flag, size]
        ranked = [entry for entry in members if not entry.reason]
        for name in FIGURES:
            _rank(ranked, name)
            _compare(ranked, name)
        others = [entry for entry in members if entry.reason]
        found.append(
            Section(flag, size, sorted(ranked, key=_by("auc")), sorted(others, key=lambda e: (e.reason, _by("auc")(e))))
        )
    return found


def not_ranked(entry: Entry) -> str:
    """Why a row is not ranked; empty if it is."""
    reasons = []
    if entry.selected_on != "val":
        reasons.append("selected on test" if entry.selected_on == "test" else "not known what it was selected on")
    if entry.seeds is None:
        reasons.append("number of seeds not known")
    elif entry.seeds < SEEDS:
        reasons.append(f"{entry.seeds} seed{'s' * (entry.seeds > 1)}, {SEEDS} needed")
    if entry.auc is None and entry.acc is None:
        reasons.append("AUC and ACC undefined in some run")
    return "; ".join(reasons)


def _rank(ranked: Sequence[Entry], name: str) -> None:
    """Equal figures, to three decimals as they are published, share the better rank."""
    values = [_rounded(entry, name) for entry in ranked]
    for entry, value in zip(ranked, values, strict=True):
        if value is not None:
            setattr(entry, f"rank_{name}", 1 + sum(other > value for other in values if other is not None))


def _compare(ranked: Sequence[Entry], name: str) -> None:
    known = [entry for entry in ranked if getattr(entry, name) is not None]
    if not known:
        return
    best = max(known, key=lambda entry: (_rounded(entry, name) or 0.0, entry.evidence is not None))
    for entry in known:
        setattr(entry, f"beside_{name}", "best" if entry is best else _untested(entry, best, name))
    tested = [entry for entry in known if entry is not best and entry.evidence and best.evidence]
    for entry, p_value in zip(tested, statistics.holm([_test(entry, best, name) for entry in tested]), strict=True):
        if math.isfinite(p_value):
            setattr(entry, f"p_{name}", p_value)
            setattr(entry, f"beside_{name}", "same" if p_value >= LEVEL else "apart")


def _untested(entry: Entry, best: Entry, name: str) -> str:
    """How a row stands to the best where there is no paired test."""
    interval = getattr(entry, f"{name}_interval")
    if interval is None or best.evidence is not None:
        return "untested"
    return "inside" if interval[0] <= getattr(best, name) <= interval[1] else "outside"


def _test(entry: Entry, best: Entry, name: str) -> float:
    """P-value of the paired test on the test samples, of means over the seeds."""
    assert entry.evidence is not None
    assert best.evidence is not None
    mine, others = entry.evidence.values[name], best.evidence.values[name]
    if name == "auc":
        return delong.compare_parts(getattr(entry, name), mine, getattr(best, name), others).p_value
    return statistics.permutation_test(mine, others)


def _rounded(entry: Entry, name: str) -> float | None:
    value = getattr(entry, name)
    return None if value is None else round(value, 3)


def _by(name: str) -> Callable[[Entry], tuple[float, str]]:
    return lambda entry: (-(getattr(entry, name) if getattr(entry, name) is not None else -1), entry.method)


def _place(place: tuple[str, int | None]) -> tuple[int, str, int]:
    flag, size = place
    number = catalog.FLAGS.index(flag) if flag in catalog.FLAGS else len(catalog.FLAGS)
    return number, flag, size or 1 << 30
