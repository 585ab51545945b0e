"""Whether a finished run's figures are those of its own files: sums of the files, and the scores recomputed."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from scale.evaluation.metrics import scores
from scale.runs.inputs import NAME as PREPROCESSING
from scale.runs.reading import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    HISTORY,
    INIT_FROM,
    METRICS,
    OVERRIDES,
    PREDICTIONS,
    SPLITS,
    read_config,
    read_metrics,
    read_predictions,
)
from scale.runs.sets import SETS, names
from scale.utils.files import sha256_of, strict

SUMS = "sha256"  # in `metrics.json`: sums by the files' paths in the run folder
TOLERANCE = 1e-6  # between figures computed by other versions of the libraries
RECORD = (CONFIG, OVERRIDES, ENVIRONMENT, HISTORY, PREPROCESSING, INIT_FROM)
ESSENTIAL = ("auc", "acc")
NO_SUMS = f"{METRICS} has no {SUMS} of checkpoint and predictions: the run was made by earlier code, or was changed"
BEST = f"{CHECKPOINTS}/best.ckpt"


def sums(folder: Path) -> dict[str, str]:
    """The sha256 sums of the best checkpoint, all predictions and the record, by their paths in the run folder."""
    files = [folder / BEST, *sorted((folder / PREDICTIONS).glob("*.npz")), *(folder / name for name in RECORD)]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files if path.is_file()}


def sealed(metrics: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What `metrics.json` is to hold: the metrics, with the sums of the folder's files and of themselves."""
    kept = {key: value for key, value in metrics.items() if key != SUMS}
    return {**kept, SUMS: {**sums(folder), METRICS: _own_sum(kept)}}


