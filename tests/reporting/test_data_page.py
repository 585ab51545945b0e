"""The text and the page of a data set's description."""

import numpy as np
from described import info, splits

from scale.data.description import describe
from scale.reporting import data_page


def _multilabel(rng, n):
    return (rng.random((n, 4)) < 0.4).astype(np.int64)


def test_the_text_says_what_was_counted():
    text = data_page.text(describe(info("multilabel", tuple("abcd")), splits(labels=_multilabel)))
    assert "Mine: multilabel, 4 classes, images of 6 x 6, uint8" in text
    assert "exact duplicates: 0 inside train, 0 inside val, 0 inside test, 0 in both train and val" in text
    assert "samples with both labels" in text
    assert "- a caveat" in text


def test_the_page_asks_nothing_of_a_network_and_escapes():
    found = describe(info(labels=("<b>", "b", "c"), dims=3), splits(item=(5, 6, 7)))
    page = data_page.page(found, command="python -m scale.describe data=mine")
    assert "&lt;b&gt;" in page
    assert "http://" not in page.replace("http-equiv", "")
    assert "https://" not in page
    assert page.count("data:image/png;base64,") == 3
    assert "middle planes" in page


def test_planes_of_a_volume():
    volume = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)
    tile = data_page.tile(volume, (5, 6, 7))
    assert tile.shape == (7, 3 * 8 - 1)
    assert np.array_equal(tile[:6, :7], volume[2])
    assert np.array_equal(tile[:5, 8:15], volume[:, 3])
    assert np.array_equal(tile[:5, 16:22], volume[:, :, 3])


def test_an_image_is_drawn_as_it_is():
    colour = np.zeros((4, 5, 3), dtype=np.uint8)
    assert data_page.tile(colour, (4, 5)).shape == (4, 5, 3)
    assert data_page.tile(np.zeros((4, 5, 1), dtype=np.uint8), (4, 5)).shape == (4, 5)
