"""What a network makes of an image on its levels: the same features as ever, and each channel's mean and spread."""

import pytest
import torch

from scale.models.baselines import ResNet
from scale.models.layers import level_statistics
from scale.models.scale_net import ScaleNet


def test_mean_and_spread_of_each_channel():
    x = torch.randn(6, 4, 5, 7, generator=torch.Generator().manual_seed(0))  # three images of two samples
    found = level_statistics([x, x[:, :1]], 2)
    rows = x.unflatten(0, (2, 3)).movedim(2, 1).flatten(2)
    assert found.shape == (2, 10)
    assert torch.allclose(found[:, :4], rows.mean(dim=2), atol=1e-6)
    assert torch.allclose(found[:, 4:8], rows.std(dim=2, correction=0), atol=1e-5)
    assert torch.allclose(found[:, 8], rows[:, 0].mean(dim=1), atol=1e-6)
    assert torch.isfinite(level_statistics([x[..., :1, :1]], 2)).all()


@pytest.mark.parametrize(
    ("net", "shape", "width"),
    [
        (lambda: ScaleNet(spatial_dims=2, in_channels=1, outputs=2), (28, 28), 2 * (224 + 56)),
        (lambda: ScaleNet(spatial_dims=3, in_channels=1, outputs=2), (20, 28, 28), 2 * (112 + 112)),
        (lambda: ScaleNet(spatial_dims=2, in_channels=1, outputs=2, streams="planar"), (28, 28), 2 * 224),
        (lambda: ResNet(spatial_dims=2, in_channels=1, outputs=2), (12, 12), 2 * 960),
        (lambda: ResNet(spatial_dims=2, in_channels=1, outputs=2, depth=50), (8, 8), 2 * 3840),
    ],
)
def test_levels_of_a_network(net, shape, width):
    model = net().eval()
    x = torch.randn(3, 1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, levels = model.forward_levels(x)
        assert torch.equal(features, model.forward_features(x))
        alone = model.forward_levels(x[1:2])[1]
    assert levels.shape == (3, width)
    assert torch.isfinite(levels).all()
    assert torch.allclose(alone, levels[1:2], rtol=1e-3, atol=1e-4)  # a sample's own, whatever else is in the batch
    assert not torch.allclose(levels[0], levels[1], rtol=1e-3)
