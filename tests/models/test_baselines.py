import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scale.models.baselines import FlatConv3d, ResNet
from scale.models.layers import macs, parameters


def meta(**values):
    with torch.device("meta"):
        return ResNet(outputs=2, in_channels=1, **values)


@pytest.mark.parametrize(
    ("dims", "depth", "conv", "giga_macs", "million_parameters"),
    [
        (2, 18, "3d", 0.457, 11.2),
        (2, 50, "3d", 1.05, 23.5),
        (3, 18, "3d", 17.7, 33.1),
        (3, 50, "3d", 23.9, 46.1),
        (3, 18, "acs", None, 11.2),
        (3, 18, "2.5d", None, 11.2),
        (3, 50, "acs", None, 23.5),
    ],
)
def test_compute_and_size_are_those_of_the_official_models(dims, depth, conv, giga_macs, million_parameters):
    net = meta(spatial_dims=dims, depth=depth, conv=conv)
    assert float(f"{parameters(net) / 1e6:.3g}") == million_parameters
    if giga_macs is not None:
        assert float(f"{macs(net, (1, *(28,) * dims)) / 1e9:.3g}") == giga_macs


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_acs_is_three_planar_convolutions(stride, kernel):
    layer = FlatConv3d(2, 8, kernel, stride=stride, padding=kernel // 2, acs=True)
    x = torch.randn(2, 2, 5, 6, 7)
    y = layer(x)
    dense = torch.zeros(8, 2, *(kernel,) * 3)
    middle = kernel // 2
    dense[:3, :, middle] = layer.weight[:3]
    dense[3:6, :, :, middle] = layer.weight[3:6]
    dense[6:, :, :, :, middle] = layer.weight[6:]
    torch.testing.assert_close(y, F.conv3d(x, dense, stride=stride, padding=kernel // 2))


def test_25d_looks_along_no_slice_axis():
    layer = FlatConv3d(2, 8, 3, stride=1, padding=1, acs=False)
    x = torch.randn(2, 2, 5, 6, 7)
    slices = torch.stack([F.conv2d(x[:, :, d], layer.weight, padding=1) for d in range(5)], dim=2)
    torch.testing.assert_close(layer(x), slices)


@pytest.mark.parametrize(("dims", "conv"), [(2, "3d"), (3, "3d"), (3, "2.5d"), (3, "acs")])
def test_contract(dims, conv):
    torch.manual_seed(0)
    net = ResNet(spatial_dims=dims, in_channels=1, outputs=3, conv=conv).eval()
    x = torch.randn(1, 1, *(9, 8, 7)[:dims])
    with torch.no_grad():
        y = net(x)
        found = net.forward_intermediates(x)
    assert y.shape == (1, 3)
    torch.testing.assert_close(net.forward_head(found.features), y, atol=0, rtol=0)
    assert found.features.shape == (1, net.num_features)
    assert found.scale_attention == found.cross_attention == {}
    assert found.stream_gate is None


def test_a_grey_sample_is_its_own_colour_sample():
    torch.manual_seed(0)
    grey = ResNet(spatial_dims=2, in_channels=1, outputs=2).eval()
    colour = ResNet(spatial_dims=2, in_channels=3, outputs=2).eval()
    colour.load_state_dict(grey.state_dict())
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)))
    assert ResNet(spatial_dims=2, in_channels=1, outputs=2, rgb=False).stem.in_channels == 1


def test_each_activation_runs_once_a_pass():
    net, calls = ResNet(spatial_dims=2, in_channels=1, outputs=2).eval(), []
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    net(torch.randn(1, 1, 8, 8))
    assert len(calls) == len(set(calls)) == sum(isinstance(module, nn.ReLU) for module in net.modules())


def test_training_reaches_every_parameter():
    net = ResNet(spatial_dims=3, in_channels=1, outputs=2, conv="acs")
    net(torch.randn(2, 1, 8, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_impossible_values_are_named():
    with pytest.raises(ValueError, match=r"conv='2d' is not one of 3d, 2.5d, acs; did you mean '2.5d'"):
        ResNet(spatial_dims=3, in_channels=1, outputs=2, conv="2d")
    with pytest.raises(ValueError, match="depth=34 is not one of 18, 50"):
        ResNet(spatial_dims=3, in_channels=1, outputs=2, depth=34)
