"""What the figures show, read from the rendered pixels: orientation, window, colours."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scale.attribution.report import colours, figures

SHAPE = (5, 6, 8)


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr(figures, "DPI", 60)  # drawn sooner


def phantom(shape=SHAPE):
    """No two cells alike, brightest towards the end of every axis: no flip or exchange of axes goes unseen."""
    return np.round(np.linspace(20, 235, int(np.prod(shape)))).astype(np.uint8).reshape(shape)


def seen(figure, axes, shape):
    """The picture in some axes as colours (H, W, 3) from the top left, read at the middle of each cell."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    box, height = axes.get_window_extent(), pixels.shape[0]
    rows = [int(height - box.y1 + box.height * (r + 0.5) / shape[0]) for r in range(shape[0])]
    columns = [int(box.x0 + box.width * (c + 0.5) / shape[1]) for c in range(shape[1])]
    return pixels[np.ix_(rows, columns)].astype(int)


def grey(plane, volume):
    low, high = int(volume.min()), int(volume.max())
    return np.repeat((255 * (plane.astype(float) - low) / (high - low))[..., None], 3, axis=2)


def spike(shape, place, value=1.0):
    values = np.zeros(shape)
    values[place] = value
    return values


def test_volume_planes_have_the_right_orientation_and_one_window():
    volume, place = phantom(), (1, 4, 6)
    figure = figures.planes(volume, spike(SHAPE, place), opacity=1.0)
    top, below = figure.axes[:3], figure.axes[3:6]
    parts = [volume[1], volume[:, 4], volume[:, :, 6]]
    hits = [(4, 6), (1, 6), (1, 4)]
    for axis, (part, hit) in enumerate(zip(parts, hits, strict=True)):
        want = grey(part, volume)
        got = seen(figure, top[axis], part.shape)
        free = np.ones(part.shape, bool)
        free[hit[0]], free[:, hit[1]] = False, False  # the hairs
        np.testing.assert_allclose(got[free], want[free], atol=3)
        got = seen(figure, below[axis], part.shape)
        np.testing.assert_allclose(got[free], want[free], atol=3)
        np.testing.assert_allclose(got[hit], 255 * np.array(colours.UNSIGNED(1.0)[:3]), atol=3)
        assert figures.AXES[axis] in top[axis].get_title()
        assert str(place[axis]) in top[axis].get_title()
    assert [a.get_ylabel() for a in top] == ["← row", "← depth", "← depth"]
    assert [a.get_xlabel() for a in top] == ["column →", "column →", "row →"]


def test_planes_are_named_by_the_orientation():
    """In RAS the first axis runs from left to right: the plane across it is sagittal."""
    names = ["sagittal", "coronal", "axial"]
    figure = figures.planes(phantom(), spike(SHAPE, (1, 4, 6)), orientation="RAS")
    assert [axes.get_title().split(",")[0] for axes in figure.axes[:3]] == names
    figure = figures.side_by_side(phantom(), {"a": spike(SHAPE, (1, 4, 6))}, orientation="RAS")
    assert [axes.get_ylabel().split()[0] for axes in figure.axes if axes.get_ylabel()] == names


def test_planes_go_through_a_given_point():
    volume = phantom()
    figure = figures.planes(volume, spike(SHAPE, (1, 4, 6)), point=(3, 2, 1))
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), volume[:, 2])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_montage_shows_slices_in_order_with_one_window(axis):
    volume = phantom()
    figure = figures.montage(volume, np.zeros(SHAPE), axis=axis, count=4, title="the title")
    shown = [a for a in figure.axes if a.get_title()]
    indices = [int(a.get_title().split()[-1]) for a in shown]
    assert indices[0] == 0
    assert indices[-1] == SHAPE[axis] - 1
    assert len(indices) == 4
    for a, index in zip(shown, indices, strict=True):
        part = volume.take(index, axis)
        np.testing.assert_allclose(seen(figure, a, part.shape), grey(part, volume), atol=3)
    assert figure.get_suptitle() == "the title"
    assert len([a for a in figures.montage(volume, np.zeros(SHAPE), count=99).axes if a.get_title()]) == SHAPE[0]


@pytest.mark.parametrize("channels", [(), (3,)])
def test_image_overlay_has_the_right_orientation(channels):
    image = phantom((6, 8, *channels))
    figure = figures.overlay_2d(image, spike((6, 8), (1, 5), -2.0), opacity=1.0)
    got = seen(figure, figure.axes[1], (6, 8))
    free = spike((6, 8), (1, 5)) == 0
    want = image if channels else grey(image, image)
    np.testing.assert_allclose(got[free], want[free], atol=3)
    np.testing.assert_allclose(got[1, 5], 255 * np.array(colours.SIGNED(0.0)[:3]), atol=3)  # against the class: blue
    np.testing.assert_allclose(seen(figure, figure.axes[0], (6, 8)), want, atol=3)


