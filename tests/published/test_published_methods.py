"""Published results: all of them are read with their protocol, and a proposed row is checked."""

import csv
import statistics
from importlib.resources import files

import pytest

from scale.data import catalog
from scale.published import methods

GOOD = "breastmnist,28,MyNet,0.9,0.88,1.5,3,val,no,doi:10.1/x,seen"


def proposal(tmp_path, *lines):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([",".join(methods.COLUMNS), *lines]) + "\n")
    return path


def test_every_row_of_the_three_files_is_there():
    rows = methods.published()
    assert len(rows) == 132 + 960 + 24
    assert {row.flag for row in rows} == set(catalog.FLAGS)
    assert all(row.auc is None or 0 <= row.auc <= 1 for row in rows)
    assert {row.selected_on for row in rows} == set(methods.SELECTED_ON)


def test_the_official_table_has_its_protocol():
    rows = {(row.method, row.input_size): row for row in methods.published("breastmnist") if row.source == methods.V2}
    enlarged = rows["ResNet-18", 224]
    assert (enlarged.size, enlarged.auc, enlarged.acc) == (28, 0.891, 0.833)
    assert (enlarged.selected_on, enlarged.seeds, enlarged.pretrained) == ("val", 3, "no")
    assert (enlarged.parameters, enlarged.macs) == (11_177_538, 1_813_562_368)
    closed = rows["Google AutoML Vision", 28]
    assert (closed.selected_on, closed.seeds, closed.parameters) == ("unknown", None, None)


def test_medmnist_plus_has_spreads_and_is_pretrained():
    rows = [row for row in methods.published() if row.source == methods.PLUS]
    assert {row.pretrained for row in rows} == {"yes"}
    assert {row.input_size for row in rows} == {224}
    assert all(row.auc_sd is not None and row.macs for row in rows)
    probes = [row for row in rows if row.method.endswith(", linear probe")]
    assert len(probes) == 480
    blood = [row.auc for row in rows if (row.flag, row.size, row.method) == ("bloodmnist", 28, "VGG16")]
    assert statistics.fmean(blood) == 0.9966


def test_methods_chosen_on_test_are_known_as_such():
    chosen = {row.method for row in methods.published() if row.selected_on == "test"}
    assert chosen == {"MedViTV2-L", "MedViT-S"}


def test_no_cost_without_a_method():
    text = files("scale.published").joinpath("costs.csv").read_text()
    known = {(row.method, row.input_size) for row in methods.published()}
    assert {(line["method"], int(line["input_size"])) for line in csv.DictReader(text.splitlines())} <= known


def test_a_proposed_row_is_read(tmp_path):
    (row,) = methods.read(proposal(tmp_path, GOOD))
    assert (row.flag, row.size, row.auc, row.seeds, row.parameters) == ("breastmnist", 28, 0.9, 3, 1_500_000)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("breastmnist", "breastmnits", "did you mean 'breastmnist'"),
        ("0.9,", "90.1,", "auc is '90.1'; a number from 0 to 1"),
        (",28,", ",32,", "size 32 of breastmnist; allowed are (28, 64, 128, 224)"),
        (",3,", ",3.5,", "seeds is '3.5'; a whole number"),
        (",val,", ",valid,", "did you mean 'val'"),
        ("doi:10.1/x", "", "source is empty"),
        ("0.9,0.88", ",", "neither auc nor acc"),
        (",seen", "", "11 values are needed"),
        ("0.9,", "nan,", "auc is 'nan'"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(tmp_path, old, new, message):
    with pytest.raises(ValueError, match="mine.csv, line 2") as error:
        methods.read(proposal(tmp_path, GOOD.replace(old, new, 1)))
    assert message in str(error.value)


def test_all_faults_are_told_at_once(tmp_path):
    with pytest.raises(ValueError, match="already in line 2") as error:
        methods.read(proposal(tmp_path, GOOD, GOOD, GOOD.replace("0.9", "9")))
    assert "line 3" in str(error.value)
    assert "line 4" in str(error.value)


def test_a_file_without_a_column_or_no_file(tmp_path):
    path = tmp_path / "short.csv"
    path.write_text("flag,size\nbreastmnist,28\n")
    with pytest.raises(ValueError, match=r"short.csv lacks the column method, auc"):
        methods.read(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        methods.read(tmp_path / "none.csv")
