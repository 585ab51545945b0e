"""A sweep's comparison: both kinds of spread, paired tests, and what does not belong is named and left out."""

import html
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from runs_made_up import make_run

from scale import runs
from scale.evaluation import delong, statistics
from scale.reporting import comparison
from scale.reporting.comparison import Setting


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two data sets, three settings of three seeds."""
    root = tmp_path_factory.mktemp("sweep")
    for problem in ("binary", "multiclass"):
        for number, (name, skill) in enumerate((("good", 2.0), ("like", 1.9), ("bad", 0.2))):
            for seed in range(3):
                make_run(root / problem / name / str(seed), problem, seed=seed + 10 * number, skill=skill)
    (root / "binary" / "good" / "0" / "report.html").write_text("")
    return root


def settings(root, names=("good", "like", "bad")):
    return [
        Setting(problem, name, [root / problem / name / str(seed) for seed in range(3)])
        for problem in ("binary", "multiclass")
        for name in names
    ]


def rows(page):
    """By data set and setting, the cells as shown."""
    found = {}
    for data, table in re.findall(r"<h2>(\w+) <span.*?<tbody>(.*?)</tbody>", page, re.DOTALL):
        for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
            cells = [re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)]
            found[data, cells[0]] = cells[1:]
    return found


def test_means_spreads_and_paired_tests(root):
    path = root / "sweep.html"
    assert comparison.write(path, settings(root), title="Sweep x") == []
    page = path.read_text()
    found = rows(page)
    values, parts = [], []
    for seed in range(3):
        arrays = runs.read_predictions(root / "binary" / "like" / str(seed))["test"]
        value, part = delong.auc_parts(arrays["labels"], arrays["probabilities"], "binary")
        values.append(value)
        parts.append(part)
    want = statistics.spread(values, parts)
    cells = found["binary", "like"]
    assert cells[:4] == ["3", f"{want.mean:.3f}", f"{want.seeds:.3f}", f"{want.samples:.3f}"]
    assert found["binary", "bad"][4].startswith("0.000")
    assert {found["multiclass", name][4] for name in ("good", "like", "bad")} >= {"best"}
    assert any("≈" in found[data, name][4] for data in ("binary", "multiclass") for name in ("good", "like"))
    assert page.count("Critical-difference diagram") == 2
    assert 'href="binary/good/0/report.html"' in page
    assert page.count("positive class: normal, benign") == 1  # of the binary set
    assert not re.search(r'(?:src|href)="https?:', page)


def test_runs_that_do_not_belong_are_named_and_left_out(tmp_path):
    folders = [tmp_path / str(number) for number in range(5)]
    make_run(folders[0], seed=0)
    make_run(folders[1], seed=1, labels_seed=7)
    make_run(folders[2], seed=2, partial=True)
    make_run(folders[3], seed=3)
    (folders[3] / "predictions" / "test.npz").unlink()
    make_run(folders[4], seed=4)
    gaps = comparison.write(tmp_path / "sweep.html", [Setting("data", "model", folders)], title="x")
    assert len(gaps) == 3
    assert f"{folders[1]}: its test labels are not those of {folders[0]}" in gaps[0]
    assert "only a part of its splits" in gaps[1]
    assert "no predictions of the test split" in gaps[2]
    page = html.unescape((tmp_path / "sweep.html").read_text())
    assert all(gap in page for gap in gaps)
    assert rows(page)["data", "model"][0] == "2"


def test_one_run_has_no_spread_of_seeds_and_no_test(tmp_path):
    make_run(tmp_path / "run")
    comparison.write(tmp_path / "sweep.html", [Setting("data", "model", [tmp_path / "run"])], title="x")
    cells = rows((tmp_path / "sweep.html").read_text())["data", "model"]
    assert (cells[2], cells[4]) == ("–", "best")
    assert float(cells[3]) > 0
    comparison.write(tmp_path / "sweep.html", [], title="x")
    assert "No run is finished" in (tmp_path / "sweep.html").read_text()


def test_nothing_is_the_best_where_nothing_is_defined():
    rows = [{"auc": SimpleNamespace(mean=math.nan)} for _ in range(2)]
    seeds = [[SimpleNamespace(parts={"auc": np.full(4, math.nan)})] for _ in range(2)]
    comparison._against_best(rows, seeds, "auc")
    assert [row["auc_best"] for row in rows] == [False, False]
