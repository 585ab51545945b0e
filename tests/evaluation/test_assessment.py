"""What is said beside the scores agrees with scikit-learn, and what is chosen is chosen on val."""

import numpy as np
import pytest
from sklearn import metrics as sk
from test_metrics import sample

from scale.evaluation import calibration, conformal, metrics
from scale.evaluation.assessment import assess


def two_splits(problem, n=120):
    found = {}
    for seed, split in enumerate(("val", "test")):
        labels, p = sample(problem, n=n, seed=seed)
        found[split] = {"labels": labels, "probabilities": p}
    return found, [f"class {i}" for i in range(p.shape[1])]


@pytest.mark.parametrize("problem", metrics.PROBLEMS)
def test_all_parts_are_there_for_every_problem(problem):
    splits, names = two_splits(problem)
    found = assess(splits, problem, names, calibrate="temperature", resamples=100)
    scores = metrics.scores(splits["test"]["labels"], splits["test"]["probabilities"], problem)
    for name, value in scores.items():
        if name != "ece":
            low, high = found["intervals"]["test"][name]
            assert low <= value <= high, name
    low, high = found["intervals"]["test"]["auc_delong"]
    assert low < scores["auc"] < high
    assert found["per_class"]["names"] == names
    assert len(found["per_class"]["test"]["recall"]) == len(found["per_class"]["test"]["intervals"]["recall"])
    assert ("thresholds" in found) == (problem in ("binary", "multilabel"))
    assert found["undefined"] == {"val": [], "test": []}
    assert "calibration" not in assess(splits, problem, names, resamples=10)


@pytest.mark.parametrize("problem", ["binary", "multilabel"])
def test_thresholds_come_from_val_and_are_measured_on_test(problem):
    splits, names = two_splits(problem)
    found = assess(splits, problem, names, threshold="f1", resamples=10)["thresholds"]
    assert (found["rule"], found["chosen_on"]) == ("f1", "val")
    labels, p = (splits["val"][key] for key in ("labels", "probabilities"))
    column = 0 if problem == "multilabel" else -1
    want = calibration.choose_threshold(labels[:, 0] == 1, p[:, column], "f1")
    assert found["values"][0] == want
    labels, p = (splits["test"][key] for key in ("labels", "probabilities"))
    for name, limit in (("official", 0.5), ("chosen", want)):
        decided = p[:, column] > limit
        at = {key: values[0] for key, values in found["test"][name].items()}
        assert at["accuracy"] == pytest.approx(sk.accuracy_score(labels[:, 0], decided))
        assert at["recall"] == pytest.approx(sk.recall_score(labels[:, 0], decided))
        assert at["specificity"] == pytest.approx(sk.recall_score(labels[:, 0], decided, pos_label=0))
        assert at["f1"] == pytest.approx(sk.f1_score(labels[:, 0], decided))
    other = assess(splits, problem, names, threshold="youden", resamples=10)["thresholds"]
    assert other["values"] != found["values"]


def test_calibration_is_of_val_and_leaves_decisions_alone():
    splits, names = two_splits("multiclass")
    found = assess(splits, "multiclass", names, calibrate="temperature", resamples=10)["calibration"]
    want = calibration.fit_temperature(splits["val"]["probabilities"], splits["val"]["labels"], "multiclass")
    assert found["temperature"] == want
    assert found["val"]["after"]["log_loss"] < found["val"]["before"]["log_loss"]
    for split in ("val", "test"):
        assert found[split]["after"]["acc"] == found[split]["before"]["acc"]


def test_conformal_sets_are_calibrated_on_val_and_measured_on_test():
    splits, names = two_splits("multiclass")
    found = assess(splits, "multiclass", names, coverage=0.8, resamples=10)["conformal"]
    made = conformal.calibrate(splits["val"]["probabilities"], splits["val"]["labels"], "multiclass", coverage=0.8)
    members = made.sets(splits["test"]["probabilities"], "multiclass")
    assert found["thresholds"] == made.thresholds.tolist()
    assert found["test"]["size"] == members.sum(axis=1).mean()
    assert "val" not in found
    small, names = two_splits("multiclass", n=8)
    reason = assess(small, "multiclass", names, resamples=10)["conformal"]["undefined"]
    assert reason == "a coverage of 0.9 needs 9 val samples; there are 8"


def test_what_val_chose_is_not_measured_on_means_over_flips():
    """Their probabilities are others than those of val that the sets, thresholds and temperature were found on."""
    splits, names = two_splits("binary")
    more = splits | {f"{split}_tta": arrays for split, arrays in splits.items()}
    found = assess(more, "binary", names, calibrate="temperature", resamples=10)
    for part in ("thresholds", "conformal", "calibration"):
        assert not {"val_tta", "test_tta"} & set(found[part])
        assert "test" in found[part]
    assert {"val_tta", "test_tta"} <= set(found["intervals"])


def test_an_absent_class_is_undefined_with_its_reason():
    splits, names = two_splits("multiclass")
    labels = splits["test"]["labels"]
    labels[labels == 2] = 3
    with pytest.warns(UserWarning, match="class 2 in 0"):
        metrics.scores(labels, splits["test"]["probabilities"], "multiclass")
    found = assess(splits, "multiclass", names, resamples=20)
    assert np.isnan(found["intervals"]["test"]["auc"]).all()
    assert np.isnan(found["per_class"]["test"]["recall"][2])
    assert found["undefined"]["test"][0].startswith("class 'class 2' occurs in 0 of 120 samples")
    assert np.isfinite(found["intervals"]["test"]["acc"]).all()
