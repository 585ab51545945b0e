"""One or several finished runs, ready for new images and files."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scale.inference import familiarity, uncertainty
from scale.inference.familiarity import Reference
from scale.inference.uncertainty import Uncertainty
from scale.preparing.preprocess import Geometry
from scale.readers import Picture, UnreadableError, read
from scale.readers.arrays import picture_of
from scale.runs import on_same_data
from scale.runs.inputs import Inputs
from scale.runs.inputs import read as read_inputs
from scale.tasks.outputs import average

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from scale.runs.load import Run
    from scale.tasks.problem import Problem

log = logging.getLogger("scale")
SAME = ("flag", "problem", "num_classes", "image_shape")  # of runs that are averaged


@dataclass(frozen=True)
class Member:
    """A network with what its images are normalised by.

    Attributes:
        net: maps normalised images (B, C, *S) to logits (B, outputs).
        mean: (C,), of images in [0, 1].
        std: (C,).
        reference: the features of its training samples; None where they are not known.
    """

    net: "torch.nn.Module"
    mean: "torch.Tensor"
    std: "torch.Tensor"
    reference: Reference | None = None

    def normalise(self, images: "torch.Tensor") -> "torch.Tensor":
        """Images (B, C, *S), uint8, as the network takes them."""
        shape = (1, -1) + (1,) * (images.ndim - 2)
        return (images.float() / 255 - self.mean.to(images.device).view(shape)) / self.std.to(images.device).view(shape)


class Predictor:
    """Probabilities, sets and warnings of new images, as `predictions.csv` has them.

    Args:
        members: networks, whose probabilities are averaged.
        inputs: what goes in and how the classes are called.
        problem: what the labels ask.
        fitted: how far predictions can be believed.
        device: where to compute.
        runs: of the members, where they are runs.
        place: folder of an exported network, where they are none.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        inputs: Inputs,
        problem: "Problem",
        fitted: Uncertainty,
        device: str = "cpu",
        runs: Sequence["Run"] = (),
        place: Path | None = None,
    ) -> None:
        self.members, self.inputs, self.task, self.device = list(members), inputs, problem, device
        self.problem, self.uncertainty, self.runs = problem.name, fitted, list(runs)
        self.places = [run.folder for run in runs] if place is None else [place]
        for member in members:
            member.net.to(device).eval()

    @classmethod
    def of_runs(
        cls, runs: Sequence["Run"], *, device: str = "cpu", alpha: float = 0.1, calibrate: bool = True
    ) -> "Predictor":
        """Of finished runs on the same data.

        Args:
            runs: their probabilities are averaged.
            device: where to compute.
            alpha: share of conformal sets that may miss the true class.
            calibrate: divide logits by the temperature that fits val best.

        Raises:
            ValueError: runs on different data, or a val split that is too small for alpha.
        """
        first = runs[0]
        inputs = [read_inputs(run.folder, run.metrics) for run in runs]
        inputs[0].preprocessing  # noqa: B018 (raises where files cannot be read for it)
        for run, own in zip(runs, inputs, strict=True):
            different = [key for key in SAME if run.metrics[key] != first.metrics[key]]
            if not on_same_data(run.metrics, first.metrics):
                different.append("images or labels (folds?)")
            if different or own != inputs[0]:
                what = different[0] if different else "preprocessing"
                raise ValueError(f"{run.folder} and {first.folder} differ in their {what}: give runs on the same data")
        val = [run.predictions["val"] for run in runs]
        if any(not np.array_equal(found["labels"], val[0]["labels"]) for found in val):
            raise ValueError("the runs have different val splits (folds?), on which their mean cannot be calibrated")
        references = _references(runs, device)
        fitted = uncertainty.fit(
            np.stack([found["logits"] for found in val]),
            average([found["probabilities"] for found in val]),
            val[0]["labels"],
            first.metrics["problem"],
            alpha=alpha,
            calibrated=calibrate,
            distances=np.mean([found.val for found in references], axis=0) if references else None,
        )
        known: Sequence[Reference | None] = references or [None] * len(runs)
        members = [member_of(run, reference) for run, reference in zip(runs, known, strict=True)]
        return cls(members, inputs=inputs[0], problem=first.model.problem, fitted=fitted, device=device, runs=runs)

    @property
    def flips(self) -> tuple[int, ...] | None:
        """Spatial axes along which the mirror image keeps the label; None where nothing says which."""
        if self.inputs.flips is None and self.runs:  # of before they were recorded
            module = familiarity.data_of(self.runs[0])
            return None if isinstance(module, str) else module.info.symmetry.flips
        return self.inputs.flips

    def tensor(self, images: np.ndarray) -> "torch.Tensor":
        """Images (B, C, *S), uint8, on the device, of (B, *S[, C]) as the preprocessing makes them."""
        import torch

        raw = torch.from_numpy(np.require(images, requirements=("C", "W"))).to(self.device)
        return raw.movedim(-1, 1) if raw.ndim == self.inputs.preprocessing.spatial_dims + 2 else raw.unsqueeze(1)

    def raw(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean probabilities (B, columns) of preprocessed images, uint8, and how unlike the training data they look."""
        import torch

        logits, probabilities, distances, given = [], [], [], self.tensor(images)
        for member in self.members:
            with torch.inference_mode():
                said, looks = familiarity.look(member.net, member.normalise(given))
                found = said.float().cpu()
            logits.append(found.numpy())
            probabilities.append(self.task.probabilities(found.double()).numpy())
            if member.reference is not None and looks is not None:
                distances.append(member.reference.distance(looks.float().cpu().numpy()))
        if self.uncertainty.unlike.score == uncertainty.MAHALANOBIS:
            return average(probabilities), np.mean(distances, axis=0)
        return average(probabilities), uncertainty.energy(np.stack(logits), self.problem)

    def rows(self, images: np.ndarray) -> list[dict[str, Any]]:
        """Rows of `predictions.csv` without the id, of preprocessed images (B, *S[, C]), uint8."""
        probabilities, unlike = self.raw(images)
        found, names = self.uncertainty, self.inputs.classes
        calibrated = found.probabilities(probabilities)
        sets = found.sets(calibrated)
        entropies = uncertainty.entropy(calibrated, self.problem)
        rows = []
        for number, chances in enumerate(calibrated):
            if self.problem == "multilabel":
                predicted = [name for name, chance in zip(names, chances, strict=True) if chance > 0.5]
                present = sets[number]  # (L, 2): absent, present
                members = [name + "?" * bool(both[0]) for name, both in zip(names, present, strict=True) if both[1]]
            else:
                predicted = [names[int(chances.argmax())]]
                members = [name for name, inside in zip(names, sets[number], strict=True) if inside]
            rows.append(
                {
                    "predicted": ";".join(predicted),
                    **{f"p_{name}": float(chance) for name, chance in zip(names, chances, strict=True)},
                    "set": ";".join(members),
                    "set_size": len(members),
                    "entropy": float(entropies[number]),
                    "unlike_score": float(unlike[number]),
                    "unlike_training": bool(unlike[number] > found.unlike.threshold),
                }
            )
        return rows

    def see(self, picture: Picture) -> tuple[np.ndarray, Geometry]:
        """What the network sees of a picture; raises UnreadableError where it does not fit."""
        return self.inputs.preprocessing.apply(picture)

    def predict(self, images: Any, *, batch_size: int = 64) -> "pd.DataFrame":
        """Predictions of images in memory or of files.

        Args:
            images: a path or an array, or a list of them. An array is one image or volume, (*S) or (*S, 3), of any
                numbers that the run's preprocessing takes; a path is a file, or the folder of a DICOM series.
            batch_size: images at a time.

        Returns:
            The columns of `predictions.csv`, in the order given.

        Raises:
            ValueError: an image that cannot be used; says which and why.
        """
        import pandas as pd

        given = [images] if isinstance(images, str | Path) or _is_one(images, self) else list(images)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(given), batch_size):
            seen = []
            for place, one in enumerate(given[start : start + batch_size], start):
                name = str(one) if isinstance(one, str | Path) else f"image {place}"
                try:
                    seen.append(self.see(_picture(one))[0])
                except UnreadableError as error:
                    raise ValueError(f"{name} {error}") from error
                rows.append({"id": name})
            for row, found in zip(rows[start:], self.rows(np.stack(seen)), strict=True):
                row.update(found)
        return pd.DataFrame(rows)


def member_of(run: "Run", reference: Reference | None = None) -> Member:
    """The network of a run."""
    module = run.datamodule
    assert module.mean is not None
    assert module.std is not None
    return Member(run.model.net, module.mean, module.std, reference)


def _references(runs: Sequence["Run"], device: str) -> list[Reference] | None:
    """Those of all runs; None, said in the log, where one has none."""
    found = []
    for run in runs:
        one = familiarity.of_run(run, device=device)
        if isinstance(one, str):
            log.warning(
                "%s: %s; unlike_training is told by the energy of the logits, which is weaker", run.folder.name, one
            )
            return None
        found.append(one)
    return found


def _picture(one: Any) -> Picture:
    return read(Path(one).expanduser()) if isinstance(one, str | Path) else picture_of(np.asarray(one))


def _is_one(images: Any, predictor: Predictor) -> bool:
    """Whether an array is a single image rather than several."""
    if not isinstance(images, np.ndarray):
        return False
    dims = predictor.inputs.preprocessing.spatial_dims
    colour = images.ndim == dims + 1 and images.shape[-1] == 3 and images.shape[0] > 3
    return images.ndim == dims or (colour and predictor.inputs.preprocessing.channels == 3)
