import math

import numpy as np
import pytest
import torch
from torch import nn

from scale.attribution.metrics.explainer import Explainer
from scale.attribution.metrics.stability import compare, cost, lesion_width, over_flips, over_networks, peaks
from scale.config.schemas import Attribution
from scale.tasks.problem import Problem

VIEWS = ((), (0,), (1,), (0, 1))


class Weighed(nn.Module):
    """Logits that weigh the cells, so that the map of the gradient times the image is known."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        value = (x * self.weights).flatten(1).sum(dim=1)
        return torch.stack([-value, value], dim=1)


def explainer(weights):
    return Explainer(Weighed(weights), Problem("binary", 2), Attribution(batch_size=2, baseline="zero"), VIEWS)


def agreements(weights, method="input_x_gradient"):
    images, target = torch.rand(3, 1, 9, 7, generator=torch.Generator().manual_seed(0)), torch.ones(3, dtype=torch.long)
    own = explainer(weights)
    maps, passes = own.maps(method, images, target), []
    found = over_flips(own, method, images, target, maps, step=passes.append)
    assert sum(passes) == cost(own, method, count=3, has_epoch=False)
    return found, maps, images, target, own


def test_a_network_that_flips_along_is_stable_and_one_that_does_not_is_told():
    even, *_ = agreements(torch.ones(9, 7))
    np.testing.assert_allclose(even.correlation, 1, atol=1e-6)
    np.testing.assert_allclose(even.shift, 0)
    weights = torch.full((9, 7), 0.01)
    weights[1, 1] = 5.0  # looks at one place, whatever the image
    fixed, *_ = agreements(weights)
    # flipped back, the place is at the other end: rows 1 and 7, columns 1 and 5
    np.testing.assert_allclose(fixed.shift, 6)
    assert (fixed.correlation < 0.999).all()
    # an average over the flips is the same for every flip, and is told all the same
    averaged, *_ = agreements(weights, "consensus")
    np.testing.assert_allclose(averaged.shift, 6)


def test_another_epoch_is_compared_with_its_own_map():
    weights = torch.full((9, 7), 0.01)
    weights[1, 1] = 5.0
    _, maps, images, target, own = agreements(weights)
    moved = weights.roll((3, 4), (0, 1))
    found = over_networks(own, "input_x_gradient", images, target, maps, net=Weighed(moved), step=lambda _: None)
    np.testing.assert_allclose(found.shift, 5)
    same = over_networks(own, "input_x_gradient", images, target, maps, net=own.net, step=lambda _: None)
    np.testing.assert_allclose(same.correlation, 1, atol=1e-6)


def test_where_no_flip_keeps_the_label_nothing_is_said():
    found = compare(torch.rand(2, 1, 4, 4), [])
    assert np.isnan(found.correlation).all()
    assert np.isnan(found.shift).all()


def test_the_peak_and_the_width_of_a_lesion():
    maps = torch.zeros(2, 2, 3, 4, 5)
    maps[0, :, 1, 2, 3], maps[1, 0, 2, 0, 4] = 1, 1
    assert peaks(maps).tolist() == [[1, 2, 3], [2, 0, 4]]
    rows = np.arange(60)[:, None] - 29.5
    disc = rows**2 + rows.T**2 < 20**2
    assert lesion_width(disc, disc.shape) == pytest.approx(40, rel=0.01)
    ball = rows[:, :, None] ** 2 + (rows.T**2)[:, :, None] + (rows[:, 0] ** 2)[None, None] < 20**2
    assert lesion_width(ball, ball.shape) == pytest.approx(40, rel=0.01)
    assert lesion_width(None, (28, 20)) == 7
    assert lesion_width(np.zeros((28, 28)), (28, 28)) == 7
    assert math.isclose(lesion_width(np.ones((1, 1)), (1, 1)), 2 / math.sqrt(math.pi))
