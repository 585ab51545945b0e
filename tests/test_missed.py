"""Bugs that were put in by hand and that no test had noticed: one test each."""

import csv
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import scale
from scale.attribution.metrics import faithfulness, measure
from scale.attribution.report import trust_table
from scale.runs import ensemble
from scale.runs.folder import write_averaged
from scale.tasks.outputs import Averaged
from scale.tasks.problem import Problem
from scale.training import loggers, outcome


def test_a_run_is_partial_where_one_split_alone_is():
    splits = {"val": SimpleNamespace(labels=range(10)), "test": SimpleNamespace(labels=range(20))}
    seen = lambda val, test: {"val": SimpleNamespace(labels=range(val)), "test": SimpleNamespace(labels=range(test))}  # noqa: E731
    module = SimpleNamespace(splits=splits)
    assert not outcome.is_partial(seen(10, 20), module)
    assert outcome.is_partial(seen(10, 19), module)
    assert outcome.is_partial(seen(9, 20), module)


def test_a_sweeps_table_keeps_sizes_apart(tmp_path):
    from scale.sweeps import report

    jobs = [[f"data.size={size}", f"seed={seed}"] for size in (28, 64) for seed in (0, 1)]
    (tmp_path / "sweep.json").write_text(
        json.dumps({"choices": {}, "jobs": [["data=breastmnist", *job] for job in jobs]})
    )
    for number, (size, _) in enumerate(jobs):
        folder = tmp_path / str(number)
        folder.mkdir()
        record = {"number": number, "overrides": jobs[number], "attempts": [{}], "status": "done", "reason": ""}
        (folder / "job.json").write_text(json.dumps(record))
        figures = {"auc": 0.8 + 0.1 * (size == "data.size=64"), "acc": 0.8}
        content = {"flag": "breastmnist", "size": int(size[-2:]), "seed": number % 2, "epochs": 2, "best_epoch": 1}
        content |= {"model": {"name": "scale"}, "seconds": {"fit": 1.0}, "fast_dev_run": False}
        (folder / "metrics.json").write_text(json.dumps({**content, "val": figures, "test": figures}))
    report.write(tmp_path)
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["size"], row["n"], float(row["auc_mean"])) for row in rows] == [("28", "2", 0.8), ("64", "2", 0.9)]


def test_the_last_checkpoint_is_loaded_where_asked_for(a_run, tmp_path):
    copy = shutil.copytree(a_run, tmp_path / "copy")
    path = copy / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    name = next(key for key, value in state["state_dict"].items() if value.is_floating_point())
    state["state_dict"][name] = state["state_dict"][name] + 1
    torch.save(state, path)
    best, last = (scale.load_run(copy, checkpoint=which).model.state_dict() for which in ("best", "last"))
    assert torch.equal(last[name], state["state_dict"][name])
    assert torch.equal(
        best[name], torch.load(copy / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"][name]
    )
    with pytest.raises(ValueError, match="give best or last"):
        scale.load_run(copy, checkpoint="first")


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_ensemble_compares_the_labels_of_each_split(split, tmp_path):
    labels = np.arange(12)[:, None] % 2
    folders = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        chances = np.random.default_rng(seed).dirichlet([1, 1], 12)
        mine = {name: 1 - labels if (seed, name) == (1, split) else labels for name in ("val", "test")}
        write_averaged(folder, {name: Averaged(np.arange(12), chances, mine[name]) for name in ("val", "test")})
        content = {"flag": "breastmnist", "size": 28, "problem": "binary", "num_classes": 2, "seed": seed}
        content |= {"variant": "", "fast_dev_run": False, "model": {"name": "scale"}}
        figures = {"auc": 0.5, "acc": 0.5}
        (folder / "metrics.json").write_text(json.dumps({**content, "val": figures, "test": figures}))
        (folder / "config.yaml").write_text("seed: 0\n")
        folders.append(folder)
    with pytest.raises(ValueError, match=f"the labels of {split} differ"):
        ensemble.evaluate(folders, output=tmp_path / "mean")


@pytest.mark.parametrize("failed", [True, False])
def test_wandb_is_told_whether_the_run_failed(failed, monkeypatch):
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    codes, logger = [], WandbLogger.__new__(WandbLogger)
    logger._save_dir = "wandb"
    monkeypatch.setattr(wandb, "finish", lambda exit_code=None, **_: codes.append(exit_code))
    monkeypatch.setattr(WandbLogger, "finalize", lambda self, status: codes.append(status))
    loggers.close_loggers([loggers.of(logger)], failed=failed)
    assert codes == (["failed", 1] if failed else ["success", 0])


def test_ranks_under_torchrun_share_one_stamp(monkeypatch):
    from importlib import import_module

    from torch.distributed import TCPStore

    composing = import_module("scale.config.compose")  # as an attribute, the name is the function's
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(server.port))
    own = iter(["first", "second", "third"])
    monkeypatch.setattr(composing, "_stamp", lambda: next(own))
    seen = []
    for _ in range(3):  # ranks, each a process of its own
        monkeypatch.delenv(composing.STAMP, raising=False)
        composing.share_stamp()
        seen.append(os.environ[composing.STAMP])
    monkeypatch.delenv(composing.STAMP)
    assert seen == ["first"] * 3


