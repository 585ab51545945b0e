"""Synthetic volumes on which one part is needed: what decides is there, and nothing else tells."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scale.data import controlled

SAMPLES = {"train": 240}


@pytest.fixture(scope="module", params=controlled.TASKS)
def made(request):
    arrays = controlled.generate(task=request.param, size=28, samples=SAMPLES, seed=0)
    return request.param, arrays["train_images"].astype(float), arrays["train_labels"][:, 0]


def stripes(images):
    """The strongest texture of one pixel in the mean of either half of the slices."""
    found = []
    for half in (images[:, :14].mean(axis=1), images[:, 14:].mean(axis=1)):
        for axis in (1, 2):
            rows = np.moveaxis(half, axis, 1)
            signed = (rows - rows.mean(axis=1, keepdims=True)) * np.where(np.arange(28) % 2, 1, -1)[:, None]
            boxes = np.lib.stride_tricks.sliding_window_view(signed, (12, 12), axis=(1, 2)).mean(axis=(-1, -2))
            found.append(np.abs(boxes).max(axis=(1, 2)))
    return np.max(found, axis=0)


def test_sets_are_balanced_and_brightness_tells_nothing(made):
    task, images, labels = made
    assert labels.mean() == 0.5
    for statistic in (images.mean(axis=(1, 2, 3)), images.std(axis=(1, 2, 3))):
        assert 0.3 < roc_auc_score(labels, statistic) < 0.7, task


@pytest.mark.parametrize(("task", "low", "high"), [("plane", 0.98, 1.0), ("both", 0.78, 0.88), ("side", 0.6, 0.74)])
def test_the_mean_of_the_slices_shows_the_texture_where_it_decides(task, low, high):
    """Of `both` it is one of two cues, so that alone it has an AUC of 5/6; of `side`, its side counts too: 2/3."""
    arrays = controlled.generate(task=task, size=28, samples=SAMPLES, seed=0)
    images, labels = arrays["train_images"].astype(float), arrays["train_labels"][:, 0]
    assert low <= roc_auc_score(labels, stripes(images)) <= high


def test_a_single_slice_has_the_texture_in_both_classes():
    arrays = controlled.generate(task="plane", size=28, samples=SAMPLES, seed=0)
    images, labels = arrays["train_images"].astype(float), arrays["train_labels"][:, 0]
    rough = np.abs(images[..., 1:, :] - images[..., :-1, :]).mean(axis=(1, 2, 3))
    assert 0.35 < roc_auc_score(labels, rough) < 0.65


def test_the_cases_without_both_cues_are_as_frequent_as_one_another():
    cues = []
    for row in range(0, 12, 2):
        plane = controlled.generate(task="both", size=28, samples={"train": row + 1}, seed=3)["train_images"][row:]
        cues.append(bool(stripes(plane.astype(float))[0] > 3.0))
    assert cues == [False, False, True, False, False, True]


def box_means(images):
    """Means over all patches of 12 pixels; of volumes, over all cubes."""
    axes = tuple(range(1, images.ndim))
    return np.lib.stride_tricks.sliding_window_view(images, (12,) * len(axes), axis=axes).mean(
        axis=tuple(range(-len(axes), 0))
    )


def corner_of_the_largest(maps):
    """maps: (N, H, W); returns (N, 2)."""
    flat = maps.reshape(len(maps), -1).argmax(axis=1)
    return np.stack(np.unravel_index(flat, maps.shape[1:]), axis=1)


def test_both_cues_are_on_one_side_or_on_different_ones():
    arrays = controlled.generate(task="side", size=28, samples={"train": 60}, seed=0)
    images = arrays["train_images"].astype(float) - arrays["train_images"].mean()
    z, y, x = np.ogrid[:28, :28, :28]
    rows = np.where(np.arange(28) % 2, 1.0, -1.0)
    mean = images.mean(axis=1)
    planes = np.maximum(*(np.abs(box_means(mean * kernel)) for kernel in (rows[:, None], rows[None])))
    spaces = np.abs(box_means(images * np.where((z + y + x) % 2, 1.0, -1.0))).max(axis=1)
    together = (corner_of_the_largest(planes)[:, 1] < 8) == (corner_of_the_largest(spaces)[:, 1] < 8)
    labels, case = arrays["train_labels"][:, 0], np.arange(len(images)) // 2 % 3
    assert together[labels == 1].mean() > 0.95
    assert together[(labels == 0) & (case == 2)].mean() < 0.05
    strength = spaces.max(axis=(1, 2))
    assert strength[(labels == 0) & (case == 1)].max() < strength[(labels == 1) | (case != 1)].min()


def test_a_sample_does_not_depend_on_how_many_there_are():
    few, many = (controlled.generate(task="both", size=24, samples={"val": n}, seed=1) for n in (3, 8))
    np.testing.assert_array_equal(few["val_images"], many["val_images"][:3])
    other = controlled.generate(task="both", size=24, samples={"val": 3}, seed=2)
    assert (few["val_images"] != other["val_images"]).any()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"task": "texture"}, "data.task=texture: give one of scale, plane"),
        ({"size": 16}, "data.size=16: give at least"),
    ],
)
def test_what_cannot_be_made(given, said):
    with pytest.raises(ValueError, match=said):
        controlled.generate(**{"task": "scale", "size": 28, "samples": SAMPLES, "seed": 0, **given})
