"""The leaderboard as one HTML page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scale.data import catalog
from scale.data.catalog import title
from scale.evaluation import run_figures as ranking_figures
from scale.reporting import over_sets, run_figures
from scale.reporting.entries import FIGURES, Entry
from scale.reporting.leaderboard import BESIDE, Section
from scale.reporting.leaderboard_files import MARK_NOTE, MARKS, RULE, SOURCES, figure, limits, source
from scale.reporting.page import png, render
from scale.reporting.verified import Gap, Verified

COLUMNS = (  # key of the values that are sorted, head, whether numbers
    ("title", "data set", False),
    ("size", "size", True),
    ("method", "method", False),
    ("auc", "AUC", True),
    ("acc", "ACC", True),
    ("rank_auc", "rank, AUC", True),
    ("rank_acc", "rank, ACC", True),
    ("selected_on", "selected on", False),
    ("seeds", "seeds", True),
    ("pretrained", "pre-trained", False),
    ("input_size", "input", True),
    ("parameters", "M params", True),
    ("macs", "G MACs", True),
    ("source", "source", False),
    ("reason", "notes", False),
)
SORTED = (
    *("flag", "size", "method", "kind", "selected_on", "seeds", "pretrained", "input_size", "parameters", "macs"),
    *("rank_auc", "rank_acc", "reason", "auc", "acc", "auc_interval", "acc_interval"),
)
KINDS = (("published", "published"), ("ours", "this project"), ("run", "your runs"))
STYLES = {"published": "published", "ours": "ours", "run": "own"}
DPI = 90  # of the figures behind a row


def page(found: Sequence[Section], gaps: Iterable[Gap], *, command: str) -> str:
    """The HTML text.

    Args:
        found: from `leaderboard.sections`.
        gaps: runs that are not in the tables.
        command: that made it, as it is shown at the foot.
    """
    entries = [entry for section in found for entry in (*section.ranked, *section.others)]
    first = next((entry for entry in entries if entry.kind == "run"), entries[0] if entries else None)
    sizes = {entry.size for entry in entries}
    return render(
        "leaderboard.html",
        rule=RULE,
        marks=MARK_NOTE,
        sources=SOURCES,
        flags=[(flag, title(flag)) for flag in dict.fromkeys(section.flag for section in found)],
        sizes=[*sorted(size for size in sizes if size), *(["unknown"] if None in sizes else [])],
        kinds=[(kind, name) for kind, name in KINDS if any(entry.kind == kind for entry in entries)],
        columns=COLUMNS,
        rows=[_row(entry) for entry in entries],
        over=[_over(block) for block in over_sets.blocks(found)],
        gaps=[{"folder": str(gap.folder), "reason": gap.reason} for gap in gaps],
        first=(first.flag, str(first.size or "unknown")) if first else ("", ""),
        command=command,
    )


def _row(entry: Entry) -> dict[str, Any]:
    data = {name: getattr(entry, name) for name in SORTED}
    return {
        "data": {**data, "ranked": not entry.reason, "title": title(entry.flag), "source": source(entry)},
        "style": STYLES[entry.kind] + " unranked" * bool(entry.reason),
        "title": title(entry.flag),
        "size": entry.size or "unknown",
        "method": entry.method,
        "figure": {name: figure(entry, name) for name in FIGURES},
        "limits": {name: limits(entry, name) for name in FIGURES},
        "beside": {name: getattr(entry, f"beside_{name}") for name in FIGURES},
        "mark": {name: MARKS.get(getattr(entry, f"beside_{name}"), "") for name in FIGURES},
        "told": {name: _told(entry, name) for name in FIGURES},
        "parameters": f"{entry.parameters / 1e6:.2f}" if entry.parameters else "",
        "macs": f"{entry.macs / 1e9:.3f}" if entry.macs else "",
        "source": source(entry),
        "address": entry.source,
        "remark": "; ".join(filter(None, (entry.reason, entry.note))),
        "details": [_details(run) for run in entry.runs],
    }


def _over(block: over_sets.Block) -> dict[str, Any]:
    """Critical-difference diagrams of methods over data sets."""
    drawn = {
        text: png(ranking_figures.critical_difference(block.methods, block.ranks(name)), dpi=DPI)
        for name, text in over_sets.TITLES.items()
    }
    return {"name": block.name, "images": drawn}


def _told(entry: Entry, name: str) -> str:
    p_value = getattr(entry, f"p_{name}")
    return BESIDE.get(getattr(entry, f"beside_{name}"), "") + (f" (p = {p_value:.3f})" if p_value is not None else "")


def _details(run: Verified) -> dict[str, Any]:
    """What is behind a row: each run with its figures, drawn from its predictions."""
    metrics = run.metrics
    arrays = {"labels": run.labels, "probabilities": run.probabilities}
    drawn = run_figures.draw(metrics, arrays, run.history, _classes(metrics), title=title(metrics["flag"]))
    images = [(name.replace("_", " "), png(drawing, dpi=DPI)) for name, drawing in drawn.items()]
    text = f"test AUC {metrics['test']['auc']:.4f}, ACC {metrics['test']['acc']:.4f}; {run.folder}"
    if run.changes:
        text += "; recipe changed (in brackets the default): " + ", ".join(run.changes)
    return {"name": f"{metrics['model']['name']}, seed {metrics['seed']}", "text": text, "images": images}


def _classes(metrics: Mapping[str, Any]) -> list[str]:
    flag, named = metrics["flag"], metrics.get("per_class", {}).get("names")
    if named:
        return list(named)
    return (
        list(catalog.get(flag).labels)
        if flag in catalog.FLAGS
        else [f"class {c}" for c in range(metrics["num_classes"])]
    )
