"""The losses of an epoch, read together or one by one."""

import pytest
import torch

from scale.tasks.losses import EpochLosses


def fill(losses, values):
    for number, value in enumerate(values):
        losses.add(torch.tensor([value, value / 2]), index=torch.tensor([10 * number]), place=f"at step {number} (x")


@pytest.mark.parametrize("every", [1, 3, 50])
def test_the_sums_do_not_depend_on_when_they_are_read(every):
    losses = EpochLosses(every=every)
    fill(losses, [1.0, 2.0, 4.0, 8.0])
    assert losses.read() == [15.0, 7.5]
    assert losses.count == 4
    fill(losses, [1.0])
    assert losses.read() == [16.0, 8.0]


def test_what_is_not_finite_is_named_however_late_it_is_read():
    losses = EpochLosses(every=4)
    fill(losses, [1.0, float("inf"), float("nan")])
    with pytest.raises(FloatingPointError, match=r"the loss is inf at step 1 \(x, samples \[10\]\)"):
        losses.add(torch.tensor([1.0, 1.0]), index=torch.tensor([0]), place="at step 3 (x")


def test_a_checkpoint_is_not_written_behind_such_a_loss():
    losses = EpochLosses(every=50)
    fill(losses, [float("nan")])
    with pytest.raises(FloatingPointError):
        losses.read()  # as a checkpoint does
