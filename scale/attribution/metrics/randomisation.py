"""The sanity check: does a map change when the network forgets what it learned?"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from scale.attribution.metrics.maps import rank_correlation


def randomisation(
    net: nn.Module,
    explain: Callable[[nn.Module, Tensor], Tensor],
    images: Tensor,
    *,
    seed: int = 0,
    absolute: bool = True,
) -> Tensor:
    """Rank correlation of the network's maps with those after all weights were re-initialised.

    Source: Adebayo et al. 2018, arXiv:1810.03292. Works on a copy: `net` stays as it is. A constant map correlates with
    nothing, which counts as 0.

    Args:
        net: the trained network.
        explain: maps a network and images (B, C, *S) to maps (B, C, *S).
        images: (B, C, *S), normalised.
        seed: of the weights; the same for every method.
        absolute: compare magnitudes, because the sign of a gradient flips easily.

    Returns:
        (B,) in [-1, 1].

    Raises:
        ValueError: maps that are not finite.
    """
    changed = copy.deepcopy(net)
    for number, name in enumerate(stages(net, images[:1])):
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            torch.manual_seed(seed + number)
            _reinitialise(changed.get_submodule(name))
    return rank_correlation(explain(net, images), explain(changed, images), absolute=absolute).nan_to_num(0.0)


def stages(net: nn.Module, images: Tensor) -> list[str]:
    """Names of the parts of a network that `images` (B, C, *S) pass, the last one first."""
    prefix, parent = "", net
    while len(children := [name for name, child in parent.named_children() if _has_parameters(child)]) == 1:
        inner = parent.get_submodule(children[0])
        if not any(_has_parameters(child) for child in inner.children()):
            break
        prefix, parent = f"{prefix}{children[0]}.", inner
    passed: dict[str, None] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            passed.pop(name, None)  # the last time counts
            passed[name] = None

        return hook

    handles = [
        module.register_forward_hook(note(name)) for name in children for module in parent.get_submodule(name).modules()
    ]
    try:
        with torch.no_grad():
            net(images)
    finally:
        for handle in handles:
            handle.remove()
    return [prefix + name for name in reversed(passed)]


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


@torch.no_grad()
def _reinitialise(part: nn.Module) -> None:
    """Starts each module afresh; the parameters of one that cannot do so itself are shuffled."""
    for module in part.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            continue
        for parameter in module.parameters(recurse=False):
            order = torch.randperm(parameter.numel()).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
