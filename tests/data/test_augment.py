import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from scale.data.augment import Augment
from scale.data.catalog import Symmetry

PLANES = {2: ((0, 1),), 3: ((0, 1), (0, 2), (1, 2))}
OFF = {"flips": False, "rotate90": False, "rotation": 0.0, "scale": 0.0, "shift": 0.0}


def free(dims):
    return Symmetry(tuple(range(dims)), 180.0, PLANES[dims], "")


def rigid(dims):
    return Symmetry((), 0.0, (), "")


def images(dims, size=12, count=6, channels=1):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, channels, *[size] * dims, generator=generator)


@pytest.mark.parametrize("dims", [2, 3])
def test_flips_and_rotate90_only_permute_pixels(dims):
    x = images(dims)
    y = Augment(**(OFF | {"flips": True, "rotate90": True}))(x, symmetry=free(dims), seed=3)
    assert not torch.allclose(x, y)
    torch.testing.assert_close(y.flatten(1).sort().values, x.flatten(1).sort().values, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_orientation_of_the_symmetry_is_drawn_and_no_other(dims):
    x = torch.zeros(600, 1, *[6] * dims)
    x[(slice(None), 0, 0, 1) if dims == 2 else (slice(None), 0, 0, 1, 2)] = 1.0  # no symmetry of its own
    flipped = Augment(**(OFF | {"flips": True}))(x, symmetry=Symmetry((dims - 1,), 0.0, (), ""), seed=0)
    found = {tuple(row) for row in flipped.flatten(1).round().int().tolist()}
    mirrored = x[:1].flip(-1)
    assert found == {tuple(x[0].flatten().int().tolist()), tuple(mirrored.flatten().int().tolist())}
    turned = Augment(**(OFF | {"flips": True, "rotate90": True}))(x, symmetry=free(dims), seed=0)
    assert len({tuple(row) for row in turned.flatten(1).round().int().tolist()}) == {2: 8, 3: 48}[dims]


@pytest.mark.parametrize("shape", [(7, 7), (6, 9), (5, 5, 5), (6, 5, 5)])
def test_exact_moves_equal_their_interpolation(shape):
    x = torch.rand(64, 2, *shape, generator=torch.Generator().manual_seed(0))
    augment, symmetry = Augment(**(OFF | {"flips": True, "rotate90": True})), free(len(shape))
    matrix = augment.matrices(64, shape, symmetry=symmetry, generator=torch.Generator().manual_seed(4))
    grid = F.affine_grid(matrix[:, :-1], list(x.shape), align_corners=False)
    slow = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(augment(x, symmetry=symmetry, seed=4), slow, atol=1e-4, rtol=0)


def test_only_what_is_rotated_or_scaled_is_interpolated(monkeypatch):
    counts = []
    original = F.grid_sample
    monkeypatch.setattr(F, "grid_sample", lambda x, *a, **k: counts.append(len(x)) or original(x, *a, **k))
    x = images(2, count=400)
    augmented = Augment(rotation=20, scale=0.1, shift=0.05, affine_probability=0.4)(x, symmetry=free(2), seed=0)
    assert sum(counts) == pytest.approx(160, abs=40)
    moved = (augmented.flatten(1).sort().values == x.flatten(1).sort().values).all(dim=1)
    assert int(moved.sum()) == 400 - sum(counts)  # the others hold the same values, to the last bit
    counts.clear()
    Augment(**(OFF | {"flips": True}))(x, symmetry=free(2), seed=0)
    assert not counts


@pytest.mark.parametrize(("shape", "dims"), [((17, 17), 2), ((12, 20), 2), ((9, 11, 13), 3)])
def test_affine_equals_scipy(shape, dims):
    x = torch.from_numpy(np.random.default_rng(0).random((3, 1, *shape))).float()
    x = torch.stack([torch.from_numpy(ndimage.gaussian_filter(s.numpy(), 1.5)) for s in x[:, 0]]).unsqueeze(1)
    augment, symmetry = Augment(rotation=25, scale=0.2, shift=0.1, flips=False), Symmetry((), 180.0, PLANES[dims], "")
    matrices = augment.matrices(3, shape, symmetry=symmetry, generator=torch.Generator().manual_seed(5)).double()
    result = augment(x, symmetry=symmetry, seed=5)
    extent = np.array(shape, dtype=float)
    for image, matrix, got in zip(x[:, 0], matrices.numpy(), result[:, 0], strict=True):
        # From affine_grid's frame (x, y[, z] in [-1, 1]) to scipy's (array order, pixel centres at whole numbers).
        linear = np.flip(matrix[:dims, :dims], (0, 1)) * (extent[:, None] / extent[None, :])
        offset = matrix[:dims, dims][::-1] * extent / 2 + (extent - 1) / 2 - linear @ ((extent - 1) / 2)
        expected = ndimage.affine_transform(image.numpy(), linear, offset, order=1, mode="grid-constant")
        np.testing.assert_allclose(got.numpy(), expected, atol=2e-5)


def test_rotation_on_a_non_cubic_image_keeps_distances():
    augment, symmetry = Augment(rotation=90, scale=0, shift=0, flips=False, rotate90=False), free(2)
    matrix = augment.matrices(50, (10, 30), symmetry=symmetry, generator=torch.Generator().manual_seed(0))
    pixels = torch.diag(torch.tensor([30.0, 10.0])) @ matrix[:, :2, :2] @ torch.diag(1 / torch.tensor([30.0, 10.0]))
    torch.testing.assert_close(pixels @ pixels.mT, torch.eye(2).expand(50, 2, 2), atol=1e-5, rtol=0)


def test_rotation_is_cut_to_the_symmetry():
    augment = Augment(rotation=90, scale=0, shift=0, flips=False)
    symmetry = Symmetry((), 10.0, ((0, 1),), "")
    matrix = augment.matrices(500, (8, 8), symmetry=symmetry, generator=torch.Generator().manual_seed(0))
    angle = torch.rad2deg(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])).abs()
    assert 9 < angle.max() <= 10.001


