import pytest
import torch
from torch import nn

from scale.models.layers import macs, parameters
from scale.models.scale_net import ScaleNet

SMALL = {"planar_widths": (4, 6, 8), "volumetric_widths": (4, 6, 8), "dim": 8, "heads": 2, "slabs": 2, "scales": 4}
TINY = {
    "planar_widths": (16, 32, 64),
    "volumetric_widths": (8, 16, 32),
    "planar_depths": (0, 1, 1),
    "volumetric_depths": (0, 1, 1),
    "dim": 32,
}
SWITCHES = [
    {},
    {"streams": "planar"},
    {"streams": "volumetric"},
    {"lifting": "naive"},
    {"scale_attention": False},
    {"fusion": "gate"},
    {"fusion": "concat"},
    {"auxiliary": False},
    {"streams": "planar", "fusion": "concat", "scale_attention": False, "lifting": "naive"},
]


def small(spatial_dims=3, in_channels=1, outputs=3, seed=0, **changes):
    torch.manual_seed(seed)
    values = {**SMALL, "dropout": 0.0, **changes}
    return ScaleNet(spatial_dims=spatial_dims, in_channels=in_channels, outputs=outputs, **values)


@pytest.mark.parametrize(
    "shape", [(28, 28), (64, 64), (128, 128), (224, 224), (28, 28, 28), (64, 64, 64), (37, 20), (9, 30, 21), (1, 1)]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_and_number_of_channels(shape, channels):
    net = small(spatial_dims=len(shape), in_channels=channels).eval()
    with torch.no_grad():
        assert net(torch.randn(2, channels, *shape)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(28, 28), (64, 50), (28, 28, 28), (64, 20, 28)])
def test_intermediates(shape):
    net = small(spatial_dims=len(shape)).eval()
    x = torch.randn(2, 1, *shape)
    with torch.no_grad():
        found, logits = net.forward_intermediates(x), net(x)
        features = net.forward_features(x)
    torch.testing.assert_close(found.features, features, atol=1e-5, rtol=0)
    torch.testing.assert_close(net.forward_head(features), logits, atol=0, rtol=0)
    volumetric, planar = found.scale_attention["volumetric"], found.scale_attention["planar"]
    assert planar.shape[:3] == (2, 6 if len(shape) == 3 else 1, 3)
    assert volumetric.shape[:2] == (2, 3)
    assert volumetric.ndim == planar.ndim == 5
    for weights, levels in [(planar, 2), (volumetric, 1)]:
        torch.testing.assert_close(weights.sum(dim=levels), torch.ones_like(weights.sum(dim=levels)))
    reads, read = found.cross_attention["planar"], found.cross_attention["volumetric"]
    n, m = len(found.positions["planar"]), len(found.positions["volumetric"])
    assert reads.shape == (2, 2, n, m)
    assert read.shape == (2, 2, m, n)
    for weights in (reads, read):
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]))
    assert found.stream_gate.shape == (2, 2)
    torch.testing.assert_close(found.stream_gate.sum(dim=1), torch.ones(2))
    assert max(p.abs().max() for p in found.positions.values()) <= 1


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_training_reaches_every_parameter(dims, switch):
    """DistributedDataParallel stops at a parameter without a gradient."""
    net = small(spatial_dims=dims, **switch)
    logits, auxiliary = net.forward_auxiliary(torch.randn(6, 1, *(28,) * dims))
    assert set(auxiliary) == ({"planar", "volumetric"} if {"streams", "auxiliary"}.isdisjoint(switch) else set())
    assert all(own.shape == logits.shape for own in auxiliary.values())
    sum(values.square().sum() for values in (logits, *auxiliary.values())).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    untouched = [name for name, p in net.named_parameters() if p.grad.abs().max() == 0]
    assert [name for name in untouched if ".attention.squeeze" not in name] == []  # a ReLU of 8 units may be off


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_compiles_without_a_graph_break(dims):
    net, x = small(spatial_dims=dims).eval(), torch.randn(2, 1, *(28,) * dims)
    torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))


@pytest.mark.parametrize(("dims", "native"), [(2, "planar"), (3, "volumetric")])
def test_the_answer_is_the_mean_of_the_native_and_the_fused_one(dims, native):
    net, x = small(spatial_dims=dims).eval(), torch.randn(2, 1, *(28,) * dims)
    fused, own = net.forward_auxiliary(x)
    torch.testing.assert_close(net(x), (fused + own[native]) / 2)
    assert (fused - own[native]).abs().max() > 1e-3


