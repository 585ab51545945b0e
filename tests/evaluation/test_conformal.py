"""Split conformal sets: closed form, MAPIE as a second opinion, and the coverage that is promised."""

import numpy as np
import pytest

from scale.evaluation import conformal


def drawn(problem, n, seed, classes=5):
    """Labels drawn from the very probabilities."""
    rng = np.random.default_rng(seed)
    if problem == "multilabel":
        p = rng.random((n, classes))
        return p, (rng.random((n, classes)) < p).astype(int)
    k = 2 if problem == "binary" else classes
    p = rng.dirichlet(np.full(k, 0.4), n)
    return p, (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)[:, None]


def test_closed_form():
    """Nine true probabilities .1 .. .9: the 8th smallest of 1 - p, for 80 %, is .8."""
    right = np.arange(1, 10) / 10
    p, labels = np.stack([right, 1 - right], axis=1), np.zeros((9, 1), int)
    found = conformal.calibrate(p, labels, "binary", coverage=0.8)
    assert found.thresholds == pytest.approx([0.8])
    members = found.sets(np.array([[0.9, 0.1], [0.7, 0.3]]), "binary")
    assert members.tolist() == [[True, False], [True, True]]
    measured = conformal.measure(members, np.array([[1], [1]]))
    assert (measured.coverage, measured.size, measured.single, measured.empty) == (0.5, 1.5, 0.5, 0)
    assert np.isnan(measured.per_class[0])
    assert measured.per_class[1] == 0.5


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("problem", ["binary", "multiclass", "ordinal", "multilabel"])
def test_new_samples_are_covered_as_often_as_promised(problem, coverage):
    p, labels = drawn(problem, 2000, 0)
    found = conformal.calibrate(p, labels, problem, coverage=coverage)
    p, labels = drawn(problem, 5000, 1)
    measured = conformal.measure(found.sets(p, problem), labels)
    assert measured.coverage == pytest.approx(coverage, abs=0.02)
    assert measured.size < p.shape[1]
    if problem == "multilabel":
        assert measured.per_class == pytest.approx([coverage] * 5, abs=0.03)


def test_equals_mapie():
    pytest.importorskip("mapie")
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """Its samples are their own probabilities."""

        def fit(self, X, y):
            self.classes_ = np.arange(X.shape[1])
            return self

        def predict_proba(self, X):
            return np.asarray(X)

        def predict(self, X):
            return np.asarray(X).argmax(axis=1)

    p, labels = drawn("multiclass", 300, 2)
    q, _ = drawn("multiclass", 400, 3)
    model = Given().fit(p, labels[:, 0])
    theirs = SplitConformalClassifier(model, confidence_level=0.9, conformity_score="lac", prefit=True)
    _, want = theirs.conformalize(p, labels[:, 0]).predict_set(q)
    members = conformal.calibrate(p, labels, "multiclass", coverage=0.9).sets(q, "multiclass")
    np.testing.assert_array_equal(members, np.asarray(want).reshape(members.shape))


def test_too_few_samples_promise_nothing():
    p, labels = drawn("multiclass", 8, 0)
    with pytest.raises(ValueError, match=r"coverage of 0.9 needs at least 9 calibration samples; got 8"):
        conformal.calibrate(p, labels, "multiclass", coverage=0.9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        conformal.calibrate(p, labels, "multiclass", coverage=90)
    assert [conformal.least_samples(c) for c in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]


def test_chance_allows_what_repeated_draws_give():
    found = conformal.expected(0.9, samples=60, tested=100)
    rng, seen = np.random.default_rng(0), []
    for _ in range(4000):
        scores = rng.random(160)
        seen.append(np.mean(scores[60:] <= np.sort(scores[:60])[55 - 1]))  # ceil(61 * .9) = 55
    low, high = found
    assert np.mean((np.array(seen) >= low) & (np.array(seen) <= high)) == pytest.approx(0.95, abs=0.02)
    assert conformal.expected(0.9, samples=6000, tested=100)[0] > low