@pytest.mark.parametrize(
    "option",
    [
        {"flips": True},
        {"rotate90": True},
        {"rotation": 20.0},
        {"scale": 0.2},
        {"shift": 0.2},
        {"brightness": 0.3},
        {"contrast": 0.5},
        {"gamma": 0.5},
        {"noise": 0.2},
        {"erase": 0.5},
    ],
    ids=lambda option: next(iter(option)),
)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_option_changes_images_and_only_with_it(option, dims):
    x = images(dims) * 0.5 + 0.25
    torch.testing.assert_close(Augment(**OFF)(x, symmetry=free(dims), seed=0), x)
    y = Augment(**(OFF | option))(x, symmetry=free(dims), seed=0)
    assert y.shape == x.shape
    assert (y - x).abs().flatten(1).max(dim=1).values.gt(1e-3).float().mean() > 0.5
    assert not torch.allclose(y, Augment(**(OFF | option))(x, symmetry=free(dims), seed=1))


def test_affine_probability_is_the_share_of_samples_that_are_interpolated():
    symmetry, generator = free(3), torch.Generator().manual_seed(0)
    augment = Augment(rotation=20, scale=0.1, shift=0.1, rotate90=False, affine_probability=0.3)
    matrix = augment.matrices(2000, (8, 8, 8), symmetry=symmetry, generator=generator)
    exact = (matrix.abs() - torch.eye(4)).abs().amax(dim=(1, 2)) < 1e-6  # flips only
    assert 0.66 < exact.float().mean() < 0.74
    assert len({tuple(m.diagonal().tolist()) for m in matrix[exact].round()}) == 8


def test_padding_option():
    x = torch.ones(4, 1, 8, 8)
    shifted = {
        p: Augment(**(OFF | {"shift": 0.4}), padding=p)(x, symmetry=rigid(2), seed=0) for p in ("zeros", "border")
    }
    assert shifted["zeros"].min() == 0
    assert shifted["border"].min() > 0.99


def test_draw_depends_on_the_seed_alone_and_is_shared_by_processes():
    x = images(3, count=8)
    augment = Augment(rotation=20, noise=0.2, contrast=0.3, erase=0.3)
    whole = augment(x, symmetry=free(3), seed=7)
    parts = [augment(x[o : o + 4], symmetry=free(3), seed=7, offset=o, total=8) for o in (0, 4)]
    torch.testing.assert_close(torch.cat(parts), whole)
    torch.manual_seed(123)
    torch.testing.assert_close(augment(x, symmetry=free(3), seed=7), whole, rtol=0, atol=0)


def test_samples_of_a_batch_differ():
    x = images(2, count=1).expand(5, -1, -1, -1)
    y = Augment()(x, symmetry=free(2), seed=0)
    assert all(not torch.allclose(a, b) for a, b in itertools.combinations(y, 2))


@pytest.mark.parametrize("wrong", [{"rotation": 200}, {"scale": -1}, {"padding": "wrap"}, {"noise": 2}])
def test_impossible_values_are_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"augment.{name}"):
        Augment(**wrong)
