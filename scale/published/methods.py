"""Every published method with the protocol behind its numbers, in one form; `README.md` says where they come from."""

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from scale.data import catalog
from scale.published import medmnist
from scale.utils.choices import suggest

COLUMNS = (  # of `others.csv`, the form in which a row is proposed
    *("flag", "size", "method", "auc", "acc", "parameters_M"),
    *("seeds", "selected_on", "pretrained", "source", "checked"),
)
SELECTED_ON = ("val", "test", "unknown")
CHECKED = ("seen", "second_hand", "recalled", "transcription")
V2, PLUS = "doi:10.1038/s41597-022-01721-8", "doi:10.1038/s41598-025-92156-9"
_N = TypeVar("_N", int, float)
NOT_PUBLIC = "Google AutoML Vision"  # its own way of choosing a model is not public


@dataclass(frozen=True)
class Published:
    """A published test result and how it came about; None or an empty string where it is not known.

    Attributes:
        flag: of the data set.
        size: pixels of the side of the images.
        input_size: pixels of the side that the network is given, enlarged or padded.
        method: as the publication names it.
        auc: official AUC, mean over the seeds.
        acc: official ACC, mean over the seeds.
        auc_sd: standard deviation over the seeds.
        acc_sd: standard deviation over the seeds.
        seeds: number of trainings, at least.
        selected_on: `val`, `test` or `unknown`.
        pretrained: on what, or `no`.
        source: where the number can be read.
        checked: how the number was verified, one of `CHECKED`.
        parameters: of the network.
        macs: multiply-adds of one sample.
    """

    flag: str
    size: int | None
    input_size: int | None
    method: str
    auc: float | None
    acc: float | None
    auc_sd: float | None
    acc_sd: float | None
    seeds: int | None
    selected_on: str
    pretrained: str
    source: str
    checked: str
    parameters: int | None = None
    macs: int | None = None


def published(flag: str | None = None) -> list[Published]:
    """All published results, or those on one data set, in the order of their files."""
    return [row for row in _all() if flag is None or row.flag == flag]


def read(path: str | Path) -> list[Published]:
    """Rows in the form of `others.csv`, checked.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: with a line for each thing that is wrong, and the number of its line in the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"published={path}: no such file")
    return _checked(path.name, path.read_text(encoding="utf-8"))


@cache
def _all() -> tuple[Published, ...]:
    rows = [*_v2(), *_plus(_text("medmnist_plus.csv"))]
    for number, row in enumerate(rows):
        cost = medmnist.costs().get((row.method.removesuffix(", linear probe"), row.input_size or 0))
        if cost:
            rows[number] = replace(row, parameters=cost[0], macs=cost[1])
    return (*rows, *_checked("others.csv", _text("others.csv")))


def _text(name: str) -> str:
    return files("scale.published").joinpath(name).read_text(encoding="utf-8")


def _v2() -> Iterable[Published]:
    """The official table: 28-pixel images, enlarged to 224 for the rows of that input size."""
    for row in (row for flag in catalog.FLAGS for row in medmnist.rows(flag)):
        public = row.method != NOT_PUBLIC
        yield Published(
            flag=row.dataset,
            size=28,
            input_size=row.input_size,
            method=row.method,
            auc=row.auc,
            acc=row.acc,
            auc_sd=None,
            acc_sd=None,
            seeds=3 if public else None,
            selected_on="val" if public else "unknown",
            pretrained="no" if public else "",
            source=row.reference,
            checked=row.checked,
        )


def _plus(text: str) -> Iterable[Published]:
    """MedMNIST+: pre-trained networks, all fed with 224 pixels."""
    for line in csv.DictReader(text.splitlines()):
        yield Published(
            flag=line["flag"],
            size=int(line["size"]),
            input_size=224,
            method=line["method"] + (", linear probe" if line["training"] == "linear_probe" else ""),
            **_figures(line),
            seeds=3,
            selected_on="val",
            pretrained="yes",
            source=PLUS,
            checked="transcription",
        )


def _figures(line: Mapping[str, str]) -> dict[str, Any]:
    return {name: _number(line.get(name), float) for name in ("auc", "acc", "auc_sd", "acc_sd")}


def _checked(name: str, text: str) -> list[Published]:
    """Rows of a text in the form of `others.csv`."""
    reader = csv.DictReader(text.splitlines())
    lacking = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
    if lacking:
        raise ValueError(f"{name} lacks the column {', '.join(lacking)}; the columns are {','.join(COLUMNS)}")
    wrong: list[str] = []
    rows: list[Published] = []
    seen: dict[tuple[str, str, str], int] = {}
    for number, line in enumerate(reader, start=2):
        key = (line["flag"], line["size"], line["method"])
        found = _faults(line)
        if key in seen:
            found.append(f"method {line['method']!r} on this data set and size is already in line {seen[key]}")
        seen.setdefault(key, number)
        wrong += [f"{name}, line {number}: {fault}" for fault in found]
        if not found:
            rows.append(_row(line))
    if wrong:
        raise ValueError("\n".join(wrong))
    return rows


def _faults(line: Mapping[str, str]) -> list[str]:
    """What is wrong with a row; nothing for one in the right form."""
    if None in line or None in line.values():
        return [f"{len(COLUMNS)} values are needed, one for each column"]
    found = []
    if line["flag"] not in catalog.FLAGS:
        found.append(f"unknown data set {line['flag']!r}; {suggest(line['flag'], catalog.FLAGS)}")
    elif line["size"] and line["size"] not in map(str, catalog.get(line["flag"]).sizes):
        found.append(f"size {line['size']} of {line['flag']}; allowed are {catalog.get(line['flag']).sizes} or nothing")
    for name in ("method", "source"):
        if not line[name].strip():
            found.append(f"{name} is empty")
    if not (line["auc"] or line["acc"]):
        found.append("neither auc nor acc is given")
    limits: dict[str, tuple[Callable[[str], float], float, float]] = {
        "auc": (float, 0, 1),
        "acc": (float, 0, 1),
        "parameters_M": (float, 1e-6, 1e6),
        "seeds": (int, 1, 1e6),
    }
    for name, (kind, low, high) in limits.items():
        if line[name]:
            try:
                within = low <= kind(line[name]) <= high
            except ValueError:
                within = False
            if not within:
                what = "a whole number" if kind is int else "a number"
                found.append(f"{name} is {line[name]!r}; {what} from {low:g} to {high:g} is needed, or nothing")
    for name, allowed in (("selected_on", SELECTED_ON), ("checked", CHECKED)):
        if line[name] not in allowed:
            found.append(f"{name} is {line[name]!r}; {suggest(line[name], allowed)}")
    return found


def _row(line: Mapping[str, str]) -> Published:
    size, millions = _number(line["size"], int), _number(line["parameters_M"], float)
    return Published(
        flag=line["flag"],
        size=size,
        input_size=size,
        method=line["method"],
        **_figures(line),
        seeds=_number(line["seeds"], int),
        selected_on=line["selected_on"],
        pretrained=line["pretrained"],
        source=line["source"],
        checked=line["checked"],
        parameters=None if millions is None else round(millions * 1e6),
    )


def _number(text: str | None, kind: Callable[[str], _N]) -> _N | None:
    return kind(text) if text else None