def _own_sum(metrics: Mapping[str, Any]) -> str:
    text = json.dumps(strict({key: value for key, value in metrics.items() if key != SUMS}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def verify(folder: str | Path) -> list[str]:
    """What in a finished run's folder contradicts its `metrics.json`.

    Needs no data and computes nothing with the network: sums of checkpoint and predictions, the predictions' own
    sense (rows once each, labels that exist, probabilities), and every score of every split, recomputed from them.
    Someone who changes the files and the sums alike is not found out: that takes the checkpoint and the data, as
    `python -m scale.evaluate run=...` does.

    Returns:
        Differences, a line each; none: the run is verified.

    Raises:
        FileNotFoundError: the folder is no run, or the run has not finished.
        ValueError: `metrics.json` is damaged.
    """
    folder = Path(folder).expanduser()
    metrics = read_metrics(folder)
    return list(_differences(folder, metrics))


def wrong_predictions(arrays: Mapping[str, np.ndarray], metrics: Mapping[str, Any]) -> str | None:
    """What makes saved predictions of a split no predictions of a run with these metrics; None if nothing does."""
    lacking = [name for name in ("index", "probabilities", "labels") if name not in arrays]
    if lacking:
        return f"there is no {', '.join(lacking)} in it"
    index, labels = arrays["index"], arrays["labels"]
    if index.ndim != 1 or index.dtype.kind not in "iu" or labels.ndim != 2 or labels.dtype.kind not in "iu":
        return "index (N,) and labels (N, L) must be whole numbers"
    if not len(index) or len(index) != len(labels) or len(index) != len(arrays["probabilities"]):
        return f"{len(index)} indices, {len(labels)} labels, {len(arrays['probabilities'])} probabilities"
    if index.min() < 0 or len(np.unique(index)) != len(index):
        return "an index is negative or occurs twice"
    whole = not (metrics.get("partial") or metrics.get("fast_dev_run"))
    if whole and int(index.max()) != len(index) - 1:
        return f"the indices are not 0 to {len(index) - 1}"
    if metrics.get("problem") != "multilabel" and arrays["probabilities"].shape[1:] != (metrics.get("num_classes"),):
        return f"probabilities of shape {arrays['probabilities'].shape} for {metrics.get('num_classes')} classes"
    if "logits" in arrays:
        import torch

        from scale.tasks.problem import Problem

        logits = arrays["logits"]
        problem = Problem(str(metrics.get("problem")), int(metrics.get("num_classes", 0)))
        if logits.shape != (len(index), problem.outputs) or not np.isfinite(logits).all():
            return f"logits of shape {logits.shape} are not (N, {problem.outputs}) finite numbers"
        expected = problem.probabilities(torch.from_numpy(logits).double()).numpy()
        if not np.allclose(expected, arrays["probabilities"], rtol=0, atol=1e-5):
            return "the probabilities are not those of the logits"
    return None


def different(recorded: Mapping[str, Any], found: Mapping[str, Any], *, tolerance: float = TOLERANCE) -> dict[str, str]:
    """Scores in which the record of a split is not what is found: `.913 recorded, .588 found` by name."""
    texts = {}
    for name in (*recorded, *(name for name in found if name not in recorded)):
        then, now = _number(recorded.get(name)), _number(found.get(name))
        if name not in recorded and name not in ESSENTIAL:
            continue  # earlier code had fewer scores
        if name not in found or name not in recorded or not _same(then, now, tolerance):
            texts[name] = f"{_shown(recorded, name)} recorded, {_shown(found, name)} found"
    return texts


def _differences(folder: Path, metrics: Mapping[str, Any]) -> Iterator[str]:
    yield from _wrong_sums(folder, metrics)
    yield from _other_run(folder, metrics)
    if joint := names(metrics):
        yield from _of_sets(folder, metrics, joint)
        return
    recorded = [split for split in SPLITS if split in metrics]
    if "val" not in recorded:
        yield f"{METRICS} has no figures of val"
    try:
        predictions = read_predictions(folder)
    except ValueError as error:
        yield str(error)
        return
    for split in recorded:
        path = f"{PREDICTIONS}/{split}.npz"
        if split not in predictions:
            yield f"{path} is not there, but {METRICS} has figures of {split}"
            continue
        arrays = predictions[split]
        try:
            reason = wrong_predictions(arrays, metrics)
            found = {} if reason else scores(arrays["labels"], arrays["probabilities"], str(metrics.get("problem")))
        except (ValueError, TypeError) as error:
            reason = str(error)
        if reason:
            yield f"{path}: {reason}"
            continue
        count = metrics.get("samples", {}).get(split.removesuffix("_tta"))
        if count != len(arrays["labels"]):
            yield f"samples/{split}: {count} recorded, {len(arrays['labels'])} predictions"
        for name, text in different(metrics[split], found).items():
            yield f"{split}/{name}: {text}"


def _of_sets(folder: Path, metrics: Mapping[str, Any], joint: Sequence[str]) -> Iterator[str]:
    """What contradicts the record of a joint run: each set's own, and the means over them."""
    found = {}
    for name in joint:
        place = folder / SETS / name
        try:
            yield from (f"{name}: {text}" for text in verify(place))
            found[name] = read_metrics(place)
        except (ValueError, OSError) as error:
            yield f"{name}: {error}"
    for split in (split for split in SPLITS if split in metrics and len(found) == len(joint)):
        for key, value in metrics[split].items():
            values = [_number(of_set.get(split, {}).get(key)) for of_set in found.values()]
            known = [each for each in values if each is not None]
            mean = sum(known) / len(known) if len(known) == len(values) else None
            if not _same(_number(value), mean, TOLERANCE):
                yield f"{split}/{key}: {value!r:.40} recorded, but the mean over the data sets is {mean!r:.40}"


def _other_run(folder: Path, metrics: Mapping[str, Any]) -> Iterator[str]:
    """What `metrics.json` says of the run that its configuration does not."""
    try:
        config = read_config(folder)
    except (ValueError, OSError) as error:
        yield str(error)
        return
    asked = {
        "seed": config.get("seed"),
        "variant": config.get("variant"),
        "flag": OmegaConf.select(config, "data.flag"),
    }
    for key, value in asked.items():
        if value is not None and metrics.get(key) != value:
            yield f"{key}: {metrics.get(key)!r:.60} in {METRICS}, {value!r:.60} in {CONFIG}"


def _wrong_sums(folder: Path, metrics: Mapping[str, Any]) -> Iterator[str]:
    recorded = metrics.get(SUMS)
    if not isinstance(recorded, Mapping) or not recorded:
        yield NO_SUMS
        return
    found = {**sums(folder), METRICS: _own_sum(metrics)}
    for name in sorted({*recorded, *found}):
        if name not in found:
            yield f"{name!s:.80} is not there"
        elif name not in recorded:
            yield f"{name} is not in {METRICS}: it was added later"
        elif recorded[name] != found[name]:
            yield f"{name} is not the file that the run wrote: its sha256 differs"


def _number(value: Any) -> float | None:
    """A score as a float; None for what JSON has as null (nan), and for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _same(then: float | None, now: float | None, tolerance: float) -> bool:
    if then is None or now is None:
        return then is now
    return abs(then - now) <= tolerance


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "not"
    value = values[name]
    return f"{value:.6g}" if isinstance(value, float) else f"{value!r:.40}"
