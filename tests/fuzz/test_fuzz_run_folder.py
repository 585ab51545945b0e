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
from scale.runs import resume, verify

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
    "key lost",
    "key odd",
)
ODD = (None, "abc", -1, 10**30, [], {}, float("nan"), True, "../../x", [1, [2]], {"_target_": "os.system"})


@pytest.fixture(scope="module")
def original(a_run):
    """What is right: the figures, predictions and weights of the run as it was written."""
    return runs.read_metrics(a_run), runs.read_predictions(a_run), scale.load_run(a_run).model.state_dict()


def change(path, name, how, place, amount, odd):
    if how == "missing":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "another file":
        root = path.parents[len(name.split("/")) - 1]
        shutil.copy(root / next(other for other in (*FILES[amount % len(FILES) :], *FILES) if other != name), path)
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


def one(a_run, original, folder, name, how, place, amount, odd):
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(a_run, copy)
    change(copy / name, name, how, place, amount, odd)
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
            resume.last_checkpoint(copy)


CASES = st.tuples(
    st.sampled_from(FILES), st.sampled_from(HOW), st.floats(0, 1), st.integers(0, 10**6), st.sampled_from(ODD)
)


@pytest.mark.filterwarnings("ignore")
def test_run_folders(a_run, original, tmp_path):
    run(FEW // 4, CASES, partial(one, a_run, original, tmp_path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_run_folders_many(a_run, original, tmp_path):
    run(MANY, CASES, partial(one, a_run, original, tmp_path))
