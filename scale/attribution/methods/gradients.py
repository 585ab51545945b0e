"""Captum's methods for one batch, in two and three dimensions (https://captum.ai).

Each function takes the scores' module, images (B, C, *S) and targets (B,), evaluates at most `rows` samples at once
(for the gradient methods: the batch itself, whatever is repeated), and returns maps (B, C, *S).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from captum.attr import DeepLift, GuidedBackprop, InputXGradient, IntegratedGradients, Occlusion, Saliency
from torch import Tensor, nn

from scale.models.lifting import gaussian_matrix


def saliency(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """The gradient's absolute value."""
    maps: Tensor = Saliency(model).attribute(images, target=target, abs=True)
    return maps


def input_x_gradient(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """The gradient times the normalised intensity, which is 0 at the train split's mean."""
    maps: Tensor = InputXGradient(model).attribute(images, target=target)
    return maps


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    *,
    rows: int,
    baseline: Tensor,
    steps: int = 32,
    smooth: float = 0.0,
) -> Tensor:
    """The gradient's mean on the straight way from the baseline, times the way; sums to the difference of the scores.

    Args:
        model: gives scores (B, columns).
        images: (B, C, *S).
        target: (B,).
        rows: samples in one pass.
        baseline: (B, C, *S).
        steps: points of the Gauss-Legendre rule.
        smooth: standard deviation of a Gaussian that the map is smoothed with, as a share of the longest edge: what a
            neighbourhood says together.
    """
    maps: Tensor = IntegratedGradients(model).attribute(
        images, baselines=baseline, target=target, n_steps=steps, internal_batch_size=max(rows, len(images))
    )
    return smoothed(maps, smooth * max(images.shape[2:])) if smooth else maps


def gradient_shap(
    model: nn.Module, images: Tensor, target: Tensor, *, rows: int, baseline: Tensor, seed: int, samples: int = 16
) -> Tensor:
    """Integrated gradients at random points of the way instead of fixed ones, one in each of `samples` equal parts.

    Captum's own GradientShap draws for the whole batch at once, so that its answer changes with the batch; here all
    samples share the points.
    """
    generator = torch.Generator().manual_seed(seed)
    points = (torch.arange(samples) + torch.rand(samples, generator=generator)) / samples
    total = torch.zeros_like(images)
    for share in points.tolist():
        total += _gradient(model, baseline + share * (images - baseline), target)
    return (images - baseline) * total / samples


def smoothgrad(
    model: nn.Module, images: Tensor, target: Tensor, *, seed: int, samples: int = 16, stdev: float = 0.15
) -> Tensor:
    """The mean of the gradient's absolute value under noise.

    Args:
        model: gives scores (B, columns).
        images: (B, C, *S).
        target: (B,).
        seed: of the noise, which all samples share, so that the batch does not change the answer.
        samples: draws of the noise.
        stdev: of the noise, as a share of the sample's range (largest minus smallest value).
    """
    values = images.flatten(1)
    width = stdev * (values.amax(dim=1) - values.amin(dim=1))
    width = width.reshape(-1, *(1,) * (images.ndim - 1))
    total = torch.zeros_like(images)
    for noise in _noise(images, samples=samples, seed=seed):
        total += _gradient(model, images + width * noise, target).abs()
    return total / samples


def guided_backprop(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """The gradient, with negative parts cut off at every ReLU on the way back."""
    maps: Tensor = GuidedBackprop(model).attribute(images, target=target)
    return maps


def deeplift(model: nn.Module, images: Tensor, target: Tensor, *, baseline: Tensor) -> Tensor:
    """DeepLift's rescale rule at every ReLU and sigmoid; attention and maxima, no such modules, have their gradient.

    Raises:
        ValueError: a network that uses one such module in several places, which the rule cannot tell apart.
    """
    try:
        maps: Tensor = DeepLift(model).attribute(images, baselines=baseline, target=target)
    except RuntimeError as error:
        if "used more than once in the network" not in str(error):
            raise
        raise ValueError(
            f"deeplift and consensus do not apply: {type(model.get_submodule('net')).__name__} uses one ReLU or "
            "sigmoid module in several places; give other methods, such as attribution.methods=[integrated_gradients]"
        ) from error
    return maps


def occlusion(
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    *,
    rows: int,
    baseline: Tensor,
    window: float = 2 / 7,
    overlap: float = 0.5,
) -> Tensor:
    """What the score loses when a window of the sample is set to the baseline, averaged over the windows of a voxel.

    Args:
        model: gives scores (B, columns).
        images: (B, C, *S).
        target: (B,).
        rows: samples in one pass.
        baseline: (B, C, *S).
        window: edge of the window, as a share of the sample's edge; at least one voxel.
        overlap: share of its edge by which a window overlaps the next, in [0, 1).
    """
    shape = images.shape[2:]
    edges = [max(1, round(window * n)) for n in shape]
    steps = [max(1, round((1 - overlap) * edge)) for edge in edges]
    channels = images.shape[1]
    maps: Tensor = Occlusion(model).attribute(
        images,
        (channels, *edges),
        strides=(channels, *steps),
        baselines=baseline,
        target=target,
        perturbations_per_eval=max(1, rows // len(images)),
    )
    return maps / channels  # all channels were hidden together: each has its share


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """maps: (B, C, *S); returns them under a Gaussian of `sigma` voxels; the sum is kept."""
    for axis in range(2, maps.ndim):
        matrix = gaussian_matrix(maps.shape[axis], torch.tensor([sigma], device=maps.device))[0].to(maps.dtype)
        maps = (maps.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return maps


def _gradient(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    maps: Tensor = Saliency(model).attribute(images, target=target, abs=False)
    return maps


def _noise(images: Tensor, *, samples: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(samples):
        yield torch.randn(images.shape[1:], generator=generator).to(images)
