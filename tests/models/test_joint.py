import copy

import pytest
import torch

from scale.models.joint import JointNet
from scale.models.scale_net import ScaleNet

TINY = {"planar_widths": (4, 6, 8), "volumetric_widths": (4, 6, 8), "dim": 8, "heads": 2, "slabs": 2, "scales": 4}
IMAGES = {"spatial_dims": 2, "streams": "planar"}
VOLUMES = {"spatial_dims": 3, "lifted_width": 1.0, "lifted_depths": (1, 1, 1)}
KINDS = {
    "grey": {**IMAGES, "in_channels": 1},
    "other": {**IMAGES, "in_channels": 1},
    "rgb": {**IMAGES, "in_channels": 3},
}
KINDS |= {"volumes": {**VOLUMES, "in_channels": 1}, "more": {**VOLUMES, "in_channels": 1}}


def joint(*names, **options):
    torch.manual_seed(0)
    nets = {name: ScaleNet(outputs=number + 2, **KINDS[name], **TINY) for number, name in enumerate(names)}
    return JointNet(nets, **options)


def sample(name, count=4):
    kind = KINDS[name]
    return torch.randn(count, kind["in_channels"], *(28,) * kind["spatial_dims"])


def trunk(net, name):
    return {
        key: p for key, p in net.members[name].named_parameters() if key.startswith(("streams.", "scale_attention."))
    }


def test_each_data_set_has_a_head_of_its_own_and_the_trunk_is_one():
    net = joint("grey", "rgb", "volumes")
    for number, name in enumerate(net.members):
        net.use(name)
        assert net(sample(name)).shape == (4, number + 2)
    of_grey, of_rgb, of_volumes = (trunk(net, name) for name in net.members)
    for key, parameter in of_grey.items():  # all but the first convolution
        same = [key in other and other[key] is parameter for other in (of_rgb, of_volumes)]
        assert same == [key != "streams.planar.stem.weight"] * 2, key
    heads = [net.members[name].head[1].weight for name in net.members]
    assert len({id(weight) for weight in heads}) == 3
    single = sum(p.numel() for name in net.members for p in net.members[name].parameters())
    assert sum(p.numel() for p in net.parameters()) < single


@pytest.mark.parametrize("order", [("volumes", "grey", "other"), ("grey", "volumes", "other")])
def test_samples_of_one_kind_have_one_stem_whatever_the_order(order):
    net = joint(*order)
    stems = {name: net.members[name].streams["planar"].stem.weight for name in order}
    assert stems["grey"] is stems["other"]
    assert stems["grey"].shape[1] == 2
    assert stems["volumes"].shape[1] == 4  # mean and maximum of a slab


def test_volumes_share_the_fusion_too():
    net = joint("volumes", "more")
    for key, parameter in net.members["volumes"].named_parameters():
        is_head = key.startswith(("head.", "auxiliary_heads."))
        assert (net.members["more"].get_parameter(key) is parameter) == (not is_head), key


def test_a_step_on_one_data_set_trains_the_trunk_of_all_and_its_own_head_alone():
    net = joint("grey", "volumes")
    net.use("grey").forward_auxiliary(sample("grey"))[0].square().sum().backward()
    moved = {key for key, p in net.members["volumes"].named_parameters() if p.grad is not None}
    assert {key.split(".")[1] for key in moved} == {"planar"}
    assert net.members["grey"].head[1].weight.grad is not None
    assert net.members["volumes"].head[1].weight.grad is None


@pytest.mark.parametrize("own", [True, False])
def test_running_statistics_are_each_sets_own_or_shared(own):
    net = joint("grey", "volumes", own_statistics=own).train()
    name = "streams.planar.stem.norm1.running_mean"
    before = {key: net.members[key].get_buffer(name).clone() for key in net.members}
    net.use("grey")(sample("grey"))
    assert not torch.equal(net.members["grey"].get_buffer(name), before["grey"])
    assert torch.equal(net.members["volumes"].get_buffer(name), before["volumes"]) == own


def test_what_is_shared_stays_shared_in_copies_and_after_loading():
    net = joint("grey", "volumes", own_statistics=False)
    copied = copy.deepcopy(net).double()
    copied.load_state_dict(net.state_dict())
    with torch.no_grad():
        copied.members["grey"].streams["planar"].levels[0][0].conv1.weight.fill_(2)
    assert (copied.members["volumes"].streams["planar"].levels[0][0].conv1.weight == 2).all()
    assert len(list(copied.parameters())) == len(list(net.parameters()))


def test_streams_that_do_not_fit_are_refused():
    nets = {
        "a": ScaleNet(outputs=2, **KINDS["grey"], **TINY),
        "b": ScaleNet(outputs=2, **KINDS["volumes"], **{**TINY, "planar_widths": (4, 6, 10)}),
    }
    with pytest.raises(ValueError, match=r"b: streams.planar.* cannot be shared"):
        JointNet(nets)
    with pytest.raises(ValueError, match="at least two"):
        JointNet({"a": nets["a"]})
