"""A finished run's figures are those of its own files, or a line says which are not."""

import json
import shutil

import numpy as np
import pytest

from scale.runs import verify
from scale.runs.recompute import evaluate_run


@pytest.fixture
def copy(a_run, tmp_path):
    return shutil.copytree(a_run, tmp_path / "copy")


def _metrics(folder, change):
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text())
    change(metrics)
    path.write_text(json.dumps(metrics))


def _predictions(folder, **changes):
    path = folder / "predictions" / "test.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **{key: changes[key](value) if key in changes else value for key, value in content.items()})


def test_what_a_run_wrote_is_verified(a_run):
    assert verify.verify(a_run) == []
    result = evaluate_run(a_run)
    assert result["problems"] == []
    assert result["difference"] <= 1e-6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["test"].update(auc=9.9), "test/auc: 9.9 recorded"),
        (lambda m: m["test"].update(auc=None), "test/auc: None recorded"),
        (lambda m: m["test"].pop("auc"), "test/auc: not recorded"),
        (lambda m: m["test"].update(brier=m["test"]["brier"] + 1e-4), "test/brier"),
        (lambda m: m["test"].update(better=1.0), "test/better: 1 recorded, not found"),
        (lambda m: m["samples"].update(test=25), "samples/test: 25 recorded, 24 predictions"),
        (lambda m: m["sha256"].update({"checkpoints/best.ckpt": "0" * 64}), "best.ckpt is not the file"),
        (lambda m: m["sha256"].pop("predictions/val.npz"), "predictions/val.npz is not in metrics.json"),
        (lambda m: m.pop("sha256"), "has no sha256"),
        (lambda m: m.update(seed=3), "seed: 3 in metrics.json, 0 in config.yaml"),
        (lambda m: m["model"].update(name="scale"), "metrics.json is not the file that the run wrote"),
        (lambda m: m["seconds"].update(fit=1.0), "metrics.json is not the file"),
        (lambda m: m.pop("val"), "no figures of val"),
    ],
)
def test_a_figure_that_was_changed_is_named(change, said, copy):
    _metrics(copy, change)
    assert any(said in line for line in verify.verify(copy)), verify.verify(copy)


def test_a_record_that_was_changed_is_named(a_run, tmp_path):
    for name in ("config.yaml", "history.csv", "environment.json", "overrides.yaml", "preprocessing.json"):
        copy = shutil.copytree(a_run, tmp_path / name)
        with (copy / name).open("a") as file:
            file.write("\n")
        assert verify.verify(copy) == [f"{name} is not the file that the run wrote: its sha256 differs"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": lambda x: 1 - x}, "test/auc"),
        ({"index": lambda x: -x - 1}, "an index is negative"),
        ({"index": lambda x: x + 1}, "not 0 to 23"),
        ({"index": np.zeros_like}, "occurs twice"),
        ({"probabilities": lambda x: x * np.nan}, "not those of the logits"),
        ({"probabilities": lambda x: np.roll(x, 1, axis=0)}, "not those of the logits"),
        ({"logits": lambda x: x * np.inf}, "finite"),
        ({"labels": lambda x: x[:-1]}, "23 labels"),
    ],
)
def test_predictions_that_were_changed_are_named(changes, said, copy):
    _predictions(copy, **changes)
    found = verify.verify(copy)
    assert any("test.npz is not the file" in line for line in found)
    assert any(said in line for line in found), found


def test_predictions_and_sums_that_were_changed_together_are_found_by_evaluation(copy):
    _predictions(copy, labels=lambda x: 1 - x)
    with np.load(copy / "predictions" / "test.npz") as arrays:
        found = verify.scores(arrays["labels"], arrays["probabilities"], "binary")
    _metrics(copy, lambda m: m.update(verify.sealed({**m, "test": found}, copy)))
    assert verify.verify(copy) == [], "a forgery that holds together"
    assert "test: the saved labels are not those of the data" in evaluate_run(copy)["problems"]


def test_an_empty_record_is_no_agreement(copy):
    _metrics(copy, lambda m: (m.pop("val"), m.pop("test")))
    with pytest.raises(ValueError, match="no figures of val or test"):
        evaluate_run(copy)


def test_maps_are_not_drawn_for_labels_that_are_not_the_datas(copy):
    import scale
    from scale.explain import explain

    _predictions(copy, labels=lambda x: 1 - x)
    with pytest.raises(ValueError, match=r"test\.npz: its labels are not those of the data"):
        explain(scale.compose([f"run={copy}", "attribution=fast"], name="explain"))
