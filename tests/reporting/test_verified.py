"""Only runs whose predictions give their figures get into a table; every other one is named with its reason."""

import json

import numpy as np
import pytest
from run_folders import TEST, labels, make_run, save

from scale.reporting.verified import Gap, Verified, find, together, verify


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def arrays(folder):
    with np.load(folder / "predictions" / "test.npz") as found:
        return {name: found[name] for name in ("index", "probabilities", "labels")}


def test_a_whole_run_is_verified(run):
    found = verify(run)
    assert isinstance(found, Verified)
    assert found.changes == ()
    assert found.pretrained == "no"
    assert found.labels.shape == (TEST, 1)


def test_rows_in_another_order_are_sorted(run):
    before, order = arrays(run), np.random.default_rng(0).permutation(TEST)
    save(run, **{name: values[order] for name, values in before.items()})
    found = verify(run)
    assert isinstance(found, Verified)
    assert np.array_equal(found.probabilities, before["probabilities"])


def _short(found):
    return {name: values[:-1] for name, values in found.items()}


def _twice(found):
    return found | {"index": np.r_[0, 0:TEST][:-1]}


def _nan(found):
    found["probabilities"][3] = np.nan
    return found


def _better(found):
    return found | {"probabilities": np.eye(2)[found["labels"][:, 0]]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_short, "155 of 156 rows in 'index'"),
        (_twice, "do not cover the split: 155 of 156"),
        (_nan, "nan or infinite in 1 of 156 rows"),
        (_better, "its predictions give auc 1.000000, but its metrics.json says"),
    ],
)
def test_predictions_that_do_not_fit(run, change, reason):
    save(run, **change(arrays(run)))
    found = verify(run)
    assert isinstance(found, Gap)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fast_dev_run": True}, "fast_dev_run"),
        ({"partial": True}, "only a part of its splits"),
        ({"samples": {"test": 100}}, "has 100 test samples, but breastmnist has 156"),
    ],
)
def test_a_part_is_no_result(tmp_path, changes, reason):
    found = verify(make_run(tmp_path / "run", **changes))
    assert isinstance(found, Gap)
    assert reason in found.reason


def test_a_record_that_lacks_something_is_named(run):
    metrics = json.loads((run / "metrics.json").read_text())
    for key, reason in (("model", "without model"), ("test", "trained with test=false")):
        (run / "metrics.json").write_text(json.dumps({name: metrics[name] for name in metrics if name != key}))
        assert reason in verify(run).reason
    (run / "metrics.json").write_text("{")
    assert isinstance(verify(run), Gap)
    (run / "metrics.json").unlink()
    assert "is not finished" in verify(run).reason


def test_a_configuration_of_another_time_is_named(run):
    (run / "config.yaml").unlink()
    assert "config.yaml" in verify(run).reason
    (run / "config.yaml").write_text("data: {")
    assert isinstance(verify(run), Gap)


def test_files_that_are_gone_or_damaged(run):
    (run / "predictions" / "test.npz").write_bytes(b"PK")
    assert isinstance(verify(run), Gap)
    (run / "predictions" / "test.npz").unlink()
    assert "has no predictions/test.npz" in verify(run).reason


def test_a_class_that_does_not_occur_in_test(tmp_path):
    with pytest.warns(UserWarning, match="undefined"):
        run = make_run(tmp_path / "run", truth=np.ones((TEST, 1), dtype=np.int64))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"]["auc"] = None
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.warns(UserWarning, match="undefined"):
        assert "auc is undefined: a class does not occur" in verify(run).reason


def test_other_labels_and_the_same_run_are_left_out(tmp_path):
    truth = labels()
    first = verify(make_run(tmp_path / "a"))
    again = verify(make_run(tmp_path / "b"))
    other = verify(make_run(tmp_path / "c", seed=1, truth=truth[::-1].copy()))
    longer = verify(make_run(tmp_path / "d", overrides=("budget.max_epochs=99",)))
    kept, gaps = together([first, again, other, longer])
    assert [run.folder.name for run in kept] == ["a", "d"]
    assert longer.changes == ("budget.max_epochs=99 (100)",)
    assert {gap.folder.name: gap.reason.split()[1] for gap in gaps} == {"b": "the", "c": "test"}


def test_other_images_are_left_out(tmp_path):
    """Another file or fold under the same name, whose labels are the same."""
    found = [verify(make_run(tmp_path / name, seed=seed)) for seed, name in enumerate("abc")]
    for run, content in zip(found, ("x", "y", "x"), strict=True):
        run.metrics["data_sha256"] = content
    kept, (gap,) = together(found)
    assert [run.folder.name for run in kept] == ["a", "c"]
    assert gap.reason.startswith("its images or labels are not those of")


def test_runs_are_found_in_folders_and_by_patterns(tmp_path):
    for name in ("sweep/0", "sweep/1", "one"):
        make_run(tmp_path / name)
    (tmp_path / "sweep" / "notes.txt").write_text("")
    assert [path.name for path in find([str(tmp_path / "sweep")])] == ["0", "1"]
    assert len(find([str(tmp_path / "*"), str(tmp_path / "one")])) == 3
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find([str(tmp_path / "none*")])
    with pytest.raises(FileNotFoundError, match="holds no run"):
        find([str(tmp_path / "one" / "predictions")])
