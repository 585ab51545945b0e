"""What a run has to show, in a form that no back end owns: numbers, figures, curves of test, samples."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scale.training.samples import Sample, samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask
    from scale.tasks.outputs import Outputs

POINTS = 9000  # of all curves of a chart together: W&B draws at most 10,000 rows


@dataclass(frozen=True)
class Charts:
    """Test as arrays.

    Attributes:
        names: of the classes or labels, (columns,).
        truth: (N, C) of 0 and 1, a column a question (binary: the positive class alone).
        score: (N, C).
        questions: names of the columns that have both answers, by column.
        confusion: (K, K), rows true; of several labels (L, 2, 2).
    """

    names: Sequence[str]
    truth: np.ndarray
    score: np.ndarray
    questions: Mapping[int, str]
    confusion: np.ndarray

    def roc(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """1 - specificity and sensitivity of each question."""
        from sklearn.metrics import roc_curve

        found = {name: roc_curve(self.truth[:, c], self.score[:, c])[:2] for c, name in self.questions.items()}
        return {name: self._thinned(x, y) for name, (x, y) in found.items()}

    def precision_recall(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Recall and precision of each question."""
        from sklearn.metrics import precision_recall_curve

        found = {}
        for c, name in self.questions.items():
            precision, recall, _ = precision_recall_curve(self.truth[:, c], self.score[:, c], drop_intermediate=True)
            found[name] = self._thinned(recall, precision)
        return found

    def _thinned(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        most = POINTS // len(self.questions)
        kept = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).round().astype(int))  # both ends stay
        return x[kept], y[kept]


@dataclass(frozen=True)
class Results:
    """What a finished training found.

    Attributes:
        summary: scores with the ends of their intervals and what they cost, by names such as `test/auc_low`.
        figures: by the names that they have in the run's `figures/`.
        charts: of the whole test split; None where it was not evaluated.
        samples: gives the first of the chosen test samples, with the map of a method or without one.
        folder: of the run.
        step: of the training's end.
        epoch: of the training's end.
    """

    summary: Mapping[str, float]
    figures: "Mapping[str, Figure]"
    charts: Charts | None
    samples: Callable[[int, str | None], list[Sample]]
    folder: Path
    step: int
    epoch: int


def summary(metrics: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Every score of a record with the ends of its interval, the kept epoch's val loss, seconds and size of the model.

    Args:
        metrics: most of `metrics.json`.
        history: rows of `history.csv`.
    """
    found: dict[str, Any] = {"best_epoch": metrics["best_epoch"]}
    for split in ("val", "test", "val_tta", "test_tta"):
        limits = metrics.get("intervals", {}).get(split, {})
        for name, value in metrics.get(split, {}).items():
            found[f"{split}/{name}"] = value
            if name in limits:
                found[f"{split}/{name}_low"], found[f"{split}/{name}_high"] = limits[name]
    kept = next((row for row in history if row["epoch"] == metrics["best_epoch"]), {})
    found |= {"val/loss": kept.get("val/loss"), "seconds/fit": metrics["seconds"]["fit"]}
    found |= {f"model/{name}": metrics["model"][name] for name in ("parameters", "macs")}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def charts(labels: np.ndarray, probabilities: np.ndarray, problem: str, names: Sequence[str]) -> Charts:
    """The arrays behind the charts of a split.

    Args:
        labels: (N, L).
        probabilities: (N, columns).
        problem: kind of the labels.
        names: of the classes or labels, (columns,).
    """
    from scale.evaluation import counts, metrics
    from scale.evaluation.curves import questions

    truth, score, chosen, texts = questions(labels, probabilities, problem, names)
    labels, probabilities = metrics.checked(labels, probabilities, problem)
    multilabel = problem == "multilabel"
    predicted = metrics.predicted_labels(probabilities, problem)
    cells = counts.Cells(labels, predicted, classes=probabilities.shape[1], multilabel=multilabel)
    confusion = cells(np.ones((len(labels), 1)))[..., 0].astype(int)
    return Charts(list(names), truth, score, dict(zip(chosen, texts, strict=True)), confusion)


def results(
    task: "ClassificationTask",
    datamodule: "ImageDataModule",
    outputs: "Mapping[str, Outputs]",
    metrics: Mapping[str, Any],
    figures: "Mapping[str, Figure]",
    *,
    folder: Path,
) -> Results:
    """What a finished training found.

    Args:
        task: with the kept weights.
        datamodule: of the run.
        outputs: by split.
        metrics: most of `metrics.json`.
        figures: of the run.
        folder: of the run.
    """
    from scale import runs

    test = outputs.get("test")
    history = runs.read_history(folder) if (folder / runs.HISTORY).exists() else []
    drawn = None
    if test is not None and not metrics["partial"]:
        drawn = charts(test.labels, test.probabilities, task.problem.name, list(datamodule.info.labels))

    @functools.cache
    def of_test(count: int, overlay: str | None) -> list[Sample]:
        return [] if test is None else samples(task, datamodule, test, count, overlay)

    numbers = {"step": metrics["steps"], "epoch": metrics["epochs"] - 1}
    return Results(summary(metrics, history), figures, drawn, of_test, folder, **numbers)
