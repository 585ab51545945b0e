"""Learning-rate schedules over a known number of steps."""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine(optimizer: Optimizer, *, total_steps: int, warmup: float = 0.1, final: float = 0.0) -> LambdaLR:
    """Linear warm-up over a fraction of the steps, then half a cosine down to `final` of the peak.

    Source: Loshchilov and Hutter, SGDR, arXiv:1608.03983.
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"scheduler.warmup={warmup} is a fraction of the training: give a number from 0 to below 1")
    rising = max(round(warmup * total_steps), 1)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = (step - rising) / max(total_steps - rising, 1)
        return final + (1 - final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2

    return LambdaLR(optimizer, factor)


def constant(optimizer: Optimizer, *, total_steps: int) -> LambdaLR:
    """The learning rate stays."""
    return LambdaLR(optimizer, lambda step: 1.0)


def multistep(
    optimizer: Optimizer, *, total_steps: int, milestones: Sequence[float] = (0.5, 0.75), factor: float = 0.1
) -> LambdaLR:
    """The learning rate is multiplied by `factor` at each of `milestones`, given as fractions of the training."""
    if not all(0 < milestone < 1 for milestone in milestones):
        raise ValueError(f"scheduler.milestones={list(milestones)} are fractions of the training: between 0 and 1")
    return LambdaLR(optimizer, lambda step: factor ** sum(step >= round(m * total_steps) for m in milestones))
