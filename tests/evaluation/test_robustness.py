"""The balanced error on corrupted images: against scikit-learn, its ratio, its means, its table and figure."""

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from scale.evaluation import robustness


def predictions(problem, columns, seed=0, n=80):
    rng = np.random.default_rng(seed)
    if problem == "multilabel":
        labels = (rng.random((n, columns)) < 0.4).astype(np.int64)
        return labels, lambda noise: np.clip(labels * 0.4 + 0.3 + rng.normal(0, noise, labels.shape), 0, 1)
    labels = rng.integers(0, columns, (n, 1))

    def probabilities(noise):
        logits = 2 * np.eye(columns)[labels[:, 0]] + rng.normal(0, noise, (n, columns))
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    return labels, probabilities


def measured(problem="multiclass", columns=3):
    labels, probabilities = predictions(problem, columns)
    keys = [("clean", 0), *[(name, severity) for name in ("blur", "noise") for severity in (1, 2, 3)]]
    least = 0.3 if problem == "multilabel" else 1.5
    found = {key: probabilities(least + key[1]) for key in keys}
    changes = {key: float(key[1]) for key in keys}
    return labels, found, robustness.results(labels, found, changes, problem)


@pytest.mark.parametrize(("problem", "columns"), [("binary", 2), ("multiclass", 3), ("ordinal", 4), ("multilabel", 3)])
def test_the_error_is_one_minus_balanced_accuracy(problem, columns):
    labels, found, results = measured(problem, columns)
    clean = results[0].error
    for result in results:
        p = found[result.corruption, result.severity]
        if problem == "multilabel":
            each = [balanced_accuracy_score(labels[:, c], p[:, c] > 0.5) for c in range(columns)]
            peer = 1 - np.mean(each)
        else:
            decided = p[:, 1] > 0.5 if problem == "binary" else p.argmax(axis=1)
            peer = 1 - balanced_accuracy_score(labels[:, 0], decided)
        assert math.isclose(result.error, peer, abs_tol=1e-12)
        assert math.isclose(result.ratio, peer / clean, rel_tol=1e-9)
    assert results[0].ratio == 1


def test_means_are_over_severities():
    _, _, results = measured()
    noise = [result.error for result in results if result.corruption == "noise"]
    row = next(row for row in robustness.means(results) if row.corruption == "noise")
    assert math.isclose(row.error, np.mean(noise))
    assert row.change == 2
    assert [row.corruption for row in robustness.means(results)] == ["blur", "noise"]


def test_a_perfect_classifier_has_no_ratio():
    labels = np.array([[0], [1], [0], [1]])
    right = np.eye(2)[labels[:, 0]]
    results = robustness.results(
        labels, {("clean", 0): right, ("x", 1): right}, {("clean", 0): 0, ("x", 1): 1}, "binary"
    )
    assert math.isnan(results[1].ratio)
    assert "undefined" in robustness.table(results)


def test_an_absent_class_has_no_balanced_error():
    labels = np.zeros((4, 1), dtype=np.int64)
    p = np.full((4, 2), 0.5)
    with pytest.raises(ValueError, match="no sample of class 1"):
        robustness.results(labels, {("clean", 0): p}, {("clean", 0): 0}, "binary")


def test_table_and_figure():
    _, _, results = measured()
    lines = robustness.table(results).splitlines()
    assert lines[0].endswith("| error at 1 | error at 2 | error at 3 |")
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["clean", "blur", "noise", "mean"]
    axes = robustness.figure(results, title="x").axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["noise"].get_xdata().tolist() == [0, 1, 2, 3]
    assert math.isclose(lines["noise"].get_ydata()[0], results[0].error)
