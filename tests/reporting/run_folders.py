"""Run folders whose predictions are drawn at random: what a report needs of a run, without a training."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from scale.config import compose
from scale.evaluation.metrics import official_scores

TEST = 156  # of BreastMNIST


@cache
def _config(*overrides):
    return OmegaConf.to_yaml(compose(["data=breastmnist", "model=scale_tiny", *overrides]), resolve=False)


def labels():
    return (np.random.default_rng(99).random((TEST, 1)) < 0.73).astype(np.int64)


def make_run(folder: Path, *, seed=0, strength=1.5, truth=None, overrides=(), **changes):
    """A finished run on BreastMNIST; the more `strength`, the better. `changes` go into its `metrics.json`."""
    truth = labels() if truth is None else truth
    rng = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-(strength * (truth[:, 0] - 0.5) + rng.normal(size=len(truth)))))
    probabilities = np.stack([1 - score, score], axis=1)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(_config(*overrides))
    (folder / "predictions").mkdir()
    save(folder, index=np.arange(len(truth)), probabilities=probabilities, labels=truth)
    metrics = {
        "flag": "breastmnist",
        "size": 28,
        "seed": seed,
        "variant": "",
        "problem": "binary",
        "num_classes": 2,
        "val": {"auc": 0.9, "acc": 0.9},
        "test": official_scores(truth, probabilities, "binary"),
        "samples": {"train": 546, "val": 78, "test": len(truth)},
        "fast_dev_run": False,
        "partial": False,
        "hardware": "1 CPU threads, this one",
        "model": {"name": "scale_tiny", "parameters": 113814, "macs": 3847416},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    return folder


def save(folder, **arrays):
    np.savez_compressed(folder / "predictions" / "test.npz", logits=arrays["probabilities"], **arrays)
