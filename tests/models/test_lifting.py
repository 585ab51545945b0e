import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scale.models.lifting import Lifting, shrink, shrink_factor

CPU = torch.device("cpu")


@pytest.mark.parametrize(("edge", "factor"), [(1, 1), (28, 1), (41, 1), (64, 2), (128, 5), (224, 8)])
def test_every_size_is_brought_near_28(edge, factor):
    assert shrink_factor((edge, edge)) == factor
    assert shrink_factor((edge, 1, 1)) == factor


def test_shrink_gives_block_means_and_ranges():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6, 5)).astype(np.float32)
    y = shrink(torch.from_numpy(x), 2).numpy()
    assert y.shape == (2, 6, 2, 3, 3)
    filled = np.pad(x, [(0, 0)] * 4 + [(0, 1)], mode="edge")
    for channel, cell in [(0, (0, 0, 0)), (2, (1, 2, 1)), (1, (1, 0, 2))]:
        block = filled[1, channel][tuple(slice(2 * c, 2 * c + 2) for c in cell)]
        assert y[1, channel][cell] == pytest.approx(block.mean(), abs=1e-6)
        assert y[1, 3 + channel][cell] == pytest.approx(np.ptp(block), abs=1e-6)


def test_shrink_commutes_with_mirroring_and_adds_no_edges():
    x = torch.randn(1, 1, 128, 128)
    torch.testing.assert_close(shrink(x.flip(3), 5), shrink(x, 5).flip(3))
    mean, spread = shrink(torch.full((1, 1, 128, 128), -1.5), 5)[0]
    assert (mean == -1.5).all()
    assert (spread == 0).all()


def test_shrink_leaves_small_samples_alone():
    x = torch.randn(1, 1, 28, 28)
    assert shrink(x, 1) is x


def test_scale_space_is_the_gaussian_filter():
    lifting = Lifting(spatial_dims=2, scales=5)
    x = np.random.default_rng(0).normal(size=(2, 3, 28, 21)).astype(np.float32)
    y = lifting.volumetric(torch.from_numpy(x)).numpy()
    assert y.shape == (2, 3, 5, 28, 21)
    assert np.array_equal(y[:, :, 0], x)
    for level, sigma in enumerate(lifting.sigmas.tolist()):
        if level:
            expected = gaussian_filter(x, (0, 0, sigma, sigma))  # mirrored edges, cut off at 4 sigma
            np.testing.assert_allclose(y[:, :, level], expected, atol=2e-6)


def test_naive_lifting_copies_the_image_and_takes_the_middle_slice():
    image, volume = torch.randn(2, 3, 9, 8), torch.randn(2, 3, 7, 9, 8)
    copies = Lifting(spatial_dims=2, mode="naive", scales=4).volumetric(image)
    assert copies.shape == (2, 3, 4, 9, 8)
    assert all(torch.equal(copies[:, :, level], image) for level in range(4))
    assert torch.equal(Lifting(spatial_dims=3, mode="naive").planar(volume), volume[:, None, :, 3])


def test_slabs_are_mean_and_maximum_along_three_axes():
    x = torch.randn(2, 3, 8, 8, 8)
    views = Lifting(spatial_dims=3, slabs=4).planar(x)
    assert views.shape == (2, 12, 6, 8, 8)
    torch.testing.assert_close(views[:, 0, 0], x[:, 0, :2].mean(dim=1))
    torch.testing.assert_close(views[:, 3, 5], x[:, 2, 6:].amax(dim=1))
    torch.testing.assert_close(views[:, 5, 2], x[:, 1, :, 2:4].mean(dim=2))
    torch.testing.assert_close(views[:, 10, 3], x[:, 1, :, :, 4:6].amax(dim=3))


def test_a_flat_volume_lies_in_the_middle_of_its_cube():
    x = torch.ones(1, 1, 4, 8, 6)
    axial = Lifting(spatial_dims=3, slabs=4).planar(x)[0, :4]
    assert axial.shape == (4, 2, 8, 8)
    assert axial[0].abs().sum() == axial[3].abs().sum() == 0
    assert axial[1, 1, :, 1:7].eq(1).all()
    assert axial[1, 1, :, [0, 7]].eq(0).all()


def test_views_of_both_kinds_need_no_gradient_path_that_is_random():
    x = torch.randn(1, 2, 12, 12, 12, requires_grad=True)
    Lifting(spatial_dims=3, slabs=3).planar(x).sum().backward()
    assert x.grad is not None
    assert (x.grad > 0).all()


def test_planar_and_volumetric_tokens_of_one_place_have_one_position():
    """Light one voxel: the brightest planar cells and the brightest voxel cell must lie at the same coordinates."""
    lifting = Lifting(spatial_dims=3, slabs=4)
    x = torch.zeros(1, 1, 8, 8, 8)
    x[0, 0, 1, 4, 7] = 1
    volumetric = lifting.volumetric_positions((8, 8, 8), (8, 8, 8), device=CPU)
    here = volumetric[x.flatten().argmax()]
    torch.testing.assert_close(here, torch.tensor([3.0, 9, 15]) / 8 - 1)
    views = lifting.planar(x)[0, :, 0]  # the mean channel (12, 8, 8)
    planar = lifting.planar_positions((8, 8, 8), (8, 8), device=CPU).reshape(3, 4, 64, 3)
    for axis in range(3):
        seen = planar[axis].reshape(-1, 3)[views.reshape(3, -1)[axis].argmax()]
        in_plane = [i for i in range(3) if i != axis]
        torch.testing.assert_close(seen[in_plane], here[in_plane])
        assert (seen[axis] - here[axis]).abs() <= 1 / 8 + 1e-6  # within half a slab of two slices


def test_positions_are_isotropic_and_centred():
    lifting = Lifting(spatial_dims=3, slabs=2)
    volumetric = lifting.volumetric_positions((4, 8, 2), (2, 4, 1), device=CPU)
    torch.testing.assert_close(volumetric.amax(dim=0), torch.tensor([0.25, 0.75, 0.0]))
    torch.testing.assert_close(volumetric.mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0)
    image = Lifting(spatial_dims=2, scales=8)
    flat = image.planar_positions((28, 14), (4, 2), device=CPU)
    space = image.volumetric_positions((28, 14), (8, 4, 2), device=CPU).reshape(8, 8, 3)
    torch.testing.assert_close(flat, space[0])  # the image is the finest level of its own scale space
