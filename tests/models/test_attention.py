import math

import pytest
import torch
from torch import nn

from scale.models.attention import CrossAttention, ScaleAttention
from scale.models.fusion import Calibration, Fusion, pool
from scale.models.layers import resample

PYRAMID_2D = [(5, (8, 6)), (6, (4, 3)), (7, (2, 2))]
PYRAMID_3D = [(5, (4, 8, 8)), (6, (2, 4, 4)), (7, (1, 2, 2))]


def pyramid(levels):
    return [torch.randn(3, width, *size) for width, size in levels]


@pytest.mark.parametrize("levels", [PYRAMID_2D, PYRAMID_3D])
def test_scale_attention_is_the_weighted_sum_of_projected_levels(levels):
    torch.manual_seed(0)
    layer, xs = ScaleAttention([width for width, _ in levels], 9), pyramid(levels)
    mixed, weights = layer(xs)
    size = levels[1][1]
    assert mixed.shape == (3, *size, 9)
    assert weights.shape == (3, *size, 3)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, *size))
    assert weights.std() > 0.01
    slow, start = 0, 0
    for level, x in enumerate(xs):
        part = layer.project.weight[:, start : start + x.shape[1]]
        slow = slow + weights[..., level, None] * (resample(x.movedim(1, -1), size) @ part.T)
        start += x.shape[1]
    torch.testing.assert_close(
        mixed, layer.norm(slow.flatten(0, -2)).reshape(slow.shape).clamp(min=0), atol=1e-5, rtol=1e-4
    )


def test_without_scale_attention_levels_are_averaged_and_nothing_is_weighed():
    layer = ScaleAttention([5, 6, 7], 9, learned=False)
    xs = pyramid(PYRAMID_2D)
    mixed, weights = layer(xs)
    assert weights is None
    assert not [name for name, _ in layer.named_parameters() if "score" in name]
    uniform = ScaleAttention([5, 6, 7], 9)
    uniform.load_state_dict(layer.state_dict(), strict=False)
    nn.init.zeros_(uniform.score.weight)
    nn.init.zeros_(uniform.score.bias)
    torch.testing.assert_close(uniform(xs)[0], mixed)


def cross(dim=8, heads=2):
    torch.manual_seed(1)
    return CrossAttention(dim, heads=heads)


def test_both_paths_of_cross_attention_agree_and_weights_sum_to_one():
    layer, reader, read = cross(), torch.randn(3, 5, 8), torch.randn(3, 7, 8)
    codes = {"reader_code": torch.randn(5, 8), "read_code": torch.randn(7, 8)}
    fast, none = layer(reader, read, **codes)
    slow, weights = layer(reader, read, **codes, need_weights=True)
    assert none is None
    assert weights.shape == (3, 2, 5, 7)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=0)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 2, 5))


def test_cross_attention_equals_torch_multi_head_attention():
    layer, reader, read = cross(), torch.randn(3, 5, 8), torch.randn(3, 7, 8)
    peer = nn.MultiheadAttention(8, 2, bias=True, batch_first=True)
    peer.in_proj_weight.data = torch.cat([layer.query.weight, layer.key.weight, layer.value.weight])
    nn.init.zeros_(peer.in_proj_bias)
    peer.out_proj.load_state_dict(layer.out.state_dict())
    here, there = torch.randn(5, 8), torch.randn(7, 8)
    asking, answering = layer.norm_reader(reader), layer.norm_read(read)
    expected = reader + peer(asking + here, answering + there, answering)[0]
    expected = expected + layer.feed_forward(layer.norm_forward(expected))
    torch.testing.assert_close(layer(reader, read, reader_code=here, read_code=there)[0], expected)


def test_order_of_read_tokens_does_not_matter_but_their_positions_do():
    layer, reader, read = cross(), torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    here, there, order = torch.randn(5, 8), torch.randn(7, 8), torch.randperm(7)
    y = layer(reader, read, reader_code=here, read_code=there)[0]
    both = layer(reader, read[:, order], reader_code=here, read_code=there[order])[0]
    one = layer(reader, read, reader_code=here, read_code=there[order])[0]
    torch.testing.assert_close(both, y)
    assert (one - y).abs().max() > 1e-3


def test_calibration_takes_the_loudness_out_and_puts_the_temperature_in():
    layer, x = Calibration(6), torch.randn(4, 6)
    y = layer(x)
    torch.testing.assert_close(layer(30 * x + 5), y, atol=2e-3, rtol=0)
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.std(dim=0, unbiased=False), torch.ones(6), atol=1e-3, rtol=0)
    nn.init.constant_(layer.log_temperature, 1.0)
    torch.testing.assert_close(layer(x), y * torch.e)


