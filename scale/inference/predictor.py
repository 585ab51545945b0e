"""One or several finished runs, ready for new images and files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scale.inference import uncertainty
from scale.preparing.preprocess import Geometry
from scale.readers import Picture, UnreadableError, read
from scale.readers.arrays import picture_of
from scale.runs import inputs as run_inputs
from scale.tasks.outputs import average

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from scale.runs.load import Run

SAME = ("flag", "problem", "num_classes", "image_shape")  # of runs that are averaged


class Predictor:
    """Probabilities, sets and warnings of new images, as `predictions.csv` has them.

    Args:
        runs: finished runs on the same data; their probabilities are averaged.
        device: where to compute.
        alpha: share of conformal sets that may miss the true class.
        calibrate: divide logits by the temperature that fits val best.

    Raises:
        ValueError: runs on different data, or a val split that is too small for alpha.
    """

    def __init__(
        self, runs: Sequence["Run"], *, device: str = "cpu", alpha: float = 0.1, calibrate: bool = True
    ) -> None:
        first = runs[0]
        inputs = [run_inputs.read(run.folder, run.metrics) for run in runs]
        for run, own in zip(runs, inputs, strict=True):
            different = [key for key in SAME if run.metrics[key] != first.metrics[key]]
            if different or own != inputs[0]:
                what = different[0] if different else "preprocessing"
                raise ValueError(f"{run.folder} and {first.folder} differ in their {what}: give runs on the same data")
        self.runs, self.device, self.inputs = list(runs), device, inputs[0]
        self.problem: str = first.metrics["problem"]
        val = [run.predictions["val"] for run in runs]
        if any(not np.array_equal(found["labels"], val[0]["labels"]) for found in val):
            raise ValueError("the runs have different val splits (folds?), on which their mean cannot be calibrated")
        for run in runs:
            run.model.to(device).eval()
        self.uncertainty = uncertainty.fit(
            np.stack([found["logits"] for found in val]),
            average([found["probabilities"] for found in val]),
            val[0]["labels"],
            self.problem,
            alpha=alpha,
            calibrated=calibrate,
        )

    def tensor(self, images: np.ndarray, run: "Run") -> "torch.Tensor":
        """Normalised images (B, C, *S) on the device, of uint8 (B, *S[, C]) as the preprocessing makes them."""
        import torch

        raw = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        raw = raw.movedim(-1, 1) if raw.ndim == self.inputs.preprocessing.spatial_dims + 2 else raw.unsqueeze(1)
        return run.datamodule.prepare({"image": raw})["image"]

    def raw(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits (runs, B, outputs) and mean probabilities (B, columns) of preprocessed images (B, *S[, C]), uint8."""
        import torch

        logits, probabilities = [], []
        for run in self.runs:
            with torch.inference_mode():
                found = run.model(self.tensor(images, run)).float().cpu()
            logits.append(found.numpy())
            probabilities.append(run.model.problem.probabilities(found.double()).numpy())
        return np.stack(logits), average(probabilities)

    def rows(self, images: np.ndarray) -> list[dict[str, Any]]:
        """Rows of `predictions.csv` without the id, of preprocessed images (B, *S[, C]), uint8."""
        logits, probabilities = self.raw(images)
        return self.describe(logits, probabilities)

    def describe(self, logits: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
        """Rows of `predictions.csv` without the id, of what the networks said: (runs, B, outputs) and (B, columns)."""
        found, names = self.uncertainty, self.inputs.classes
        calibrated = found.probabilities(probabilities)
        sets, energies = found.sets(calibrated), uncertainty.energy(logits, self.problem)
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
                    "energy": float(energies[number]),
                    "unlike_training": bool(energies[number] > found.energy),
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


def _picture(one: Any) -> Picture:
    return read(Path(one).expanduser()) if isinstance(one, str | Path) else picture_of(np.asarray(one))


def _is_one(images: Any, predictor: Predictor) -> bool:
    """Whether an array is a single image rather than several."""
    if not isinstance(images, np.ndarray):
        return False
    dims = predictor.inputs.preprocessing.spatial_dims
    colour = images.ndim == dims + 1 and images.shape[-1] == 3 and images.shape[0] > 3
    return images.ndim == dims or (colour and predictor.inputs.preprocessing.channels == 3)
