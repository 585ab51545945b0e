"""A cross-validation's predictions in one table: each sample once, by the run that neither trained nor chose on it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scale.data import folds
from scale.evaluation.metrics import scores
from scale.runs import CONTENT, read_config, read_metrics, read_predictions
from scale.runs.inputs import read as read_inputs
from scale.utils.files import read_csv, write_csv

NAME, KEY = "out_of_fold.csv", "data.fold"


def write(root: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Writes `out_of_fold.csv` of a sweep over folds.

    Args:
        root: the sweep's folder.
        rows: what became of every job, as `report.collect` gives it.

    Returns:
        Lines to print: the pooled metrics of each setting, or what is missing in it.
    """
    members: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        setting = " ".join(f"{key}={value}" for key, value in row["settings"].items() if key != KEY)
        members.setdefault(setting, []).append(row)
    table: list[dict[str, Any]] = []
    lines = []
    for setting, jobs in members.items():
        name = setting or "all folds"
        left = [str(job["settings"].get(KEY, "")) for job in jobs if job["status"] != "done"]
        if left:
            lines.append(f"out of fold, {name}: not pooled, fold {', '.join(left)} is not done")
            continue
        try:
            pooled, problem = pool([Path(job["folder"]) for job in jobs])
        except ValueError as error:
            lines.append(f"out of fold, {name}: not pooled, {error}")
            continue
        order = np.argsort(pooled["index"])
        if len(np.unique(pooled["index"])) != len(order):
            raise ValueError(
                f"{root}: {name}: a sample is predicted by two folds, which were not made by one preparation"
            )
        found = scores(pooled["labels"][order], pooled["probabilities"][order], problem)
        counts = f"(n = {len(order)}, {len(jobs)} folds)"
        lines.append(f"out of fold, {name}: AUC {found['auc']:.3f}  ACC {found['acc']:.3f}  {counts}")
        classes = pooled["classes"]
        for place in order:
            row = {"setting": setting, "fold": int(pooled["fold"][place]), "index": int(pooled["index"][place])}
            row |= {"path": pooled["path"][place], "label": " ".join(map(str, pooled["labels"][place]))}
            table.append(
                row | {f"p_{k}": float(p) for k, p in zip(classes, pooled["probabilities"][place], strict=True)}
            )
    if table:
        columns = list(dict.fromkeys(key for row in table for key in row))
        write_csv(root / NAME, columns, table)
        lines.append(f"out-of-fold predictions: {root / NAME}")
    return lines


def pool(folders: Sequence[Path]) -> tuple[dict[str, Any], str]:
    """Test predictions of runs on different folds, one behind the other, and the problem.

    Returns:
        `index` (N,) in the table of samples, `path` (N,) of each, `fold` (N,), `labels` (N, L), `probabilities`
        (N, columns) and the names of the `classes`.

    Raises:
        ValueError: a run is on no fold, or on other data than the file has now, or the runs together do not test every
            sample of the file.
    """
    from scale.data.own import NpzDataModule  # they import torch, which a sweep's own process does without
    from scale.tasks.build import build_datamodule

    parts: dict[str, list[np.ndarray]] = {"index": [], "fold": [], "labels": [], "probabilities": []}
    samples: set[int] = set()
    names: dict[int, str] = {}
    for folder in folders:
        config, metrics = read_config(folder), read_metrics(folder)
        module = build_datamodule(config)
        if not isinstance(module, NpzDataModule) or module.fold is None:
            raise ValueError(f"{folder} is a run on no fold: {KEY} is not given")
        path = module.file()
        module.setup()
        if metrics.get(CONTENT) not in (None, module.content):
            raise ValueError(f"{folder} was trained on other images or folds than {path} has now: train it again")
        _, index = folds.stored(path)
        rows = index[folds.rows_of_fold(path, module.fold)["test"]]
        found = read_predictions(folder)["test"]
        parts["index"].append(rows[found["index"]])
        parts["fold"].append(np.full(len(found["index"]), module.fold))
        parts["labels"].append(found["labels"])
        parts["probabilities"].append(found["probabilities"])
        samples |= {int(row) for row in index}
        listed = path.with_suffix(".files") / "samples.csv"
        if not names and listed.is_file():
            names = {int(row["index"]): row["path"] for row in read_csv(listed)}
    pooled: dict[str, Any] = {key: np.concatenate(values) for key, values in parts.items()}
    lacking = samples - {int(row) for row in pooled["index"]}
    if lacking:
        raise ValueError(f"{len(lacking)} of {len(samples)} samples are in none of the folds that were run")
    pooled["path"] = [names.get(int(row), "") for row in pooled["index"]]
    pooled["classes"] = read_inputs(folders[0], metrics).classes
    return pooled, metrics["problem"]
