"""The sanity check: does a map change when the network forgets what it learned?"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scale.attribution.metrics.maps import rank_correlation
from scale.utils.choices import check_choice

MODES = ("cascading", "independent")
FAILED = 0.5  # a map whose correlation stays above it hardly depends on the weights


class Randomised(NamedTuple):
    """Rank correlations between the maps of the network and of randomised ones.

    Attributes:
        stages: parts of the network, from the output to the input.
        correlations: (stages, B); cascading: with this part and all above it drawn anew.
    """

    stages: tuple[str, ...]
    correlations: Tensor

    @property
    def last(self) -> Tensor:
        """(B,): cascading: with all weights drawn anew."""
        return self.correlations[-1]

    @property
    def mean(self) -> Tensor:
        """(B,): mean over the stages."""
        return self.correlations.mean(dim=0)


def randomisation(
    net: nn.Module,
    explain: Callable[[nn.Module, Tensor], Tensor],
    images: Tensor,
    *,
    mode: str = "cascading",
    seed: int = 0,
    absolute: bool = True,
) -> Randomised:
    """Draws the weights anew, part by part, and compares the maps (Adebayo et al. 2018, arXiv:1810.03292).

    Works on a copy: `net` stays as it is. A constant map correlates with nothing, which counts as 0.

    Args:
        net: the trained network.
        explain: maps a network and images (B, C, *S) to maps (B, C, *S).
        images: (B, C, *S), normalised.
        mode: `cascading`, from the output to the input, each part on top of the former ones; `independent`, each part
            alone.
        seed: of the weights; the same for every method.
        absolute: compare magnitudes, because the sign of a gradient flips easily.

    Raises:
        ValueError: an unknown mode, or maps that are not finite.
    """
    check_choice("mode", mode, MODES)
    original = explain(net, images)
    parts = stages(net, images[:1])
    changed, found = copy.deepcopy(net), []
    for number, name in enumerate(parts):
        if mode == "independent":
            changed = copy.deepcopy(net)
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            torch.manual_seed(seed + number)
            _draw_anew(changed.get_submodule(name))
        found.append(rank_correlation(original, explain(changed, images), absolute=absolute))
    return Randomised(tuple(parts), torch.stack(found).nan_to_num(0.0))


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
def _draw_anew(part: nn.Module) -> None:
    """Starts each module afresh; the parameters of one that cannot do so itself are shuffled."""
    for module in part.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            continue
        for parameter in module.parameters(recurse=False):
            order = torch.randperm(parameter.numel()).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