@pytest.mark.parametrize("switch", [{"auxiliary": False}, {"streams": "planar"}], ids=str)
def test_without_heads_of_the_streams_there_is_one_answer(switch):
    net, x = small(**switch).eval(), torch.randn(2, 1, 28, 28, 28)
    logits, own = net.forward_auxiliary(x)
    torch.testing.assert_close(logits, net(x), atol=0, rtol=0)
    assert own == {}


@pytest.mark.parametrize(("auxiliary", "reached"), [(True, False), (False, True)])
def test_streams_with_a_head_learn_nothing_from_the_fusion(auxiliary, reached):
    net, x = small(auxiliary=auxiliary), torch.randn(4, 1, 28, 28, 28)
    net.forward_auxiliary(x)[0].square().sum().backward()
    stems = [net.streams[name].stem.weight.grad for name in ("planar", "volumetric")]
    assert [grad is not None and bool(grad.abs().max() > 0) for grad in stems] == [reached, reached]
    assert net.fusion.gate.weight.grad.abs().max() > 0


def test_what_explains_the_answer_sees_both_ways_to_it():
    """The gradient of the answer goes through the fusion too: attributions must not miss half of the network."""
    net, x = small(spatial_dims=2).eval().double(), torch.randn(1, 1, 28, 28, dtype=torch.double)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[0, 0], x)
    step = 1e-5 * gradient
    with torch.no_grad():
        change = net(x + step)[0, 0] - net(x - step)[0, 0]
    torch.testing.assert_close(change, 2 * (gradient * step).sum(), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(("dims", "lifted"), [(2, "volumetric"), (3, "planar")])
def test_the_lifted_stream_is_the_narrower_one(dims, lifted):
    half, whole = small(spatial_dims=dims, lifted_depths=(0, 2, 1)), small(spatial_dims=dims, lifted_width=1.0)
    assert [net.streams[lifted].stem.halve.out_channels for net in (half, whole)] == [2, 4]
    assert [len(level) for level in half.streams[lifted].levels] == [0, 2, 1]
    for name in {"planar", "volumetric"} - {lifted}:
        assert half.streams[name].stem.halve.out_channels == 4


@pytest.mark.parametrize("name", ["planar", "volumetric"])
def test_an_auxiliary_head_reads_its_own_stream_alone(name):
    net, x = small().eval(), torch.randn(2, 1, 28, 28, 28)
    before = net.forward_auxiliary(x)[1]
    with torch.no_grad():
        net.streams[name].stem.weight.neg_()
    after = net.forward_auxiliary(x)[1]
    assert {own for own in before if not torch.equal(before[own], after[own])} == {name}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"streams": "planar"}, {"streams.volumetric", "scale_attention.volumetric", "auxiliary_heads", "position"}),
        ({"streams": "volumetric"}, {"streams.planar", "scale_attention.planar", "auxiliary_heads", "position"}),
        ({"scale_attention": False}, {"scale_attention.planar.score", "scale_attention.volumetric.score"}),
        ({"fusion": "gate"}, {"fusion.planar_reads", "fusion.volumetric_reads", "position"}),
        ({"fusion": "concat"}, {"fusion.planar_reads", "fusion.volumetric_reads", "position", "fusion.gate"}),
        ({"auxiliary": False}, {"auxiliary_heads"}),
    ],
)
def test_a_switch_takes_away_what_it_names(change, parts):
    full, other = small(), small(**change)
    gone = {name for name, _ in full.named_parameters()} - {name for name, _ in other.named_parameters()}
    for part in parts:
        assert any(name.startswith(part) for name in gone), part
    if "streams" not in change:
        assert all(name.startswith(tuple(parts)) for name in gone)
    assert parameters(other) < parameters(full) or change == {"fusion": "concat"}
    if change != {"auxiliary": False}:
        assert macs(other, (1, 28, 28, 28)) < macs(full, (1, 28, 28, 28))


def test_switches_that_keep_the_shape_change_the_answer():
    x = torch.randn(2, 1, 28, 28)
    answers = [small(spatial_dims=2, **change).eval()(x) for change in ({}, {"lifting": "naive"})]
    assert (answers[0] - answers[1]).abs().max() > 1e-4
    assert macs(small(lifting="naive"), (1, 28, 28, 28)) < macs(small(), (1, 28, 28, 28))


@pytest.mark.parametrize("streams", ["both", "planar", "volumetric"])
def test_intermediates_of_switches_are_empty_not_wrong(streams):
    net = small(streams=streams, fusion="concat", scale_attention=False).eval()
    found = net.forward_intermediates(torch.randn(2, 1, 28, 28, 28))
    assert found.scale_attention == {}
    assert found.cross_attention == {}
    assert found.stream_gate is None
    assert set(found.positions) == set(net.stream_names)


