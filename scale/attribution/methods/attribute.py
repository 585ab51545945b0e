"""Attribution maps of a network's input: one function for all methods, images and volumes."""

from __future__ import annotations

import copy
import importlib
import inspect
import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scale.attribution.catalog import METHODS, check_name
from scale.attribution.methods import conditions
from scale.tasks.problem import Problem
from scale.utils.choices import nearest

log = logging.getLogger("scale")
SUPPLIED = ("model", "net", "images", "target", "rows", "baseline", "seed", "views")  # what a method may ask for
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Explained(nn.Module):
    """What is explained: for each class the log odds that the network gives it, log p - log(1 - p).

    They say how the class stands against all others, whatever the problem: the difference of the logits for binary
    ones, the label's own logit for multilabel, and for grades the odds of CORN's class probability. Other than logits
    they do not change when a constant is added to all classes, and other than probabilities they do not saturate.

    Args:
        net: maps images (B, C, *S) to logits.
        problem: what the labels ask.
    """

    def __init__(self, net: nn.Module, problem: Problem) -> None:
        super().__init__()
        self.net, self.problem = net, problem

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, C, *S); returns scores (B, columns)."""
        logits: Tensor = self.net(images)
        if self.problem.name == "multilabel":
            return logits
        if self.problem.name == "ordinal":
            reach = F.pad(F.logsigmoid(logits).cumsum(dim=1), (1, 0))  # log P(y >= k), (B, K)
            logits = reach + F.pad(F.logsigmoid(-logits), (0, 1))  # log P(y = k)
        own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        others = logits[:, None].masked_fill(own, -torch.inf)  # (B, K, K)
        return logits - others.logsumexp(dim=2)


def applicable(net: nn.Module) -> list[str]:
    """Names of the methods that fit a network, controls included."""
    return [name for name in METHODS if obstacle(net, name) is None]


def obstacle(net: nn.Module, method: str) -> str | None:
    """Why a method does not fit a network, or None."""
    reasons = (getattr(conditions, need)(net) for need in METHODS[method].needs)
    return next((reason for reason in reasons if reason), None)


def attribute(
    net: nn.Module,
    images: Tensor,
    *,
    problem: Problem,
    method: str,
    target: Tensor | int,
    batch_size: int = 16,
    baseline: Tensor | float | None = None,
    seed: int = 0,
    views: Sequence[tuple[int, ...]] = ((),),
    progress: Callable[[int], object] | None = None,
    **options: Any,
) -> Tensor:
    """A method's maps, the same under inference mode, no_grad and autocast, and for every batch size.

    The network is copied first: whatever happens, it keeps its hooks, gradients, flags and modes, and the global random
    numbers go on as if nothing had been drawn.

    Args:
        net: maps images to logits.
        images: (B, C, *S), normalised, on the network's device.
        problem: what the labels ask.
        method: a name of `METHODS` that is `applicable`.
        target: the explained classes (B,), or one for all.
        batch_size: samples in one pass; halved, with a warning, where memory is too small.
        baseline: what "nothing" looks like, broadcast to the images; 0 (the train split's mean) if None.
        seed: of the methods that draw random numbers.
        views: spatial axes of every flip that keeps the label, for the methods that average over them.
        progress: called with the number of samples that have just been finished.
        options: the method's own, as in the function of its name.

    Returns:
        (B, C, *S), float32, on the images' device. What has no channels is spread evenly over them, so that the sum
        over the channels is the map on the grid.

    Raises:
        ValueError: unknown method or option, one that does not fit the network, a class that does not exist.
        FloatingPointError: a map is not finite; names the samples.
        MemoryError: a single sample does not fit.
    """
    check_name(method)
    reason = obstacle(net, method)
    if reason:
        raise ValueError(f"{method} does not apply: {reason}; what does: {', '.join(applicable(net))}")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: give a number of at least 1")
    targets = _targets(target, len(images), problem)
    parts, start, rows = [], 0, batch_size
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(images.device.type, enabled=False),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", module="captum")
        # the clones of inference tensors are ordinary ones
        images, targets = images.detach().clone().float(), targets.clone().to(images.device)
        model = Explained(copied(net), problem)
        compute = _function(model, method, views, options)
        origin = torch.as_tensor(0.0 if baseline is None else baseline).clone().to(images).expand_as(images)
        while start < len(images):
            part = slice(start, start + rows)
            try:
                maps = compute(images=images[part], target=targets[part], rows=rows, baseline=origin[part], seed=seed)
            except (MemoryError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
                maps = None
            if maps is None:  # outside of the except clause, which would keep the failed pass alive
                rows = _halved(rows, method)
                continue
            if maps.ndim < images.ndim:
                maps = (maps[:, None] / images.shape[1]).expand_as(images[part])
            parts.append(maps.detach().float())
            start += len(maps)
            if progress is not None:
                progress(len(maps))
        found = torch.cat(parts) if parts else images
    finite = found.flatten(1).isfinite().all(dim=1)
    if not finite.all():
        places = ", ".join(map(str, (~finite).nonzero()[:, 0].tolist()))
        cause = "" if images.isfinite().all() else ", as the images do"
        raise FloatingPointError(f"{method} gives values that are not finite for the samples at {places}{cause}")
    return found


def copied(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode, in float32 and without gradients or hooks, that shares nothing with the network.

    What hooks hold (locks, processes) may not be copied, and what they do is meant for the network itself.
    """
    hooks = [getattr(module, name) for module in net.modules() for name in HOOKS]
    memo: dict[int, Any] = {id(registered): OrderedDict() for registered in hooks}
    return copy.deepcopy(net, memo).float().eval().requires_grad_(False)


def _function(
    model: Explained, method: str, views: Sequence[tuple[int, ...]], options: dict[str, Any]
) -> Callable[..., Tensor]:
    """The method as a function of images, target, rows, baseline and seed, of which it gets what it asks for."""
    entry = METHODS[method]
    module, _, name = entry.function.rpartition(".")
    function = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    takes = set(inspect.signature(function).parameters)
    allowed = sorted(takes - set(SUPPLIED) - set(entry.given))
    for name in options:
        if name not in allowed:
            hint = f"{nearest(name, allowed)}; it takes {', '.join(allowed)}" if allowed else "; it takes none"
            raise ValueError(f"{method} takes no option {name!r}{hint}")

    def run(**given: Any) -> Tensor:
        supplied = {"model": model, "net": model.net, "views": views, **given}
        needed = {name: value for name, value in supplied.items() if name in takes}
        maps: Tensor = function(**needed, **entry.given, **options)
        return maps

    return run


def _targets(target: Tensor | int, count: int, problem: Problem) -> Tensor:
    targets = torch.as_tensor(target, dtype=torch.long).reshape(-1).expand(count) if isinstance(target, int) else target
    targets = targets.detach().long()
    if targets.shape != (count,):
        raise ValueError(
            f"target has the shape {tuple(targets.shape)}: give a class, or one for each of {count} samples"
        )
    wrong = targets[(targets < 0) | (targets >= problem.columns)]
    if len(wrong):
        raise ValueError(f"target class {int(wrong[0])} does not exist: the classes are 0 to {problem.columns - 1}")
    return targets


def _is_memory(error: BaseException) -> bool:
    """Whether memory was too small; on a CPU torch says so in words only."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _halved(rows: int, method: str) -> int:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if rows == 1:
        raise MemoryError(f"{method}: memory is too small for a single sample; use accelerator=cpu or a smaller method")
    log.warning("%s: memory is too small for batches of %d, continuing with %d", method, rows, rows // 2)
    return rows // 2
