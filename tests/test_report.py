import json

import pytest

from scale import report


def run_folder(tmp_path, seed, auc, **changes):
    folder = tmp_path / f"run{seed}"
    folder.mkdir(exist_ok=True)
    metrics = {
        "flag": "breastmnist", "size": 28, "seed": seed, "epochs": 3, "best_epoch": 1, "hardware": "2 CPU threads",
        "model": {"name": "scale", "parameters": 1_500_000, "macs": 40_000_000}, "fast_dev_run": False,
        "test": {"auc": auc, "acc": 0.8}, "val": {"auc": 0.9, "acc": 0.9}, "seconds": {"fit": 12.3},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    (folder / "environment.json").write_text(json.dumps({"commit": "0123456789abcdef", "modified": False}))
    return folder


def test_table_is_mean_and_sd_over_all_seeds(tmp_path):
    path = tmp_path / "scale.csv"
    report.add([run_folder(tmp_path, seed, auc) for seed, auc in enumerate([0.90, 0.92, 0.97])], path)
    line = report.table(report.read(path)).splitlines()[2]
    assert line == (
        "| BreastMNIST | 28 | scale | 0, 1, 2 | 0.930 ± 0.036 | 0.800 ± 0.000 | 0.919 (Google AutoML Vision) "
        "| 0.863 (ResNet-18) | 1.50 | 0.040 |"
    )


def test_a_run_that_was_repeated_takes_its_own_place(tmp_path):
    path = tmp_path / "scale.csv"
    report.add([run_folder(tmp_path, 0, 0.5), run_folder(tmp_path, 1, 0.6)], path)
    report.add([run_folder(tmp_path, 0, 0.7)], path)
    assert [(r["seed"], r["auc"]) for r in report.read(path)] == [("0", "0.7"), ("1", "0.6")]


def test_what_is_no_result(tmp_path):
    with pytest.raises(ValueError, match="fast_dev_run"):
        report.row(run_folder(tmp_path, 0, 0.5, fast_dev_run=True))
    with pytest.raises(FileNotFoundError, match="no finished run"):
        report.row(tmp_path)


def test_the_kept_rows_have_all_columns_and_official_names():
    for found in report.read():
        assert set(found) == set(report.COLUMNS)
        assert 0.5 <= float(found["auc"]) <= 1
