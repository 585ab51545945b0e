"""Jobs that were done before: kept where they are what the command asks for, and one mean is over one data set."""

import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from scale.config import compose
from scale.runs import checkpoints, read_metrics, read_overrides
from scale.runs.provenance import source
from scale.sweeps import job, kept, report
from scale.tasks.build import content_of

OURS = "scale.data.own.NpzDataModule"


def write_npz(path, seed=0):
    draw, arrays = np.random.default_rng(seed), {}
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        arrays[f"{split}_images"] = draw.integers(0, 256, (count, 12, 12), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 2
    np.savez(path, **arrays)


def asked(path="a.npz", target=OURS, **more):
    data = {"_target_": target, "path": str(path), "problem": "binary"}
    return OmegaConf.create({"data": data, "augment": None, "seed": 0, "optimizer": {"lr": 0.1}, **more})


def done(root, number=0, config=None, code=None, **metrics):
    """The folder of a finished job."""
    folder = root / str(number)
    folder.mkdir()
    OmegaConf.save(asked() if config is None else config, folder / "config.yaml")
    (folder / "environment.json").write_text(json.dumps({"source": code or source()}))
    figures = {"auc": 0.8, "acc": 0.7}
    content = {"flag": "a", "size": 12, "seed": number, "epochs": 2, "best_epoch": 1, "fast_dev_run": False}
    content |= {"val": figures, "test": figures, "model": {"name": "scale"}, "seconds": {"fit": 1.5}, **metrics}
    (folder / "metrics.json").write_text(json.dumps(content))
    (folder / "job.json").write_text(json.dumps({"number": number, "status": "done", "reason": "", "attempts": [{}]}))
    return folder


def planned(root, count):
    jobs = [[f"seed={number}", "data=npz"] for number in range(count)]
    (root / "sweep.json").write_text(json.dumps({"choices": {}, "jobs": jobs}))


@pytest.mark.parametrize(
    ("more", "code", "found"),
    [
        ({}, None, None),
        ({"threads": 3, "trainer": {"devices": 2}}, None, None),
        ({"optimizer": {"lr": 0.2}}, None, "optimizer.lr: 0.1 then, 0.2 now"),
        ({"optimizer": {"lr": 0.2}}, "other", "optimizer.lr: 0.1 then, 0.2 now"),
        ({"model": {"width": 3}}, None, "model.width: not there then, 3 now"),
        ({"model": {"width": 3}}, "other", None),  # a key of today's version
        ({"augment": {"flip": True}}, "other", "augment.flip: not there then, True now"),  # was null, which is a value
    ],
)
def test_a_job_is_kept_if_its_configuration_is_the_same(tmp_path, more, code, found):
    said = kept.refusal(asked(**more), done(tmp_path, code=code))
    assert (said is None) == (found is None)
    assert found is None or f"not as the command says now ({found}): undo that, delete {tmp_path / '0'}" in said


def test_renamed_keys_are_the_same(tmp_path):
    folder = done(tmp_path, config=asked(augment={"quarter_turns": True}))
    assert kept.refusal(asked(augment={"rotate90": True}), folder) is None


def test_a_job_is_kept_if_its_data_have_the_same_content(tmp_path):
    for name, seed in (("a", 0), ("moved", 0), ("b", 1)):
        write_npz(tmp_path / f"{name}.npz", seed)
    content = content_of(asked(tmp_path / "a.npz"))
    folder = done(tmp_path, config=asked(tmp_path / "a.npz"), data_sha256=content)
    assert kept.refusal(asked(tmp_path / "moved.npz"), folder) is None
    assert kept.refusal(asked(tmp_path / "nowhere.npz"), folder) is None  # nothing to compare with
    assert f"data.path={tmp_path / 'b.npz'} has other images or labels" in kept.refusal(
        asked(tmp_path / "b.npz"), folder
    )
    older = done(tmp_path, 1, config=asked(tmp_path / "a.npz"))  # of a version that kept no hash
    assert kept.refusal(asked(tmp_path / "b.npz"), older) is None


@pytest.fixture
def again(tmp_path, monkeypatch):
    """Gives a sweep's command again, as far as its job 0."""
    settings = OmegaConf.create({"runtime": {"output_dir": str(tmp_path / "0")}, "sweep": {"dir": str(tmp_path)}})
    settings.merge_with({"overrides": {"task": ["seed=0", "data=npz"]}, "job": {"num": 0}})
    monkeypatch.setattr(job.HydraConfig, "get", lambda: settings)
    return job.run


def test_a_job_that_is_not_kept_has_failed_until_it_is_what_is_asked_for(again, tmp_path, capsys):
    planned(tmp_path, 2)
    folder = done(tmp_path)
    done(tmp_path, 1)
    assert again(asked(optimizer={"lr": 0.2})) == "failed"
    assert "job 0 (seed=0): failed: done before, but not as" in capsys.readouterr().out
    assert not report.write(tmp_path)
    said = capsys.readouterr().out
    assert "- job 0 failed: `seed=0 data=npz`: done before, but not as the command says now (optimizer.lr: 0.1" in said
    assert "| 1 of 2 |" in said
    assert again(asked()) == "done"
    assert "job 0 (seed=0): done before, kept: AUC 0.800" in capsys.readouterr().out
    assert report.write(tmp_path)
    (folder / "config.yaml").write_text("[")
    assert again(asked()) == "failed"
    assert "cannot be compared (ValueError" in capsys.readouterr().out


def test_no_mean_is_over_two_data_sets(tmp_path, capsys):
    planned(tmp_path, 4)
    for number, content in enumerate(("1f", "2e", None, "1f")):
        done(tmp_path, number, data_sha256=content)
    assert not report.write(tmp_path)
    said = capsys.readouterr().out
    assert "| 3 of 4 |" in said
    assert "- job 1 failed: `seed=1 data=npz`: trained on other images or labels than job 0: delete the folder" in said


def test_a_data_module_of_ones_own_may_split_by_the_seed(tmp_path):
    planned(tmp_path, 2)
    for number, content in enumerate(("1f", "2e")):
        done(tmp_path, number, config=asked(target="mine.Data"), data_sha256=content)
    assert report.write(tmp_path)


def test_what_a_real_run_records(a_run):
    overrides = read_overrides(a_run)
    assert kept.refusal(compose(overrides), a_run) is None
    assert "optimizer.lr: 0.003 then, 0.5 now" in kept.refusal(compose([*overrides, "optimizer.lr=0.5"]), a_run)
    state = checkpoints.read(a_run / "checkpoints" / "best.ckpt")
    assert read_metrics(a_run)["data_sha256"] == state["PhantomDataModule"]["content"]
