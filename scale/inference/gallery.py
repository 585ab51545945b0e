"""Pages of explained files: each file's entry is kept while shards work; in the end all are joined in their order."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scale.attribution.report import page
from scale.data.orientation import SPL

PAGE = "explanations.html"
BLOCK = 1 << 20
MOST, LARGEST = 100, 32 << 20  # files and bytes of one page, beyond which a browser opens it slowly


def mend(path: Path) -> None:
    """Takes away a last line that a process did not finish when it was killed."""
    if not path.is_file():
        return
    end = path.stat().st_size
    with path.open("rb") as file:
        while end:
            start = max(0, end - BLOCK)
            file.seek(start)
            if (place := file.read(end - start).rfind(b"\n")) >= 0:
                end = start + place + 1
                break
            end = start
    os.truncate(path, end)


def keep(path: Path, rows: Sequence[int], entries: Sequence[Mapping[str, Any]]) -> None:
    """Appends entries of `page.entry`, a line each; to be called before the predictions of these rows are kept."""
    with path.open("ab") as file:
        for row, entry in zip(rows, entries, strict=True):
            file.write(f"{row}\t{json.dumps(entry, separators=(',', ':'))}\n".encode())


def write(
    folder: Path, files: Sequence[Path], rows: Sequence[int], header: Mapping[str, str], *, orientation: str = SPL
) -> list[Path]:
    """Writes `explanations.html`, and where that would be too large `explanations-2.html` and so on, with links.

    Args:
        folder: of the predictions.
        files: of entries, as `keep` wrote them.
        rows: in this order; each has an entry.
        header: facts that stand under the title.
        orientation: where the axes of volumes point to.
    """
    groups = list(_pages(_places(files), rows))
    names = [PAGE, *(f"explanations-{number}.html" for number in range(2, len(groups) + 1))]
    for number, (name, group) in enumerate(zip(names, groups, strict=True)):
        page.write_page(
            folder / name,
            samples=[_read(*place) for place in group],
            quality_rows=[],
            header=header,
            title="Predictions",
            pages=_links(names, number),
            orientation=orientation,
        )
    return [folder / name for name in names[: len(groups)]]


def _links(names: Sequence[str], number: int) -> dict[str, str]:
    """Text and address of the first, the page before, this one (no address), the next, and the last."""
    if len(names) == 1:
        return {}
    found = {"first": names[0], "before": names[number - 1]} if number else {}
    found[f"page {number + 1} of {len(names)}"] = ""
    return {**found, "next": names[number + 1], "last": names[-1]} if number + 1 < len(names) else found


def _places(files: Sequence[Path]) -> dict[int, tuple[Path, int, int]]:
    """File, offset and bytes of each row's entry, the last where a call that was killed had written it before."""
    found: dict[int, tuple[Path, int, int]] = {}
    for path in files:
        if not path.is_file():  # of a shard that had nothing to explain
            continue
        offset = 0
        with path.open("rb") as file:
            for line in file:
                row, tab, _ = line.partition(b"\t")
                if tab and row.isdigit() and line.endswith(b"\n"):
                    found[int(row)] = (path, offset, len(line))
                offset += len(line)
    return found


def _pages(places: Mapping[int, tuple[Path, int, int]], rows: Sequence[int]) -> Iterator[list[tuple[Path, int, int]]]:
    group: list[tuple[Path, int, int]] = []
    size = 0
    for row in rows:
        place = places[row]
        if group and (len(group) == MOST or size + place[2] > LARGEST):
            yield group
            group, size = [], 0
        group.append(place)
        size += place[2]
    if group:
        yield group


def _read(path: Path, offset: int, count: int) -> dict[str, Any]:
    with path.open("rb") as file:
        file.seek(offset)
        found: dict[str, Any] = json.loads(file.read(count).partition(b"\t")[2])
    return found