def test_side_by_side_in_two_and_three_dimensions():
    image = phantom((6, 8))
    maps = {f"method_{i}": spike((6, 8), (i, i)) for i in range(6)}
    figure = figures.side_by_side(image, maps, title="truth", opacity=1.0)
    shown = {a.get_title(): a for a in figure.axes if a.get_title()}
    assert list(shown) == ["image", *(f"method {i}" for i in range(6))]
    for i in range(6):
        got = seen(figure, shown[f"method {i}"], (6, 8))
        np.testing.assert_allclose(got[i, i], 255 * np.array(colours.UNSIGNED(1.0)[:3]), atol=3)
    volume = phantom()
    maps = {"a": spike(SHAPE, (1, 4, 6)), "b": -spike(SHAPE, (1, 4, 6))}
    figure = figures.side_by_side(volume, maps, point=(1, 4, 6), opacity=1.0)
    grid = np.array(figure.axes).reshape(3, 3)
    for axis, hit in enumerate([(4, 6), (1, 6), (1, 4)]):
        shape = tuple(n for a, n in enumerate(SHAPE) if a != axis)
        for column, colour in ((1, colours.UNSIGNED(1.0)), (2, colours.SIGNED(0.0))):
            got = seen(figure, grid[axis, column], shape)
            np.testing.assert_allclose(got[hit], 255 * np.array(colour[:3]), atol=3)
    mask = np.zeros(SHAPE, bool)
    mask[3:, 2, 1] = True
    figure = figures.side_by_side(volume, maps, mask=mask)
    assert figure.axes[0].get_ylabel() in ("axial 3", "axial 4")


def test_outline_runs_along_the_border_of_the_mask():
    mask = np.zeros((6, 8), bool)
    mask[1:3, 4:7] = True
    figure = figures.overlay_2d(phantom((6, 8)), np.zeros((6, 8)), mask=mask)
    segments = figure.axes[1].collections[0].get_segments()
    assert len(segments) == 2 * (2 + 3)
    ends = np.concatenate(segments)
    assert ends.min(0).tolist() == [3.5, 0.5]
    assert ends.max(0).tolist() == [6.5, 2.5]


def test_signed_colours_are_centred_at_zero_and_others_start_there():
    values = np.array([[-4.0, -2.0, 0.0, 2.0, 4.0]])
    rgba = colours.overlay(values, largest=4.0, signed=True, opacity=0.8)
    np.testing.assert_allclose(rgba[0, :, 3], [0.8, 0.4, 0, 0.4, 0.8])
    np.testing.assert_allclose(rgba[0, 2, :3], colours.SIGNED(0.5)[:3])
    assert rgba[0, 0, 2] > rgba[0, 0, 0]  # blue against
    assert rgba[0, 4, 0] > rgba[0, 4, 2]  # red for
    even = colours.overlay(np.array([[0.0, 2.0, 9.0]]), largest=4.0, signed=False, opacity=1.0)
    np.testing.assert_allclose(even[0, :, 3], [0, 0.5, 1])
    figure = figures.overlay_2d(phantom((6, 8)), spike((6, 8), (0, 0), -3.0))
    bar = figure.axes[-1]
    assert bar.get_ylim() == (-3.0, 3.0)
    assert [t.get_text() for t in bar.get_yticklabels()][2] == "0"
    forced = figures.overlay_2d(phantom((6, 8)), spike((6, 8), (0, 0), 3.0), signed=True)
    assert forced.axes[-1].get_ylim() == (-3.0, 3.0)
    assert figures.overlay_2d(phantom((6, 8)), spike((6, 8), (0, 0), 3.0)).axes[-1].get_ylim() == (0.0, 3.0)


def test_range_ignores_a_few_extremes_but_not_a_lone_peak():
    values = np.concatenate([np.linspace(0, 1, 1000), [50.0, 60.0]])
    assert 0.9 < colours.limit(values) < 1.1
    assert colours.limit(spike((30, 30), (2, 2), 7.0)) == 7
    assert colours.limit(np.zeros((3, 3))) == 1
    with pytest.raises(ValueError, match="NaN"):
        colours.limit(np.array([1.0, np.nan]))
    assert colours.window(np.full((3, 3), 9, np.uint8)) == (9, 10)


def test_title_and_bad_shapes():
    assert figures.sample_title("cyst", "cyst", 0.987) == "truth: cyst   prediction: cyst (0.99, right)"
    assert "wrong" in figures.sample_title("cyst", "none", 0.5)
    with pytest.raises(ValueError, match=r"a map \(5, 6, 7\) does not fit an image \(5, 6, 8\)"):
        figures.planes(phantom(), np.zeros((5, 6, 7)))
    with pytest.raises(ValueError, match="at least one map"):
        figures.side_by_side(phantom(), {})


def test_nothing_is_cut():
    volume, mask = phantom((9, 12, 15)), spike((9, 12, 15), (1, 4, 6)) > 0
    maps = {
        f"scale_attention_middle_volumetric_{i}": np.random.default_rng(i).normal(size=volume.shape) for i in range(6)
    }
    title = figures.sample_title("immature granulocytes", "eosinophil", 0.5)
    drawn = [
        figures.planes(volume, maps["scale_attention_middle_volumetric_0"], title=title, mask=mask),
        figures.montage(volume, maps["scale_attention_middle_volumetric_0"], title=title),
        figures.side_by_side(volume, maps, title=title),
        figures.side_by_side(volume[0], {name: m[0] for name, m in maps.items()}, title=title),
        figures.overlay_2d(volume[0], maps["scale_attention_middle_volumetric_0"][0], title=title),
    ]
    for figure in drawn:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.01


def test_pyplot_stays_unloaded():
    code = "import sys, scale.attribution.report.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
