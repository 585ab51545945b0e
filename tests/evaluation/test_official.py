"""Prediction files, against the official evaluator and against released files."""

import os
import shutil
from pathlib import Path

import medmnist.evaluator
import numpy as np
import pytest

from scale.evaluation import official
from scale.evaluation.bootstrap import bootstrap
from scale.evaluation.delong import auc_interval

FLAGS = {  # one set of each problem
    "breastmnist": ("binary", 2),
    "bloodmnist": ("multiclass", 8),
    "chestmnist": ("multilabel", 14),
    "retinamnist": ("ordinal", 5),
}


def sample(problem, columns, *, n=40, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.gamma(1.0, size=(n, columns))
    if problem == "multilabel":
        labels = rng.integers(0, 2, (n, columns))
        labels[0], labels[1] = 0, 1
        return labels, (p / (1 + p)).astype(dtype)
    labels = rng.permutation(np.arange(n) % columns)[:, None]
    return labels, (p / p.sum(1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize(("flag", "size"), [("breastmnist", 28), ("chestmnist", 64), ("vesselmnist3d", 64)])
def test_name_round_trip(flag, size):
    name = official.file_name(flag, size=size, split="val", auc=0.91249, acc=1.0, run="resnet18_224_1")
    part = "" if size == 28 else f"_{size}"
    assert name == f"{flag}{part}_val_[AUC]0.912_[ACC]1.000@resnet18_224_1.csv"
    want = official.Name(flag=flag, size=size, split="val", auc=0.912, acc=1.0, run="resnet18_224_1")
    assert official.parse_name(Path("some/folder") / name) == want


def test_undefined_auc_has_a_name_too():
    name = official.file_name("npz", size=28, split="test", auc=float("nan"), acc=0.5, run=3)
    assert np.isnan(official.parse_name(name).auc)


@pytest.mark.parametrize("run", ["a.b", "a@b", "a/b", ""])
def test_run_that_the_official_parser_would_cut(run):
    with pytest.raises(ValueError, match="not the name of an official prediction file"):
        official.file_name("breastmnist", size=28, split="test", auc=0.5, acc=0.5, run=run)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("predictions.csv", "expected {flag}"),
        ("breastmnist_test_[ACC]0.5@1.csv", "expected {flag}"),
        ("my_set_test_[AUC]0.500_[ACC]0.500@1.csv", "expected {flag}"),
        ("breastmnist_tset_[AUC]0.500_[ACC]0.500@1.csv", "split 'tset'; allowed: train, val, test"),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(ValueError, match=message):
        official.parse_name(name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_digit_is_lost(tmp_path, dtype):
    labels, p = sample("multiclass", 8, dtype=dtype)
    p[0] = [1, 0, 0, 0, 0, 0, 0, 0]
    p[1, 1:] /= p[1, 1:].sum()
    p[1] = [np.finfo(dtype).tiny, 1, 0, 0, 0, 0, 0, 0]
    path = official.write(
        tmp_path / "new", p, labels=labels, problem="multiclass", flag="bloodmnist", size=28, split="test", run=0
    )
    index, back = official.read(path)
    np.testing.assert_array_equal(index, np.arange(40))
    np.testing.assert_array_equal(back.astype(dtype), p)
    assert list(path.parent.iterdir()) == [path]


def test_rows_are_written_in_order(tmp_path):
    labels, p = sample("binary", 2, n=6)
    shuffled = np.array([3, 0, 5, 1, 4, 2])
    path = official.write(
        tmp_path,
        p[shuffled],
        labels=labels[shuffled],
        problem="binary",
        flag="breastmnist",
        size=28,
        split="test",
        run=0,
        index=shuffled,
    )
    np.testing.assert_array_equal(official.read(path)[1].astype(np.float32), p)
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == list("012345")


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    labels, p = sample("binary", 2)
    with pytest.raises(OSError, match="No space"):
        official.write(tmp_path, p, labels=labels, problem="binary", flag="breastmnist", size=28, split="val", run=0)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("flag", FLAGS)
def test_official_evaluator_reads_our_files(tmp_path, monkeypatch, flag, size):
    problem, columns = FLAGS[flag]
    labels, p = sample(problem, columns, n=43)  # 40 would make an AUC of 0.4825, rounded either way
    np.savez(tmp_path / f"{flag}{'' if size == 28 else f'_{size}'}.npz", test_labels=labels)
    # the default root is bound when medmnist is imported
    monkeypatch.setattr(medmnist.evaluator.Evaluator.__init__, "__defaults__", (None, str(tmp_path)))
    path = official.write(tmp_path, p, labels=labels, problem=problem, flag=flag, size=size, split="test", run="r_1")
    before = sorted(tmp_path.iterdir())
    theirs = medmnist.evaluator.Evaluator.parse_and_evaluate(str(path))
    assert sorted(tmp_path.iterdir()) == before  # it writes the file again, under the same name: the scores agree
    ours = official.score(path, labels)
    assert ours["auc"] == pytest.approx(theirs.AUC, abs=1e-9)
    assert ours["acc"] == pytest.approx(theirs.ACC, abs=1e-9)
    name = official.parse_name(path)
    assert (name.auc, name.acc) == (pytest.approx(theirs.AUC, abs=5.1e-4), pytest.approx(theirs.ACC, abs=5.1e-4))


def put(folder, text, flag="breastmnist"):
    path = folder / official.file_name(flag, size=28, split="test", auc=0.5, acc=0.5, run=1)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0.1,0.9\n0,0.2,0.8\n", "row 0 occurs twice"),
        ("0,0.1,0.9\n2,0.2,0.8\n", r"numbered 0\.\.1; 1 missing, the first is 1"),
        ("0,0.1,0.9\n1,0.2,\n", "not a table of numbers"),
        ("0,0.1,0.9\n1,0.2,nan\n", "first is line 2"),
        ("0,0.1,0.9\n1,0.2\n", "not a table of numbers"),
        (",a,b\n0,0.1,0.9\n", "not a table of numbers without a header"),
        ("0,0.1,0.2,0.7\n", r"3 score columns, but breastmnist \(binary\) needs 1 or 2"),
        ("0\n1\n", "at least one score"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        official.read(put(tmp_path, text))


@pytest.mark.filterwarnings("ignore:loadtxt")
def test_empty_missing_and_short_files(tmp_path):
    with pytest.raises(ValueError, match="at least one score"):
        official.read(put(tmp_path, ""))
    with pytest.raises(FileNotFoundError, match="no prediction file"):
        official.read(tmp_path / "breastmnist_test_[AUC]0.100_[ACC]0.100@1.csv")
    path = put(tmp_path, "1,0.1,0.9\n0,0.2,0.8\n")
    with pytest.raises(ValueError, match="2 rows, but the test split of breastmnist has 3 samples"):
        official.score(path, np.array([[0], [1], [1]]))
    assert official.score(path, np.array([[1], [0]]))["auc"] == 0  # rows are put in order first
    with pytest.raises(ValueError, match="chestmnist"):
        official.read(put(tmp_path, "0,0.1,0.9\n", flag="chestmnist"))


def test_a_file_of_ones_own_data_needs_the_problem(tmp_path):
    path = put(tmp_path, "0,0.1,0.9\n1,0.2,0.8\n", flag="mine")
    assert official.score(path, np.array([[1], [0]]), problem="binary")["auc"] == 1
    with pytest.raises(ValueError, match="mine"):
        official.score(path, np.array([[1], [0]]))


def released():
    """Released prediction files of the official baselines, beside the real data."""
    root = os.environ.get("SCALE_TEST_DATA")
    return sorted((Path(root).parent / "predictions").glob("*.csv")) if root else []


def test_released_files_have_the_scores_in_their_names(tmp_path, monkeypatch):
    files = released()
    if not files:
        pytest.skip("no released prediction files beside the folder named by SCALE_TEST_DATA")
    root = os.environ["SCALE_TEST_DATA"]
    monkeypatch.setattr(medmnist.evaluator.Evaluator.__init__, "__defaults__", (None, root))
    for path in files:
        name = official.parse_name(path)
        with np.load(Path(root) / f"{name.flag}.npz") as data:
            found = official.score(path, data[f"{name.split}_labels"])
        assert f"{found['auc']:.3f} {found['acc']:.3f}" == f"{name.auc:.3f} {name.acc:.3f}"
        copy = shutil.copy(path, tmp_path / path.name)  # the official evaluator writes beside what it reads
        Path(copy).chmod(0o644)
        theirs = medmnist.evaluator.Evaluator.parse_and_evaluate(str(copy))
        assert (found["auc"], found["acc"]) == (pytest.approx(theirs.AUC, abs=1e-9), pytest.approx(theirs.ACC))


@pytest.mark.parametrize("columns", [1, 2])
def test_intervals_of_a_file(tmp_path, columns):
    labels, p = sample("binary", 2, n=80, dtype=np.float64)
    lines = "".join(f"{i},{','.join(map(str, row[-columns:]))}\n" for i, row in enumerate(p))
    found = official.intervals(put(tmp_path, lines), labels)
    drawn = bootstrap(labels, p, "binary").metrics
    assert found["auc"] == pytest.approx(drawn["auc"])
    assert found["acc"] == pytest.approx(drawn["acc"])
    assert found["auc_delong"] == pytest.approx(auc_interval(labels, p, "binary"))
    with pytest.raises(ValueError, match="80 rows"):
        official.intervals(put(tmp_path, lines), labels[:5])
