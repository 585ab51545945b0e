"""Run folders: each file missing, empty, truncated, with a flipped bit, of another run, of another version."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from omegaconf import OmegaConf
from promise import FEW, MANY, kept, run

import scale
from scale import runs
from scale.runs import read_overrides, resume, verify
from scale.tasks.build import build_task
from scale.tasks.problem import Problem
from scale.train import train

FILES = (
    *("metrics.json", "config.yaml", "environment.json", "overrides.yaml", "history.csv"),
    *("predictions/val.npz", "predictions/test.npz", "checkpoints/best.ckpt", "checkpoints/last.ckpt"),
)
HOW = (
    "missing",
    "empty",
    "truncated",
    "flipped",
    "flipped",
    "inserted",
    "a folder",
    "another file",
    "another run",
    "another version",
    "key lost",
    "key odd",
)
ODD = (None, "abc", -1, 10**30, [], {}, float("nan"), True, "../../x", [1, [2]], {"_target_": "os.system"})


@pytest.fixture(scope="module")
def original(a_run):
    """What is right: the figures, predictions and weights of the run as it was written."""
    return runs.read_metrics(a_run), runs.read_predictions(a_run), scale.load_run(a_run).model.state_dict()


@pytest.fixture(scope="module")
def other(a_run, tmp_path_factory):
    """A run of the same network on the same data, with another seed."""
    given = [text for text in read_overrides(a_run) if not text.startswith("budget")]
    given += ["seed=1", "budget.min_epochs=1", "budget.max_epochs=1"]
    folder = tmp_path_factory.mktemp("other") / "run"
    train(scale.compose(given), folder, overrides=given)
    return folder


def of_another_version(path, amount):
    """The file as other code would have written it."""
    if path.name == "metrics.json":
        content = json.loads(path.read_text())
        for key in (["sha256"], ["sha256", "per_class", "intervals"], ["partial", "precision"])[amount % 3]:
            content.pop(key, None)
        path.write_text(json.dumps(content))
    elif path.name == "environment.json":
        path.write_text(json.dumps({**json.loads(path.read_text()), "source": "0" * 64, "commit": "0" * 40}))
    elif path.name == "overrides.yaml":
        path.write_text(path.read_text() + ("- augment.quarter_turns=true\n", "- data.balance=root\n")[amount % 2])
    elif path.name == "config.yaml":
        content = OmegaConf.load(path)
        content.augment.quarter_turns = content.augment.pop("rotate90")
        content.model._target_ = (content.model._target_, "scale.models.net.ScaleNet")[amount % 2]
        OmegaConf.save(content, path)
    elif path.name == "history.csv":
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([f"{head},more", *(f"{row},1" for row in rows)]) + "\n")
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            content = dict(arrays)
        content.pop("logits") if amount % 2 else content.update(more=np.zeros(3))
        np.savez(path, **content)
    else:
        state = torch.load(path, weights_only=True)
        weights = state["state_dict"]
        if amount % 3 == 0:
            state["pytorch-lightning_version"] = "99.0.0"
        elif amount % 3 == 1:
            weights["net.more"] = torch.zeros(3)
        else:
            weights.popitem()
        torch.save(state, path)


def change(path, name, how, place, amount, odd, other):
    if how == "missing":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "another file":
        root = path.parents[len(name.split("/")) - 1]
        shutil.copy(root / next(other for other in (*FILES[amount % len(FILES) :], *FILES) if other != name), path)
    elif how == "another run":
        shutil.copy(other / name, path)
    elif how == "another version":
        of_another_version(path, amount)
    elif how.startswith("key") and path.suffix == ".json":
        content = json.loads(path.read_text())
        _alter(content, how, amount, odd)
        path.write_text(json.dumps(content))
    elif how.startswith("key") and path.suffix == ".yaml" and path.name == "config.yaml":
        content = OmegaConf.to_container(OmegaConf.load(path))
        _alter(content, how, amount, odd)
        OmegaConf.save(OmegaConf.create(content), path)
    else:
        data = bytearray(path.read_bytes())
        at = int(place * len(data)) % max(len(data), 1)
        if how == "empty":
            data.clear()
        elif how == "truncated":
            del data[at:]
        elif how == "inserted":
            data[at:at] = bytes([amount % 256])
        else:
            data[at] ^= 1 << amount % 8
        path.write_bytes(bytes(data))


def _alter(content, how, amount, odd):
    """Loses a key at some depth, or gives it an odd value."""
    node = content
    while True:
        keys = sorted(node)
        key = keys[amount % len(keys)]
        if isinstance(node[key], dict) and node[key] and amount % 3:
            node, amount = node[key], amount // 2
            continue
        if how == "key lost":
            del node[key]
        else:
            node[key] = odd
        return


def one(a_run, other, original, folder, name, how, place, amount, odd):
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(a_run, copy)
    change(copy / name, name, how, place, amount, odd, other)
    metrics, predictions, weights = original
    room = "folder"
    with kept(room, str(copy)):
        run = scale.load_run(copy)
        differences = verify.verify(copy)
        runs.read_history(copy)
        if differences:
            raise ValueError(f"{copy}: {differences[0]}")
        assert verify.strict(run.metrics) == verify.strict(metrics)
        for split, arrays in predictions.items():
            for key, values in arrays.items():
                np.testing.assert_array_equal(run.predictions[split][key], values)
        for key, value in run.model.state_dict().items():
            assert torch.equal(value, weights[key])
    with kept(room, str(copy)):
        if (copy / "metrics.json").is_file():
            (copy / "metrics.json").unlink()
        if not (copy / "metrics.json").exists():
            expanded = resume.expand([f"resume={copy}"])
            config = scale.compose([text for text in expanded if not text.startswith("hydra.")])
            resume.check(config, copy)
            checkpoint = resume.last_checkpoint(copy)
            if checkpoint is not None:
                shape = metrics["image_shape"]
                resume.check_weights(build_task(config, Problem(metrics["problem"], 2), image_shape=shape), checkpoint)


CASES = st.tuples(
    st.sampled_from(FILES), st.sampled_from(HOW), st.floats(0, 1), st.integers(0, 10**6), st.sampled_from(ODD)
)


@pytest.mark.filterwarnings("ignore")
def test_run_folders(a_run, other, original, tmp_path):
    run(FEW // 4, CASES, partial(one, a_run, other, original, tmp_path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_run_folders_many(a_run, other, original, tmp_path):
    run(MANY, CASES, partial(one, a_run, other, original, tmp_path))
