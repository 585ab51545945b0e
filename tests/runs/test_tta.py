"""Test-time augmentation, from the mirrors to a run's record."""

import json
import shutil

import numpy as np
import pytest
import torch

import scale
from scale import runs
from scale.data import catalog
from scale.data.augment import mirror, mirrors
from scale.evaluation.metrics import scores
from scale.runs import tta
from scale.runs.recompute import evaluate_run
from scale.runs.verify import verify
from scale.tasks.outputs import Outputs, average
from scale.train import train


def test_mirrors_are_all_subsets_of_the_flips():
    assert mirrors(catalog.get("pneumoniamnist").symmetry) == [()]
    assert mirrors(catalog.get("breastmnist").symmetry) == [(), (1,)]
    assert mirrors(catalog.get("pathmnist").symmetry) == [(), (0,), (1,), (0, 1)]
    assert len(mirrors(catalog.get("vesselmnist3d").symmetry)) == 8


def test_a_mirror_moves_pixels_and_changes_none():
    x = torch.arange(2 * 3 * 2 * 3.0).reshape(2, 3, 2, 3)
    np.testing.assert_array_equal(mirror(x, (1,)), x.numpy()[:, :, :, ::-1])
    np.testing.assert_array_equal(mirror(x, (0, 1)), x.numpy()[:, :, ::-1, ::-1])
    assert mirror(x, ()) is x
    for axes in mirrors(catalog.get("pathmnist").symmetry):
        torch.testing.assert_close(mirror(mirror(x, axes), axes), x, atol=0, rtol=0)


def test_average():
    given = [np.array([[0.2, 0.8]]), np.array([[0.6, 0.4]]), np.array([[0.4, 0.6]])]
    np.testing.assert_allclose(average(given), [[0.4, 0.6]])
    assert average([given[0].astype(np.float32)]).dtype == np.float64
    with pytest.raises(ValueError, match="one shape"):
        average([given[0], np.zeros((2, 2))])
    with pytest.raises(ValueError, match="none"):
        average([])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, phantom_root):
    """A run with, and the same run without test-time augmentation."""
    folder = tmp_path_factory.mktemp("tta")
    small = ["data=phantom2d", f"data.root={phantom_root}", "data.samples={train: 48, val: 24, test: 32}"]
    small += ["data.batch_size=16", "model=scale_tiny", "trainer.max_epochs=2", "logger=none", "report=false"]
    metrics = train(scale.compose([*small, "evaluation.tta=true"]), folder / "with")
    plain = train(scale.compose(small), folder / "without")
    return folder, metrics, plain


def test_it_is_reported_apart_and_leaves_the_plain_figures(finished):
    folder, metrics, plain = finished
    for split in ("val", "test"):
        assert metrics[split] == plain[split]
        assert f"{split}_tta" not in plain
        arrays = {name: runs.read_predictions(folder / name) for name in ("with", "without")}
        np.testing.assert_array_equal(arrays["with"][split]["logits"], arrays["without"][split]["logits"])
    assert set(arrays["with"]) == {"val", "test", "val_tta", "test_tta"}
    assert set(arrays["without"]) == {"val", "test"}


def test_it_is_the_mean_over_every_mirror_image(finished):
    """Beside a slow reference that mirrors the normalised images itself."""
    folder, metrics, _ = finished
    run = scale.load_run(folder / "with")
    run.datamodule.setup()
    (batch,) = run.datamodule.test_dataloader()
    images, found = run.datamodule.prepare(batch)["image"], []
    with torch.inference_mode():
        for axes in ((), (2,), (3,), (2, 3)):
            found.append(run.model.problem.probabilities(run.model(images.flip(axes)).double()).numpy())
    saved = run.predictions["test_tta"]
    np.testing.assert_allclose(saved["probabilities"], np.mean(found, axis=0), atol=1e-6)
    assert np.abs(saved["probabilities"] - run.predictions["test"]["probabilities"]).max() > 1e-3
    assert saved["index"].tolist() == list(range(32))
    expected = scores(saved["labels"], saved["probabilities"], "binary")
    assert metrics["test_tta"] == pytest.approx(expected)


def test_evaluate_adds_it_to_a_run_once(finished, tmp_path):
    folder, metrics, _ = finished
    shutil.copytree(folder / "without", tmp_path / "run")
    before = json.loads((tmp_path / "run" / "metrics.json").read_text())
    found = evaluate_run(tmp_path / "run", tta=True)
    assert found["added"]
    assert found["test_tta"]["auc"] == pytest.approx(metrics["test_tta"]["auc"], abs=1e-6)
    after = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {key: after[key] for key in before if key != "sha256"} == {k: v for k, v in before.items() if k != "sha256"}
    kept = {name: value for name, value in before["sha256"].items() if name != "metrics.json"}
    assert kept.items() <= after["sha256"].items()  # the files that were there are as they were
    assert set(after) - set(before) == {"val_tta", "test_tta"}
    again = evaluate_run(tmp_path / "run", tta=True)
    assert not again["added"]
    assert again["difference"] <= 1e-6
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == after


def test_a_disk_that_is_full_while_it_is_added_leaves_the_record_whole(finished, tmp_path, monkeypatch):
    """The files alone made it a record that was changed: nothing of the run could be used until they were deleted."""
    from scale.runs import folder as room

    shutil.copytree(finished[0] / "without", tmp_path / "run")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(room, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            evaluate_run(tmp_path / "run", tta=True)
    assert verify(tmp_path / "run") == []
    assert evaluate_run(tmp_path / "run", tta=True)["added"]


def test_evaluate_adds_nothing_to_a_run_that_it_does_not_reproduce(finished, tmp_path):
    shutil.copytree(finished[0] / "without", tmp_path / "run")
    path = tmp_path / "run" / "metrics.json"
    record = json.loads(path.read_text())
    record["test"]["auc"] += 0.01
    path.write_text(json.dumps(record))
    found = evaluate_run(tmp_path / "run", tta=True)
    assert not found["added"]
    assert found["difference"] >= 0.01
    assert json.loads(path.read_text()) == record
    assert not (tmp_path / "run" / "predictions" / "test_tta.npz").exists()


def test_without_a_symmetry_there_are_no_figures(caplog):
    class Module:
        info = catalog.get("pneumoniamnist")

    assert tta.predict(Module(), {"val": None}, lambda: pytest.fail("predicted again")) == {}
    assert "no flip keeps the labels of PneumoniaMNIST" in caplog.text


def test_the_datamodule_is_left_as_it_was(finished):
    run = scale.load_run(finished[0] / "with")
    run.datamodule.setup()
    (batch,) = run.datamodule.test_dataloader()
    plain = run.datamodule.prepare(batch)["image"]
    one = Outputs(np.arange(2), np.zeros((2, 2)), np.full((2, 2), 0.5), np.zeros((2, 1)))
    seen = []

    def again():
        seen.append(run.datamodule.prepare(batch)["image"])
        return {"test": one}

    tta.predict(run.datamodule, {"test": one}, again)
    torch.testing.assert_close(torch.stack(seen), torch.stack([plain.flip(2), plain.flip(3), plain.flip((2, 3))]))
    torch.testing.assert_close(run.datamodule.prepare(batch)["image"], plain, atol=0, rtol=0)
