"""A finished run's figures from its checkpoint, compared with its record; a prediction file's scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scale.data import catalog, store
from scale.evaluation import official
from scale.evaluation.metrics import scores
from scale.runs import check_whole, verify
from scale.runs.folder import add_averaged
from scale.runs.load import load_run
from scale.runs.predict import predict
from scale.runs.tta import predict as tta_predict
from scale.tasks.outputs import Averaged, Outputs

TOLERANCE = 1e-6  # between figures recomputed on the same kind of device
CLOSE = 1e-4  # between probabilities: batches of another size sum in another order


def evaluate_run(
    folder: str | Path,
    *,
    device: str = "cpu",
    data: dict[str, Any] | None = None,
    tta: bool = False,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Recomputes val and test figures from the best checkpoint.

    Args:
        folder: of a finished run.
        device: where to compute.
        data: changes to the run's `data` node, such as another `root`.
        tta: also with test-time augmentation. A run that was trained without it gets these figures added to its record,
            `val_tta` and `test_tta`, if its plain figures are reproduced.
        allow: modules of yours that the run's configuration may name.

    Returns:
        `val` and, if the run has it, `test` (`val_tta` and `test_tta`), each with its scores; `difference`: the largest
        absolute difference to `metrics.json` or to the saved predictions; `problems`: a line for all that contradicts
        the record; `sums`: whether it has sums of its files; `added`: whether figures were added to it.

    Raises:
        ValueError: the record has no figures to compare with, or names code that is not allowed.
    """
    run = load_run(folder, data=data, allow=allow)
    if not _splits(run.metrics):
        raise ValueError(f"{folder}: its metrics.json has no figures of val or test, so there is nothing to agree with")
    if tta:
        check_whole(run.metrics, folder)
    run.datamodule.setup()
    again = lambda: {split: Outputs(**predict(run, split, device=device)) for split in _splits(run.metrics)}  # noqa: E731
    outputs = again()
    averaged = tta_predict(run.datamodule, outputs, again) if tta else {}
    found: dict[str, Any] = {}
    differences = [0.0]
    problems = [text for text in verify.verify(folder) if text != verify.NO_SUMS]  # older runs: recomputed all the same
    predicted: dict[str, Outputs | Averaged] = {**outputs, **averaged}
    for split, output in predicted.items():
        saved = run.predictions.get(split, {})
        wrong = verify.wrong_predictions(saved, run.metrics) if saved else None
        seen = saved["index"] if saved and not wrong else slice(None)  # all, or a fast_dev_run's
        if not isinstance(seen, slice) and seen.max() >= len(output.labels):
            problems.append(f"{split}: predictions of {seen.max() + 1} samples, but the split has {len(output.labels)}")
            seen = slice(None)
        elif saved and not wrong:
            if not np.array_equal(saved["labels"], output.labels[seen]):
                problems.append(f"{split}: the saved labels are not those of the data")
            gap = np.abs(saved["probabilities"] - output.probabilities[seen]).max()
            if not gap <= CLOSE:
                problems.append(f"{split}: the network's probabilities differ from the saved ones by up to {gap:.1e}")
        found[split] = scores(output.labels[seen], output.probabilities[seen], run.metrics["problem"])
        recorded = run.metrics.get(split, {})
        if split in run.metrics:
            others = verify.different(recorded, found[split], tolerance=TOLERANCE)
            problems += [f"{split}/{name}: {text}" for name, text in others.items()]
        known = [(found[split].get(name), value) for name, value in recorded.items() if isinstance(value, float)]
        differences += [abs(now - value) for now, value in known if now is not None]
    new = {split: output for split, output in averaged.items() if split not in run.metrics}
    added = bool(new) and not problems
    if added:
        add_averaged(run.folder, new, found)
    return {
        **found,
        "difference": max(differences),
        "problems": problems,
        "sums": verify.SUMS in run.metrics,
        "added": added,
    }


def score_file(path: str | Path, *, data: Mapping[str, Any]) -> dict[str, Any]:
    """Official `auc` and `acc` of a file in the official format; data set, size and split come from its name.

    `intervals` has those of both, and DeLong's of the AUC; `positive` names the positive class of a binary set.
    """
    name = official.parse_name(path)
    splits = store.load(
        name.flag,
        size=name.size,
        splits=(name.split,),
        **{key: value for key, value in data.items() if key != "path"},
    )
    labels = splits[name.split].labels
    info = catalog.get(name.flag)
    positive = info.labels[1] if info.problem == "binary" else ""
    return {**official.score(path, labels), "intervals": official.intervals(path, labels), "positive": positive}


def _splits(scores: Mapping[str, Any]) -> list[str]:
    """Those that a run was evaluated on; `test=false` leaves test out."""
    return [split for split in ("val", "test") if split in scores]
