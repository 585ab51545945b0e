"""DeLong's variance against pairs counted one by one, and how often its intervals and tests hold."""

import numpy as np
import pytest
from medmnist.evaluator import getAUC

from scale.evaluation import delong
from scale.evaluation.bootstrap import bootstrap

TRUE = 0.8
SHIFT = 1.1902  # between two normal distributions with an AUC of .8: sqrt(2) * probit(.8)


def slow_covariance(truth, scores):
    """DeLong, DeLong and Clarke-Pearson 1988 as it stands, with loops over all pairs."""
    x, y = scores[truth], scores[~truth]
    m, n, k = len(x), len(y), scores.shape[1]

    def order(a, b):
        return 1.0 if a > b else 0.5 if a == b else 0.0

    v10 = np.array([[np.mean([order(x[i, r], y[j, r]) for j in range(n)]) for i in range(m)] for r in range(k)])
    v01 = np.array([[np.mean([order(x[i, r], y[j, r]) for i in range(m)]) for j in range(n)] for r in range(k)])
    area = v10.mean(axis=1)
    s10 = np.array([[((v10[r] - area[r]) * (v10[s] - area[s])).sum() / (m - 1) for s in range(k)] for r in range(k)])
    s01 = np.array([[((v01[r] - area[r]) * (v01[s] - area[s])).sum() / (n - 1) for s in range(k)] for r in range(k)])
    return area, s10 / m + s01 / n


@pytest.mark.parametrize("coarse", [False, True])
def test_covariance_equals_the_slow_reference(coarse):
    rng = np.random.default_rng(0)
    truth = rng.random(40) < 0.4
    scores = rng.normal(size=(40, 3)) + truth[:, None]
    scores = np.round(scores) if coarse else scores
    area, found = delong.covariance(truth, scores)
    want_area, want = slow_covariance(truth, scores)
    np.testing.assert_allclose(area, want_area, atol=1e-12)
    np.testing.assert_allclose(found, want, atol=1e-10, rtol=0)
    for column in range(3):  # the parts of the official AUC have the same variance
        p = scores[:, column] / 20 + 0.5
        value, parts = delong.auc_parts(truth.astype(int), np.stack([1 - p, p], axis=1), "binary")
        assert value == pytest.approx(area[column], abs=1e-12)
        assert np.sum(parts**2) == pytest.approx(want[column, column], abs=1e-10)
        assert parts.sum() == pytest.approx(0, abs=1e-12)


def test_two_variances_need_two_samples_of_each_class():
    with pytest.raises(ValueError, match="1 positive, 3 negative"):
        delong.covariance(np.array([1, 0, 0, 0]), np.arange(4.0))


@pytest.mark.parametrize("problem", ["multiclass", "ordinal", "multilabel"])
def test_parts_of_a_mean_over_classes_have_the_spread_of_new_samples(problem):
    """Against the spread of the official AUC over 200 drawn test splits."""
    task = {"multiclass": "multi-class", "ordinal": "ordinal-regression", "multilabel": "multi-label, binary-class"}
    rng, areas, errors = np.random.default_rng(3), [], []
    for i in range(200):
        if problem == "multilabel":
            labels = rng.integers(0, 2, (150, 3))
            labels[:, 1] |= labels[:, 0]
            p = 1 / (1 + np.exp(-(rng.normal(size=(150, 3)) + 1.2 * labels)))
        else:
            labels = np.repeat(np.arange(3), 50)
            z = rng.normal(size=(150, 3)) + 1.2 * np.eye(3)[labels]
            p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        value, parts = delong.auc_parts(labels, p, problem)
        if i < 3:
            assert value == pytest.approx(getAUC(labels, p, task[problem]))
        areas.append(value)
        errors.append(np.sqrt(np.sum(parts**2)))
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.15)


def test_interval_stays_within_0_and_1_and_is_not_claimed_without_spread():
    found = delong.interval(0.99, 0.02)
    assert 0 < found.low < 0.99 < found.high < 1
    assert delong.interval(0.9, 0.02, level=0.5).low > delong.interval(0.9, 0.02).low
    labels = np.repeat([0, 1], 10)
    perfect = np.eye(2)[labels]
    assert np.isnan(delong.auc_interval(labels, perfect, "binary").low)


def test_paired_test_of_dependent_scores():
    """The variance of a difference is that of both less twice their covariance."""
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 60)
    common = rng.normal(size=120)
    first, second = (1 / (1 + np.exp(-(common + rng.normal(size=120) + labels))) for _ in range(2))
    first, second = (np.stack([1 - p, p], axis=1) for p in (first, second))
    found = delong.auc_test(labels, first, second, "binary")
    area, cov = delong.covariance(labels, np.stack([first[:, 1], second[:, 1]], axis=1))
    assert found.difference == pytest.approx(area[0] - area[1])
    assert found.error == pytest.approx(np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]))
    assert found.interval.low < found.difference < found.interval.high
    assert delong.auc_test(labels, first, first, "binary").p_value == 1
    assert np.isnan(delong.auc_test(np.zeros(120, int), first, second, "binary").p_value)


def binormal(rng):
    labels = np.repeat([0, 1], [42, 114])  # as many as the smallest official test split has
    p = 1 / (1 + np.exp(-(rng.normal(size=len(labels)) + SHIFT * labels)))
    return labels, np.stack([1 - p, p], axis=1)


@pytest.mark.slow
def test_intervals_hold_the_true_auc_as_often_as_they_say():
    rng, hits = np.random.default_rng(5), np.zeros(2)
    for i in range(400):
        labels, p = binormal(rng)
        for which, found in enumerate(
            (delong.auc_interval(labels, p, "binary"), bootstrap(labels, p, "binary", seed=i).metrics["auc"])
        ):
            hits[which] += found.low <= TRUE <= found.high
    print("coverage of DeLong and of the bootstrap:", hits / 400)
    assert (hits / 400 >= 0.93).all()
    assert (hits / 400 <= 0.97).all()


@pytest.mark.slow
def test_paired_test_rejects_equal_models_as_often_as_it_says():
    rng, rejected = np.random.default_rng(6), 0
    for _ in range(1000):
        labels = np.repeat([0, 1], [80, 40])
        common = rng.normal(size=120) + SHIFT * labels
        ours, theirs = (common + 0.7 * rng.normal(size=120) for _ in range(2))
        pair = [np.stack([1 - p, p], axis=1) for p in (1 / (1 + np.exp(-z)) for z in (ours, theirs))]
        rejected += delong.auc_test(labels, *pair, "binary").p_value < 0.05
    print("size of the paired test:", rejected / 1000)
    assert 0.03 <= rejected / 1000 <= 0.07
