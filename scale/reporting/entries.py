"""The rows of a leaderboard: published methods, this project's own results, and runs that are verified."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import numpy as np

from scale.evaluation import delong, statistics
from scale.published.methods import Published
from scale.reporting.verified import Verified

FIGURES = ("auc", "acc")
SEEDS = 3  # fewer are no mean that is ranked
ABLATION = "an ablation"
SHOWN = 2  # changed keys in a name
RESAMPLED = "timm/"  # of models that may be given images of their own size


@dataclass(frozen=True)
class Evidence:
    """What saved predictions say beyond a number: means over the seeds.

    Attributes:
        values: each test sample's part (N,), by figure: of the AUC in its error, of the ACC the share that is right.
    """

    values: Mapping[str, np.ndarray]


@dataclass
class Entry:
    """A row: a method on a data set, with its protocol. None or an empty string where something is not known.

    Attributes:
        flag: of the data set.
        size: pixels of the side of the images.
        method: its name.
        kind: `published`, `ours` (this project's results) or `run` (a user's runs).
        auc: mean over the seeds.
        acc: mean over the seeds.
        auc_sd: standard deviation over the seeds.
        acc_sd: standard deviation over the seeds.
        auc_interval: 95 % from the test samples, of the mean over the seeds.
        acc_interval: as `auc_interval`.
        selected_on: `val`, `test` or `unknown`.
        seeds: number of trainings.
        pretrained: on what, or `no`.
        input_size: pixels of the side that the network is given.
        parameters: of the network.
        macs: multiply-adds of one sample.
        source: where it can be read, or the run folders.
        note: what a reader must know.
        reason: why it is not ranked; empty for a ranked one.
        rank_auc: among the ranked ones of its data set and size.
        rank_acc: as `rank_auc`.
        beside_auc: how it stands to the best by AUC, a word of `leaderboard.BESIDE`.
        beside_acc: as `beside_auc`, by ACC.
        p_auc: of the paired test against the best.
        p_acc: of the paired test against the best.
        evidence: from saved predictions.
        runs: the runs it is a mean of.
    """

    flag: str
    size: int | None
    method: str
    kind: Literal["published", "ours", "run"]
    auc: float | None
    acc: float | None
    auc_sd: float | None = None
    acc_sd: float | None = None
    auc_interval: tuple[float, float] | None = None
    acc_interval: tuple[float, float] | None = None
    selected_on: str = "unknown"
    seeds: int | None = None
    pretrained: str = ""
    input_size: int | None = None
    parameters: int | None = None
    macs: int | None = None
    source: str = ""
    note: str = ""
    reason: str = ""
    rank_auc: int | None = None
    rank_acc: int | None = None
    beside_auc: str = ""
    beside_acc: str = ""
    p_auc: float | None = None
    p_acc: float | None = None
    evidence: Evidence | None = field(default=None, repr=False)
    runs: Sequence[Verified] = ()


def of_published(rows: Iterable[Published]) -> list[Entry]:
    """A row each."""
    notes = {"recalled": "not checked against a copy of the paper", "second_hand": "quoted by others"}
    shared = ("flag", "size", "method", "auc", "acc", "auc_sd", "acc_sd", "selected_on", "seeds", "pretrained")
    return [
        Entry(
            kind="published",
            note=notes.get(row.checked, ""),
            **{name: getattr(row, name) for name in (*shared, "input_size", "parameters", "macs", "source")},
        )
        for row in rows
    ]


def of_ours(rows: Iterable[Mapping[str, str]], ablations: Sequence[str]) -> list[Entry]:
    """A row for all seeds of a model and variant of this project's results (`scale.csv`).

    Args:
        rows: from the file, a row a run.
        ablations: variants that are compared in a table of their own and not ranked here: the best of many variants
            would be chosen on test.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        groups[row["flag"], row["size"], row["model"], row["variant"]].append(row)
    found = []
    for (flag, size, model, variant), members in groups.items():
        values = {name: [float(row[name]) for row in members if row[name]] for name in FIGURES}
        spread = {name: statistics.summarise(values[name]) for name in FIGURES if len(values[name]) == len(members)}
        found.append(
            Entry(
                flag=flag,
                size=int(size),
                method=_name(model, variant),
                kind="ours",
                **_figures(spread),
                selected_on="val",
                seeds=len(members),
                pretrained="yes" if any(row["pretrained"] == "yes" for row in members) else members[0]["pretrained"],
                input_size=None if model.startswith(RESAMPLED) else int(size),
                parameters=int(members[0]["parameters"]),
                macs=int(members[0]["macs"]),
                source=f"this project, commit {', '.join(sorted({row['commit'] for row in members}))}",
                reason=ABLATION if variant in ablations else "",
            )
        )
    return found


