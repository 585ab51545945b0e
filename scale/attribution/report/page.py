"""The page of a run's explanations: one HTML file that needs no network, with a viewer and the table of measures."""

import base64
import html
import json
import logging
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from scale.attribution.catalog import CONTROLS
from scale.attribution.metrics.quality import MEASURES, Measure
from scale.attribution.report.colours import colour_map, is_signed, limit, window
from scale.attribution.report.figures import AXES, PLANES, peak
from scale.utils.files import replacing

log = logging.getLogger(__name__)

LARGE = 64 << 20  # bytes beyond which a browser takes seconds to open the page


@dataclass(frozen=True)
class Sample:
    """What the viewer shows of one sample.

    Attributes:
        title: such as `figures.sample_title` gives.
        image: uint8 (H, W), (H, W, 3) or (D, H, W); a volume is told by the maps' three axes.
        maps: by method, (H, W) or (D, H, W); kept to 1 part in 127 of the range that the colours show.
        mask: outlined, shape of a map; may be None.
        facts: shown beside the title, such as the sample's index.
        signed: of each map by name; where it is not said, a map with a negative value is signed.
    """

    title: str
    image: np.ndarray
    maps: Mapping[str, np.ndarray]
    mask: np.ndarray | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    signed: Mapping[str, bool] = field(default_factory=dict)


def write_page(
    path: str | Path,
    *,
    samples: Sequence[Sample],
    quality_rows: Sequence[Mapping[str, Any]],
    header: Mapping[str, str],
    title: str = "Explanations",
    first: str | None = None,
) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: HTML file to write.
        samples: in the order of the list; at least one.
        quality_rows: with `method, measure, better, mean, low, high, n`, numbers or their text; may be empty.
        header: facts on the run, shown under the title.
        title: of the page.
        first: method that is shown when the page opens; the first one if None.

    Raises:
        ValueError: no samples, an image that is not uint8, shapes that do not fit, a map with NaN.
    """
    if not samples:
        raise ValueError("a page needs at least one sample")
    data = {
        "axes": AXES,
        "planes": PLANES,
        "controls": CONTROLS,
        "first": first,
        "colours": {name: _lut(name == "signed") for name in ("signed", "unsigned")},
        "samples": [_sample(sample) for sample in samples],
    }
    facts = "".join(f"<span><b>{_text(key)}</b> {_text(value)}</span>" for key, value in header.items())
    parts = {
        "title": _text(title),
        "facts": facts,
        "quality": quality_table(quality_rows),
        # the script element ends at the first "</"
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = resources.files(__package__).joinpath("viewer.html").read_text(encoding="utf-8")
    content = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template).encode()
    if len(content) > LARGE:
        log.warning("%s has %d MB: fewer samples or methods make it open faster", path, len(content) >> 20)
    with replacing(Path(path)) as file:
        file.write(content)


def quality_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The measures as an HTML table: a row a method, a column a measure, the controls last; nothing without rows."""
    if not rows:
        return ""
    cells = {(str(row["method"]), str(row["measure"])): row for row in rows}
    names = list(dict.fromkeys(name for _, name in cells))
    found = [name for name in MEASURES if name in names] + [name for name in names if name not in MEASURES]
    methods = list(dict.fromkeys(method for method, _ in cells))
    methods = [m for m in methods if m not in CONTROLS] + [m for m in CONTROLS if m in methods]
    directions = {name: next(str(row["better"]) for (_, n), row in cells.items() if n == name) for name in found}
    head = "".join(_heading(name, MEASURES.get(name), directions[name]) for name in found)
    best = {name: _best(cells, name, directions[name]) for name in found}
    body = ""
    for method in methods:
        line = "".join(
            _cell(cells.get((method, name)), cells.get(("random", name)), directions[name], method in best[name])
            for name in found
        )
        kind = ' class="control"' if method in CONTROLS else ""
        label = f"{_text(_readable(method))}{' <i>control</i>' if method in CONTROLS else ''}"
        body += f'<tr{kind}><th scope="row" data-method="{_text(method)}">{label}</th>{line}</tr>\n'
    meanings = "".join(
        f"<dt>{_text(_readable(name))}</dt>"
        f'<dd>{_text(measure.meaning)} <a href="{_text(measure.source)}">source</a></dd>'
        for name in found
        if (measure := MEASURES.get(name))
    )
    return (
        '<section id="quality"><h2>How far each map can be trusted</h2>\n'
        f'<div class="scroll"><table><thead><tr><th scope="col">method</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>\n"
        '<p class="note">Mean over samples, below it the 95 % bootstrap interval. Bold: best of the column. '
        "Green: the interval lies wholly on the better side of the random map's.</p>\n"
        f"<dl>{meanings}</dl></section>"
    )


