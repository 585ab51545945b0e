"""What loggers are handed: curves, counts, samples and their pictures, numbers."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from scale.tasks.outputs import Outputs
from scale.training import samples, shown


@pytest.fixture
def three():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (200, 1))
    logits = rng.normal(size=(200, 3)) + 1.5 * np.eye(3)[labels[:, 0]]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_charts_are_those_of_scikit_learn(three):
    labels, probabilities = three
    found = shown.charts(labels, probabilities, "multiclass", ["a", "b", "c"])
    for c, (name, (x, y)) in enumerate(found.roc().items()):
        wanted = roc_curve(labels[:, 0] == c, probabilities[:, c])
        assert name == "abc"[c]
        np.testing.assert_allclose(np.trapezoid(y, x), roc_auc_score(labels[:, 0] == c, probabilities[:, c]))
        assert len(x) == len(wanted[0])
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels[:, 0], probabilities.argmax(axis=1)))


def test_of_several_labels_each_has_its_own_counts():
    labels = np.array([[1, 0], [1, 1], [0, 1]])
    probabilities = np.array([[0.9, 0.2], [0.4, 0.8], [0.7, 0.6]])
    found = shown.charts(labels, probabilities, "multilabel", ["a", "b"])
    assert found.confusion.tolist() == [[[0, 1], [1, 1]], [[1, 0], [0, 2]]]
    assert set(found.precision_recall()) == {"a", "b"}


def test_long_curves_are_thinned_and_keep_both_ends(monkeypatch, three):
    monkeypatch.setattr(shown, "POINTS", 30)
    labels, probabilities = three
    for x, y in shown.charts(labels, probabilities, "multiclass", ["a", "b", "c"]).roc().values():
        assert len(x) == 10
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_half_of_the_samples_are_the_most_confident_mistakes(three):
    labels, probabilities = three
    outputs = Outputs(np.arange(200), np.log(probabilities), probabilities, labels)
    rows = samples.chosen(outputs, "multiclass", 10)
    wrong = probabilities.argmax(axis=1) != labels[:, 0]
    sure = np.where(wrong, probabilities.max(axis=1), 0)
    assert rows[:5] == np.argsort(-sure)[:5].tolist()
    assert len(set(rows)) == 10
    assert samples.chosen(outputs, "multiclass", 0) == []


def test_a_volume_is_shown_as_the_planes_through_the_maps_peak():
    volume, values = np.zeros((5, 6, 7), np.uint8), np.zeros((5, 6, 7))
    volume[2, 3, 4], values[2, 3, 4] = 255, 1.0
    plain, laid = samples.pictures(volume, values, signed=False)
    assert plain.dtype == np.uint8
    assert plain.shape == (6 * 16, (7 + 7 + 6) * 16 + 3 * 4, 3)
    lit = np.argwhere((plain == 255).all(axis=-1) & (np.arange(plain.shape[1]) < 7 * 16))
    assert lit.min(axis=0).tolist() == [3 * 16, 4 * 16]  # row 3, column 4 of the axial plane
    assert (laid[0, 0] == plain[0, 0]).all()  # nothing of the map, nothing over the image
    assert (laid[3 * 16, 4 * 16] != plain[3 * 16, 4 * 16]).any()


@pytest.mark.parametrize(
    ("shape", "seen"),
    [((28, 28), (112, 112, 3)), ((28, 28, 3), (112, 112, 3)), ((4, 28, 28), (112, 3 * 112 + 3 * 4, 3))],
)
def test_pictures_without_a_map(shape, seen):
    plain, laid = samples.pictures(np.arange(np.prod(shape)).reshape(shape).astype(np.uint8), None, signed=False)
    assert laid is None
    assert plain.shape == seen


def test_the_summary_is_of_the_kept_epoch_and_has_no_undefined_score():
    metrics = {
        "best_epoch": 1,
        "val": {"auc": 0.8, "kappa": None},
        "test": {"auc": 0.7},
        "intervals": {"level": 0.95, "test": {"auc": [0.6, 0.8]}},
        "seconds": {"fit": 3.0},
        "model": {"name": "x", "parameters": 5, "macs": 7},
    }
    rows = [{"epoch": n, "val/loss": loss} for n, loss in enumerate((0.9, 0.5, 0.7))]
    assert shown.summary(metrics, rows) == {
        "best_epoch": 1, "val/auc": 0.8, "val/loss": 0.5, "test/auc": 0.7, "test/auc_low": 0.6, "test/auc_high": 0.8,
        "seconds/fit": 3.0, "model/parameters": 5, "model/macs": 7,
    }  # fmt: skip
