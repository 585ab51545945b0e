"""What the figures draw equals what the metrics compute, and nothing is cut off."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.metrics import auc, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from scale.evaluation import curves, figures, metrics, run_figures
from scale.evaluation.bootstrap import bootstrap, weights
from scale.evaluation.figure_style import Caption
from scale.evaluation.statistics import Ranks

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
    found = bootstrap(labels, p, problem, resamples=50)
    caption = Caption("a data set of a rather long name, 224", "test", "scale_large, no scale attention, seed 0", LONG)
    for draw in (figures.roc, figures.precision_recall):
        figure = draw(labels, p, problem, names, caption=caption, intervals=found)
        assert_nothing_is_cut(figure)
        for legend in figure.legends:
            assert legend.get_title().get_window_extent().y1 <= figure.axes[0].xaxis.label.get_window_extent().y0
    for draw in (figures.confusion, figures.reliability, figures.score_distributions):
        assert_nothing_is_cut(draw(labels, p, problem, names, caption=caption))


@pytest.mark.parametrize(
    "draw",
    [figures.roc, figures.precision_recall, figures.confusion, figures.reliability, figures.score_distributions],
)
def test_every_figure_says_what_it_is_of_and_fits_a_column(draw):
    labels, p, names = sample("binary")
    caption = Caption("BreastMNIST, 28", "test", "scale, seed 0", "normal, benign")
    figure = draw(labels, p, "binary", names, caption=caption)
    text = figure.get_suptitle().replace("\n", " · ")
    assert text == "BreastMNIST, 28 · test · scale, seed 0 · positive class: normal, benign"
    assert figure.get_size_inches()[0] == 3.5


def test_curves_show_the_intervals_of_their_classes():
    labels, p, names = sample("multiclass")
    found = bootstrap(labels, p, "multiclass", resamples=50)
    figure = figures.roc(labels, p, "multiclass", names, intervals=found)
    low, high = found.metrics["auc"]
    assert f"({low:.3f}–{high:.3f})" in figure.axes[0].get_title()
    for text, (low, high) in zip(figure.legends[0].get_texts(), found.per_class["auc"], strict=True):
        assert f"({low:.3f}–{high:.3f})" in text.get_text()
    labels, p, names = sample("binary")
    found = bootstrap(labels, p, "binary", resamples=50)
    assert (
        f"({found.metrics['average_precision'].low:.3f}"
        in figures.precision_recall(labels, p, "binary", names, intervals=found).axes[0].get_title()
    )


@pytest.mark.parametrize("precision", [False, True])
def test_band_holds_95_percent_of_the_resampled_curves(precision, monkeypatch):
    """Against resamples drawn with scikit-learn, one by one; equal scores are one threshold."""
    labels, p, _ = sample("binary", n=60)
    truth, score = labels[:, 0] == 1, np.round(p[:, 1], 1)
    monkeypatch.setattr(curves, "DRAWN", 60)
    low, high = curves._band(truth, score, precision=precision)
    rows, order = [], np.argsort(-score, kind="stable")
    for drawn in next(weights(truth[order].astype(int), resamples=60, seed=0)).T:
        if precision:
            y, x, _ = precision_recall_curve(truth[order], score[order], sample_weight=drawn)
            rows.append([y[x >= g - 1e-9][-1] if g else np.nan for g in curves.GRID])
        else:
            x, y, _ = roc_curve(truth[order], score[order], sample_weight=drawn, drop_intermediate=False)
            rows.append(np.interp(curves.GRID + 1e-9, x, y))
    want = np.quantile(np.array(rows)[:, 1:], [0.025, 0.975], axis=0)
    np.testing.assert_allclose(low[1:], want[0], atol=1e-6)
    np.testing.assert_allclose(high[1:], want[1], atol=1e-6)


def test_the_band_holds_the_curve_where_scores_are_equal():
    """Whose curve is a slope, not a step."""
    truth = np.arange(200) % 2 == 1
    score = np.where(np.arange(200) % 20 < np.where(truth, 16, 3), 1.0, 0.3)
    x, y, _ = roc_curve(truth, score)
    low, high = curves._band(truth, score, precision=False)
    drawn = np.interp(curves.GRID, x, y)
    assert (low[1:-1] <= drawn[1:-1] + 1e-9).all()
    assert (drawn[1:-1] <= high[1:-1] + 1e-9).all()


def test_a_mean_over_some_classes_says_so():
    labels, p, names = sample("multiclass")
    labels[labels == 2] = 3
    title = figures.roc(labels, p, "multiclass", names).axes[0].get_title()
    assert "mean AUC of 8 of 9 classes" in title


def test_a_single_curve_of_several_labels_has_its_name():
    labels, p, names = sample("multilabel")
    labels[:, 1:] = 0
    figure = figures.roc(labels, p, "multilabel", names)
    assert f"mean AUC of 1 of {len(names)}" in figure.axes[0].get_title()
    assert [names[0][:10] in text.get_text() for text in figure.legends[0].get_texts()] == [True]


def test_classes_of_one_beginning_are_told_apart():
    labels, p, _ = sample("multiclass")
    names = [f"Malignant neoplasm of the breast, stage {i}" for i in range(9)]
    for problem, given in (("multiclass", labels), ("multilabel", np.eye(9, dtype=int)[labels[:, 0]])):
        axes = figures.confusion(given, p, problem, names).axes[0]
        ticks = [tick.get_text() for tick in axes.get_yticklabels()]
        assert len(set(ticks)) == 9


def test_a_class_whose_name_begins_with_an_underscore_is_in_the_legend():
    labels, p, _ = sample("binary")
    figure = figures.score_distributions(labels, p, "binary", ["_a", "b"])
    assert any("_a" in text.get_text() for text in figure.legends[0].get_texts())


def test_roc_draws_the_curves_whose_area_is_the_auc():
    labels, p, names = sample("multiclass")
    figure = figures.roc(labels, p, "multiclass", names)
    axes = figure.axes[0]
    drawn = axes.lines[1:]  # the first is the diagonal
    areas = [auc(line.get_xdata(), line.get_ydata()) for line in drawn]
    want = [roc_auc_score(labels[:, 0] == c, p[:, c]) for c in range(9)]
    np.testing.assert_allclose(areas, want)
    assert f"{np.mean(want):.3f}" in axes.get_title()
    assert [t.get_text().split()[0] for t in figure.legends[0].get_texts()] == [f"{v:.3f}" for v in want]
    styles = {(line.get_color(), line.get_linestyle()) for line in drawn}
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
        figure = draw(labels, p, "multiclass", names)
        legend = [t.get_text() for t in figure.legends[0].get_texts()]
        assert len(legend) == 8
        assert not any("class 4" in text for text in legend)
    figures.confusion(labels, p, "multiclass", names)
    assert "no class" in figures.roc(np.zeros(3, int), p[:3, :2], "binary", names[:2]).axes[0].get_title()


ROWS = [
    {"epoch": 0, "train/loss": 1.0, "val/loss": 1.1, "val/auc": float("nan"), "lr": 1e-3},
    {"epoch": 1, "train/loss": 0.5, "val/loss": 0.9, "val/auc": 0.9, "lr": 1e-4},
    {"epoch": 2, "train/loss": 0.4, "val/loss": 0.8, "val/auc": 0.9, "lr": 1e-5},
    {"epoch": 3, "train/loss": 0.3, "lr": 1e-6},
]


def test_history_marks_the_epoch_that_the_run_keeps():
    """Not that of the best AUC: the checkpoint says which."""
    figure = run_figures.history(ROWS, kept=2)
    loss, validation, rate = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines[:2]] == [[1.0, 0.5, 0.4, 0.3], [1.1, 0.9, 0.8]]
    assert list(validation.lines[0].get_xdata()) == [1, 2]
    assert list(rate.lines[0].get_ydata()) == [1e-3, 1e-4, 1e-5, 1e-6]
    assert all(list(axes.lines[-1].get_xdata()) == [2, 2] for axes in figure.axes)
    assert "kept: 2" in loss.get_xlabel()
    assert_nothing_is_cut(figure)
    assert_nothing_is_cut(run_figures.history(ROWS[1:2]))
    assert_nothing_is_cut(run_figures.history([]))


def test_history_sets_the_loss_without_auxiliary_terms_beside_that_of_val():
    rows = [{**row, "train/main_loss": row["train/loss"] / 3} for row in ROWS]
    loss = run_figures.history(rows).axes[0]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "train, all terms", "val"]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1 / 3, 0.5 / 3, 0.4 / 3, 0.1])
    same = run_figures.history([{**row, "train/main_loss": row["train/loss"]} for row in ROWS]).axes[0]
    assert [text.get_text() for text in same.get_legend().get_texts()] == ["train", "val"]


def test_distributions_are_of_the_samples_with_and_without_the_class():
    labels, p, names = sample("binary")
    axes = figures.score_distributions(labels, p, "binary", names, threshold=0.31).axes[0]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert np.sum(heights[1]) == (labels == 1).sum()
    np.testing.assert_array_equal(heights[0], np.histogram(p[labels[:, 0] == 0, 1], np.linspace(0, 1, 26))[0])
    assert [line.get_xdata()[0] for line in axes.lines] == [0.5, 0.31]
    labels, p, names = sample("multiclass")
    axes = figures.score_distributions(labels, p, "multiclass", names).axes[0]
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_color() == "black" and line.get_linewidth() == 1]
    assert medians[0] == pytest.approx(np.median(p[labels[:, 0] == 0, 0]))
    assert medians[9 + 3] == pytest.approx(np.median(p[labels[:, 0] != 3, 3]))


def test_reliability_after_calibration_is_drawn_beside_it():
    labels, p, names = sample("multiclass")
    after = p**2 / (p**2).sum(axis=1, keepdims=True)
    upper = figures.reliability(labels, p, "multiclass", names, calibrated=after).axes[0]
    ece = [metrics.scores(labels, found, "multiclass")["ece"] for found in (p, after)]
    assert f"{ece[0]:.3f} → {ece[1]:.3f}" in upper.get_title()
    assert len(upper.get_legend().get_texts()) == 2


def test_mistakes_are_the_most_confident():
    labels = np.array([[0], [1], [1], [0]])
    p = np.array([[0.4, 0.6], [0.9, 0.1], [0.2, 0.8], [0.05, 0.95]])
    found = metrics.confident_mistakes(labels, p, "binary", 2)
    assert found == [(3, 0, 1, 0.95), (1, 1, 0, 0.9)]
    several = np.array([[1, 0], [0, 0], [1, 1]])
    q = np.array([[0.2, 0.6], [0.1, 0.1], [0.9, 0.3]])
    assert metrics.confident_mistakes(several, q, "multilabel", 9) == [(0, 0, 0, 0.8), (2, 1, 0, 0.7)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (1, 28, 20, 24)])
def test_sheet_of_mistakes_shows_the_images_with_their_texts(shape):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(5)]
    figure = run_figures.mistakes(images, [f"number {i}" for i in range(5)], caption=Caption("mine", "test"))
    assert_nothing_is_cut(figure)
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_xlabel() for axes in drawn] == [f"number {i}" for i in range(5)]
    seen = drawn[2].images[0].get_array()
    if len(shape) == 4:
        np.testing.assert_array_equal(seen[:20, :24], images[2][0, 14])
        np.testing.assert_array_equal(seen[:28, 25:49], images[2][0, :, 10])
        np.testing.assert_array_equal(seen[:28, 50:], images[2][0, :, :, 12])
    else:
        assert seen.shape == (28, 28, 3)[: 2 + (shape[0] == 3)]


def test_seeds_are_points_and_their_mean_a_bar():
    figure = run_figures.strip({"test AUC": {"a": [0.8, 0.9], "b": [0.7, float("nan")]}})
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[0.8, 0.9], [0.7]]
    bars = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() != "o"]
    assert bars == pytest.approx([0.85, 0.7])
    assert_nothing_is_cut(figure)
    assert_nothing_is_cut(run_figures.overlaid({"a": [ROWS, ROWS], "b": [[]]}))


def test_critical_difference_joins_what_does_not_differ():
    average = np.array([1.2, 3.6, 1.5, 3.7])
    found = Ranks(average, 9.0, 0.03, 1.5, np.ones((4, 4)), 12)
    figure = run_figures.critical_difference(["a", "b", "c", LONG[:30]], found)
    assert_nothing_is_cut(figure)
    thick = [c.get_segments()[0] for c in figure.axes[0].collections if c.get_linewidth()[0] == 3]
    assert [(s[0][0], s[1][0]) for s in thick] == [pytest.approx((1.17, 1.53)), pytest.approx((3.57, 3.73))]
    texts = [text.get_text().strip() for text in figure.axes[0].texts]
    assert {"a (1.20)", "c (1.50)", "b (3.60)"} <= set(texts)


def test_wrong_number_of_names():
    labels, p, names = sample("ordinal")
    with pytest.raises(ValueError, match="4 names for 5 columns"):
        figures.roc(labels, p, "ordinal", names[:4])


def test_pyplot_stays_unloaded():
    code = "import sys; from scale.evaluation import figures, run_figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
