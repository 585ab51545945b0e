import math

import pytest
import torch

from scale.tasks import schedules


def rates(make, steps, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, found = make(optimizer, total_steps=steps, **options), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_cosine_rises_linearly_and_falls_as_half_a_cosine():
    found = rates(schedules.cosine, 100, warmup=0.1, final=0.01)
    assert found[:10] == pytest.approx([2.0 * (step + 1) / 10 for step in range(10)])
    expected = [2.0 * (0.01 + 0.99 * (1 + math.cos(math.pi * n / 90)) / 2) for n in range(90)]
    assert found[10:] == pytest.approx(expected)


def test_constant():
    assert set(rates(schedules.constant, 10)) == {2.0}


def test_multistep_as_in_the_official_protocol():
    found = rates(schedules.multistep, 100, milestones=[0.5, 0.75], factor=0.1)
    assert found == pytest.approx([2.0] * 50 + [0.2] * 25 + [0.02] * 25)


@pytest.mark.parametrize(
    ("make", "options"), [(schedules.cosine, {"warmup": 1.0}), (schedules.multistep, {"milestones": [50]})]
)
def test_impossible_values(make, options):
    with pytest.raises(ValueError, match="scheduler"):
        rates(make, 10, **options)