def test_calibration_of_a_batch_of_one_uses_what_is_known():
    layer, x = Calibration(6), torch.randn(4, 6)
    for _ in range(200):
        layer(30 * x + 5)
    known = layer.standardise.running_mean.clone()
    alone = layer(30 * x[:1] + 5)
    torch.testing.assert_close(layer.standardise.running_mean, known, atol=0, rtol=0)
    torch.testing.assert_close(alone, layer.eval()(30 * x[:1] + 5), atol=0, rtol=0)
    assert alone.abs().max() > 0.1


def test_pool_is_mean_and_maximum():
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(pool(x)[:, :8], x.mean(dim=1))
    torch.testing.assert_close(pool(x)[:, 8:], x.max(dim=1).values)


def tokens():
    return torch.randn(3, 5, 8), torch.randn(3, 4, 8), (torch.randn(5, 8), torch.randn(4, 8))


@pytest.mark.parametrize("mode", ["gate", "concat"])
def test_a_loud_stream_changes_neither_gate_nor_features(mode):
    torch.manual_seed(2)
    fusion, (planar, volumetric, _) = Fusion(8, mode=mode, heads=2, layers=1, native="planar"), tokens()
    features, _, gate = fusion(planar, volumetric, codes=None)
    louder, _, same = fusion(100 * planar, volumetric, codes=None)
    torch.testing.assert_close(louder, features, atol=2e-2, rtol=1e-2)  # the variance has an epsilon
    if mode == "gate":
        torch.testing.assert_close(same, gate, atol=1e-2, rtol=1e-2)


def test_gate_mixes_the_calibrated_streams():
    fusion, (planar, volumetric, _) = Fusion(8, mode="gate", heads=2, layers=1, native="planar"), tokens()
    features, attention, gate = fusion(planar, volumetric, codes=None)
    assert attention == {}
    torch.testing.assert_close(gate.sum(dim=1), torch.ones(3))
    first = fusion.calibrate_planar(pool(planar))
    second = fusion.calibrate_volumetric(pool(volumetric))
    torch.testing.assert_close(features, gate[:, :1] * first + gate[:, 1:] * second)
    nn.init.constant_(fusion.gate.bias[:1], 50.0)
    torch.testing.assert_close(fusion(planar, volumetric, codes=None)[0], first)


@pytest.mark.parametrize(("native", "column"), [("planar", 0), ("volumetric", 1)])
def test_the_gate_starts_at_the_native_stream(native, column):
    fusion = Fusion(8, mode="gate", heads=2, layers=1, native=native)
    nn.init.zeros_(fusion.gate.weight)
    torch.testing.assert_close(
        fusion(*tokens()[:2], codes=None)[2][:, column], torch.full((3,), 1 / (1 + math.exp(-2)))
    )


def test_concat_keeps_both_and_has_no_gate():
    fusion, (planar, volumetric, _) = Fusion(8, mode="concat", heads=2, layers=1, native="planar"), tokens()
    features, attention, gate = fusion(planar, volumetric, codes=None)
    assert features.shape == (3, fusion.num_features) == (3, 32)
    assert gate is None
    assert attention == {}


def test_only_attention_lets_one_stream_see_the_other():
    for mode, sees in [("attention", True), ("gate", False), ("concat", False)]:
        torch.manual_seed(3)
        fusion, (planar, volumetric, codes) = Fusion(8, mode=mode, heads=2, layers=2, native="planar"), tokens()
        caught = []
        fusion.calibrate_planar.register_forward_pre_hook(lambda _, args, caught=caught: caught.append(args[0]))
        fusion(planar, volumetric, codes=codes)
        fusion(planar, volumetric + torch.randn(1, 1, 8), codes=codes)
        assert torch.equal(*caught) is not sees


def test_both_streams_read_what_the_other_was_before_the_round():
    torch.manual_seed(4)
    fusion, (planar, volumetric, codes) = Fusion(8, mode="attention", heads=2, layers=1, native="planar"), tokens()
    _, attention, _ = fusion(planar, volumetric, codes=codes, need_weights=True)
    assert attention["planar"].shape == (3, 2, 5, 4)
    assert attention["volumetric"].shape == (3, 2, 4, 5)
    layer = fusion.volumetric_reads[0]
    _, expected = layer(volumetric, planar, reader_code=codes[1], read_code=codes[0], need_weights=True)
    torch.testing.assert_close(attention["volumetric"], expected)
