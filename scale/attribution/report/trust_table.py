"""The table of metrics on the page of explanations: what each map's intervals say, and no more than they say."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from scale.attribution.catalog import CONTROLS
from scale.attribution.metrics.quality import METRICS, Metric

Row = Mapping[str, Any]
Cells = Mapping[tuple[str, str], Row]


def quality_table(rows: Sequence[Row]) -> str:
    """The metrics as an HTML table: a row a method, a column a metric, the controls last; nothing without rows.

    Args:
        rows: with `method, metric, better, mean, low, high, n`, numbers or their text.
    """
    if not rows:
        return ""
    cells = {(str(row["method"]), str(row["metric"])): row for row in rows}
    names = list(dict.fromkeys(name for _, name in cells))
    found = [name for name in METRICS if name in names] + [name for name in names if name not in METRICS]
    methods = list(dict.fromkeys(method for method, _ in cells))
    methods = [m for m in methods if m not in CONTROLS] + [m for m in CONTROLS if m in methods]
    directions = {name: next(str(row["better"]) for (_, n), row in cells.items() if n == name) for name in found}
    head = "".join(_heading(name, METRICS.get(name), directions[name], cells) for name in found)
    best = {name: _best(cells, name, directions[name]) for name in found}
    body = ""
    for method in methods:
        line = "".join(
            _cell(cells.get((method, name)), cells.get(("random", name)), directions[name], method == best[name])
            for name in found
        )
        kind = ' class="control"' if method in CONTROLS else ""
        label = f"{_text(readable(method))}{' <i>control</i>' if method in CONTROLS else ''}"
        body += f'<tr{kind}><th scope="row" data-method="{_text(method)}">{label}</th>{line}</tr>\n'
    meanings = "".join(
        f'<dt>{_text(readable(name))}</dt><dd>{_text(metric.meaning)} <a href="{_text(metric.source)}">source</a></dd>'
        for name in found
        if (metric := METRICS.get(name))
    )
    return (
        '<section id="quality"><h2>How far each map can be trusted</h2>\n'
        f'<div class="scroll"><table><thead><tr><th scope="col">method</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>\n"
        '<p class="note">Mean over samples, below it the 95 % bootstrap interval over the samples of this one run; '
        "another training may rank the methods differently. Bold: best of the column, where its interval is clear of "
        "the second best's. Green: the interval lies wholly on the better side of the random map's.</p>\n"
        f"<dl>{meanings}</dl></section>"
    )


def clear_best(intervals: Mapping[str, tuple[float, float, float]], direction: str) -> str | None:
    """The method with the best mean if its interval is clear of the second's, else None.

    Args:
        intervals: by method mean, low and high.
        direction: `higher`, `lower`, or `zero`: the mean nearest to 0 is best.
    """
    known = {name: _oriented(values, direction) for name, values in intervals.items() if not math.isnan(values[0])}
    ranked = sorted(known, key=lambda name: -known[name][0])
    if len(ranked) < 2:
        return None
    first, second = known[ranked[0]], known[ranked[1]]
    return ranked[0] if first[1] > second[2] else None


def _oriented(values: tuple[float, float, float], direction: str) -> tuple[float, float, float]:
    """Mean, low and high such that more is better."""
    mean, low, high = values
    if direction == "higher":
        return mean, low, high
    if direction == "lower":
        return -mean, -high, -low
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return -abs(mean), -max(abs(low), abs(high)), -nearest


def _heading(name: str, metric: Metric | None, direction: str, cells: Cells) -> str:
    arrow = {"higher": "↑", "lower": "↓", "zero": "→ 0"}[direction]
    wish = "nearest to 0" if direction == "zero" else direction
    hint = f"{metric.meaning}; {wish} is better" if metric else f"{wish} is better"
    counts = sorted({int(row["n"]) for (_, n), row in cells.items() if n == name})
    count = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    label = f"{_text(readable(name))} <em>{arrow}</em><small>{count}</small>"
    return f'<th scope="col" title="{_text(hint)}">{label}</th>'


def _cell(row: Row | None, control: Row | None, direction: str, is_best: bool) -> str:
    if row is None or math.isnan(mean := _number(row["mean"])):
        return '<td class="none">–</td>'
    _, low, high = values = _interval(row)
    classes = ["best"] if is_best else []
    if control is not None and row["method"] not in CONTROLS:
        is_clear = _oriented(values, direction)[1] > _oriented(_interval(control), direction)[2]
        classes += ["clear"] if is_clear else []
    interval = "" if math.isnan(low) else f"<small>{_round(low)} – {_round(high)}</small>"
    return f'<td class="{" ".join(classes)}" title="n = {_text(row["n"])}">{_round(mean)}{interval}</td>'


def _best(cells: Cells, name: str, direction: str) -> str | None:
    """The method, controls aside, that is clearly the best by one metric."""
    rows = {method: row for (method, n), row in cells.items() if n == name and method not in CONTROLS}
    return clear_best({method: _interval(row) for method, row in rows.items()}, direction)


def _interval(row: Row) -> tuple[float, float, float]:
    mean, low, high = (_number(row[key]) for key in ("mean", "low", "high"))
    return mean, low, high


def readable(name: str) -> str:
    """A name as it stands on the page."""
    return name.replace("_", " ")


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _number(value: Any) -> float:
    return math.nan if value in ("", None) else float(value)


def _round(value: float) -> str:
    text = f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    return text.replace("-", "−")
