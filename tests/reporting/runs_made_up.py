"""Run folders as trainings leave them, without a training."""

import json
from pathlib import Path

import numpy as np

from scale.evaluation.metrics import scores

FLAGS = {"binary": "breastmnist", "multiclass": "bloodmnist", "multilabel": "chestmnist", "ordinal": "retinamnist"}
COLUMNS = {"binary": 2, "multiclass": 8, "multilabel": 14, "ordinal": 5}


def predictions(problem, n, *, seed, labels_seed=0, skill=1.5):
    """Labels that depend on `labels_seed` alone, and probabilities."""
    k = COLUMNS[problem]
    rng = np.random.default_rng(labels_seed)
    if problem == "multilabel":
        labels = (rng.random((n, k)) < 0.3).astype(np.int64)
        labels[0], labels[1] = 0, 1
        z = np.random.default_rng(seed).normal(size=(n, k)) + skill * labels - 1
        p = 1 / (1 + np.exp(-z))
    else:
        labels = rng.permutation(np.arange(n) % k)[:, None]
        z = np.random.default_rng(seed).normal(size=(n, k)) + skill * np.eye(k)[labels[:, 0]]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return {"index": np.arange(n), "labels": labels, "probabilities": p, "logits": z}


def make_run(folder: Path, problem="binary", *, seed=0, labels_seed=0, skill=1.5, n=(60, 120), **more):
    """A finished run without intervals, as older versions left it; returns its record."""
    (folder / "predictions").mkdir(parents=True)
    record = {"flag": FLAGS[problem], "size": 28, "seed": seed, "variant": "", "problem": problem}
    record |= {"num_classes": COLUMNS[problem], "samples": {"train": 200, "val": n[0], "test": n[1]}, "epochs": 3}
    record |= {"steps": 30, "fast_dev_run": False, "partial": False, "hardware": "1 CPU thread", "precision": "32-true"}
    record |= {"best_epoch": 1, "seconds": {"prepare": 0.5, "fit": 12.0, "evaluate": 1.0}}
    record["model"] = {"name": "scale", "parameters": 672226, "macs": 12_000_000}
    for number, split in enumerate(("val", "test")):
        arrays = predictions(problem, n[number], seed=2 * seed + number, labels_seed=labels_seed + number, skill=skill)
        np.savez(folder / "predictions" / f"{split}.npz", **arrays)
        found = scores(arrays["labels"], arrays["probabilities"], problem)
        record[split] = {key: found[key] for key in ("auc", "acc", "balanced_acc", "ece")}
    record |= more
    (folder / "metrics.json").write_text(json.dumps(record))
    (folder / "environment.json").write_text(json.dumps({"commit": "abc", "packages": {"torch": "2.6"}}))
    (folder / "config.yaml").write_text("seed: 0\nevaluation:\n  tta: false\n")
    (folder / "overrides.yaml").write_text(f"- data={FLAGS[problem]}\n- seed={seed}\n- 'variant=a b'\n")
    (folder / "history.csv").write_text("epoch,train/loss,val/loss,val/auc\n0,2,1,.7\n1,1.5,.8,.8\n2,1.2,.9,.81\n")
    return record
