"""The published results that ours are compared with."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# Parameters and multiply-adds of one sample: those of the same networks here; at 224 pixels the usual ImageNet ones.
_COST = {
    ("ResNet-18", 28): (11_169_858, 456_699_904),
    ("ResNet-50", 28): (23_504_450, 1_047_706_624),
    ("ResNet-18", 224): (11_177_538, 1_813_562_368),
    ("ResNet-50", 224): (23_512_130, 4_087_140_352),
    ("ResNet-18 + 3D", 28): (33_140_802, 17_749_103_616),
    ("ResNet-50 + 3D", 28): (46_138_946, 23_940_882_432),
    ("ResNet-18 + 2.5D", 28): (11_168_706, 5_944_439_808),
    ("ResNet-18 + ACS", 28): (11_168_706, 5_944_439_808),
    ("ResNet-50 + 2.5D", 28): (23_503_298, 12_489_523_200),
    ("ResNet-50 + ACS", 28): (23_503_298, 12_489_523_200),
}


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
        return _COST.get((self.method, self.input_size))


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
