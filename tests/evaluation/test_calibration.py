"""Calibration against torchmetrics, and temperatures that are known beforehand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from scale.evaluation.calibration import TEMPERATURES, expected_calibration_error, fit_temperature, reliability_bins
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
    logits = torch.tensor([[0.0, 2.0]]).repeat(4, 1)
    labels = torch.tensor([[1], [1], [1], [0]])
    found = fit_temperature(logits, labels, loss=Problem("binary", 2).loss)
    assert found == pytest.approx(2 / np.log(3), rel=1e-6)


@pytest.mark.parametrize(("name", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3), ("ordinal", 5)])
@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_temperature_that_spoilt_the_logits_is_found(name, classes, temperature):
    problem = Problem(name, classes)
    g = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(20_000, problem.outputs, generator=g)
    p = problem.probabilities(logits)
    labels = torch.bernoulli(p, generator=g) if name == "multilabel" else torch.multinomial(p, 1, generator=g)
    found = fit_temperature(logits * temperature, labels.long(), loss=problem.loss)
    assert found == pytest.approx(temperature, rel=0.05)
    best = problem.loss(logits * temperature / found, labels.long())
    for factor in (0.9, 1.1):
        assert problem.loss(logits * temperature / found / factor, labels.long()) > best


def test_separable_data_end_at_the_bound():
    logits, labels = torch.tensor([[5.0, -5.0], [-5.0, 5.0]]), torch.tensor([[0], [1]])
    loss = Problem("binary", 2).loss
    assert fit_temperature(logits, labels, loss=loss) == pytest.approx(TEMPERATURES[0])
    assert fit_temperature(logits, 1 - labels, loss=loss) == pytest.approx(TEMPERATURES[1])
    with torch.no_grad():  # works where the caller records no gradients
        assert fit_temperature(logits, labels, loss=loss) == pytest.approx(TEMPERATURES[0])


def test_logits_must_be_finite():
    with pytest.raises(ValueError, match="finite logits"):
        fit_temperature(torch.tensor([[np.nan, 0.0]]), torch.tensor([[0]]), loss=Problem("binary", 2).loss)
