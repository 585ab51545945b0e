"""The sanity check tells a map that reads the weights from one that reads the image alone."""

import copy

import pytest
import torch
from torch import nn

from scale.attribution.metrics.randomisation import randomisation, stages
from scale.models.baselines import ResNet
from scale.models.scale_net import ScaleNet


class Small(nn.Module):
    """Two convolutions and a head, with a part that is never passed."""

    def __init__(self, dims):
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(8, 2)  # defined before what it follows
        self.first, self.second = conv(1, 8, 3, padding=1), conv(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.second(torch.relu(self.first(x))).relu()
        return self.head((x * torch.linspace(0, 1, x.shape[-1])).flatten(2).mean(2))


def gradient(net, images):
    with torch.enable_grad():
        x = images.clone().requires_grad_()
        (found,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    return found


def edges(net, images):
    total = torch.zeros_like(images)
    for axis in range(2, images.ndim):
        total += (images - images.roll(1, axis)).abs()
    return total


@pytest.mark.parametrize("dims", [2, 3])
def test_a_gradient_passes_and_an_edge_detector_fails(dims):
    torch.manual_seed(1)
    net, images = Small(dims), torch.randn(3, 1, *[9] * dims)
    before, state = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    by_gradient, by_edges = (randomisation(net, explain, images) for explain in (gradient, edges))
    assert by_gradient.shape == (3,)
    assert (by_edges == 1).all()
    assert by_gradient.mean() < 0.5
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_the_weights_depend_on_the_seed_and_not_on_the_method():
    net, images = Small(2), torch.randn(2, 1, 8, 8)

    def weights(seed, draws):
        seen = []

        def explain(given, x):
            torch.randn(draws)  # a method may use random numbers itself
            seen.append(given.first.weight.clone())
            return x

        randomisation(net, explain, images, seed=seed)
        return seen[-1]

    torch.testing.assert_close(weights(0, 1), weights(0, 7), rtol=0, atol=0)
    assert not torch.equal(weights(0, 1), weights(1, 1))


def test_sign_alone_is_no_difference_unless_asked():
    net, images = Small(2), torch.randn(2, 1, 8, 8)
    flips = iter([1, -1] * 2)

    def explain(_, x):
        return x * next(flips)

    assert randomisation(net, explain, images).tolist() == pytest.approx([1, 1])
    assert randomisation(net, explain, images, absolute=False).tolist() == pytest.approx([-1, -1])


def test_a_constant_map_does_not_hide():
    net, images = Small(2), torch.randn(2, 1, 8, 8)
    assert (randomisation(net, lambda _, x: torch.zeros_like(x), images) == 0).all()


def test_parts_of_our_networks():
    net = ScaleNet(spatial_dims=3, in_channels=1, outputs=2).eval()
    parts = ["head", "auxiliary_heads", "fusion", "position", "scale_attention", "streams"]
    assert stages(net, torch.randn(1, 1, 28, 28, 28)) == parts
    baseline = ResNet(spatial_dims=2, in_channels=1, outputs=2).eval()
    found = stages(baseline, torch.randn(1, 1, 28, 28))
    assert len(found) > 3
    inner = nn.Sequential(net)
    assert stages(inner, torch.randn(1, 1, 28, 28, 28))[0] == "0.head"


def test_everything_is_reinitialised():
    net = ScaleNet(spatial_dims=2, in_channels=1, outputs=2).eval()
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn_like(value))  # away from ones and zeros, to which a reset returns
    states = []
    randomisation(net, lambda given, x: states.append(copy.deepcopy(given)) or x, torch.randn(1, 1, 28, 28))
    first, last = (dict(states[i].named_parameters()) for i in (0, -1))
    kept = [name for name in first if first[name].numel() > 1 and torch.equal(first[name], last[name])]
    assert kept == []
