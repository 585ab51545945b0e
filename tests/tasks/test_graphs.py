"""CUDA graphs of the training pass: what may not be combined with them, and on a GPU that they change nothing."""

import pytest
import torch

from scale import config
from scale.models.scale_net import ScaleNet
from scale.tasks.graphs import GraphedPass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "is for a GPU: give trainer=gpu"),
        (["trainer=gpu", "trainer.devices=2"], "trains on one device"),
        (["trainer=gpu", "compile=true"], "not for compile"),
        (["trainer=gpu", "task.flip_consistency=1"], "not for task.flip_consistency"),
        (["trainer=gpu", "trainer.accumulate_grad_batches=2"], "not for trainer.accumulate_grad_batches"),
        (["trainer=gpu", "data=joint", "data.sets=[phantom2d,phantom3d]"], "not for data=joint"),
    ],
)
def test_what_a_replay_cannot_do_is_said_before_anything_starts(given, said):
    with pytest.raises(config.ConfigError, match=said):
        config.compose(["hardware=graphs", *given])


def passes(net, batches, run):
    """Outputs, gradients of the last batch and buffers after training passes over `batches`, dropout seeded."""
    outputs = []
    for number, images in enumerate(batches):
        net.zero_grad(set_to_none=True)
        torch.manual_seed(number)
        logits, own = run(images)
        (logits.square().sum() + sum(other.square().sum() for other in own.values())).backward()
        outputs.append(logits.detach().clone())
    return outputs, [p.grad.clone() for p in net.parameters() if p.grad is not None], [b.clone() for b in net.buffers()]


@pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_replays_are_the_pass_itself(dims):
    torch.backends.cudnn.allow_tf32 = False
    size = {"planar_widths": [8, 16, 16], "volumetric_widths": [8, 16, 16], "dim": 16, "heads": 2}
    net = ScaleNet(spatial_dims=dims, in_channels=1, outputs=2, **size).to("cuda")
    state = {key: value.clone() for key, value in net.state_dict().items()}
    shapes = [(8, 1) + (28,) * dims] * 3 + [(5, 1) + (28,) * dims]  # the last one is no replay
    batches = [torch.randn(shape, device="cuda") for shape in shapes]
    plain = passes(net, batches, net.forward_auxiliary)
    net.load_state_dict(state)
    graphed = passes(net, batches, GraphedPass(net, "forward_auxiliary"))
    for one, other in zip(plain, graphed, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
