"""Golden values from the published table."""

import pytest

from scale.data.catalog import FLAGS
from scale.published import medmnist as published


@pytest.mark.parametrize(
    ("flag", "auc", "acc"),
    [
        ("breastmnist", ("Google AutoML Vision", 28, 0.919), ("ResNet-18", 28, 0.863)),
        ("pathmnist", ("ResNet-50", 28, 0.990), ("ResNet-50", 28, 0.911)),
        ("chestmnist", ("Google AutoML Vision", 28, 0.778), ("ResNet-50", 224, 0.948)),
    ],
)
def test_best(flag, auc, acc):
    first, second = published.best(flag)
    assert (first.method, first.input_size, first.auc) == auc
    assert (second.method, second.input_size, second.acc) == acc
    assert first.reference.startswith("doi:10.1038/")
    assert {first.checked, second.checked} <= {"transcription", "recalled"}


@pytest.mark.parametrize("flag", FLAGS)
def test_every_data_set_has_all_methods(flag):
    found = published.rows(flag)
    assert len(found) == (8 if flag.endswith("3d") else 7)
    assert len({(row.method, row.input_size) for row in found}) == len(found)
    assert all(0.3 < row.auc <= 1 and 0.3 < row.acc <= 1 for row in found)
    auc, acc = published.best(flag)
    assert auc.auc == max(row.auc for row in found)
    assert acc.acc == max(row.acc for row in found)


def test_the_best_on_vessels():
    auc, acc = published.best("vesselmnist3d")
    assert (auc.auc, acc.acc) == (0.930, 0.928)


def test_nothing_is_published_on_ones_own_data():
    assert published.best("phantom3d") is None
    assert published.rows("phantom3d") == ()
