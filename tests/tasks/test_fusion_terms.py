"""Terms of the loss and draws that keep a fusion from trusting one stream."""

import math

import numpy as np
import pytest
import torch

from scale.config import ConfigError, compose
from scale.evaluation import convex
from scale.models.fusion import HideStream
from scale.models.scale_net import ScaleNet
from scale.tasks.classification import ClassificationTask, one_sidedness
from scale.tasks.problem import Problem

TINY = {"planar_widths": (4, 6, 8), "volumetric_widths": (4, 6, 8), "dim": 8, "heads": 2, "slabs": 2, "scales": 4}


def net(**changes):
    torch.manual_seed(0)
    return ScaleNet(**{"spatial_dims": 2, "in_channels": 1, "outputs": 2, **TINY, **changes})


def loss(net, **settings):
    task = ClassificationTask(net, problem=Problem("binary", 2), **settings).train()
    torch.manual_seed(1)
    batch = {"image": torch.randn(8, 1, 28, 28), "label": torch.arange(8)[:, None] % 2, "index": torch.arange(8)}
    torch.manual_seed(2)
    return task.training_step(batch, 0)


def test_a_hidden_stream_is_hidden_whole_from_a_sample_in_training_alone():
    hide = HideStream(0.5)
    planar, volumetric = torch.ones(4000, 3, 2), torch.ones(4000, 5, 2)
    hidden = [x.flatten(1).sum(dim=1) for x in hide(planar, volumetric)]
    assert set(hidden[0].tolist()) == {0.0, 6.0}
    assert set(hidden[1].tolist()) == {0.0, 10.0}
    assert not ((hidden[0] == 0) & (hidden[1] == 0)).any()
    for found in hidden:
        assert float((found == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert hide.eval()(planar, volumetric)[0] is planar


def test_modality_dropout_reaches_the_fusion_and_not_the_streams_own_heads():
    x = torch.randn(16, 1, 28, 28)
    outs = []
    for rate in (0.0, 0.9):
        network = net(modality_dropout=rate, dropout=0.0).train()
        torch.manual_seed(0)
        outs.append(network.forward_auxiliary(x))
    assert not torch.allclose(outs[0][0], outs[1][0])
    torch.testing.assert_close(outs[0][1], outs[1][1])
    with pytest.raises(ValueError, match="hides one of two streams, but streams=planar"):
        net(modality_dropout=0.5, streams="planar")


def test_one_sidedness_is_that_of_the_closed_form():
    assert float(one_sidedness(torch.tensor([[0.5, 0.5]]))) == pytest.approx(0, abs=1e-6)
    assert float(one_sidedness(torch.tensor([[1.0, 0.0]]))) == pytest.approx(1)
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2)) / math.log(2)
    assert float(one_sidedness(torch.tensor([[0.8, 0.2]]))) == pytest.approx(1 - entropy, abs=1e-6)


def test_the_gates_entropy_is_in_the_loss_with_its_weight_and_moves_the_gate():
    network = net(dropout=0.0)
    plain, once, twice = (float(loss(network, gate_entropy=weight)) for weight in (0.0, 1.0, 2.0))
    assert once > plain
    assert twice - plain == pytest.approx(2 * (once - plain), rel=1e-3)
    network.zero_grad()
    (loss(network, gate_entropy=100.0) - loss(network)).backward()
    gradient = network.fusion.gate.bias.grad
    assert gradient[0] > 0 > gradient[1]  # a step against it weighs the native stream, here the planar one, less
    with pytest.raises(ValueError, match="this ScaleNet has no stream gate"):
        loss(net(fusion="concat"), gate_entropy=1.0)
    with pytest.raises(ValueError, match="needs task.auxiliary_weight above 0"):
        loss(net(), gate_entropy=1.0, auxiliary_weight=0.0)


def test_flip_consistency_is_nothing_for_a_network_that_flips_do_not_change():
    class Mean(torch.nn.Module):
        def __init__(self, along):
            super().__init__()
            self.along, self.weight = along, torch.nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x[:, 0, :, : self.along].mean(dim=(1, 2))[:, None] * 8 * self.weight * torch.tensor([1.0, -1.0])

    for along, changed in ((28, False), (14, True)):  # the whole image, its left half
        plain, more = (
            float(loss(Mean(along), flip_consistency=weight, flips=(1,) if weight else ())) for weight in (0.0, 1.0)
        )
        assert (more > plain + 1e-4) == changed
    with pytest.raises(ValueError, match="no flip keeps the labels"):
        loss(net(), flip_consistency=1.0)


def test_each_image_is_trained_on_with_its_mirror_image_along_a_flip_that_the_data_allow():
    task = ClassificationTask(net(dropout=0.0), problem=Problem("binary", 2), flip_consistency=1.0, flips=(1,))
    seen = []
    task._forward_auxiliary = lambda images: seen.append(images) or task.net.forward_auxiliary(images)
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([[0], [1], [1], [1]])
    found = task.training_step({"image": images, "label": labels, "index": torch.arange(4)}, 0)
    (pairs,) = seen  # one pass
    torch.testing.assert_close(pairs[0::2], images)
    torch.testing.assert_close(pairs[1::2], images.flip(3))
    own = ClassificationTask(task.net, problem=Problem("binary", 2))
    heads = [(logits := task.net.forward_auxiliary(pairs))[0], *logits[1].values()]
    losses = [own.problem.loss(head, labels.repeat_interleave(2, dim=0)) for head in heads]
    apart = [(head.softmax(1)[0::2] - head.softmax(1)[1::2]).square().sum(1).mean() for head in heads]
    wanted = losses[0] + 2 * (losses[1] + losses[2]) / 2 + sum(apart) / 3
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_convex_weights_are_those_of_the_best_mixture():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(400, 1))
    noise = generator.normal(size=(3, 400, 1))
    logits = truth + noise * np.array([0.5, 0.5, 50.0])[:, None, None]
    weights, best = convex.fit(logits, lambda mixed: float(np.square(mixed - truth).mean()))
    np.testing.assert_allclose(weights, [0.5, 0.5, 0], atol=0.11)
    assert best < min(np.square(head - truth).mean() for head in logits)
    alike, _ = convex.fit(np.ones((2, 4, 1)), lambda mixed: 1.0)
    np.testing.assert_allclose(alike, [0.5, 0.5])


@pytest.mark.parametrize("given", ["task.gate_entropy=-1", "model.modality_dropout=1", "task.flip_consistency=-0.1"])
def test_impossible_values_are_refused(given):
    with pytest.raises(ConfigError, match=given.partition("=")[0]):
        compose([given])
