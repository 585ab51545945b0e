import importlib.util

import pytest
import torch

import scale
from scale.models import timm_net
from scale.models.layers import macs, parameters
from scale.models.timm_net import TimmNet
from scale.train import train

timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")


def net(name="resnet10t", **options):
    torch.manual_seed(0)
    return TimmNet(**{"spatial_dims": 2, "in_channels": 1, "outputs": 3, "name": name} | options).eval()


def test_it_is_the_backbone_with_a_linear_head():
    found, x = net(), torch.randn(2, 1, 28, 28)
    expected = timm.create_model("resnet10t", num_classes=3, in_chans=1).eval()
    expected.load_state_dict(found.backbone.state_dict() | {"fc.weight": found.head.weight, "fc.bias": found.head.bias})
    with torch.no_grad():
        torch.testing.assert_close(found(x), expected(x))
        inside = found.forward_intermediates(x)
        torch.testing.assert_close(found.forward_head(inside.features), found(x), atol=0, rtol=0)
    assert inside.features.shape == (2, found.num_features)
    assert parameters(found) == parameters(expected)


def test_weights_are_never_asked_for_unless_wanted(monkeypatch):
    asked = []
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: asked.append(k["pretrained"]) or create(*a, **k))
    net()
    assert asked == [False]

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(OSError, match=r"weights of resnet10t cannot be had \(no route to host\).*pretrained=false"):
        net(pretrained=True)
    nameless = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(ValueError, match="timm has no weights for"):
        net(nameless, pretrained=True)


def test_sizes(caplog):
    """What a backbone does not take is resampled where its size is fixed or asked for, and refused otherwise."""
    caplog.set_level("INFO", "scale")
    x = torch.randn(1, 1, 28, 28)
    with torch.no_grad():
        assert net("vit_tiny_patch16_224")(x).shape == (1, 3)  # takes one size only
        assert "vit_tiny_patch16_224 gets the 28x28 images as 224 pixels" in caplog.text
        assert net("vit_tiny_patch16_224", image_size=32)(x).shape == (1, 3)
        assert "as 32 pixels" in caplog.text
        small, large = net(image_size=32), net(image_size=64)
        assert macs(large, (1, 28, 28)) > 3 * macs(small, (1, 28, 28))
        torch.testing.assert_close(net(image_size=28)(x), net()(x), atol=0, rtol=0)
        with pytest.raises(ValueError, match=r"vgg11 does not take images of 28 x 28 pixels .*model.image_size=224"):
            net("vgg11")(x)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnett10t", "has no such backbone; did you mean 'resnet10t'"),
        ("resnet10t.c3_in1", "did you mean 'resnet10t.c3_in1k'"),
    ],
)
def test_an_unknown_name(name, message):
    with pytest.raises(ValueError, match=message):
        net(name)


def test_volumes_are_refused():
    with pytest.raises(ValueError, match="backbones for images, not for volumes"):
        net(spatial_dims=3)


def test_a_mistake_is_told_before_the_data_are_looked_for(tmp_path, monkeypatch):
    data = ["data=breastmnist", f"data.root={tmp_path}", "data.download=false", "model=timm"]
    with pytest.raises(ValueError, match="did you mean 'resnet10t'"):
        train(scale.compose([*data, "model.name=resnett10t"]), tmp_path / "run")
    find = importlib.util.find_spec
    monkeypatch.setattr(timm_net.importlib.util, "find_spec", lambda name: None if name == "timm" else find(name))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'scale-medvision\[timm\]'"):
        train(scale.compose([*data, "model.name=resnet10t"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_it_trains_and_is_read_back_without_weights(small, tmp_path, monkeypatch):
    """A run that began with timm's weights does not need them again."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: create(*a, **{**k, "pretrained": False}))
    model = ["model=timm", "model.name=resnet10t", "model.pretrained=true", "trainer=fast_dev_run"]
    metrics = train(scale.compose([*small, *model]), tmp_path / "run")
    assert metrics["model"]["name"] == "timm/resnet10t"
    monkeypatch.setattr(
        timm, "create_model", lambda *a, **k: create(*a, **k) if not k["pretrained"] else pytest.fail("asked")
    )
    assert scale.load_run(tmp_path / "run").model.net.head.out_features == 2