def _heading(name: str, measure: Measure | None, direction: str) -> str:
    arrow = {"higher": "↑", "lower": "↓"}[direction]
    hint = f"{measure.meaning}; {direction} is better" if measure else f"{direction} is better"
    return f'<th scope="col" title="{_text(hint)}">{_text(_readable(name))} <em>{arrow}</em></th>'


def _cell(row: Mapping[str, Any] | None, control: Mapping[str, Any] | None, direction: str, is_best: bool) -> str:
    if row is None or math.isnan(mean := _number(row["mean"])):
        return '<td class="none">–</td>'
    low, high = _number(row["low"]), _number(row["high"])
    classes = ["best"] if is_best else []
    if control is not None and row["method"] not in CONTROLS:
        clear = low > _number(control["high"]) if direction == "higher" else high < _number(control["low"])
        classes += ["clear"] if clear else []
    interval = "" if math.isnan(low) else f"<small>{_round(low)} – {_round(high)}</small>"
    return f'<td class="{" ".join(classes)}" title="n = {_text(row["n"])}">{_round(mean)}{interval}</td>'


def _best(cells: Mapping[tuple[str, str], Mapping[str, Any]], name: str, direction: str) -> set[str]:
    """Methods, controls aside, with the best mean of one measure."""
    means = {m: _number(row["mean"]) for (m, n), row in cells.items() if n == name and m not in CONTROLS}
    means = {method: mean for method, mean in means.items() if not math.isnan(mean)}
    top = (max if direction == "higher" else min)(means.values(), default=math.nan)
    return {method for method, mean in means.items() if mean == top}


def _sample(sample: Sample) -> dict[str, Any]:
    image = np.ascontiguousarray(sample.image)
    shape = next(iter(sample.maps.values())).shape if sample.maps else image.shape[:2]
    if image.dtype != np.uint8 or len(shape) not in (2, 3) or image.shape[len(shape) :] not in ((), (3,)):
        raise ValueError(f"a page shows uint8 images (H, W), (H, W, 3) or (D, H, W), not {image.dtype} {image.shape}")
    for name, values in [*sample.maps.items(), *([("mask", sample.mask)] if sample.mask is not None else [])]:
        if values.shape != shape or image.shape[: len(shape)] != shape:
            raise ValueError(f"{name} {values.shape} does not fit the image {image.shape}")
    return {
        "title": sample.title,
        "facts": [[key, str(value)] for key, value in sample.facts.items()],
        "shape": shape,
        "channels": 3 if image.ndim > len(shape) else 1,
        "window": window(image),
        "image": _packed(image),
        "mask": None if sample.mask is None else _packed((sample.mask != 0).astype(np.uint8)),
        "maps": [_map(name, values, sample.signed.get(name)) for name, values in sample.maps.items()],
    }


def _map(name: str, values: np.ndarray, signed: bool | None) -> dict[str, Any]:
    signed = is_signed(values) if signed is None else signed
    largest = limit(values)
    levels = np.clip(values / largest, -1 if signed else 0, 1)
    # a byte of value 127 + level is read in the same way for both kinds
    packed = _packed((127 + np.round(127 * levels)).astype(np.uint8))
    return {
        "name": name,
        "label": _readable(name),
        "signed": signed,
        "limit": largest,
        "peak": peak(values),
        "data": packed,
    }


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 6)).decode("ascii")


def _lut(signed: bool) -> list[list[int]]:
    """Colours (255, 3) of the levels -127 to 127 of a signed map, or 0 to 127, in half steps, of another."""
    colours = colour_map(signed)(np.linspace(0, 1, 255))[:, :3]
    return [[int(c) for c in row] for row in np.round(255 * colours)]


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _number(value: Any) -> float:
    return math.nan if value in ("", None) else float(value)


def _round(value: float) -> str:
    text = f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
    return text.replace("-", "−")
