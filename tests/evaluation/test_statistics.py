"""scipy, the paper's table, enumeration and simulation as oracles of tests and spreads."""

import itertools

import numpy as np
import pytest
from scipy import stats

from scale.evaluation import statistics


def test_mean_and_deviation_over_seeds():
    found = statistics.summarise([0.9, 0.8, 0.7])
    assert (found.mean, found.sd, found.n) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    assert np.isnan(statistics.summarise([0.9]).sd)
    assert np.isnan(statistics.summarise([]).mean)


@pytest.mark.parametrize(("only", "other", "want"), [(0, 0, 1.0), (1, 6, 0.125), (10, 1, 24 / 2**11)])
def test_mcnemar_closed_form(only, other, want):
    first = np.repeat([1, 0, 1, 0], [only, other, 5, 3])
    second = np.repeat([0, 1, 1, 0], [only, other, 5, 3])
    assert statistics.mcnemar(first, second) == pytest.approx(want)
    assert statistics.mcnemar(second, first) == pytest.approx(want)


def test_permutation_test_equals_all_swaps():
    rng = np.random.default_rng(1)
    first, second = rng.random(8), rng.random(8) - 0.2
    difference = first - second
    sums = [abs(np.dot(signs, difference)) for signs in itertools.product([1, -1], repeat=8)]
    want = np.mean(np.array(sums) >= abs(difference.sum()) - 1e-12)
    assert statistics.permutation_test(first, second, draws=20_000) == pytest.approx(want, abs=0.01)
    assert statistics.permutation_test(first, first) == 1
    assert statistics.permutation_test(np.ones(40), np.zeros(40), draws=999) == 0.001


def test_accuracy_is_compared_by_the_test_that_fits():
    labels = np.array([0, 1] * 20)
    good = np.eye(2)[labels]
    bad = np.eye(2)[np.where(np.arange(40) < 10, 1 - labels, labels)]
    assert statistics.accuracy_test(labels, good, bad, "binary") == pytest.approx(2 / 2**10)
    several = np.stack([labels, 1 - labels], axis=1)
    flipped = several.copy()
    flipped[:10, 0] = 1 - flipped[:10, 0]
    found = statistics.accuracy_test(several, several.astype(float), flipped.astype(float), "multilabel")
    assert found == pytest.approx(2 / 2**10, abs=1e-3)


def test_accuracy_parts_give_the_binomial_error():
    labels = np.repeat([0, 1], 50)
    p = np.eye(2)[np.where(np.arange(100) < 20, 1 - labels, labels)]
    value, parts = statistics.accuracy_parts(labels, p, "binary")
    assert value == 0.8
    assert parts.sum() == pytest.approx(0)
    assert np.sum(parts**2) == pytest.approx(0.8 * 0.2 / 99)


def test_the_two_spreads_are_told_apart():
    """Two seeds with the same mistakes vary not at all, but their mean is as uncertain as one of them."""
    part = np.array([0.1, -0.1, 0.2, -0.2])
    same = statistics.spread([0.8, 0.8], [part, part])
    assert same.seeds == 0
    assert same.samples == pytest.approx(np.sqrt(0.1))
    apart = statistics.spread([0.7, 0.9], [part, -part])
    assert apart.seeds == pytest.approx(np.sqrt(0.02))
    assert apart.samples == 0


# Demšar 2006, table 5(a)
@pytest.mark.parametrize(("methods", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_critical_difference_is_the_papers(methods, q):
    values = np.random.default_rng(0).random((14, methods))
    assert statistics.ranks(values).critical == pytest.approx(q * np.sqrt(methods * (methods + 1) / (6 * 14)), rel=3e-4)


def test_ranks_of_the_papers_example():
    """Demšar 2006, table 6: AUC of C4.5 with and without m and cf on 14 sets; average ranks and chi-squared 9.28."""
    values = np.array(
        [
            [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
            [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
            [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
            [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
            [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
        ]
    )  # fmt: skip
    found = statistics.ranks(values)
    np.testing.assert_allclose(found.average, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    assert found.statistic == pytest.approx(stats.friedmanchisquare(*values.T).statistic)
    assert found.p_value < 0.05
    # the differences of Nemenyi's test agree with its critical difference
    apart = np.abs(np.subtract.outer(found.average, found.average))
    assert ((found.pairs < 0.05) == (apart > found.critical)).all()
    assert found.sets == 14


def test_holm_closed_form():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    found = statistics.holm([0.02, float("nan"), 0.01])
    assert (found[0], found[2]) == (0.02, 0.02)
    assert np.isnan(found[1])


def test_cliques_are_the_largest_groups():
    assert statistics.cliques(np.array([1.0, 3.5, 1.5, 2.5]), 1.2) == [(1.0, 1.5), (1.5, 2.5), (2.5, 3.5)]
    assert statistics.cliques(np.array([1.0, 1.1, 1.2]), 1.0) == [(1.0, 1.2)]
    assert statistics.cliques(np.array([1.0, 3.0]), 1.0) == []


def test_ranks_need_enough():
    with pytest.raises(ValueError, match="at least 2 data sets and 3 methods"):
        statistics.ranks(np.ones((5, 2)))
    with pytest.raises(ValueError, match="every method on every data set"):
        statistics.ranks(np.array([[1, 2, np.nan], [1, 2, 3]]))
    assert statistics.ranks(np.ones((4, 3))).p_value == 1
