import pytest
import torch
import torch.nn.functional as F

from scale.models.streams import Stem, Stream, by_products


@pytest.mark.parametrize(("dims", "shape"), [(2, (9, 8)), (3, (7, 6, 8))])
@pytest.mark.parametrize("reduced", [False, True], ids=["as it is", "reduced"])
def test_the_stem_against_its_formula(dims, shape, reduced):
    torch.manual_seed(0)
    stem = Stem(3, 8, spatial_dims=dims).eval().double()
    x = torch.randn(2, 6 if reduced else 3, *shape, dtype=torch.double)
    convolve = {2: F.conv2d, 3: F.conv3d}[dims]
    for each in (stem.norm1, stem.norm2):
        torch.nn.init.uniform_(each.weight)
        torch.nn.init.uniform_(each.running_mean)
    weight = stem.weight if reduced else stem.weight[:, :3]
    expected = stem.norm1(convolve(x, weight, padding=1)).relu()
    expected = stem.norm2(convolve(expected, stem.halve.weight, stride=2, padding=1)).relu()
    torch.testing.assert_close(stem(x), expected, atol=0, rtol=0)
    assert stem.weight.shape[0] == 4
    assert expected.shape[2:] == tuple(-(-n // 2) for n in shape)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_cell_of_the_stem_looks_at_five_pixels_around_twice_its_place(dims):
    """The attribution grid rests on it."""
    stem = Stem(1, 4, spatial_dims=dims).eval().double()
    x = torch.randn(1, 1, *(16,) * dims, dtype=torch.double, requires_grad=True)
    centre = (3,) * dims
    before = stem.relu1(stem.norm1(stem.convolve(x, stem.weight[:, :1], padding=1)))
    (gradient,) = torch.autograd.grad(stem.halve(before)[(0, slice(None), *centre)].sum(), x)
    seen = gradient[0, 0].abs().sum(dim=tuple(range(1, dims)))
    assert seen.nonzero().flatten().tolist() == [4, 5, 6, 7, 8]


def test_a_pyramid_halves_the_edges():
    stream = Stream(1, spatial_dims=2, widths=(4, 6, 8), depths=(0, 1, 2), drop_path=0.0)
    shapes = [tuple(level.shape) for level in stream(torch.randn(2, 1, 28, 20))]
    assert shapes == [(2, 4, 14, 10), (2, 6, 7, 5), (2, 8, 4, 3)]


@pytest.mark.parametrize("dims", [2, 3])
def test_products_of_neighbourhoods_are_the_convolution(dims):
    torch.manual_seed(0)
    size, convolve = (5, 7, 6)[-dims:], {2: F.conv2d, 3: F.conv3d}[dims]
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    weight = torch.randn(4, 3, *(3,) * dims, dtype=torch.float64, requires_grad=True)
    found, expected = by_products(x, weight), convolve(x, weight, padding=1)
    torch.testing.assert_close(found, expected)
    loss = torch.randn_like(found)
    for one, other in zip(*(torch.autograd.grad((y * loss).sum(), weight) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)
