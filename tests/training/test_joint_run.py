"""One run on several data sets: its folder, and what the commands make of it."""

import json
import os
import signal

import numpy as np
import pytest
import torch

import scale
from scale.config import compose
from scale.reporting.verified import find
from scale.reporting.verified import verify as verified
from scale.runs import checkpoints, read_history, read_predictions
from scale.runs.interruption import Interrupted
from scale.runs.recompute import evaluate_run
from scale.runs.sets import folder_of
from scale.runs.verify import verify
from scale.tasks.joint import JointTask
from scale.train import train

SETS = {
    "phantom2d": "{samples: {train: 48, val: 24, test: 32}}",
    "phantom3d": "{samples: {train: 24, val: 16, test: 16}}",
}


@pytest.fixture(scope="module")
def arguments(phantom_root):
    options = ", ".join(f"{name}: {text}" for name, text in SETS.items())
    return [
        *("data=joint", "data.sets=[phantom2d,phantom3d]", f"data.root={phantom_root}", f"data.options={{{options}}}"),
        *("data.batch_size=12", "model=scale_tiny", "budget.min_epochs=2", "budget.max_epochs=2", "threads=1"),
    ]


@pytest.fixture(scope="module")
def run(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint") / "run"
    return folder, train(compose(arguments), folder, overrides=arguments)


def test_the_folder_has_metrics_and_official_files_of_each_set(run):
    folder, found = run
    record = json.loads((folder / "metrics.json").read_text())
    assert list(record["sets"]) == list(SETS)
    for name, count in (("phantom2d", 32), ("phantom3d", 16)):
        place = folder / "sets" / name
        own = json.loads((place / "metrics.json").read_text())
        assert own["flag"] == name
        assert own["data_sha256"] != record["data_sha256"]
        assert own["samples"]["test"] == count
        assert own["intervals"]["test"]
        assert own["test"] == json.loads(json.dumps(found["sets"][name]["test"]))
        assert len(list((place / "predictions").glob(f"{name}_test_*.csv"))) == 1
        assert (place / "report.html").is_file()
        assert read_predictions(place)["test"]["index"].tolist() == list(range(count))
    for split in ("val", "test"):
        mean = np.mean([record["sets"][name][split]["auc"] for name in SETS])
        assert record[split]["auc"] == pytest.approx(mean)
    history = read_history(folder)
    for row in history:
        assert row["val/loss"] == pytest.approx((row["val/loss/phantom2d"] + row["val/loss/phantom3d"]) / 2)
    assert min(range(2), key=lambda n: history[n]["val/loss"]) == record["best_epoch"]


def test_each_set_reads_back_as_a_run(run):
    folder, _ = run
    assert not verify(folder)
    for name in SETS:
        found = evaluate_run(folder_of(folder, name))
        assert found["difference"] <= 1e-6
        assert not found["problems"]
    with pytest.raises(ValueError, match="is a joint run of phantom2d, phantom3d: give one of them by set="):
        scale.load_run(folder)
    with pytest.raises(ValueError, match="set=phantom4d: .* its sets: phantom2d, phantom3d"):
        folder_of(folder, "phantom4d")
    assert [place.name for place in find([str(folder)])] == list(SETS)
    assert not hasattr(verified(folder / "sets" / "phantom2d"), "reason")


def test_verification_finds_a_changed_set(run, tmp_path):
    import shutil

    copy = shutil.copytree(run[0], tmp_path / "copy")
    path = copy / "sets" / "phantom3d" / "metrics.json"
    record = json.loads(path.read_text())
    record["test"]["auc"] = 0.99
    path.write_text(json.dumps(record))
    lines = verify(copy)
    assert any(line.startswith("phantom3d: metrics.json is not the file") for line in lines)
    assert any(line.startswith("test/auc: ") and "mean over the data sets" in line for line in lines)


def test_commands_take_a_set(run, tmp_path, capsys):
    from scale.evaluate import _run
    from scale.explain import explain
    from scale.predict import predict

    folder, _ = run
    with pytest.raises(ValueError, match="give one of them by set"):
        _run(compose([f"run={folder}"], name="evaluate"))
    assert _run(compose([f"run={folder}", "set=phantom2d"], name="evaluate")) == 0
    assert "verified" in capsys.readouterr().out
    assert _run(compose([f"run={folder}", "set=phantom3d", "heads=true"], name="evaluate")) == 0
    said = capsys.readouterr().out
    assert "weights fitted on val: planar" in said
    page = explain(
        compose(
            [
                f"run={folder}",
                "set=phantom2d",
                "attribution=fast",
                "attribution.methods=[gradcam_planar]",
                "groups=false",
                "indices=[0]",
            ],
            name="explain",
        )
    )
    assert page == folder / "sets" / "phantom2d" / "explanations"
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((28, 28, 28), dtype=np.uint8))
    given = [f"run={folder}", "set=phantom3d", f"input={images}", f"output={tmp_path / 'out'}", "alpha=0.3"]
    assert predict(compose(given, name="predict")) == 0


@pytest.mark.slow
def test_interrupted_and_resumed_ends_as_it_would_have(arguments, run, tmp_path, monkeypatch):
    original = JointTask.training_step

    def stops(self, batch, batch_idx):
        if self.global_step == 7:  # within the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(JointTask, "training_step", stops)
        with pytest.raises(Interrupted):
            train(compose(arguments), tmp_path / "run", overrides=arguments)
    found = train(compose([*arguments, f"resume={tmp_path / 'run'}"]), tmp_path / "run")
    assert found["test"] == run[1]["test"]
    for name in SETS:
        first, second = (
            read_predictions(place / "sets" / name)["test"]["logits"] for place in (run[0], tmp_path / "run")
        )
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("name", "more"), [("phantom2d", []), ("phantom3d", [])])
def test_a_single_training_begins_with_the_joint_network_and_its_head(run, phantom_root, tmp_path, name, more, capsys):
    given = [
        *(f"data={name}", f"data.root={phantom_root}", f"data.samples={SETS[name].partition(': ')[2][:-1]}", *more),
        *(
            "data.batch_size=12",
            "model=scale_tiny",
            "model.lifted_width=1.0",
            "trainer=fast_dev_run",
            "optimizer.lr=1e-9",
            "report=false",
        ),
        f"init_from={run[0]}",
    ]
    found = train(compose(given), tmp_path / "run", overrides=given)
    own = {"phantom2d": ["planar", "volumetric", "head of planar"]}
    every = ["planar", "volumetric", "fusion", "head of planar", "head of volumetric", "head"]
    assert found["init_from"]["parts"] == own.get(name, every)
    said = capsys.readouterr().out
    assert "init_from: new: " in said
    state = checkpoints.of_member(checkpoints.read(run[0] / "checkpoints" / "best.ckpt"), name)["state_dict"]
    after = checkpoints.read(tmp_path / "run" / "checkpoints" / "best.ckpt")["state_dict"]
    head = {
        "phantom2d": ("net.head.1.weight", "net.auxiliary_heads.planar.2.weight"),
        "phantom3d": ("net.head.1.weight",) * 2,
    }
    source, target = head[name]
    torch.testing.assert_close(after[target], state[source], atol=1e-5, rtol=1e-4)
