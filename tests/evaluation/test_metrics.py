"""The official evaluator and scikit-learn as oracles."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medmnist.evaluator import getACC, getAUC
from sklearn import metrics as sk

from scale.evaluation.metrics import PROBLEMS, official_scores, per_class, scores, undefined

TASKS = {
    "binary": "binary-class",
    "multiclass": "multi-class",
    "multilabel": "multi-label, binary-class",
    "ordinal": "ordinal-regression",
}


def sample(problem, *, n=60, k=4, seed=0, coarse=False):
    """Labels in which each class occurs, and probabilities; coarse ones have many ties, also at 0.5."""
    rng = np.random.default_rng(seed)
    k = 2 if problem == "binary" else k
    if problem == "multilabel":
        labels = rng.integers(0, 2, (n, k))
        labels[0], labels[1] = 0, 1
        p = rng.random((n, k))
        return labels, np.round(p * 4) / 4 if coarse else p
    labels = rng.permutation(np.concatenate([np.arange(k), rng.integers(0, k, n - k)]))[:, None]
    p = rng.integers(1, 4, (n, k)).astype(float) if coarse else rng.gamma(1.0, size=(n, k))
    return labels, p / p.sum(1, keepdims=True)


@given(
    problem=st.sampled_from(PROBLEMS),
    n=st.integers(20, 80),
    k=st.integers(3, 7),
    seed=st.integers(0, 2**32 - 1),
    coarse=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=150, deadline=None)
def test_official_scores_equal_the_official_evaluator(problem, n, k, seed, coarse, dtype):
    labels, p = sample(problem, n=n, k=k, seed=seed, coarse=coarse)
    p = p.astype(dtype)
    found = scores(labels, p, problem)
    assert found["auc"] == pytest.approx(getAUC(labels, p, TASKS[problem]), abs=1e-6)
    assert found["acc"] == pytest.approx(getACC(labels, p, TASKS[problem]), abs=1e-6)
    assert official_scores(labels, p, problem) == {"auc": found["auc"], "acc": found["acc"]}


def test_binary_scores_of_one_column_are_enough_for_the_official_ones():
    labels, p = sample("binary")
    assert official_scores(labels, p[:, 1:], "binary") == official_scores(labels, p, "binary")
    with pytest.raises(ValueError, match="2 columns"):
        scores(labels, p[:, 1:], "binary")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("problem", ["binary", "multiclass", "ordinal"])
def test_other_scores_equal_scikit_learn(problem, seed):
    labels, p = sample(problem, seed=seed)
    found, y, k = scores(labels, p, problem), labels[:, 0], p.shape[1]
    decided = p.argmax(1)
    assert found["balanced_acc"] == pytest.approx(np.mean([(decided[y == c] == c).mean() for c in range(k)]))
    f1 = [2 * ((decided == c) & (y == c)).sum() / ((decided == c).sum() + (y == c).sum()) for c in range(k)]
    assert found["macro_f1"] == pytest.approx(np.mean(f1))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(y, decided))
    weights = "quadratic" if problem == "ordinal" else None
    assert found["kappa"] == pytest.approx(sk.cohen_kappa_score(y, decided, weights=weights))
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p))
    if problem == "binary":
        assert found["brier"] == pytest.approx(sk.brier_score_loss(y, p[:, 1]))
        assert found["average_precision"] == pytest.approx(sk.average_precision_score(y, p[:, 1]))
    else:
        assert found["brier"] == pytest.approx(((p - np.eye(k)[y]) ** 2).sum(1).mean())
        assert found["average_precision"] == pytest.approx(sk.average_precision_score(np.eye(k)[y], p))
    assert ("mae" in found) == (problem == "ordinal")
    assert "exact_match" not in found


def test_multilabel_closed_form():
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    p = np.array([[0.8, 0.4], [0.2, 0.4], [0.8, 0.8], [0.6, 0.2]])
    found = scores(labels, p, "multilabel")
    assert found["exact_match"] == 0.5
    assert found["acc"] == 0.75
    assert found["balanced_acc"] == 0.75
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found["auc"] == pytest.approx((1.0 + 3.5 / 4) / 2)
    assert found["brier"] == pytest.approx((3 * 0.04 + 0.36 + 0.16 + 0.36 + 0.04 + 0.04) / 8)
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.8, 0.8, 0.4, 0.6, 0.4, 0.8, 0.8]).mean())
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(labels, p))
    # label 0: gaps 0.2 (three samples), 0.6 (one); label 1: |0.4 - 0.5| (two samples), 0.2, 0.2
    assert found["ece"] == pytest.approx(((3 * 0.2 + 0.6) / 4 + (2 * 0.1 + 0.2 + 0.2) / 4) / 2)
    assert "kappa" not in found


def test_perfect_predictions_have_perfect_scores():
    y = np.arange(12) % 4
    found = scores(y, np.eye(4)[y], "ordinal")
    ones = ("auc", "acc", "balanced_acc", "macro_f1", "average_precision", "kappa", "mcc")
    assert all(found[key] == pytest.approx(1) for key in ones)
    assert all(found[key] == pytest.approx(0) for key in ("brier", "log_loss", "ece", "mae"))


def test_a_certain_mistake_costs_a_finite_log_loss():
    found = scores(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]), "binary")
    assert found["log_loss"] == pytest.approx(-np.log(np.finfo(np.float32).eps) / 2)


def test_absent_class_gives_nan_and_one_warning_that_names_it():
    y = np.array([0, 1, 3, 3, 0])
    p = np.random.default_rng(0).dirichlet(np.ones(4), 5)
    with pytest.warns(UserWarning, match="class 2 in 0 of 5 samples") as record:
        found = scores(y, p, "multiclass")
    assert len(record) == 1
    assert np.isnan(found["auc"])
    assert np.isnan(found["average_precision"])
    assert all(np.isfinite(v) for key, v in found.items() if key not in ("auc", "average_precision"))
    with pytest.warns(UserWarning, match="class 1 in 3 of 3 samples"):
        assert np.isnan(official_scores(np.ones(3, int), p[:3, :2], "binary")["auc"])
    with pytest.warns(UserWarning, match="label 1 in 0 of 2 samples"):
        official_scores(np.array([[0, 0], [1, 0]]), p[:2, :2], "multilabel")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_one_sample_does_not_raise(problem):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = scores(np.ones((1, 2 if problem == "multilabel" else 1), int), np.array([[0.3, 0.7]]), problem)
    assert found["acc"] in (0.5, 1.0)


@pytest.mark.parametrize(
    ("labels", "p", "problem", "message"),
    [
        ([[0], [1]], [[0.5, np.nan], [0.5, 0.5]], "binary", "nan or infinite in 1 of 2 rows, first row 0"),
        ([[0], [1]], [[0.5, 0.5], [np.inf, 0.5]], "multiclass", "first row 1"),
        ([[0], [2]], [[0.5, 0.5], [0.5, 0.5]], "multiclass", r"must lie in 0\.\.1; got 0\.\.2"),
        ([[0], [-1]], [[0.5, 0.5], [0.5, 0.5]], "ordinal", r"got -1\.\.0"),
        ([[0], [1], [1]], [[0.5, 0.5], [0.5, 0.5]], "ordinal", r"labels \(3, 1\) and probabilities \(2, 2\)"),
        ([[0, 1]], [[0.5, 0.5]], "multiclass", "one label a sample"),
        ([[0, 1]], [[0.5, 0.5, 0.1]], "multilabel", "as many labels as columns"),
        ([[0]], [[0.2, 0.3, 0.5]], "binary", "1 or 2 columns"),
        ([], np.empty((0, 2)), "binary", "non-empty"),
        ([[0]], [[2.0, -1.0]], "multiclass", r"lie in \[0, 1\]"),
        ([[0]], [[0.9, 0.9]], "multiclass", "sum to 1"),
        ([[0]], [[0.5, 0.5]], "multi_class", "did you mean 'multiclass'"),
    ],
)
def test_bad_input_is_named(labels, p, problem, message):
    with pytest.raises(ValueError, match=message):
        scores(np.array(labels), np.array(p), problem)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_each_class_equals_scikit_learn(problem):
    labels, p = sample(problem, n=120, seed=3)
    found, overall = per_class(labels, p, problem), scores(labels, p, problem)
    k = p.shape[1]
    y = labels if problem == "multilabel" else np.eye(k, dtype=int)[labels[:, 0]]
    decided = (p > 0.5).astype(int) if problem == "multilabel" else np.eye(k, dtype=int)[p.argmax(1)]
    precision, recall, f1, support = sk.precision_recall_fscore_support(y, decided, average=None, zero_division=np.nan)
    specificity = [sk.recall_score(1 - y[:, c], 1 - decided[:, c]) for c in range(k)]
    want = {"precision": precision, "recall": recall, "f1": f1, "support": support, "specificity": specificity}
    want["predicted"] = decided.sum(axis=0)
    want["accuracy"] = (y == decided).mean(axis=0)
    want["auc"] = [sk.roc_auc_score(y[:, c], p[:, c]) for c in range(k)]
    want["average_precision"] = [sk.average_precision_score(y[:, c], p[:, c]) for c in range(k)]
    assert set(found) == set(want)
    for name, values in want.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)
    for name in ("precision", "recall", "specificity", "f1"):
        assert overall[f"macro_{name}"] == pytest.approx(np.mean(want[name]))
    if problem == "multilabel":
        assert overall["acc"] == pytest.approx(np.mean(want["accuracy"]))
    else:
        assert overall["balanced_acc"] == overall["macro_recall"]


def test_official_scores_come_first():
    labels, p = sample("ordinal")
    assert list(scores(labels, p, "ordinal"))[:2] == ["auc", "acc"]


def test_undefined_is_said_with_its_reason_and_never_a_number():
    labels, p = np.array([[0], [0], [1]]), np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    found = per_class(labels, p, "multiclass")
    assert np.isnan([found["recall"][2], found["precision"][2], found["f1"][2], found["auc"][2]]).all()
    assert found["recall"][1] == 0  # one sample, not found: a number
    said = undefined(labels, p, "multiclass", ["a", "b", "c"])
    assert said == [
        "class 'b' is never predicted: it has no precision, and its mean leaves it out",
        "class 'c' occurs in 0 of 3 samples: AUC and average precision are undefined, and means of recall leave it out",
        "class 'c' is never predicted: it has no precision, and its mean leaves it out",
    ]
    with pytest.warns(UserWarning, match="class 2 in 0 of 3"):
        overall = scores(labels, p, "multiclass")
    assert overall["macro_precision"] == pytest.approx(2 / 3)
    assert overall["mcc"] == 0
    assert undefined(*sample("binary"), "binary", ["no", "yes"]) == []
