"""Corruptions: each against its definition, and all of them: seeded, of the same shape, worse with severity."""

import colorsys
import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from scale.data import catalog, corruptions, corruptions_blur, corruptions_pixels, corruptions_volumes
from scale.data.corruptions_published import MEDMNIST_C, VOLUMES

RNG = np.random.default_rng(0)


def smooth(shape, seed=0):
    """Images with structure, uint8."""
    noise = np.random.default_rng(seed).normal(size=shape)
    axes = [(0.0, *[2.0] * (len(shape) - 2), 0.0), (0.0, *[2.0] * (len(shape) - 1))][shape[-1] > 4]
    found = ndimage.gaussian_filter(noise, axes)
    return np.round(255 * (found - found.min()) / (found.max() - found.min())).astype(np.uint8)


def floats(images):
    return images.astype(np.float32) / 255


def test_every_2d_set_has_a_table_of_known_corruptions_with_five_severities():
    assert set(MEDMNIST_C) == {flag for flag in catalog.FLAGS if not flag.endswith("3d")}
    for table in (*MEDMNIST_C.values(), VOLUMES):
        for name, parameters in table.items():
            assert name in corruptions._FUNCTIONS
            assert len(parameters) == len(corruptions.SEVERITIES)


def test_the_tables_are_those_that_were_compared_with_the_registry():
    """Compared value by value with medmnistc's registry (commit b6dee0e); a robustness table with others is another."""

    def plain(value):
        return [plain(one) for one in value] if isinstance(value, tuple) else round(float(value), 9)

    tables = {flag: {name: plain(of) for name, of in table.items()} for flag, table in MEDMNIST_C.items()}
    tables["volumes"] = {name: plain(of) for name, of in VOLUMES.items()}
    digest = hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()
    assert digest == "b591833fb85cb89375f7a6dd6368b1c971ffcab0b30986c969b876a3be8796e4"


def test_every_function_is_in_a_table():
    assert set(corruptions._FUNCTIONS) == {name for table in (*MEDMNIST_C.values(), VOLUMES) for name in table}


COLOUR = {name: parameters for flag in ("dermamnist", "pathmnist") for name, parameters in MEDMNIST_C[flag].items()}
GREY = {name: parameters for flag in ("chestmnist", "octmnist") for name, parameters in MEDMNIST_C[flag].items()}
CASES = [
    *[(name, parameters, (6, 28, 28, 3), 2) for name, parameters in COLOUR.items()],
    *[(name, parameters, (6, 28, 28), 2) for name, parameters in GREY.items()],
    *[(name, parameters, (4, 12, 14, 16), 3) for name, parameters in VOLUMES.items()],
]


@pytest.mark.parametrize(("name", "parameters", "shape", "dims"), CASES)
def test_same_shape_seeded_and_worse_with_severity(name, parameters, shape, dims):
    images = smooth(shape)
    before, changes = images.copy(), []
    for severity, parameter in enumerate((None, *parameters)):
        found = corruptions.corrupt(images, name, parameter, severity=severity, spatial_dims=dims)
        again = corruptions.corrupt(images, name, parameter, severity=severity, spatial_dims=dims)
        assert found.shape == shape
        assert found.dtype == np.uint8
        assert np.array_equal(found, again)
        changes.append(np.abs(found.astype(float) - images).mean())
    assert np.array_equal(images, before)  # the clean ones are not touched
    assert changes[0] == 0
    assert changes[5] > 0
    assert changes[5] >= 0.9 * changes[1]


def test_severity_0_is_the_image_itself():
    images = smooth((2, 28, 28))
    assert corruptions.corrupt(images, "gaussian_noise", 9.9, severity=0, spatial_dims=2) is images


@pytest.mark.parametrize("name", ["gaussian_noise", "motion_blur", "bubble"])
def test_the_seed_changes_what_is_random(name):
    images, parameter = smooth((4, 28, 28, 3)), {**COLOUR}[name][2]
    one, other = (
        corruptions.corrupt(images, name, parameter, severity=3, spatial_dims=2, seed=seed) for seed in (0, 1)
    )
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0].astype(int) - images[0], one[1].astype(int) - images[1])


