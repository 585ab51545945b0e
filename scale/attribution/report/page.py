"""The page of a run's explanations: one HTML file that needs no network, with a viewer and the table of metrics."""

import base64
import html
import json
import logging
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from scale.attribution.catalog import CONTROLS
from scale.attribution.report.colours import colour_map, is_signed, limit, window
from scale.attribution.report.figures import AXES, peak
from scale.attribution.report.trust_table import quality_table, readable
from scale.data.orientation import SPL, planes
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
        warning: what a reader must know before a map is believed; shown above the map.
    """

    title: str
    image: np.ndarray
    maps: Mapping[str, np.ndarray]
    mask: np.ndarray | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    signed: Mapping[str, bool] = field(default_factory=dict)
    warning: str = ""


def write_page(
    path: str | Path,
    *,
    samples: Sequence[Sample | Mapping[str, Any]],
    quality_rows: Sequence[Mapping[str, Any]],
    header: Mapping[str, str],
    title: str = "Explanations",
    first: str | None = None,
    pages: Mapping[str, str] | None = None,
    orientation: str = SPL,
) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: HTML file to write.
        samples: in the order of the list, or what `entry` made of them; at least one.
        quality_rows: with `method, metric, better, mean, low, high, n`, numbers or their text; may be empty.
        header: facts on the run, shown under the title.
        title: of the page.
        first: method that is shown when the page opens; the first one if None.
        pages: text and address of pages beside this one; without an address it is this one.
        orientation: where the axes of volumes point to, which names their planes.

    Raises:
        ValueError: no samples, an image that is not uint8, shapes that do not fit, a map with NaN.
    """
    if not samples:
        raise ValueError("a page needs at least one sample")
    data = {
        "axes": AXES,
        "planes": planes(orientation),
        "controls": CONTROLS,
        "first": first,
        "colours": {name: _lut(name == "signed") for name in ("signed", "unsigned")},
        "samples": [entry(sample) if isinstance(sample, Sample) else sample for sample in samples],
    }
    facts = "".join(f"<span><b>{_text(key)}</b> {_text(value)}</span>" for key, value in header.items())
    parts = {
        "title": _text(title),
        "facts": facts,
        "pages": _pages(pages or {}),
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


def entry(sample: Sample) -> dict[str, Any]:
    """What the page holds of a sample, plain values for JSON; raises ValueError as `write_page` does."""
    image = np.ascontiguousarray(sample.image)
    shape = next(iter(sample.maps.values())).shape if sample.maps else image.shape[:2]
    if image.dtype != np.uint8 or len(shape) not in (2, 3) or image.shape[len(shape) :] not in ((), (3,)):
        raise ValueError(f"a page shows uint8 images (H, W), (H, W, 3) or (D, H, W), not {image.dtype} {image.shape}")
    for name, values in [*sample.maps.items(), *([("mask", sample.mask)] if sample.mask is not None else [])]:
        if values.shape != shape or image.shape[: len(shape)] != shape:
            raise ValueError(f"{name} {values.shape} does not fit the image {image.shape}")
    return {
        "title": sample.title,
        "warning": sample.warning,
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
        "label": readable(name),
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


def _pages(pages: Mapping[str, str]) -> str:
    links = [
        f'<a href="{_text(address)}">{_text(name)}</a>' if address else f"<b>{_text(name)}</b>"
        for name, address in pages.items()
    ]
    return f'<nav class="pages" aria-label="pages">{" ".join(links)}</nav>' if pages else ""


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
