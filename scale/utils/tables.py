"""Markdown tables, and a mean with its spread, as all reports print them."""

import math
import statistics
from collections.abc import Iterable, Sequence


def markdown(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. What a cell says may come from a file: it stays in its cell, and is no HTML."""
    lines = [[_cell(cell) for cell in cells] for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: object) -> str:
    text = " ".join(str(value).split("\n"))
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|")):
        text = text.replace(sign, instead)
    return text


def spread(values: Iterable[float | None], *, sign: str = "", digits: int = 3) -> str:
    """`mean ± standard deviation` (n - 1) of the values that are known; the mean alone for one, empty for none.

    Args:
        values: numbers; None and NaN are unknown.
        sign: `+` shows the sign of the mean.
        digits: after the point.
    """
    known = [float(value) for value in values if value is not None and not math.isnan(value)]
    if not known:
        return ""
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):{sign}.{digits}f}{deviation}"
