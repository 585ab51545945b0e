"""The published results that ours are compared with."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Row:
    """A published result.

    Attributes:
        dataset: flag of the data set.
        method: as the publication names it.
        input_size: pixels per side that the network saw.
        auc: test AUC, to three decimals.
        acc: test accuracy, to three decimals.
        reference: DOI of the publication.
        checked: how the number was verified: `transcription` (seen in copies of the paper's table) or `recalled`.
    """

    dataset: str
    method: str
    input_size: int
    auc: float
    acc: float
    reference: str
    checked: str

    @property
    def cost(self) -> tuple[int, int] | None:
        """Parameters and multiply-adds of the network with two classes; None where there is no one network."""
        return costs().get((self.method, self.input_size))


@cache
def costs() -> dict[tuple[str, int], tuple[int, int]]:
    """Parameters and multiply-adds of one sample of published networks, by method and input size."""
    text = files("scale.published").joinpath("costs.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(text.splitlines())
    return {(row["method"], int(row["input_size"])): (int(row["parameters"]), int(row["macs"])) for row in lines}


@cache
def _table() -> tuple[Row, ...]:
    text = files("scale.published").joinpath("medmnist_v2.csv").read_text(encoding="utf-8")
    return tuple(
        Row(
            dataset=line["dataset"],
            method=line["method"],
            input_size=int(line["input_size"]),
            auc=float(line["auc"]),
            acc=float(line["acc"]),
            reference=line["reference"],
            checked=line["checked"],
        )
        for line in csv.DictReader(text.splitlines())
    )


def rows(flag: str) -> tuple[Row, ...]:
    """Published results on a data set, in the publication's order; none for a data set nobody has published on."""
    return tuple(row for row in _table() if row.dataset == flag)


def best(flag: str) -> tuple[Row, Row] | None:
    """The results with the best AUC and with the best ACC (of equals the first), or None where nothing is published."""
    found = rows(flag)
    if not found:
        return None
    return max(found, key=lambda row: row.auc), max(found, key=lambda row: row.acc)
