import functools

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from scale.tasks import schedules
from scale.tasks.classification import ClassificationTask
from scale.tasks.problem import Problem

BINARY = Problem("binary", 2)


class Net(nn.Module):
    """Linear, with one auxiliary head; batch norm so that parameters of one dimension exist."""

    def __init__(self):
        super().__init__()
        self.main, self.side, self.norm = nn.Linear(4, 2), nn.Linear(4, 2), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.main(self.norm(x))

    def forward_auxiliary(self, x):
        return self(x), {"side": self.side(self.norm(x))}


def task(net=None, **options):
    made = ClassificationTask(net or Net(), problem=BINARY, **options)
    made.log = lambda *_, **__: None
    return made


def batch(count=8):
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(count, 4, generator=generator),
        "label": torch.arange(count)[:, None] % 2,
        "index": torch.arange(count),
    }


def test_loss_is_main_plus_weighted_auxiliary():
    given, net = batch(), Net()
    plain = task(net, auxiliary_weight=0.0).training_step(given, 0)
    both = task(net, auxiliary_weight=0.5).training_step(given, 0)
    logits, side = net.forward_auxiliary(given["image"])
    torch.testing.assert_close(plain, BINARY.loss(logits, given["label"]))
    torch.testing.assert_close(both, plain + 0.5 * BINARY.loss(side["side"], given["label"]))


def test_label_smoothing_and_class_weights_change_the_loss():
    given, net = batch(), Net()
    plain = task(net).training_step(given, 0)
    assert task(net, label_smoothing=0.2).training_step(given, 0) != plain
    assert task(net, class_weights=torch.tensor([1.0, 9.0])).training_step(given, 0) != plain


def test_adjusted_logits_learn_the_true_shares_from_a_balanced_draw():
    """Half of the drawn samples are positive, a tenth of the true ones; nothing else is to be seen in them."""
    shift = torch.log(torch.tensor([0.5 / 0.9, 0.5 / 0.1]))
    bias = torch.zeros(2, requires_grad=True)
    made, labels = task(nn.Identity(), logit_adjustment=shift), torch.arange(100)[:, None] % 2
    optimizer = torch.optim.SGD([bias], lr=2.0)
    for _ in range(200):
        optimizer.zero_grad()
        made._loss(bias.expand(100, 2), labels).backward()
        optimizer.step()
    torch.testing.assert_close(bias.detach().softmax(dim=0), torch.tensor([0.9, 0.1]), atol=1e-3, rtol=0)


def test_a_loss_that_is_not_finite_names_step_and_batch():
    given = batch()
    given["image"][3] = float("nan")
    with pytest.raises(FloatingPointError, match=r"nan at step 0 \(epoch 0, batch 5, samples \[0, 1, 2"):
        task().training_step(given, 5)


def test_weight_decay_spares_norms_and_biases():
    made = task(
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1),
        scheduler=functools.partial(schedules.constant),
    )
    made._trainer = type("T", (), {"estimated_stepping_batches": 10})()
    decayed, spared = made.configure_optimizers()["optimizer"].param_groups
    assert decayed["weight_decay"] == 0.1
    assert {p.ndim for p in decayed["params"]} == {2}
    assert spared["weight_decay"] == 0.0
    assert {p.ndim for p in spared["params"]} == {1}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(made.parameters()))


def test_a_task_that_only_predicts_says_so():
    with pytest.raises(ValueError, match="can predict, but not train"):
        task().configure_optimizers()


@pytest.mark.parametrize("wrong", [{"label_smoothing": 1.0}, {"auxiliary_weight": -1.0}])
def test_impossible_values(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        task(**wrong)


SHARED = [(BINARY, [1.0, 9.0]), (Problem("ordinal", 4), None)]  # whose losses are weighted means


def half_of_a_gradient(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    gradients = [gradient(problem, weights, slice(rank * 4, rank * 4 + 4)) for problem, weights in SHARED]
    for one in gradients:
        torch.distributed.all_reduce(one)
    if rank == 0:
        torch.save([one / 2 for one in gradients], f"{folder}/gradients.pt")
    torch.distributed.destroy_process_group()


def gradient(problem, weights, rows):
    labels = torch.tensor([[0], [0], [0], [1], [1], [1], [0], [1]]) * (problem.outputs - 1 or 1)
    logits = torch.linspace(-1, 1, 8 * problem.outputs).reshape(8, -1).requires_grad_()
    made = ClassificationTask(
        nn.Identity(), problem=problem, class_weights=None if weights is None else torch.tensor(weights)
    )
    made._loss(logits[rows], labels[rows]).backward()
    return logits.grad


@pytest.mark.slow
def test_weighted_losses_of_two_processes_are_that_of_one(tmp_path):
    mp.spawn(half_of_a_gradient, (str(tmp_path),), nprocs=2)
    found = torch.load(tmp_path / "gradients.pt")
    for one, (problem, weights) in zip(found, SHARED, strict=True):
        torch.testing.assert_close(one, gradient(problem, weights, slice(None)))


def test_a_checkpoint_of_an_earlier_version_loads():
    task = ClassificationTask(nn.Linear(1, 2), problem=BINARY)
    task.on_load_checkpoint({"epoch_loss": {"sum": 3.0, "count": 2}})  # kept one sum
    task.on_load_checkpoint({"epoch_loss": {"sums": [1.0, 2.0], "count": 4}})
    assert (task._losses.sums, task._losses.count) == ([1.0, 2.0], 4)
