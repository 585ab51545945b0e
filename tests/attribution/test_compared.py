"""The figure that sets runs of other seeds beside a run: which maps, in which panel, of which network."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scale.attribution.report import compared


def row(name, image, first, second):
    maps = {"first": {"saliency": first, "deeplift": first}, "second": {"saliency": second, "deeplift": second}}
    mask = np.zeros(image.shape, dtype=bool)
    mask[..., :2, :2] = True
    return compared.Row(name, image, mask, maps, {"first": "falls", "second": "stays"})


@pytest.mark.parametrize("shape", [(8, 8), (6, 8, 8)])
def test_each_panel_shows_the_map_of_its_run(shape):
    image = np.tile(np.arange(8, dtype=np.uint8) * 30, (*shape[:-1], 1))
    first, second = np.zeros(shape), np.zeros(shape)
    first[..., 1, 1], second[..., 6, 6] = 1, 1
    figure = compared.draw([row("#7", image, first, second), row("#9", image, second, first)])
    FigureCanvasAgg(figure).draw()
    grid = np.array(figure.axes).reshape(2, 5)
    assert grid[0, 0].get_title().startswith("#7")
    assert [axes.get_title() for axes in grid[0, 1:]] == [
        f"{run}\n{method}" for run in ("first", "second") for method in ("saliency", "deeplift")
    ]
    assert [axes.get_xlabel() for axes in grid[0]] == ["", "falls", "", "stays", ""]
    peaks = [
        [np.unravel_index(axes.images[-1].get_array()[..., 3].argmax(), (8, 8)) for axes in line[1:]] for line in grid
    ]
    assert peaks == [[(1, 1)] * 2 + [(6, 6)] * 2, [(6, 6)] * 2 + [(1, 1)] * 2]


def test_the_recommended_methods_come_first_and_no_control():
    from scale.attribution.catalog import RECOMMENDED

    names = ["random", "saliency", "edges", *reversed(RECOMMENDED)]
    assert compared.shown(names) == list(RECOMMENDED[: compared.METHODS_SHOWN])
    assert compared.shown(["random", "deeplift", "saliency"]) == ["deeplift", "saliency"]
