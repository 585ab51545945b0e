"""`report.html` of a run: what was trained on what, what came out with which uncertainty, and how to repeat it."""

import base64
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from scale import runs
from scale.data import catalog
from scale.evaluation import metrics as scoring
from scale.published import medmnist as published
from scale.reporting.page import render
from scale.reporting.run_figures import run_name
from scale.runs import read_config, read_environment, read_overrides
from scale.runs.sets import home, name_in
from scale.utils.files import write_text

NAME = "report.html"
SPLITS = {"val": "val", "test": "test", "val_tta": "val, TTA", "test_tta": "test, TTA"}
METRICS = {
    "auc": ("AUC", "official: mean over the classes or labels, each against the rest"),
    "acc": ("ACC", "official: share of right decisions; thresholds 0.5 for binary and multi-label"),
    "balanced_acc": ("balanced accuracy", "mean recall of the classes"),
    "macro_precision": ("precision, mean", "positive predictive value, mean over the classes"),
    "macro_recall": ("recall, mean", "sensitivity, mean over the classes"),
    "macro_specificity": ("specificity, mean", "mean over the classes"),
    "macro_f1": ("F1, mean", "mean over the classes"),
    "average_precision": ("average precision", "area below the precision-recall curve, mean over the classes"),
    "exact_match": ("subset accuracy", "all labels of a sample right"),
    "mcc": ("MCC", "Matthews' correlation coefficient"),
    "kappa": ("kappa", "Cohen's; for grades with quadratic weights"),
    "mae": ("mean absolute error", "in grades; lower is better"),
    "brier": ("Brier score", "lower is better"),
    "log_loss": ("log loss", "in nats; lower is better"),
    "ece": ("calibration error", f"{scoring.BINS} bins of equal width; lower is better; no interval, see below"),
}
OF_PROBLEM = {  # what a metric or a figure is where the words above do not say it
    ("binary", "average_precision"): "area below the precision-recall curve of the positive class",
    ("multilabel", "balanced_acc"): "mean of sensitivity and specificity, mean over the labels",
    ("multilabel", "confusion"): "Sensitivity and specificity of each label at the threshold 0.5.",
}
CAPTIONS = {
    "history": "Learning curves; the dotted line is the epoch whose weights the run keeps. Epochs count from 0.",
    "roc": "ROC. A band, where there is one curve, holds 95 % of the bootstrapped curves at each specificity.",
    "precision_recall": "Precision over recall. Of one curve: the same band, and dotted the share of positives.",
    "confusion": "Decisions: upper numbers and colours are shares of the true class, lower numbers counts.",
    "score_distributions": "Predicted probabilities of samples with and without a class.",
    "reliability": "Is a confidence of 0.8 right in 8 of 10? On the diagonal it is.",
    "mistakes": "The wrong predictions that were most certain: number in the split, true class, prediction.",
}


def write(folder: Path, record: Mapping[str, Any]) -> Path:
    """Writes the page into a finished run's folder, whole or not at all.

    Args:
        folder: of the run; its configuration, environment, predictions and figures are read.
        record: content of its `metrics.json`, with what `assessment.assess` found.

    Returns:
        The page's path.
    """
    write_text(folder / NAME, render("run.html", **_content(folder, record)))
    return folder / NAME


