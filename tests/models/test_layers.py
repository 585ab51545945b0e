import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scale.models.layers import (
    DropPath,
    FourierPosition,
    ResidualBlock,
    SqueezeExcitation,
    centres,
    conv,
    macs,
    parameters,
    resample,
    resampling_matrix,
)


@pytest.mark.parametrize(("before", "after"), [(14, 7), (7, 4), (13, 7), (5, 5), (3, 1)])
def test_shrinking_is_adaptive_average_pooling(before, after):
    x = torch.randn(2, before, before, 3, dtype=torch.float64)
    expected = F.adaptive_avg_pool2d(x.movedim(-1, 1), after).movedim(1, -1)
    if before % after == 0:
        torch.testing.assert_close(resample(x, (after, after)), expected)
    else:  # torch widens fractional cells to whole ones, we weigh their parts; both keep constants and totals' mean
        assert resampling_matrix(before, after, like=x).sum(dim=1).allclose(torch.ones(after, dtype=x.dtype))
        torch.testing.assert_close(resample(x, (after, after)).mean(dim=(1, 2)), x.mean(dim=(1, 2)))


def test_growing_is_linear_interpolation():
    x = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64)
    expected = F.interpolate(x.movedim(-1, 1), size=(7, 8, 6), mode="trilinear", align_corners=False).movedim(1, -1)
    torch.testing.assert_close(resample(x, (7, 8, 6)), expected, atol=2e-6, rtol=0)


def test_resampling_treats_each_axis_on_its_own():
    ramp = torch.arange(6.0)
    x = ramp[None, :, None, None, None].expand(1, 6, 4, 2, 1)
    torch.testing.assert_close(resample(x, (3, 2, 1))[0, :, 0, 0, 0], torch.tensor([0.5, 2.5, 4.5]))


def test_centres_are_the_middles_of_equal_cells():
    torch.testing.assert_close(centres(4, extent=0.5, device=torch.device("cpu")), torch.tensor([-3.0, -1, 1, 3]) / 8)


def test_fourier_position_of_the_origin_and_of_the_corner():
    code = FourierPosition(5, octaves=2)
    nn.init.eye_(code.project.weight)
    nn.init.zeros_(code.project.bias)
    full = nn.Linear(12, 12, bias=False)
    nn.init.eye_(full.weight)
    code.project = full
    origin, corner = code(torch.tensor([[0.0, 0, 0], [1.0, 1, 1]]))
    torch.testing.assert_close(origin, torch.tensor([0.0] * 6 + [1.0] * 6))
    # angles pi/2 and pi on each axis: sines 1 and 0, cosines 0 and -1
    torch.testing.assert_close(corner, torch.tensor([1.0, 0] * 3 + [0.0, -1] * 3), atol=1e-6, rtol=0)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    y = drop(torch.ones(4000, 3, 2))
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (y.flatten(1).std(dim=1) == 0).all()
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    drop.eval()
    assert (drop(torch.ones(10, 3)) == 1).all()


def test_squeeze_excitation_closed_form():
    layer = SqueezeExcitation(8)
    for linear in (layer.squeeze, layer.excite):
        nn.init.eye_(linear.weight)
        nn.init.zeros_(linear.bias)
    x = torch.randn(2, 8, 3, 4, 5)
    expected = x * torch.sigmoid(x.mean(dim=(2, 3, 4)).clamp(min=0))[:, :, None, None, None]
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_residual_block_halves_odd_sizes_upwards(dims):
    block = ResidualBlock(4, 6, spatial_dims=dims, stride=2)
    assert block(torch.randn(2, 4, *[7] * dims)).shape == (2, 6, *[4] * dims)


def test_parameters_and_macs_equal_hand_counts():
    net = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 5**3, 7))
    assert parameters(net) == (2 * 4 * 27 + 4) + (500 * 7 + 7)
    assert macs(net, (2, 5, 5, 5)) == 2 * 4 * 27 * 125 + 500 * 7
    net[0].weight.requires_grad_(False)
    assert parameters(net) == 4 + (500 * 7 + 7)
    assert net.training


def test_macs_count_attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8, bias=False)

        def forward(self, x):
            x = self.linear(x)[:, None]
            return F.scaled_dot_product_attention(x, x, x)

    assert macs(Attention(), (11, 8)) == 11 * 8 * 8 + 2 * 11 * 11 * 8


def _dirty():
    """Leaves values that are no numbers in the memory that is handed out next."""
    for size in range(8, 20):
        for dtype in (torch.float32, torch.bfloat16):
            torch.full((1 << size,), float("nan"), dtype=dtype)


@pytest.mark.parametrize("kernel", [3, 5])
def test_gradients_of_thin_volumes_in_mixed_precision(kernel):
    torch.manual_seed(0)
    layer = conv(16, 16, spatial_dims=3, kernel=kernel)
    x, weights = torch.randn(16, 16, 2, 7, 7), torch.randn(16, 16, 2, 7, 7)
    (layer(x) * weights).sum().backward()
    expected = layer.weight.grad.clone()
    for _ in range(10):
        layer.zero_grad()
        _dirty()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(x)
        _dirty()
        (y * weights).sum().backward()
        torch.testing.assert_close(layer.weight.grad, expected)
