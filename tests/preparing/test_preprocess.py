"""Preprocessing: what the network sees, and the way back to the file's own grid."""

import itertools

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from scale.preparing.preprocess import WINDOWS, Preprocessing
from scale.preparing.resample import resample, weights
from scale.readers import Picture, UnreadableError

CODES = [
    "".join(code[axis] for axis in order)
    for order in itertools.permutations(range(3))
    for code in itertools.product("RL", "AP", "SI")
]


_DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def in_orientation(volume: np.ndarray, own: str, code: str, spacing=(1.0, 1.0, 1.0)) -> Picture:
    """A volume whose axes point to `own`, as a file whose axes point to `code`."""
    change = ornt_transform(axcodes2ornt(tuple(own)), axcodes2ornt(tuple(code)))
    start = np.eye(4)
    start[:3, :3] = np.transpose([_DIRECTIONS[letter] for letter in own])
    values = nibabel.orientations.apply_orientation(volume, change)
    affine = start @ inv_ornt_aff(change, volume.shape)
    affine[:3, :3] *= spacing[0]
    assert nibabel.aff2axcodes(affine) == tuple(code)
    return Picture(values, 3, affine=affine, spacing=spacing)


@pytest.mark.parametrize("code", CODES)
def test_every_orientation_gives_the_same_volume_and_comes_back(code):
    volume = np.random.default_rng(0).integers(0, 256, (6, 7, 8), np.uint8)
    picture = in_orientation(volume, "SPL", code)
    seen, geometry = Preprocessing(size=(6, 7, 8)).apply(picture)
    assert np.array_equal(seen, volume)
    assert np.array_equal(geometry.back(seen.astype(np.float32)), picture.values)


def test_orientation_is_honoured():
    volume = np.random.default_rng(0).integers(0, 256, (6, 6, 6), np.uint8)
    seen, _ = Preprocessing(size=(6, 6, 6), orientation="RAS").apply(in_orientation(volume, "RAS", "PIR"))
    assert np.array_equal(seen, volume)


@pytest.mark.parametrize(("source", "target"), [(50, 28), (50, 50), (30, 44), (7, 64), (512, 28)])
def test_images_and_volumes_are_resampled_alike(source, target):
    """Pillow's filter and ours are one, and an affine ramp stays one."""
    rows = np.random.default_rng(0).random((source, 9)).astype(np.float32)
    matrix = weights(source, target)
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(resample(rows, (target, 9)), matrix @ rows, atol=1e-5)
    assert np.allclose(resample(rows[:, None], (target, 1, 9))[:, 0], matrix @ rows, atol=1e-5)


def test_anti_aliasing():
    stripes = np.tile([0.0, 1.0], 64)[:, None] * np.ones((1, 128))
    assert abs(resample(stripes, (16, 16))[2:-2] - 0.5).max() < 0.02  # not 0 or 1, as without


