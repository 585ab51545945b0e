"""What the figures draw equals what the metrics compute, and nothing is cut off."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.metrics import auc, confusion_matrix, roc_auc_score

from scale.evaluation import figures, metrics

CASES = {"binary": 2, "multiclass": 9, "multilabel": 14, "ordinal": 5}
LONG = "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)"


def sample(problem, n=200, seed=0):
    rng = np.random.default_rng(seed)
    k = CASES[problem]
    names = [LONG if i % 3 == 0 else f"class {i}" for i in range(k)]
    if problem == "multilabel":
        labels = (rng.random((n, k)) < 0.2).astype(int)
        return labels, rng.random((n, k)) * 0.7 + 0.3 * labels, names
    labels = (rng.permutation(n) % k)[:, None]
    scores = rng.gamma(1.0, size=(n, k)) + 2 * np.eye(k)[labels[:, 0]]
    return labels, scores / scores.sum(1, keepdims=True), names


def assert_nothing_is_cut(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = figure.get_tightbbox(canvas.get_renderer())  # inches
    width, height = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) > -0.01


@pytest.mark.parametrize("problem", CASES)
def test_no_text_is_cut_and_no_legend_covers_data(problem):
    labels, p, names = sample(problem)
    for draw in (figures.roc, figures.precision_recall, figures.confusion):
        figure = draw(labels, p, problem, names)
        assert_nothing_is_cut(figure)
        legend = figure.axes[0].get_legend()
        if legend:
            assert legend.get_window_extent().x0 >= figure.axes[0].bbox.x1
    assert_nothing_is_cut(figures.reliability(labels, p, problem, names))


def test_roc_draws_the_curves_whose_area_is_the_auc():
    labels, p, names = sample("multiclass")
    axes = figures.roc(labels, p, "multiclass", names).axes[0]
    curves = axes.lines[1:]  # the first is the diagonal
    areas = [auc(line.get_xdata(), line.get_ydata()) for line in curves]
    want = [roc_auc_score(labels[:, 0] == c, p[:, c]) for c in range(9)]
    np.testing.assert_allclose(areas, want)
    assert f"{np.mean(want):.3f}" in axes.get_title()
    assert [t.get_text().split()[0] for t in axes.get_legend().get_texts()] == [f"{v:.3f}" for v in want]
    styles = {(line.get_color(), line.get_linestyle()) for line in curves}
    assert len(styles) == 9  # no two curves look the same


def test_precision_recall_is_of_the_positive_class():
    labels, p, names = sample("binary")
    axes = figures.precision_recall(labels, p, "binary", names).axes[0]
    want = metrics.scores(labels, p, "binary")["average_precision"]
    assert f"AP {want:.3f}" in axes.get_title()
    line = axes.lines[1]  # the first is the prevalence
    recall, precision = line.get_xdata(), line.get_ydata()
    assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(want)


def test_fourteen_labels_look_different():
    labels, p, names = sample("multilabel")
    lines = figures.precision_recall(labels, p, "multilabel", names).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines) == 14


def test_confusion_holds_the_counts():
    labels, p, names = sample("ordinal")
    axes = figures.confusion(labels, p, "ordinal", names).axes[0]
    want = confusion_matrix(labels[:, 0], p.argmax(1))
    counts = np.array([int(t.get_text().split("\n")[-1]) for t in axes.texts]).reshape(5, 5)
    np.testing.assert_array_equal(counts, want)
    np.testing.assert_allclose(axes.images[0].get_array(), want / want.sum(1, keepdims=True))


def test_multilabel_bars_are_sensitivity_and_specificity():
    labels, p, names = sample("multilabel")
    labels[:, 3] = 0
    axes = figures.confusion(labels, p, "multilabel", names).axes[0]
    sensitivity, specificity = ([bar.get_width() for bar in group] for group in axes.containers)
    truth, found = labels[:, 5] == 1, p[:, 5] > 0.5
    assert sensitivity[5] == pytest.approx(found[truth].mean())
    assert specificity[5] == pytest.approx((~found[~truth]).mean())
    assert [t.get_text() for t in axes.texts].count("undefined") == 1


@pytest.mark.parametrize("problem", ["binary", "multiclass", "ordinal"])
def test_reliability_agrees_with_the_metric(problem):
    labels, p, names = sample(problem)
    upper, lower = figures.reliability(labels, p, problem, names).axes
    assert f"{metrics.scores(labels, p, problem)['ece']:.3f}" in upper.get_title()
    assert sum(bar.get_height() for bar in lower.patches) == len(labels)


def test_absent_class_has_no_curve_and_does_not_raise():
    labels, p, names = sample("multiclass")
    labels[labels == 4] = 5
    for draw in (figures.roc, figures.precision_recall):
        axes = draw(labels, p, "multiclass", names).axes[0]
        legend = [t.get_text() for t in axes.get_legend().get_texts()]
        assert len(legend) == 8
        assert not any("class 4" in text for text in legend)
    figures.confusion(labels, p, "multiclass", names)
    assert "no class" in figures.roc(np.zeros(3, int), p[:3, :2], "binary", names[:2]).axes[0].get_title()


def test_history_marks_the_first_best_epoch():
    rows = [
        {"epoch": 0, "train/loss": 1.0, "val/loss": 1.1, "val/auc": float("nan"), "lr": 1e-3},
        {"epoch": 1, "train/loss": 0.5, "val/loss": 0.9, "val/auc": 0.9, "lr": 1e-4},
        {"epoch": 2, "train/loss": 0.4, "val/loss": 0.8, "val/auc": 0.9, "lr": 1e-5},
        {"epoch": 3, "train/loss": 0.3, "lr": 1e-6},
    ]
    figure = figures.history(rows)
    loss, validation, rate = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines[:2]] == [[1.0, 0.5, 0.4, 0.3], [1.1, 0.9, 0.8]]
    assert list(validation.lines[0].get_xdata()) == [1, 2]
    assert list(rate.lines[0].get_ydata()) == [1e-3, 1e-4, 1e-5, 1e-6]
    assert all(list(axes.lines[-1].get_xdata()) == [1, 1] for axes in figure.axes)
    assert_nothing_is_cut(figure)
    assert_nothing_is_cut(figures.history(rows[1:2]))
    assert_nothing_is_cut(figures.history([]))


def test_wrong_number_of_names():
    labels, p, names = sample("ordinal")
    with pytest.raises(ValueError, match="4 names for 5 columns"):
        figures.roc(labels, p, "ordinal", names[:4])


def test_pyplot_stays_unloaded():
    code = "import sys, scale.evaluation.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
