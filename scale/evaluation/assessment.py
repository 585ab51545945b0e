"""Everything that is said of a run's predictions beside their scores: arrays in, plain containers out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from scale.evaluation import bootstrap, calibration, conformal, delong, metrics
from scale.evaluation.counts import Cells, one_vs_rest, rates

Arrays = Mapping[str, np.ndarray]  # `labels` (N, L) and `probabilities` (N, columns) of a split
CALIBRATE = ("none", "temperature")


def assess(
    splits: Mapping[str, Arrays],
    problem: str,
    names: Sequence[str],
    *,
    calibrate: str = "none",
    threshold: str = "youden",
    coverage: float = 0.9,
    resamples: int = bootstrap.RESAMPLES,
) -> dict[str, Any]:
    """Intervals, metrics per class, calibration, thresholds and conformal sets.

    Whatever is chosen is chosen on val: the temperature, the thresholds and the size of the sets. It is measured on
    plain predictions only, as it does not hold for the means over flips (`..._tta`), whose probabilities are others.

    Args:
        splits: `val`, and others such as `test` and `test_tta`.
        problem: kind of the labels, as in `metrics`.
        names: of the classes or labels.
        calibrate: one of `CALIBRATE`.
        threshold: rule of `calibration.choose_threshold`.
        coverage: of the conformal sets.
        resamples: of the bootstrap.

    Returns:
        `intervals`, `per_class` and `undefined`, each by split; `thresholds` (binary and multilabel only), `conformal`
        and, if asked for, `calibration`.
    """
    found: dict[str, Any] = {
        "intervals": {"level": bootstrap.LEVEL, "resamples": resamples, "seed": 0, "method": "stratified percentile"},
        "per_class": {"names": list(names)},
        "undefined": {},
    }
    for split, arrays in splits.items():
        labels, probabilities = arrays["labels"], arrays["probabilities"]
        drawn = bootstrap.bootstrap(labels, probabilities, problem, resamples=resamples)
        limits = {name: list(ends) for name, ends in drawn.metrics.items()}
        limits["auc_delong"] = list(delong.auc_interval(labels, probabilities, problem))
        found["intervals"][split] = limits
        each: dict[str, Any] = dict(metrics.per_class(labels, probabilities, problem))
        each["intervals"] = {name: [list(ends) for ends in rows] for name, rows in drawn.per_class.items()}
        found["per_class"][split] = each
        found["undefined"][split] = metrics.undefined(labels, probabilities, problem, names)
    plain = {split: arrays for split, arrays in splits.items() if not split.endswith("_tta")}
    val, others = plain["val"], {split: arrays for split, arrays in plain.items() if split != "val"}
    if problem in ("binary", "multilabel"):
        found["thresholds"] = thresholds(val, others, problem, rule=threshold)
    found["conformal"] = sets(val, others, problem, coverage=coverage)
    if calibrate == "temperature":
        found["calibration"] = temperature(plain, problem)
    return found


def temperature(splits: Mapping[str, Arrays], problem: str) -> dict[str, Any]:
    """The temperature that val asks for, and what it does to the probabilities' scores.

    Returns:
        `method`, `temperature`, `chosen_on`, and by split `before` and `after`, each with `acc`, `auc`, `ece`, `brier`
        and `log_loss`.
    """
    value = calibration.fit_temperature(splits["val"]["probabilities"], splits["val"]["labels"], problem)
    found: dict[str, Any] = {"method": "temperature", "temperature": value, "chosen_on": "val"}
    for split, arrays in splits.items():
        after = calibration.apply_temperature(arrays["probabilities"], value, problem)
        pair = {"before": arrays["probabilities"], "after": after}
        found[split] = {name: _calibration_scores(arrays["labels"], p, problem) for name, p in pair.items()}
    return found


def thresholds(val: Arrays, others: Mapping[str, Arrays], problem: str, *, rule: str) -> dict[str, Any]:
    """Thresholds chosen on val beside the official 0.5: of the positive class, or of each label.

    Returns:
        `rule`, `chosen_on`, `values`, and by split `official` and `chosen`, each with `accuracy`, `precision`,
        `recall`, `specificity` and `f1` of the positives, one a threshold.
    """
    truth, score = metrics.one_vs_rest(*metrics.checked(val["labels"], val["probabilities"], problem), problem)
    values = [calibration.choose_threshold(truth[:, c], score[:, c], rule) for c in range(truth.shape[1])]
    found: dict[str, Any] = {"rule": rule, "chosen_on": "val", "values": values}
    for split, arrays in {"val": val, **others}.items():
        truth, score = metrics.one_vs_rest(
            *metrics.checked(arrays["labels"], arrays["probabilities"], problem), problem
        )
        found[split] = {
            name: _at(truth, score, np.asarray(limits))
            for name, limits in (("official", [0.5] * len(values)), ("chosen", values))
        }
    return found


def sets(val: Arrays, others: Mapping[str, Arrays], problem: str, *, coverage: float) -> dict[str, Any]:
    """Conformal sets calibrated on val.

    Returns:
        `coverage` asked for, `samples`, `thresholds`, and of each other split what was measured, as in
        `conformal.Measured`, and the range of the coverage that chance allows; or `undefined` with the reason where
        val is too small.
    """
    least, samples = conformal.least_samples(coverage), len(val["labels"])
    found: dict[str, Any] = {"method": "split conformal, least ambiguous sets", "coverage": coverage}
    found |= {"samples": samples, "chosen_on": "val"}
    if samples < least:
        return found | {"undefined": f"a coverage of {coverage:g} needs {least} val samples; there are {samples}"}
    made = conformal.calibrate(val["probabilities"], val["labels"], problem, coverage=coverage)
    found["thresholds"] = made.thresholds.tolist()
    for split, arrays in others.items():
        members = made.sets(arrays["probabilities"], problem)
        found[split] = asdict(conformal.measure(members, arrays["labels"]))
        if problem != "multilabel":  # whose labels are not independent of one another
            tested = len(members)
            found[split]["expected"] = list(conformal.expected(coverage, samples=samples, tested=tested))
    return found


def _calibration_scores(labels: np.ndarray, probabilities: np.ndarray, problem: str) -> dict[str, float]:
    found = metrics.scores(labels, probabilities, problem)
    return {name: found[name] for name in ("acc", "auc", "ece", "brier", "log_loss")}


def _at(truth: np.ndarray, score: np.ndarray, limits: np.ndarray) -> dict[str, list[float]]:
    """Rates at thresholds (C,), one a column; a threshold that is nan has none."""
    predicted = (score > limits).astype(np.int64)
    cells = Cells(truth.astype(np.int64), predicted, classes=truth.shape[1], multilabel=True)
    found = rates(one_vs_rest(cells(np.ones((len(truth), 1))), multilabel=True))
    known = np.isfinite(limits)
    return {name: np.where(known, values[:, 0], np.nan).tolist() for name, values in found.items()}