def _content(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template names."""
    flag, names = record["flag"], list(record.get("per_class", {}).get("names", []))
    shown = [split for split in SPLITS if split in record]
    return {
        "title": catalog.get(flag).title if flag in catalog.FLAGS else flag,
        "run": run_name(record),
        "record": record,
        "positive": names[1] if record["problem"] == "binary" and names else "",
        "splits": {split: SPLITS[split] for split in shown},
        "headline": "test" if "test" in record else "val",
        "rows": _rows(record, shown),
        "peers": published.best(flag),
        "classes": {split: _classes(record, split, names) for split in ("test", "val") if split in _assessed(record)},
        "undefined": {split: said for split, said in record.get("undefined", {}).items() if said},
        "thresholds": _thresholds(record, names),
        "figures": _figures(folder, record["problem"]),
        "environment": read_environment(folder),
        "config": OmegaConf.to_yaml(read_config(folder)),
        "repeat": " ".join(["python -m scale.train", *map(shlex.quote, read_overrides(folder))]),
        "folder": home(folder).name,
        "set": name_in(folder),
        "made": datetime.now(UTC).isoformat(sep=" ", timespec="minutes"),
        "check": _check(record),
    }


def _rows(record: Mapping[str, Any], splits: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for key, (name, usual) in METRICS.items():
        meaning = OF_PROBLEM.get((record["problem"], key), usual)
        if any(key in record[split] for split in splits):
            limits = {split: record.get("intervals", {}).get(split, {}).get(key) for split in splits}
            values = {split: record[split].get(key) for split in splits}
            rows.append({"key": key, "name": name, "meaning": meaning, "values": values, "limits": limits})
    return rows


def _assessed(record: Mapping[str, Any]) -> list[str]:
    return [split for split in record.get("per_class", {}) if split != "names"]


def _classes(record: Mapping[str, Any], split: str, names: Sequence[str]) -> list[dict[str, Any]]:
    found = record["per_class"][split]
    columns = [name for name in found if name != "intervals"]
    return [
        {
            "name": name,
            **{column: found[column][c] for column in columns},
            "limits": {column: rows[c] for column, rows in found["intervals"].items()},
        }
        for c, name in enumerate(names)
    ]


def _thresholds(record: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """A row a threshold and rule: of the positive class, or of each label."""
    found = record.get("thresholds")
    if not found:
        return []
    split = "test" if "test" in found else "val"
    asked = names[1:] if record["problem"] == "binary" else names
    rows = []
    for c, (name, value) in enumerate(zip(asked, found["values"], strict=True)):
        for rule, limit in (("official", 0.5), ("chosen", value)):
            rates = {key: values[c] for key, values in found[split][rule].items()}
            rows.append({"name": name, "rule": rule, "threshold": limit, **rates})
    return rows


def _figures(folder: Path, problem: str) -> dict[str, dict[str, str]]:
    """Those in `figures/`, by what they show."""
    found: dict[str, dict[str, str]] = {}
    for key, usual in CAPTIONS.items():
        caption = OF_PROBLEM.get((problem, key), usual)
        for path in (folder / runs.FIGURES / f"{prefix}{key}.png" for prefix in ("", "test_", "val_")):
            if path.is_file() and key not in found:
                found[key] = {"image": base64.b64encode(path.read_bytes()).decode(), "caption": caption}
    return found


def _check(record: Mapping[str, Any]) -> str:
    """A script that repeats the main numbers with scikit-learn, from the predictions alone."""
    split, problem = ("test" if "test" in record else "val"), record["problem"]
    lines = [
        "import numpy as np",
        "from sklearn import metrics",
        f'run = np.load("predictions/{split}.npz")',
        'labels, p = run["labels"], run["probabilities"]',
    ]
    match problem:
        case "multilabel":
            lines += ['print("AUC", metrics.roc_auc_score(labels, p))', 'print("ACC", np.mean((p > 0.5) == labels))']
            lines += ["decided, truth = p > 0.5, labels"]
        case "binary":
            lines += ["truth, decided = labels[:, 0], p[:, 1] > 0.5"]
            lines += ['print("AUC", metrics.roc_auc_score(truth, p[:, 1]))']
        case _:
            lines += ["truth, decided = labels[:, 0], p.argmax(axis=1)"]
            lines += ["each = [metrics.roc_auc_score(truth == c, p[:, c]) for c in range(p.shape[1])]"]
            lines += ['print("AUC", np.mean(each))']
    if problem != "multilabel":
        lines += ['print("ACC", metrics.accuracy_score(truth, decided))']
        lines += ['print("MCC", metrics.matthews_corrcoef(truth, decided))']
    lines += ["print(metrics.classification_report(truth, decided, digits=3))"]
    return "\n".join(lines)
