"""Batch normalisation over processes against torch's own on the whole batch."""

import os

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from scale.models.layers import Dropout, DropPath
from scale.models.sync import SyncBatchNorm, separate, synchronise

DIMS = (1, 2, 3)


def network(dims):
    torch.manual_seed(0)
    kinds = {1: (nn.Linear(3, 4), nn.BatchNorm1d(4)), 2: (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False))}
    kinds[3] = (nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4, momentum=0.3))
    return nn.Sequential(*kinds[dims], nn.ReLU(), nn.Flatten(), Dropout(0.3), DropPath(0.3))


def images(dims):
    torch.manual_seed(1)
    return 3 * torch.randn(6, 3, *(4,) * dims if dims > 1 else ()) + 2


def step(net, x):
    torch.manual_seed(2)
    net.train()
    y = net(x)
    (y.square() * torch.arange(1, y[0].numel() + 1)).mean().backward()
    return y


def process(rank, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    for dims in DIMS:
        net = synchronise(network(dims))
        y = step(net, images(dims)[rank * 3 : rank * 3 + 3])
        for parameter in net.parameters():
            torch.distributed.all_reduce(parameter.grad)
        found = y.detach(), [p.grad for p in net.parameters()], list(net.buffers())
        torch.save(found, f"{folder}/{dims}d-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(process, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("dims", DIMS)
def test_two_processes_equal_one(dims, of_two):
    net = network(dims)
    expected = step(net, images(dims))
    found = [torch.load(of_two / f"{dims}d-{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(torch.cat([found[0][0], found[1][0]]), expected)
    for outputs, gradients, buffers in found:
        assert len(outputs) == 3
        for one, other in zip(gradients, net.parameters(), strict=True):
            torch.testing.assert_close(one / 2, other.grad, atol=1e-4, rtol=1e-4)  # each has the mean over its half
        for one, other in zip(buffers, net.buffers(), strict=True):
            torch.testing.assert_close(one, other)


def test_alone_and_in_evaluation_it_is_the_plain_one():
    net, plain = synchronise(network(2)), network(2)
    assert isinstance(net[1], SyncBatchNorm)
    torch.testing.assert_close(step(net, images(2)), step(plain, images(2)))
    torch.testing.assert_close(net.eval()(images(2)), plain.eval()(images(2)))
    assert list(net.state_dict()) == list(plain.state_dict())
    assert type(separate(net)[1]) is nn.BatchNorm2d


def test_dropout_has_its_rate_and_keeps_the_mean():
    layer, x = Dropout(0.25), torch.ones(200, 100)
    torch.manual_seed(0)
    y = layer(x)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    assert layer.eval()(x) is x
