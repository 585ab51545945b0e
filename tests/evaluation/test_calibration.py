"""Calibration against torchmetrics, and temperatures that are known beforehand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, recall_score
from torchmetrics.functional.classification import multiclass_calibration_error

from scale.evaluation.calibration import (
    RULES,
    TEMPERATURES,
    apply_temperature,
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)
from scale.evaluation.metrics import scores
from scale.tasks.problem import Problem


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_error_equals_torchmetrics(bins):
    rng = np.random.default_rng(bins)
    p = rng.dirichlet(np.ones(5), 500).astype(np.float32)
    y = rng.integers(0, 5, 500)
    want = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(y), num_classes=5, n_bins=bins)
    assert expected_calibration_error(p.max(1), p.argmax(1) == y, bins=bins) == pytest.approx(want.item(), abs=1e-6)


def test_bins_closed_form():
    found = reliability_bins(np.array([0.0, 0.5, 0.6, 1.0]), np.array([0, 1, 0, 1]), bins=2)
    np.testing.assert_array_equal(found.edges, [0, 0.5, 1])
    np.testing.assert_array_equal(found.counts, [2, 2])  # a bin holds its upper edge
    np.testing.assert_allclose(found.confidence, [0.25, 0.8])
    np.testing.assert_allclose(found.accuracy, [0.5, 0.5])
    assert expected_calibration_error(np.array([0.0, 0.5, 0.6, 1.0]), np.array([0, 1, 0, 1]), bins=2) == 0.275
    assert np.isnan(reliability_bins(np.array([0.9]), np.array([1]), bins=2).accuracy[0])


def test_temperature_closed_form():
    """Two classes with logit margin 2, right 3 times in 4: the loss is least where sigmoid(2 / T) = 3 / 4."""
    p = np.tile([1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))], (4, 1))
    found = fit_temperature(p, np.array([[1], [1], [1], [0]]), "binary")
    assert found == pytest.approx(2 / np.log(3), rel=1e-6)
    after = apply_temperature(p, found, "binary")
    np.testing.assert_allclose(after, np.tile([0.25, 0.75], (4, 1)), atol=1e-7)


@pytest.mark.parametrize(("name", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3), ("ordinal", 5)])
@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_temperature_that_spoilt_the_predictions_is_found(name, classes, temperature):
    rng = np.random.default_rng(0)
    problem = Problem(name, classes)
    p = problem.probabilities(torch.from_numpy(1.5 * rng.normal(size=(20_000, problem.outputs)))).numpy()
    if name == "multilabel":
        labels = (rng.random(p.shape) < p).astype(int)
    else:
        labels = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1)[:, None]
    spoilt = apply_temperature(p, 1 / temperature, name)
    found = fit_temperature(spoilt, labels, name)
    assert found == pytest.approx(temperature, rel=0.05)
    mended = apply_temperature(spoilt, found, name)
    before, after = scores(labels, spoilt, name), scores(labels, mended, name)
    assert after["acc"] == before["acc"]
    assert after["ece"] < before["ece"]
    assert after["log_loss"] < before["log_loss"]


@pytest.mark.parametrize(("name", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3)])
def test_temperature_divides_the_logits(name, classes):
    problem = Problem(name, classes)
    logits = 4 * torch.randn(50, problem.outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    want = problem.probabilities(logits / 2.5).numpy()
    np.testing.assert_allclose(apply_temperature(problem.probabilities(logits).numpy(), 2.5, name), want, atol=1e-12)


@pytest.mark.parametrize("name", ["binary", "multiclass", "multilabel", "ordinal"])
def test_certain_predictions_stay_finite(name):
    p = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = apply_temperature(p, 3.0, name)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found > 0.5, p > 0.5)


def test_separable_data_end_at_the_bound():
    p, labels = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0], [1]])
    assert fit_temperature(p, labels, "binary") == pytest.approx(TEMPERATURES[0])
    assert fit_temperature(p, 1 - labels, "binary") == pytest.approx(TEMPERATURES[1])


def test_what_no_temperature_can_be_of():
    with pytest.raises(ValueError, match="finite probabilities"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([[0]]), "binary")
    with pytest.raises(ValueError, match="above 0"):
        apply_temperature(np.array([[0.5, 0.5]]), 0.0, "binary")


def test_threshold_closed_form():
    truth = np.array([0, 0, 0, 1, 0, 1, 1], dtype=bool)
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8])
    assert choose_threshold(truth, score, "youden") == pytest.approx(0.35)  # 1 + 3/4, beside 2/3 + 1
    assert choose_threshold(truth, score, "f1") == pytest.approx(0.35)
    assert choose_threshold(truth, np.full(7, 0.3), "youden") == pytest.approx(0.15)  # all positive: as good as none
    assert np.isnan(choose_threshold(np.zeros(7, dtype=bool), score, "youden"))
    with pytest.raises(ValueError, match="allowed: youden, f1"):
        choose_threshold(truth, score, "best")


@pytest.mark.parametrize("rule", RULES)
def test_threshold_is_the_best_of_all(rule):
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.3
    score = np.round(1 / (1 + np.exp(-(rng.normal(size=200) + truth))) * 20) / 20

    def worth(threshold):
        found = score > threshold
        if rule == "f1":
            return f1_score(truth, found)
        return recall_score(truth, found) + recall_score(~truth, ~found)

    best = max(worth(t) for t in np.linspace(-0.025, 1.025, 22))
    assert worth(choose_threshold(truth, score, rule)) == pytest.approx(best)