def test_a_part_of_a_split_is_corrupted_as_within_it(monkeypatch):
    images = smooth((20, 28, 28))
    monkeypatch.setattr(corruptions, "CHUNK", 8)
    whole = corruptions.corrupt(images, "speckle_noise", 0.3, severity=3, spatial_dims=2)
    first = corruptions.corrupt(images[:16], "speckle_noise", 0.3, severity=3, spatial_dims=2)
    assert np.array_equal(whole[:16], first)


def test_noise_has_the_stated_spread():
    grey = np.full((200, 28, 28, 1), 0.5, dtype=np.float32)
    found = {
        "gaussian_noise": (0.1, 0.1),
        "speckle_noise": (0.2, 0.1),  # in proportion to .5
        "shot_noise": (100, np.sqrt(0.5 / 100)),  # Poisson
    }
    for name, (parameter, sd) in found.items():
        noisy = corruptions._FUNCTIONS[name](grey, parameter, np.random.default_rng(1))
        assert abs(noisy.std() / sd - 1) < 0.02
        assert abs(noisy.mean() - 0.5) < 0.002
    hit = corruptions_pixels.impulse_noise(grey, 0.1, np.random.default_rng(1))
    assert set(np.unique(hit)) == {0, 0.5, 1}
    assert abs((hit != 0.5).mean() - 0.1) < 0.003
    assert abs((hit == 1).mean() - 0.05) < 0.003


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.5, 1.4])
def test_brightness_and_contrast_are_pillows(channels, factor):
    images = smooth((3, 28, 28, channels))
    for name, kind in (("brightness_up", ImageEnhance.Brightness), ("contrast_up", ImageEnhance.Contrast)):
        found = corruptions.corrupt(images, name, factor, severity=1, spatial_dims=2)
        for image, mine in zip(images, found, strict=True):
            peer = np.asarray(kind(Image.fromarray(image.squeeze())).enhance(factor)).reshape(image.shape)
            assert np.abs(mine.astype(int) - peer).max() <= 1  # Pillow rounds its mean, and cuts instead of rounding


@pytest.mark.parametrize(("size", "factor"), [(28, 0.3), (64, 0.8), (224, 0.25), (28, 0.1)])
def test_pixelate_is_pillows_box_filter(size, factor):
    images = smooth((2, size, size))
    found = corruptions.corrupt(images, "pixelate", factor, severity=1, spatial_dims=2)
    for image, mine in zip(images, found, strict=True):
        small = Image.fromarray(image).resize((int(size * factor),) * 2, Image.Resampling.BOX)
        peer = np.asarray(small.resize((size, size), Image.Resampling.BOX))
        assert np.abs(mine.astype(int) - peer).max() <= 1


def test_saturate_adds_to_the_saturation():
    colours = RNG.random((1, 5, 5, 3)).astype(np.float32)
    colours[0, 0, 0] = 0.4  # grey
    found = corruptions_pixels.saturate(colours, 0.2, RNG)
    for before, after in zip(colours.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*map(float, before))
        assert np.allclose(after, colorsys.hsv_to_rgb(hue, min(1, saturation + 0.2), value), atol=1e-5)
    with pytest.raises(ValueError, match="3 channels; got 1"):
        corruptions_pixels.saturate(colours[..., :1], 0.2, RNG)


def test_jpeg_is_pillows():
    images = smooth((2, 28, 28, 3))
    found = corruptions.corrupt(images, "jpeg_compression", 15, severity=1, spatial_dims=2)
    file = io.BytesIO()
    Image.fromarray(images[1]).save(file, "JPEG", quality=15)
    assert np.array_equal(found[1], np.asarray(Image.open(file)))


def test_gaussian_blur_at_the_reference_size_is_the_published_kernel():
    x = floats(smooth((1, 224, 224)))[..., None]
    taps = 9
    places = np.arange(taps) - taps // 2
    kernel = np.exp(-(places**2) / (2 * (0.3 * ((taps - 1) * 0.5 - 1) + 0.8) ** 2))
    peer = x[0, ..., 0]
    for axis in range(2):
        peer = ndimage.correlate1d(peer, kernel / kernel.sum(), axis=axis, mode="mirror")
    assert np.allclose(corruptions_blur.gaussian_blur(x, taps, RNG)[0, ..., 0], peer, atol=1e-5)


