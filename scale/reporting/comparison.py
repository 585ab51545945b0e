"""`sweep.html`: runs set beside one another, by data set and setting, with both kinds of spread and paired tests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scale import runs
from scale.evaluation import delong, statistics
from scale.reporting.page import png, render
from scale.reporting.refresh import positive_class
from scale.runs.sets import refuse_joint
from scale.utils.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "sweep.html"
SCORES = {"auc": "AUC", "acc": "ACC"}
LEVEL = 0.05  # of the paired tests, after Holm's adjustment


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed only.

    Attributes:
        data: what they were trained on, in words; settings with the same words are compared.
        name: model and what was varied.
        folders: of the finished runs.
    """

    data: str
    name: str
    folders: Sequence[Path]


@dataclass(frozen=True)
class _Seed:
    folder: Path
    number: int
    values: dict[str, float]
    parts: dict[str, np.ndarray]  # each test sample's part in a score's error
    labels: np.ndarray
    positive: str  # the positive class, of a binary problem
    history: list[dict[str, float]]


def write(path: Path, settings: Sequence[Setting], *, title: str) -> list[str]:
    """Writes the page, whole or not at all.

    Args:
        path: of the page; the runs' own reports are linked from it.
        settings: what to compare.
        title: of the page.

    Returns:
        What was left out, and why: runs that saw a part of their splits, were not tested, or have other labels.
    """
    read: dict[str, dict[str, list[_Seed]]] = {}
    gaps: list[str] = []
    for setting in settings:
        for folder in setting.folders:
            others = read.setdefault(setting.data, {})
            try:
                found = _read(folder)
                _check_labels(found, [seed for seeds in others.values() for seed in seeds])
            except (ValueError, OSError) as error:
                gaps.append(str(error))
                continue
            others.setdefault(setting.name, []).append(found)
    tables = [_table(data, found, path.parent) for data, found in read.items() if found]
    ranked = _ranks(read)
    write_text(path, render("sweep.html", title=title, tables=tables, gaps=gaps, ranks=ranked, level=LEVEL))
    return gaps


def _read(folder: Path) -> _Seed:
    """A finished run.

    Raises:
        ValueError: it is no result.
    """
    record = runs.read_metrics(folder)
    refuse_joint(folder, record)
    runs.check_whole(record, folder)
    arrays = runs.read_predictions(folder).get("test")
    if arrays is None:
        raise ValueError(f"{folder} has no predictions of the test split (trained with test=false?)")
    scored = (arrays["labels"], arrays["probabilities"], record["problem"])
    (auc, of_auc), (acc, of_acc) = delong.auc_parts(*scored), statistics.accuracy_parts(*scored)
    history = runs.read_history(folder)
    values, parts = {"auc": auc, "acc": acc}, {"auc": of_auc, "acc": of_acc}
    return _Seed(folder, record["seed"], values, parts, arrays["labels"], positive_class(record), history)


def _check_labels(found: _Seed, others: Sequence[_Seed]) -> None:
    if others and not np.array_equal(found.labels, others[0].labels):
        raise ValueError(
            f"{found.folder}: its test labels are not those of {others[0].folder}: other data under the same name?"
        )


def _table(data: str, settings: Mapping[str, Sequence[_Seed]], root: Path) -> dict[str, Any]:
    """A data set's rows and figures."""
    from scale.evaluation import run_figures

    rows: list[dict[str, Any]] = []
    for name, seeds in settings.items():
        row: dict[str, Any] = {"name": name, "n": len(seeds)}
        row["runs"] = [{"seed": seed.number, "link": _link(seed.folder, root)} for seed in seeds]
        for score in SCORES:
            row[score] = statistics.spread([s.values[score] for s in seeds], [s.parts[score] for s in seeds])
        rows.append(row)
    for score in SCORES:
        _against_best(rows, list(settings.values()), score)
    values = {
        f"test {text}": {name: [seed.values[score] for seed in seeds] for name, seeds in settings.items()}
        for score, text in SCORES.items()
    }
    curves = {name: [seed.history for seed in seeds] for name, seeds in settings.items()}
    pictures = {"strip": png(run_figures.strip(values)), "curves": png(run_figures.overlaid(curves))}
    first = next(iter(settings.values()))[0]
    facts = {"samples": len(first.labels), "positive": first.positive}
    return {"data": data, "rows": rows, "figures": pictures, **facts}


def _against_best(rows: Sequence[dict[str, Any]], seeds: Sequence[Sequence[_Seed]], score: str) -> None:
    """Adds to each row the p-value of its difference from the best mean, adjusted for the number of rows."""
    means = [row[score].mean for row in rows]
    parts = [np.mean([seed.parts[score] for seed in found], axis=0) for found in seeds]
    best = max(range(len(rows)), key=lambda i: -math.inf if math.isnan(means[i]) else means[i])
    tests = [delong.compare_parts(means[best], parts[best], means[i], parts[i]).p_value for i in range(len(rows))]
    adjusted = statistics.holm([p for i, p in enumerate(tests) if i != best])
    adjusted.insert(best, math.nan)
    for i, row in enumerate(rows):
        row[f"{score}_p"], row[f"{score}_best"] = adjusted[i], i == best and math.isfinite(means[i])


def _ranks(read: Mapping[str, Mapping[str, Sequence[_Seed]]]) -> dict[str, Any] | None:
    """Average ranks over the data sets on which every setting has runs; None for fewer than 2 sets or 3 settings."""
    from scale.evaluation import run_figures

    names = list(dict.fromkeys(name for settings in read.values() for name in settings))
    complete = [settings for settings in read.values() if all(name in settings for name in names)]
    if len(complete) < 2 or len(names) < 3:
        return None
    found: dict[str, Any] = {"sets": len(complete), "of": len(read), "figures": {}}
    for score, text in SCORES.items():
        means = np.array(
            [[np.mean([s.values[score] for s in settings[name]]) for name in names] for settings in complete]
        )
        if np.isfinite(means).all():
            drawn: Figure = run_figures.critical_difference(names, statistics.ranks(means))
            found["figures"][text] = png(drawn)
    return found


def _link(folder: Path, root: Path) -> str:
    """A relative address of a run's report, from the page's folder; empty where there is none."""
    page = folder / "report.html"
    return page.relative_to(root).as_posix() if page.is_file() and page.is_relative_to(root) else ""
