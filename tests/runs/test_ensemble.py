import json

import numpy as np
import pytest

from scale import runs
from scale.evaluation.metrics import scores
from scale.runs import ensemble
from scale.runs.folder import write_averaged
from scale.tasks.outputs import Averaged

LABELS = np.arange(12)[:, None] % 2


def probabilities(seed, strength=1.0):
    noise = np.random.default_rng(seed).normal(size=len(LABELS))
    second = 1 / (1 + np.exp(-(strength * (LABELS[:, 0] - 0.5) + noise)))
    return np.stack([1 - second, second], axis=1)


def finished(folder, seed, *, tta=True, labels=LABELS, **changes):
    """A run's folder as far as its record is read here."""
    (folder / "predictions").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    found = {split: probabilities(10 * seed + number) for number, split in enumerate(("val", "test"))}
    if tta:
        found |= {f"{split}_tta": probabilities(10 * seed + 5 + n) for n, split in enumerate(("val", "test"))}
    write_averaged(folder, {split: Averaged(np.arange(12), p, labels) for split, p in found.items()})
    metrics = {
        **{"flag": "breastmnist", "size": 28, "problem": "binary", "num_classes": 2, "seed": seed},
        **{"variant": "", "fast_dev_run": False, "model": {"name": "scale"}},
        **{split: scores(labels, p, "binary") for split, p in found.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    return folder


def test_it_is_the_mean_of_the_probabilities(tmp_path):
    folders = [finished(tmp_path / str(seed), seed) for seed in range(3)]
    record, place = ensemble.evaluate(folders, output=tmp_path / "mean")
    assert place == tmp_path / "mean"
    saved = runs.read_predictions(place)
    for number, split in enumerate(("val", "test")):
        expected = np.mean([probabilities(10 * seed + number) for seed in range(3)], axis=0)
        np.testing.assert_allclose(saved[split]["probabilities"], expected)
        assert record[split] == pytest.approx(scores(LABELS, expected, "binary"))
        mirrored = np.mean([probabilities(10 * seed + 5 + number) for seed in range(3)], axis=0)
        np.testing.assert_allclose(saved[f"{split}_tta"]["probabilities"], mirrored)
        assert record[f"{split}_tta"] != record[split]
    assert json.loads((place / "ensemble.json").read_text())["runs"][2]["seed"] == 2
    (official,) = place.glob("predictions/breastmnist_test_*@ensemble-of-3.csv")
    assert f"[AUC]{record['test']['auc']:.3f}" in official.name
    single = np.mean([json.loads((f / "metrics.json").read_text())["test"]["auc"] for f in folders])
    assert f"test, mean of the single runs  {single:.3f}" in ensemble.table(record)


def test_folds_do_not_go_together(tmp_path):
    """Their labels can all be equal, and the images are others."""
    folders = [finished(tmp_path / str(fold), fold, data_sha256=str(fold)) for fold in range(3)]
    with pytest.raises(ValueError, match="the images or labels of .* differ"):
        ensemble.evaluate(folders, output=tmp_path / "mean")
    old = finished(tmp_path / "old", 7)  # of a version that did not record them
    ensemble.evaluate([folders[0], old], output=tmp_path / "mean")


def test_no_run_is_touched(tmp_path):
    folders = [finished(tmp_path / str(seed), seed) for seed in range(2)]
    before = {p: p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="lies in the folder of a run"):
        ensemble.evaluate(folders, output=folders[0] / "mean")
    with pytest.raises(ValueError, match="lies in the folder of a run"):
        ensemble.evaluate(folders, output=folders[1])
    ensemble.evaluate(folders, output=tmp_path / "mean")
    assert {p: p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()} == before
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        ensemble.evaluate(folders, output=tmp_path / "mean")


def test_a_folder_of_its_own_by_default(tmp_path, monkeypatch):
    folders = [finished(tmp_path / str(seed), seed) for seed in range(2)]
    monkeypatch.chdir(tmp_path)
    places = {ensemble.evaluate(folders)[1] for _ in range(2)}
    assert len(places) == 2
    assert {place.parent.as_posix() for place in places} == {"ensembles/breastmnist"}


def test_models_may_differ_and_are_said(tmp_path):
    other = finished(tmp_path / "b", 1, model={"name": "resnet18"}, variant="official")
    record, _ = ensemble.evaluate([finished(tmp_path / "a", 0), other], output=tmp_path / "mean")
    assert [(run["model"], run["variant"]) for run in record["runs"]] == [("scale", ""), ("resnet18", "official")]


def test_mirrored_figures_need_those_of_every_run(tmp_path, caplog):
    folders = [finished(tmp_path / "a", 0), finished(tmp_path / "b", 1, tta=False)]
    record, _ = ensemble.evaluate(folders, output=tmp_path / "mean")
    assert "test" in record
    assert "test_tta" not in record
    assert "only 1 of 2 runs have test-time augmentation" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flag": "pneumoniamnist"}, "flag=breastmnist in .*a, flag=pneumoniamnist in .*b"),
        ({"size": 64}, "size=28 in .*, size=64"),
        ({"problem": "multiclass"}, "problem=binary"),
        ({"labels": 1 - LABELS}, "the labels of val differ"),
        ({"fast_dev_run": True}, "fast_dev_run"),
        ({"seed": 0}, "have the same predictions"),
    ],
    ids=str,
)
def test_runs_that_do_not_go_together(tmp_path, changes, message):
    first = finished(tmp_path / "a", 0)
    second = finished(tmp_path / "b", **({"seed": 1} | changes))
    with pytest.raises(ValueError, match=message):
        ensemble.evaluate([first, second], output=tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_an_auc_that_is_undefined_is_shown_as_such():
    record = {"test": {"auc": float("nan"), "acc": 0.5}, "runs": [{"test": {"auc": None, "acc": 0.5}}] * 2}
    assert [line.split()[-2:] for line in ensemble.table(record).splitlines()[1:]] == [["-", "0.500"]] * 2


def test_what_is_no_set_of_runs(tmp_path):
    with pytest.raises(ValueError, match="at least two runs"):
        ensemble.evaluate([finished(tmp_path / "a", 0)])
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        ensemble.evaluate([tmp_path / "a", tmp_path / "none"])
