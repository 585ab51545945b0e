"""The map of what two methods agree on: closed form, flips, and every option."""

import pytest
import torch
from torch import nn

from scale.attribution.methods.attribute import attribute
from scale.attribution.metrics.localisation import pointing_game
from scale.models.scale_net import ScaleNet
from scale.tasks.problem import Problem

BINARY = Problem("binary", 2)
SMALL = {"planar_widths": (4, 6, 8), "volumetric_widths": (4, 6, 8), "dim": 8, "heads": 2, "slabs": 2, "scales": 4}


class Linear(nn.Module):
    """Logits that are linear in the voxels."""

    def __init__(self, *shape):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(shape))

    def forward(self, x):
        value = (x * self.weight).flatten(1).sum(dim=1)
        return torch.stack([-value / 2, value / 2], dim=1)


def explain(net, x, **options):
    return attribute(net, x, problem=BINARY, method="consensus", target=1, **options)


@pytest.mark.parametrize("shape", [(2, 6, 5), (1, 4, 5, 3)])
def test_of_a_linear_model_it_is_the_square_of_the_mean_effect(shape):
    net, x = Linear(*shape), torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    views = [(), (0,), (1,), (0, 1)]
    weight = net.weight.detach()
    mean = sum(weight.flip([1 + axis for axis in axes]) for axes in views) / 4
    known = (x * mean).sum(dim=1).clamp(min=0) ** 2
    found = explain(net, x, views=views, smooth=0.0, around=0.0)
    torch.testing.assert_close(found.sum(dim=1), known, atol=1e-4, rtol=1e-3)


def test_a_flipped_sample_has_the_flipped_map():
    torch.manual_seed(0)
    net = ScaleNet(spatial_dims=2, in_channels=1, outputs=2, **SMALL).eval()
    x = torch.randn(2, 1, 12, 16)
    views = [(), (0,), (1,), (0, 1)]
    own, flipped = explain(net, x, views=views), explain(net, x.flip(3), views=views)
    slack = 0.02 * own.abs().amax()
    torch.testing.assert_close(flipped.flip(3), own, atol=slack, rtol=0)
    alone = explain(net, x)
    assert not torch.allclose(explain(net, x.flip(3)).flip(3), alone, atol=slack)


@pytest.mark.parametrize(
    "change",
    [{"steps": 2}, {"smooth": 0.2}, {"around": 0.3}, {"baseline": 1.0}, {"views": [(), (0,)]}],
    ids=lambda change: next(iter(change)),
)
def test_an_option_changes_what_it_names(change):
    torch.manual_seed(0)
    net, x = ScaleNet(spatial_dims=2, in_channels=1, outputs=2, **SMALL).eval(), torch.randn(1, 1, 12, 12)
    plain = explain(net, x)
    assert (plain - explain(net, x, **change)).abs().max() > 1e-3 * plain.max()


def test_what_one_method_alone_says_does_not_count():
    net, x = Linear(1, 8, 8), torch.ones(1, 1, 8, 8)
    with torch.no_grad():
        net.weight.fill_(-0.1)
        net.weight[0, 2, 3] = 1.0
    mask = torch.zeros(1, 8, 8)
    mask[0, 2, 3] = 1
    maps = explain(net, x, smooth=0.0, around=0.0)
    assert pointing_game(maps, mask).item() == 1
    assert (maps > 1e-6).sum() == 1  # voxels that speak against the class have nothing


def test_a_voxel_that_stands_alone_yields_to_a_group():
    net, x = Linear(1, 16, 16), torch.ones(1, 1, 16, 16)
    with torch.no_grad():
        net.weight.zero_()
        net.weight[0, 2, 2] = 1.1
        net.weight[0, 9:13, 9:13] = 1.0
    mask = torch.zeros(1, 16, 16)
    mask[0, 9:13, 9:13] = 1
    assert pointing_game(explain(net, x, smooth=0.0, around=0.0), mask).item() == 0
    assert pointing_game(explain(net, x, smooth=0.0), mask).item() == 1