def test_defocus_at_the_reference_size_is_a_disc():
    x = np.zeros((1, 224, 224, 1), dtype=np.float32)
    x[0, 100, 100] = 1
    found = corruptions_blur.defocus_blur(x, (5, 0.01), RNG)[0, ..., 0]
    rows, columns = np.nonzero(found > 1e-6)
    assert ((rows - 100) ** 2 + (columns - 100) ** 2).max() <= 25
    assert len(rows) == 81  # whole pixels within a radius of 5
    assert np.isclose(found.sum(), 1, atol=1e-5)


def test_motion_blur_is_a_one_sided_tail_within_45_degrees():
    x = np.zeros((20, 224, 224, 1), dtype=np.float32)
    x[:, 112, 112] = 1
    found = corruptions_blur.motion_blur(x, (10, 5), np.random.default_rng(0))
    for image in found[..., 0]:
        rows, columns = np.nonzero(image > 1e-6)
        assert np.isclose(image.sum(), 1, atol=1e-4)
        assert columns.min() < 112 - 12  # the tail is on one side
        assert columns.max() <= 113
        assert np.abs(rows - 112).max() <= 112 - columns.min() + 1


@pytest.mark.parametrize("dims", [2, 3])
def test_blurs_keep_what_is_constant_and_shrink_with_the_image(dims):
    constant = np.full((2, *[12] * dims, 1), 0.3, dtype=np.float32)
    blurs = {"gaussian_blur": 13, "defocus_blur": (5, 0.2), "motion_blur": (15, 8), "zoom_blur": (1, 1.1, 1.2)}
    for name, parameter in blurs.items():
        assert np.allclose(getattr(corruptions_blur, name)(constant, parameter, RNG), 0.3, atol=1e-4)
    point = np.zeros((1, *[28] * dims, 1), dtype=np.float32)
    point[(0, *[14] * dims, 0)] = 1
    assert corruptions_blur.gaussian_blur(point, 13, RNG).max() > 0.4  # at 224 pixels it is .03 in 2D


def test_ghosting_and_missing_slices_by_hand():
    x = np.zeros((1, 32, 32, 32, 1), dtype=np.float32)
    x[0, 8:12, 8:12, 8:12] = 1
    rng = np.random.default_rng(0)
    whole = corruptions_volumes.ghosting(x, 0.0, rng)
    assert np.allclose(whole, x, atol=1e-6)
    ghost = corruptions_volumes.ghosting(x, 1.0, rng)
    moved = [np.roll(x, 16, axis=axis) for axis in (1, 2, 3)]
    assert max(float((ghost * copy).sum()) for copy in moved) > 10  # of 64 voxels, half the field of view away
    gone = corruptions_volumes.missing_slices(np.ones((3, 10, 10, 10, 1), dtype=np.float32), 0.2, rng)
    assert np.allclose(gone.mean(axis=(1, 2, 3, 4)), 0.8)


def test_spacing_averages_slices_and_a_bias_field_multiplies():
    x = floats(smooth((2, 12, 12, 12)))[..., None]
    thick = corruptions_volumes.spacing(x, 3, np.random.default_rng(0))
    repeats = [
        all(np.allclose(np.take(v, 3 * i, a), np.take(v, 3 * i + 2, a)) for i in range(4))
        for v in thick
        for a in range(3)
    ]
    assert sum(repeats) == 2  # one axis of each
    assert np.allclose(thick.mean(axis=(1, 2, 3, 4)), x.mean(axis=(1, 2, 3, 4)), atol=1e-5)
    field = corruptions_volumes.bias_field(np.ones_like(x), 0.3, np.random.default_rng(0))
    assert np.isclose(field[:, 5:7, 5:7, 5:7].mean(), 1, atol=0.1)
    assert field.std() > 0.05


def test_which_table():
    assert corruptions.table("medmnist_c", flag="breastmnist", spatial_dims=2) is MEDMNIST_C["breastmnist"]
    assert corruptions.table("pathmnist", flag="mine", spatial_dims=2) is MEDMNIST_C["pathmnist"]
    assert corruptions.table("medmnist_c", flag="mine", spatial_dims=3) is VOLUMES
    for name, dims, message in (
        ("medmnistc", 2, "did you mean 'medmnist_c'"),
        ("medmnist_c", 2, "MedMNIST-C has no table for mine"),
        ("pathmnist", 3, "is for 2D images"),
    ):
        with pytest.raises(ValueError, match=message):
            corruptions.table(name, flag="mine", spatial_dims=dims)
