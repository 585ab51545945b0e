"""The figures of a run, from its predictions and its history."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scale.evaluation.bootstrap import Intervals
    from scale.evaluation.figure_style import Caption

MISTAKES = 12
SPLIT = ("roc", "precision_recall", "confusion", "score_distributions", "reliability")


def draw(
    record: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray] | None,
    history: Sequence[Mapping[str, float]],
    names: Sequence[str],
    *,
    title: str,
    split: str = "test",
    images: Mapping[int, np.ndarray] | None = None,
) -> dict[str, "Figure"]:
    """All figures by name, as they stand in a run's `figures/`.

    Args:
        record: content of `metrics.json`, with what `assessment.assess` found.
        arrays: `labels` (N, L) and `probabilities` (N, columns) of the split; None where it was not evaluated whole.
        history: rows of `history.csv`.
        names: of the classes or labels.
        title: of the data set.
        split: of the arrays.
        images: of the samples of `mistaken`, by row, (C, *S) each; without them there is no sheet of mistakes.
    """
    from scale.evaluation import calibration, figures, run_figures

    problem, found = record["problem"], {}
    where = f"{title}, {record['size']}"
    run = f"{run_name(record)}, seed {record['seed']}"
    if history:
        caption = _caption(where, "train and val", run, "")
        found["history"] = run_figures.history(history, kept=record["best_epoch"], caption=caption)
    if arrays is None:
        return found
    labels, probabilities = arrays["labels"], arrays["probabilities"]
    caption = _caption(where, split, run, names[1] if problem == "binary" else "")
    scored = (labels, probabilities, problem, names)
    intervals = _intervals(record, split)
    more: dict[str, dict[str, Any]] = {name: {"caption": caption} for name in SPLIT}
    more["roc"]["intervals"] = more["precision_recall"]["intervals"] = intervals
    if "calibration" in record:
        temperature = record["calibration"]["temperature"]
        more["reliability"]["calibrated"] = calibration.apply_temperature(probabilities, temperature, problem)
    if problem == "binary" and record.get("thresholds"):
        more["score_distributions"]["threshold"] = record["thresholds"]["values"][0]
    for name in SPLIT:
        found[f"{split}_{name}"] = getattr(figures, name)(*scored, **more[name])
    wrong = [mistake for mistake in mistaken(labels, probabilities, problem) if images and mistake[0] in images]
    if wrong and images:
        index = arrays.get("index", np.arange(len(labels)))
        texts = [_mistake(int(index[mistake[0]]), mistake, problem=problem, names=names) for mistake in wrong]
        shown = [images[row] for row, *_ in wrong]
        found[f"{split}_mistakes"] = run_figures.mistakes(shown, texts, caption=caption)
    return found


def mistaken(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> list[tuple[int, int, int, float]]:
    """What the sheet of mistakes shows; see `metrics.confident_mistakes`."""
    from scale.evaluation.metrics import confident_mistakes

    return confident_mistakes(labels, probabilities, problem, MISTAKES)


def run_name(record: Mapping[str, Any]) -> str:
    """Model and variant of a run, in words."""
    variant = record.get("variant", "")
    return f"{record['model']['name']}{f' ({variant})' if variant else ''}"


def _caption(data: str, split: str, run: str, positive: str) -> "Caption":
    from scale.evaluation.figure_style import Caption

    return Caption(data, split, run, positive)


def _intervals(record: Mapping[str, Any], split: str) -> "Intervals | None":
    """As the bootstrap gave them, from the record."""
    from scale.evaluation.bootstrap import Intervals

    if split not in record.get("intervals", {}):
        return None
    headline, classes = record["intervals"][split], record["per_class"][split]["intervals"]
    return Intervals(
        {name: _ends(ends) for name, ends in headline.items()},
        {name: [_ends(ends) for ends in rows] for name, rows in classes.items()},
    )


def _ends(ends: Sequence[float | None]) -> Any:
    from scale.evaluation.statistics import Interval

    low, high = (float("nan") if end is None else end for end in ends)
    return Interval(low, high)


def _mistake(number: int, found: tuple[int, int, int, float], *, problem: str, names: Sequence[str]) -> str:
    """Text under a mistake of `mistaken`."""
    from scale.evaluation.figure_style import short

    _, true, predicted, certain = found
    if problem == "multilabel":
        return f"no. {number}: {short(names[true])}\n{'found, is absent' if predicted else 'missed'} ({certain:.2f})"
    return f"no. {number}: {short(names[true])}\nas {short(names[predicted])} ({certain:.2f})"
