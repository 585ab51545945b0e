"""A run's network as one module from grey levels to probabilities, and what is said of it beside the file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scale.inference.familiarity import look
from scale.inference.predictor import Member, Predictor
from scale.inference.uncertainty import ENERGY, MAHALANOBIS, Uncertainty, Unlike
from scale.tasks.problem import Problem

if TYPE_CHECKING:
    from scale.runs.load import Run

VERSION = 2  # of the record; 2: how unlike the training data an image looks


class Deployed(nn.Module):
    """From images as the preprocessing makes them to probabilities, with the normalisation inside.

    Where the member knows how its training data look, a third output is the distance from them
    (`scale.inference.familiarity`), to be compared with the threshold in the record.

    Args:
        member: the network and its normalisation.
        problem: what the labels ask.
    """

    def __init__(self, member: Member, problem: Problem) -> None:
        super().__init__()
        self.net, self.problem = member.net, problem
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", member.mean.clone())
        self.register_buffer("std", member.std.clone())
        self.known = member.reference is not None
        self.center: Tensor
        self.whitening: Tensor
        if member.reference is not None:
            self.register_buffer("center", torch.from_numpy(member.reference.center))
            self.register_buffer("whitening", torch.from_numpy(member.reference.whitening))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, C, *S), uint8.

        Returns:
            Probabilities (B, columns), uncalibrated, logits (B, outputs), and perhaps distances (B,).
        """
        logits, looks = look(self.net, Member(self.net, self.mean, self.std).normalise(images))
        found = self.problem.probabilities(logits), logits
        if looks is None or not self.known:
            return found
        return *found, ((looks - self.center) @ self.whitening).square().sum(dim=1).sqrt()

    @property
    def outputs(self) -> list[str]:
        """Names of what comes out."""
        return ["probabilities", "logits"] + ["distance"] * self.known


def of_predictor(predictor: Predictor) -> Deployed:
    """The network of a predictor of one run, in evaluation mode, on the CPU."""
    return Deployed(predictor.members[0], predictor.task).cpu().eval().requires_grad_(False)


def record(run: "Run", predictor: Predictor) -> dict[str, Any]:
    """What `config.json` and the metadata of every format say: plain values."""
    from scale.config.keys import plain
    from scale.tasks.build import net_arguments

    metrics = run.metrics
    given = net_arguments(run.config, run.model.problem, image_shape=metrics["image_shape"])
    return {
        "version": VERSION,
        "title": predictor.inputs.title,
        "problem": metrics["problem"],
        "classes": list(predictor.inputs.classes),
        "image_shape": list(metrics["image_shape"]),
        "input": "images (batch, channels, *size), uint8, as the preprocessing makes them",
        "outputs": of_predictor(predictor).outputs,
        "preprocessing": predictor.inputs.preprocessing.record(),
        "flips": None if predictor.flips is None else list(predictor.flips),
        "uncertainty": predictor.uncertainty.record(),
        "network": {**plain(run.config.model), **given},
        "flag": metrics["flag"],
        "seed": metrics["seed"],
        "intended_use": "research only",
    }


def fitted(said: Mapping[str, Any], problem: str) -> Uncertainty:
    """How far predictions can be believed, of a record's `uncertainty`."""
    import numpy as np

    from scale.evaluation.conformal import Conformal

    sets = Conformal(np.array(said["conformal_thresholds"]), 1 - said["alpha"], int(said["calibration_samples"]))
    if said["unlike_score"] not in (MAHALANOBIS, ENERGY):
        raise ValueError(f"unlike_score {said['unlike_score']!r:.40}")
    unlike = Unlike(said["unlike_score"], float(said["unlike_threshold"]))
    return Uncertainty(problem, float(said["alpha"]), float(said["temperature"]), sets, unlike)
