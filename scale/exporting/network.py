"""A run's network as one module from grey levels to probabilities, and what is said of it beside the file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from scale.inference.predictor import Member, Predictor, member_of
from scale.inference.uncertainty import Uncertainty
from scale.tasks.problem import Problem

if TYPE_CHECKING:
    from scale.runs.load import Run

VERSION = 1  # of the record


class Deployed(nn.Module):
    """From images as the preprocessing makes them to probabilities, with the normalisation inside.

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

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: (B, C, *S), uint8; returns probabilities (B, columns), uncalibrated, and logits (B, outputs)."""
        logits = self.net(Member(self.net, self.mean, self.std).normalise(images))
        return self.problem.probabilities(logits), logits


def of_run(run: "Run") -> Deployed:
    """The network of a finished run, in evaluation mode, on the CPU."""
    return Deployed(member_of(run), run.model.problem).cpu().eval().requires_grad_(False)


def record(run: "Run", predictor: Predictor) -> dict[str, Any]:
    """What `config.json` and the metadata of every format say: plain values."""
    from scale.config.keys import plain

    metrics = run.metrics
    network = {**plain(run.config.model), "spatial_dims": len(metrics["image_shape"]) - 1}
    return {
        "version": VERSION,
        "title": predictor.inputs.title,
        "problem": metrics["problem"],
        "classes": list(predictor.inputs.classes),
        "image_shape": list(metrics["image_shape"]),
        "input": "images (batch, channels, *size), uint8, as the preprocessing makes them",
        "outputs": ["probabilities", "logits"],
        "preprocessing": predictor.inputs.preprocessing.record(),
        "uncertainty": predictor.uncertainty.record(),
        "network": {**network, "in_channels": metrics["image_shape"][0], "outputs": run.model.problem.outputs},
        "flag": metrics["flag"],
        "seed": metrics["seed"],
        "intended_use": "research only",
    }


def fitted(said: Mapping[str, Any], problem: str) -> Uncertainty:
    """How far predictions can be believed, of a record's `uncertainty`."""
    import numpy as np

    from scale.evaluation.conformal import Conformal

    sets = Conformal(np.array(said["conformal_thresholds"]), 1 - said["alpha"], int(said["calibration_samples"]))
    return Uncertainty(problem, float(said["alpha"]), float(said["temperature"]), sets, float(said["energy_threshold"]))