@pytest.mark.parametrize("shape", [(40, 28), (28, 40), (61, 20), (9, 14)])
def test_proportions_are_kept_and_maps_come_back(shape):
    how = Preprocessing(size=(28, 28))
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.float32)
    picture = Picture((ramp / ramp.max()).astype(np.float32), 2)
    seen, geometry = how.apply(picture)
    assert seen.shape == (28, 28)
    assert max(geometry.inner) == 28
    assert abs(geometry.inner[0] / geometry.inner[1] - shape[0] / shape[1]) < 0.07
    spot = np.zeros(shape, np.float32)
    spot[shape[0] // 3, shape[1] // 2] = 1000
    around = geometry.place(resample(spot, geometry.inner))
    back = geometry.back(around)
    assert back.shape == shape
    found = np.unravel_index(back.argmax(), shape)
    assert np.abs(np.subtract(found, (shape[0] // 3, shape[1] // 2))).max() <= max(1, max(shape) / 28)
    _, geometry = Preprocessing(size=(28, 28), fit="stretch").apply(picture)
    assert geometry.inner == (28, 28)
    assert geometry.back(np.ones((28, 28), np.float32)).shape == shape


def test_spacing():
    volume = np.random.default_rng(0).random((40, 40, 10)).astype(np.float32)
    affine = np.diag([1.0, 1, 4, 1])
    picture = Picture(volume, 3, affine=affine, spacing=(1.0, 1.0, 4.0))
    voxels = Preprocessing(size=(20, 20, 20), orientation="RAS").apply(picture)[1]
    assert voxels.inner == (20, 20, 5)
    millimetres = Preprocessing(size=(20, 20, 20), orientation="RAS", spacing="isotropic").apply(picture)[1]
    assert millimetres.inner == (20, 20, 20)
    fixed = Preprocessing(size=(20, 20, 20), orientation="RAS", spacing=1.0).apply(picture)[1]
    assert (fixed.inner, fixed.start) == ((40, 40, 40), (-10, -10, -10))  # cropped around the centre
    back = fixed.back(np.ones((20, 20, 20), np.float32))
    assert back[20, 20, 5] == 1
    assert back[2, 20, 5] == 0
    with pytest.raises(UnreadableError, match="voxel size"):
        Preprocessing(size=(20, 20, 20), spacing=1.0).apply(Picture(volume, 3))


def test_intensities():
    hu = np.array([[-2000.0, -1350, -600, 150, 3000]])
    size = (1, 5)
    seen, _ = Preprocessing(size=size, intensity="window", window=WINDOWS["lung"]).apply(Picture(hu, 2))
    assert seen.tolist() == [[0, 0, 128, 255, 255]]
    values = np.arange(1001, dtype=np.float32).reshape(1, -1)
    seen, _ = Preprocessing(size=(1, 1001), intensity="percentiles", percentiles=(10, 90)).apply(Picture(values, 2))
    assert seen[0, 100] == 0
    assert seen[0, 500] in (127, 128)
    assert seen[0, 900] == 255
    for given, expected in (
        (np.array([[0, 257, 65535]], np.uint16), [[0, 1, 255]]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [[0, 128, 255]]),
        (np.array([[0, 7, 255]], np.int16), [[0, 7, 255]]),
        (np.array([[False, True, True]]), [[0, 255, 255]]),
    ):
        assert Preprocessing(size=(1, 3)).apply(Picture(given, 2))[0].tolist() == expected
    with pytest.raises(UnreadableError, match="-5 to 3"):
        Preprocessing(size=(1, 2)).apply(Picture(np.array([[-5, 3]], np.int16), 2))


def test_colour_and_dimensions():
    colour = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with pytest.raises(UnreadableError, match="colour"):
        Preprocessing(size=(8, 8)).apply(Picture(colour, 2))
    same = np.repeat(colour[..., :1], 3, axis=-1)
    assert np.array_equal(Preprocessing(size=(8, 8)).apply(Picture(same, 2))[0], colour[..., 0])
    assert np.array_equal(Preprocessing(size=(8, 8), channels=3).apply(Picture(colour[..., 0], 2))[0], same)
    with pytest.raises(UnreadableError, match="a volume"):
        Preprocessing(size=(8, 8)).apply(Picture(np.zeros((8, 8, 8), np.uint8), 3))


def test_the_record():
    how = Preprocessing(size=(8, 9, 10), spacing=1.5, intensity="window", window=(0, 80))
    assert Preprocessing.from_record(how.record()) == how
    with pytest.raises(ValueError, match="version"):
        Preprocessing.from_record({**how.record(), "version": 2})
    with pytest.raises(ValueError, match="unknown key 'blur'"):
        Preprocessing.from_record({**how.record(), "blur": 1})
    for wrong in (
        {"size": (8,)}, {"channels": 2}, {"orientation": "RRS"}, {"spacing": "mm"}, {"spacing": 0.0}, {"fit": "crop"},
        {"intensity": "window"}, {"window": (0, 1)}, {"percentiles": (50, 50)}, {"spacing": 1.0, "fit": "stretch"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Preprocessing(**{"size": (8, 8), **wrong})
