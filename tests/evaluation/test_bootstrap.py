"""The vectorised bootstrap against resamples scored one by one."""

import numpy as np
import pytest
from test_metrics import sample

from scale.evaluation import bootstrap as module
from scale.evaluation import metrics
from scale.evaluation.bootstrap import bootstrap, strata, weights


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("problem", metrics.PROBLEMS)
def test_every_resample_has_the_scores_of_its_repeated_samples(problem, coarse):
    labels, p = sample(problem, n=90, seed=4, coarse=coarse)
    flat = labels if problem == "multilabel" else labels[:, 0]
    drawn = next(weights(strata(labels, problem), resamples=8, seed=1))
    found, classes = module._Drawn(flat, p.astype(float), problem)(drawn)
    for r in range(8):
        rows = np.repeat(np.arange(90), drawn[:, r].astype(int))
        want = metrics.scores(labels[rows], p[rows], problem)
        assert set(found) == set(want) - {"ece"}
        for name, values in found.items():
            assert values[r] == pytest.approx(want[name], abs=1e-5, nan_ok=True), name
        single = metrics.per_class(labels[rows], p[rows], problem)
        for name, values in classes.items():
            np.testing.assert_allclose(values[:, r], single[name], atol=1e-5)


def test_strata_keep_their_sizes():
    groups = np.repeat([0, 1, 2], [50, 7, 1])
    drawn = np.concatenate(list(weights(groups, resamples=30, seed=0)), axis=1)
    assert drawn.shape == (58, 30)
    for group, size in ((0, 50), (1, 7), (2, 1)):
        assert (drawn[groups == group].sum(axis=0) == size).all()
    assert drawn[:50].std() == pytest.approx(np.sqrt(1 - 1 / 50), rel=0.1)


def test_samples_of_several_labels_are_grouped_by_the_rarest():
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]])
    assert strata(labels, "multilabel").tolist() == [1, 0, 0, 1, -1, 2]


def test_seed_and_level_are_honoured(monkeypatch):
    labels, p = sample("binary", n=80, seed=2)
    first, again, other = (bootstrap(labels, p, "binary", resamples=200, seed=s).metrics["auc"] for s in (0, 0, 1))
    assert first == again != other
    narrow = bootstrap(labels, p, "binary", resamples=200, level=0.5).metrics["auc"]
    assert first.low < narrow.low < narrow.high < first.high
    monkeypatch.setattr(module, "_NUMBERS", 700)  # in blocks of 8
    assert bootstrap(labels, p, "binary", resamples=200).metrics["auc"].low == pytest.approx(first.low, abs=0.02)


def test_what_does_not_vary_has_no_interval():
    labels = np.array([0, 0, 1, 1])
    found = bootstrap(labels, np.eye(2)[labels], "binary", resamples=50)
    assert np.isnan(found.metrics["auc"].low)
    with pytest.warns(UserWarning, match="undefined"):
        metrics.scores(np.zeros(4, int), np.eye(2)[labels], "binary")
    absent = bootstrap(np.zeros(4, int), np.eye(2)[labels], "binary", resamples=50)
    assert np.isnan(absent.metrics["auc"].high)
    assert np.isfinite(absent.metrics["acc"].high)