def of_runs(found: Sequence[Verified], ablations: Sequence[str]) -> list[Entry]:
    """A row for all seeds of a model and recipe, with intervals from the predictions.

    Args:
        found: verified runs that go together (`verified.together`).
        ablations: as in `of_ours`.
    """
    named = defaultdict(list)
    for run in found:
        named[run.metrics["flag"], run.metrics["size"], run.metrics["model"]["name"], _variant(run)].append(run)
    entries = []
    for (flag, size, model, variant), alike in named.items():
        by_recipe = sorted(alike, key=_recipe)
        for _, members in groupby(by_recipe, key=_recipe):
            runs = sorted(members, key=lambda run: run.metrics["seed"])
            entry = _of_group(flag, size, _name(model, variant, *_told_apart(runs[0], alike)), runs)
            entry.reason = ABLATION if variant in ablations else ""
            entries.append(entry)
    return entries


def right(run: Verified) -> np.ndarray:
    """Share of each test sample (N,) that is right: 0 or 1, for multilabel the share of its labels."""
    value, parts = statistics.accuracy_parts(run.labels, run.probabilities, run.metrics["problem"])
    n = len(parts)
    return value + parts * n / np.sqrt(n / max(n - 1, 1))


def _of_group(flag: str, size: int, method: str, runs: Sequence[Verified]) -> Entry:
    parts = {
        "auc": [delong.auc_parts(run.labels, run.probabilities, run.metrics["problem"]) for run in runs],
        "acc": [statistics.accuracy_parts(run.labels, run.probabilities, run.metrics["problem"]) for run in runs],
    }
    spread = {
        name: statistics.spread([value for value, _ in parts[name]], [part for _, part in parts[name]])
        for name in FIGURES
    }
    metrics = runs[0].metrics
    model = metrics["model"]["name"]
    evidence = {
        "auc": np.mean([part for _, part in parts["auc"]], axis=0),
        "acc": np.mean([right(run) for run in runs], axis=0),
    }
    return Entry(
        flag=flag,
        size=size,
        method=method,
        kind="run",
        **_figures({name: statistics.Summary(found.mean, found.seeds, found.n) for name, found in spread.items()}),
        auc_interval=_defined(spread["auc"]),
        acc_interval=_defined(spread["acc"]),
        selected_on="val",
        seeds=len(runs),
        pretrained="yes" if any(run.pretrained == "yes" for run in runs) else "no",
        input_size=runs[0].values.get("model.image_size") or (None if model.startswith(RESAMPLED) else size),
        parameters=metrics["model"]["parameters"],
        macs=metrics["model"]["macs"],
        source=", ".join(str(run.folder) for run in runs),
        note=_note(runs),
        evidence=Evidence(evidence),
        runs=runs,
    )


def _figures(spread: Mapping[str, statistics.Summary]) -> dict[str, Any]:
    found: dict[str, Any] = {"auc": None, "acc": None}
    for name, of in spread.items():
        found |= {name: of.mean, f"{name}_sd": of.sd if np.isfinite(of.sd) else None}
    return found


def _defined(spread: statistics.Spread) -> tuple[float, float] | None:
    low, high = delong.interval(spread.mean, spread.samples)
    return (low, high) if np.isfinite(low) else None


def _note(runs: Sequence[Verified]) -> str:
    kinds = {str(run.metrics.get("hardware", "")).partition(", ")[2] for run in runs}
    seeds = "seeds " + ", ".join(str(run.metrics["seed"]) for run in runs)
    return seeds + (f"; on different processors: {', '.join(sorted(kinds))}" if len(kinds) > 1 else "")


def _variant(run: Verified) -> str:
    return str(run.metrics.get("variant", ""))


def _recipe(run: Verified) -> str:
    return repr(sorted(run.values.items()))


def _told_apart(run: Verified, alike: Sequence[Verified]) -> list[str]:
    """How a recipe differs from others under the same name, all of it, and from the default, where that is short."""
    varied = [
        key for key in run.values if any(other.values.get(key, run.values[key]) != run.values[key] for other in alike)
    ]
    apart = [f"{key}={run.values[key]}" for key in varied]
    told = [text for change in run.changes if (text := change.rpartition(" (")[0]) not in apart]
    room = max(0, SHOWN - len(apart))
    more = len(told) - room
    return [*apart, *told[:room], *([f"and {more} more change{'s' * (more > 1)}"] if more > 0 else [])]


def _name(model: str, *parts: str) -> str:
    return ", ".join(part for part in (model, *parts) if part)
