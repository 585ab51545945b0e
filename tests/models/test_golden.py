"""Values of small networks with fixed weights: a change of any of them changes what a saved checkpoint says."""

import pytest
import torch

from scale.models.baselines import ResNet
from scale.models.scale_net import ScaleNet

SMALL = {"planar_widths": (4, 6, 8), "volumetric_widths": (4, 6, 8), "dim": 8, "heads": 2, "slabs": 2, "scales": 4}


def fix(net):
    """Fills every weight and running statistic with a wave, independent of any random generator."""
    with torch.no_grad():
        for number, (name, value) in enumerate(sorted(net.state_dict().items())):
            if not value.is_floating_point():
                continue
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 1.7 + number)
            scale = (value[0].numel() if value.ndim > 1 else 25) ** -0.5
            base = 1.0 if name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1) else 0.0
            value.copy_((base + 1.5 * scale * wave).reshape(value.shape))
    return net.eval()


def wave(*shape):
    count = torch.Size(shape).numel()
    return torch.cos(torch.arange(count, dtype=torch.float32) * 0.37).reshape(1, 1, *shape)


@pytest.mark.parametrize(
    ("shape", "changes", "expected"),
    [
        ((28, 28), {}, [1.6598, -1.1125, -0.6874]),
        ((28, 28, 28), {}, [1.2197, -0.4790, -0.8729]),
        ((64, 50), {}, [1.6393, -1.1190, -0.6608]),
        ((28, 28, 28), {"lifting": "naive", "fusion": "gate"}, [0.8771, -0.4801, -0.6024]),
        ((28, 28), {"lifting": "naive", "fusion": "concat", "scale_attention": False}, [-0.2795, 0.5571, -0.3451]),
        ((28, 28, 28), {"streams": "planar"}, [1.4233, -1.0078, -0.5780]),
        ((20, 28, 12), {"streams": "volumetric"}, [1.4042, -0.8720, -0.6884]),
    ],
    ids=str,
)
def test_scale_net(shape, changes, expected):
    net = fix(ScaleNet(spatial_dims=len(shape), in_channels=1, outputs=3, **SMALL, **changes))
    with torch.no_grad():
        torch.testing.assert_close(net(wave(*shape)), torch.tensor([expected]), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("shape", "conv", "expected"),
    [
        ((9, 8), "3d", [23.0865, -17.5555]),
        ((6, 7, 5), "3d", [23.1243, -17.5712]),
        ((6, 7, 5), "acs", [23.1407, -17.5603]),
        ((6, 7, 5), "2.5d", [23.0426, -17.5350]),
    ],
)
def test_resnet18(shape, conv, expected):
    net = fix(ResNet(spatial_dims=len(shape), in_channels=1, outputs=2, conv=conv))
    with torch.no_grad():
        torch.testing.assert_close(net(wave(*shape)), torch.tensor([expected]), atol=1e-3, rtol=1e-3)
