"""Prediction files in the official format: cells, rows and bytes that are not what they should be."""

import re
from functools import partial

import numpy as np
import pytest
from hypothesis import strategies as st
from promise import FEW, MANY, kept, run

from scale.evaluation import official
from scale.evaluation.metrics import official_scores

ROWS, CLASSES = 24, 8
NAME = "bloodmnist_test_[AUC]0.500_[ACC]0.125@1.csv"
LABELS = (np.arange(ROWS) % CLASSES)[:, None]
CELLS = (
    "-0.2",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "",
    "x",
    "1e400",
    "0x1p-3",
    "0,5",
    "100",
    "1e-9",
    "-0.0",
    "١",
    "0.5_0",
    '"0.1"',
)


def lines():
    draw = np.random.default_rng(0).dirichlet(np.ones(CLASSES), ROWS)
    return [",".join([str(number), *map(str, row)]) for number, row in enumerate(draw.tolist())]


def parsed(text):
    """The table by Python alone; None where a cell or a row is not what it should be."""
    try:
        rows = [[float(cell) for cell in line.split(",")] for line in re.split("\r\n|\r|\n", text) if line]
    except ValueError:
        return None
    if sorted(row[0] for row in rows) != list(range(ROWS)) or {len(row) for row in rows} != {CLASSES + 1}:
        return None
    return np.array([row[1:] for row in sorted(rows)])


def read(folder, data):
    path = folder / NAME
    path.write_bytes(data)
    expected = parsed(data.decode("latin-1"))
    with kept("csv", NAME):
        found = official.score(path, LABELS)
        assert expected is not None, "a file was scored that is none"
        assert expected.min() >= 0
        assert expected.max() <= 1
        assert np.abs(expected.sum(axis=1) - 1).max() <= 0.02
        right = official_scores(LABELS, expected, "multiclass")
        assert found == pytest.approx(right, abs=1e-12)


def one(folder, kind, row, column, cell, place, amount):
    table = [line.split(",") for line in lines()]
    if kind == "cell":
        table[row][column] = cell
    elif kind == "row lost":
        del table[row]
    elif kind == "row twice":
        table.append(table[row])
    elif kind == "rows swapped":
        table[row], table[0] = table[0], table[row]
    elif kind == "column lost":
        table = [line[:column] + line[column + 1 :] for line in table]
    elif kind == "percent":
        table = [[line[0], *(str(100 * float(item)) for item in line[1:])] for line in table]
    elif kind == "logits":
        table = [[line[0], *(str(np.log(float(item))) for item in line[1:])] for line in table]
    elif kind == "header":
        table.insert(0, ["index", *map(str, range(CLASSES))])
    elif kind == "shifted":
        table = [[str(int(line[0]) + 1), *line[1:]] for line in table]
    data = bytearray("\n".join(",".join(line) for line in table).encode() + b"\n")
    at = int(place * len(data)) % len(data)
    if kind == "truncated":
        del data[at:]
    elif kind == "flipped":
        data[at] ^= 1 << amount % 8
    elif kind == "inserted":
        data[at:at] = bytes([amount % 256]) * (amount // 256 + 1)
    elif kind == "encoding":
        data = bytearray(data.decode().encode(("utf-16", "utf-32", "utf-8-sig")[amount % 3]))
    read(folder, bytes(data))


KINDS = (
    *("cell", "row lost", "row twice", "rows swapped", "column lost", "percent", "logits", "header", "shifted"),
    *("truncated", "flipped", "inserted", "encoding", "nothing"),
)
CASES = st.tuples(
    st.sampled_from(KINDS), st.integers(1, ROWS - 1), st.integers(0, CLASSES), st.sampled_from(CELLS), st.floats(0, 1),
    st.integers(0, 1000),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("csv")


@pytest.mark.filterwarnings("ignore")
def test_prediction_files(folder):
    run(FEW, CASES, partial(one, folder))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_prediction_files_many(folder):
    run(MANY, CASES, partial(one, folder))


def test_a_name_that_says_more_than_the_file(folder):
    path = folder / NAME.replace("0.500", "0.999")
    path.write_text("\n".join(lines()) + "\n")
    found = official.score(path, LABELS)
    assert "AUC 0.999 in the name, 0." in (official.disagreement(path, found) or "")
    right = official.file_name("bloodmnist", size=28, split="test", auc=found["auc"], acc=found["acc"], run="1")
    assert official.disagreement(right, found) is None
