"""A run on corrupted test images: severity 0 is its record, and all can be recomputed from what is written."""

import csv
import shutil

import numpy as np
import pytest

from scale import evaluate
from scale.data.corruptions_published import MEDMNIST_C
from scale.evaluation import robustness as measured
from scale.reporting import robustness
from scale.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory, phantom_root):
    """A phantom run of a second; module-wide."""
    from scale.config import compose

    folder = tmp_path_factory.mktemp("runs") / "run"
    overrides = [
        "data=phantom2d",
        f"data.root={phantom_root}",
        "data.samples={train: 48, val: 24, test: 32}",
        "data.batch_size=16",
        "model=scale_tiny",
        "budget.min_epochs=1",
        "budget.max_epochs=1",
    ]
    train(compose(overrides), folder)
    return folder


def test_severity_0_is_the_record_and_all_is_recomputable(run, tmp_path, monkeypatch):
    two = {name: MEDMNIST_C["breastmnist"][name] for name in ("speckle_noise", "contrast_down")}
    monkeypatch.setitem(MEDMNIST_C, "breastmnist", two)
    results, place = robustness.measure(run, name="breastmnist", output=tmp_path / "out")
    with np.load(run / "predictions" / "test.npz") as recorded, np.load(place / "predictions.npz") as found:
        assert np.array_equal(found["clean_0"], recorded["probabilities"])
        again = {tuple(name.rsplit("_", 1)): found[name] for name in found.files if name != "labels"}
        again = {(name, int(severity)): values for (name, severity), values in again.items()}
        labels = found["labels"]
    changes = {(result.corruption, result.severity): result.change for result in results}
    assert measured.results(labels, again, changes, "binary") == results
    assert len(results) == 1 + 2 * 5
    with (place / "robustness.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["corruption"] for row in rows] == [result.corruption for result in results]
    assert "| speckle_noise |" in (place / "robustness.md").read_text()
    assert (place / "robustness.png").stat().st_size > 10_000


def test_a_set_without_a_table_and_a_changed_record(run, tmp_path):
    with pytest.raises(ValueError, match="no table for phantom2d"):
        robustness.measure(run, name="medmnist_c")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with np.load(copy / "predictions" / "test.npz") as found:
        arrays = dict(found)
    arrays["probabilities"] = arrays["probabilities"][::-1]
    np.savez(copy / "predictions" / "test.npz", **arrays)
    with pytest.raises(ValueError, match="differ from its record"):
        robustness.measure(copy, name="breastmnist")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predictions=x.csv", "corruptions=medmnist_c"], "is for run="),
        (["run=x", "corruptions=medmnist_c", "evaluation.tta=true"], "is for run=<folder> alone"),
        (["run=x", "output=y"], "is for runs=[...] and corruptions=... only"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["evaluate", *arguments])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    assert stop.value.code == 1
    assert said in capsys.readouterr().err