@pytest.mark.parametrize(("problem", "classes"), [("binary", 2), ("ordinal", 4)])
def test_processes_share_the_sum_of_weights(problem, classes):
    """The mean of the processes' losses is the loss of the whole batch, also where their samples weigh differently."""
    made = Problem(problem, classes)
    labels = torch.tensor([[0], [0], [0], [1], [1], [1]]) * (classes - 1)
    logits = torch.linspace(-1, 1, 6 * made.outputs).reshape(6, -1)
    weights = torch.linspace(1.0, 9.0, classes)
    whole = made.loss(logits, labels, class_weights=weights)
    amounts = []
    for rows in (slice(0, 3), slice(3, 6)):
        made.loss(logits[rows], labels[rows], class_weights=weights, share_amount=lambda x: amounts.append(x) or x)
    mean = sum(amounts) / 2
    parts = [
        made.loss(logits[rows], labels[rows], class_weights=weights, share_amount=lambda _: mean)
        for rows in (slice(0, 3), slice(3, 6))
    ]
    torch.testing.assert_close(sum(parts) / 2, whole)
    assert not torch.allclose(amounts[0], amounts[1])


def test_randomisation_is_of_the_first_few_samples(monkeypatch):
    correlation = torch.tensor([0.1, 0.2])
    monkeypatch.setattr(measure.quality, "randomisation", lambda *_, **__: correlation)
    settings = SimpleNamespace(perturbed=2, quality=None)
    subjects = SimpleNamespace(images=torch.zeros(3, 1, 4, 4), target=torch.zeros(3))
    explainer = SimpleNamespace(net=None, settings=SimpleNamespace(batch_size=2))
    maps = torch.zeros(3, 1, 4, 4)
    found = measure._repeated(
        explainer, subjects, ["randomisation"], settings, method="edges", maps=maps, told=lambda _: None
    )
    np.testing.assert_allclose(found["randomisation"], [0.1, 0.2, np.nan])


def test_blocks_of_infidelity_have_an_eighth_to_a_half_of_each_edge():
    draws = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    blocks = faithfulness._blocks(draws, (64, 64))[:, 0]  # (N, H, W)
    for axis in (1, 2):
        edges = blocks.any(dim=axis).sum(dim=1).float() / 64
        border = blocks[:, [0, -1]].flatten(1).any(1) | blocks[..., [0, -1]].flatten(1).any(1)
        whole = edges[~border]
        assert len(whole) > 500
        assert float(whole.min()) == pytest.approx(1 / 8, abs=0.04)
        assert float(edges.max()) == pytest.approx(1 / 2, abs=0.04)


@pytest.mark.parametrize(
    ("better", "interval", "green"),
    [("lower", (0.1, 0.2), True), ("lower", (0.1, 0.35), False), ("lower", (0.5, 0.6), False),
     ("higher", (0.5, 0.6), True), ("higher", (0.35, 0.6), False), ("higher", (0.1, 0.2), False)],
)  # fmt: skip
def test_green_is_an_interval_wholly_on_the_better_side(better, interval, green):
    row = {"method": "gradcam", "mean": np.mean(interval), "low": interval[0], "high": interval[1], "n": 9}
    control = {"method": "random", "mean": 0.35, "low": 0.3, "high": 0.4, "n": 9}
    assert ("clear" in trust_table._cell(row, control, better, False)) == green


def test_pictures_of_a_training_are_of_the_val_split(small, tmp_path, monkeypatch):
    from scale.attribution.report import files
    from scale.train import train

    seen = []
    original = files.picture_of
    monkeypatch.setattr(files, "picture_of", lambda raw, **more: seen.append(raw.copy()) or original(raw, **more))
    given = ["callbacks=explain", "callbacks.explanations.methods=[edges]", "logger=none", "budget.min_epochs=1"]
    train(scale.compose([*small, *given, "budget.max_epochs=1"]), tmp_path / "run")
    module = scale.load_run(tmp_path / "run").datamodule
    module.setup()
    val = module.splits["val"].images.gather(np.arange(24))
    assert seen
    assert all(any(np.array_equal(image, other) for other in val) for image in seen)