def test_samples_do_not_see_each_other_in_eval():
    net = small().eval()
    x = torch.randn(3, 1, 28, 28, 28)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]), atol=1e-5, rtol=1e-4)


def test_a_batch_of_one_trains():
    small().train()(torch.randn(1, 1, 28, 28, 28)).sum().backward()


def test_detail_finer_than_28_pixels_is_seen():
    """A checkerboard vanishes in block means; the ranges of blocks keep it."""
    net = small(spatial_dims=2).eval()
    board = (torch.arange(56)[:, None] + torch.arange(56)) % 2 * 2.0 - 1
    assert (net(board[None, None]) - net(torch.zeros(1, 1, 56, 56))).abs().max() > 1e-4


@pytest.mark.parametrize("dims", [2, 3])
def test_compute_does_not_grow_with_resolution(dims):
    net = ScaleNet(spatial_dims=dims, in_channels=1, outputs=2)
    at_28 = macs(net, (1, *(28,) * dims))
    for edge in (64, 128, 224)[: 3 if dims == 2 else 1]:
        assert macs(net, (1, *(edge,) * dims)) < 1.8 * at_28


def test_budget():
    for dims, limit in [(3, 0.25e9), (2, 0.1e9)]:
        net = ScaleNet(spatial_dims=dims, in_channels=1, outputs=2)
        assert macs(net, (1, *(28,) * dims)) <= limit
        assert parameters(net) <= 1.5e6
    assert macs(ScaleNet(spatial_dims=3, in_channels=1, outputs=2, **TINY), (1, 28, 28, 28)) <= 0.03e9


def test_each_activation_runs_once_a_pass():
    """DeepLift and guided backpropagation need one module for each use of a ReLU."""
    net, calls = small(), []
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    net(torch.randn(2, 1, 28, 28, 28))
    assert len(calls) == len(set(calls)) == sum(isinstance(module, nn.ReLU) for module in net.modules())


@pytest.mark.parametrize("dims", [2, 3])
def test_mixed_precision_stays_close(dims):
    net, x = small(spatial_dims=dims).eval(), torch.randn(2, 1, *(28,) * dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net(x)
    torch.testing.assert_close(mixed.float(), net(x), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spatial_dims": 4}, "spatial_dims=4 is not one of 2, 3"),
        ({"streams": "planer"}, "did you mean 'planar'"),
        ({"lifting": "simple"}, "not one of full, naive"),
        ({"fusion": "atention"}, "did you mean 'attention'"),
        ({"dim": 9}, "dim=9 is not a multiple of heads=2"),
        ({"planar_widths": (4, 8)}, r"planar_widths=\[4, 8\]"),
        ({"volumetric_depths": (1, 0, 1)}, r"volumetric_depths=\[1, 0, 1\]"),
        ({"lifted_depths": (1, 0, 1)}, r"lifted_depths=\[1, 0, 1\]"),
        ({"lifted_width": 0.0}, r"lifted_width=0.0: give a share above 0, at most 1"),
    ],
)
def test_impossible_values_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        small(**change)


@pytest.mark.parametrize("shape", [(2, 28, 28, 28), (2, 2, 28, 28, 28), (28, 28, 28)])
def test_a_batch_of_the_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"takes samples \(batch, 1, D, H, W\), but got"):
        small()(torch.zeros(shape))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_planar_stream_can_read_what_is_not_reduced(dims):
    reduced = small(spatial_dims=dims).eval()
    full = small(spatial_dims=dims, planar_resolution="full").eval()
    full.load_state_dict(reduced.state_dict())
    same, large = torch.randn(2, 1, *(28,) * dims), torch.randn(2, 1, *(64,) * dims)
    torch.testing.assert_close(full(same), reduced(same), rtol=0, atol=0)
    few, many = (net.forward_intermediates(large) for net in (reduced, full))
    assert len(many.positions["planar"]) == 4 * len(few.positions["planar"])
    torch.testing.assert_close(many.positions["volumetric"], few.positions["volumetric"])
    assert many.positions["planar"].abs().max() <= 1
    detail = torch.zeros_like(large)
    detail[..., ::2] = 1  # every block of 2 x 2 (x 2) has the same mean and range
    shifted = detail.roll(1, -1)
    planar = [[net.forward_auxiliary(x)[1]["planar"] for x in (detail, shifted)] for net in (reduced, full)]
    torch.testing.assert_close(*planar[0])
    assert (planar[1][0] - planar[1][1]).abs().max() > 1e-5
