"""Test samples with their pictures, for loggers that show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask
    from scale.tasks.outputs import Outputs

EDGE = 112  # pixels that a small picture is enlarged to, each pixel whole
OPACITY = 0.75


@dataclass(frozen=True)
class Sample:
    """A test sample and what the network said of it.

    Attributes:
        index: position in the split.
        picture: (H, W, 3), uint8; of a volume three planes side by side.
        overlay: the same with a map laid over; None without one.
        explained: name of the class that the map is of: of several labels the likeliest; empty without one.
        truth: name of the class; of several labels those that are present.
        prediction: likewise.
        probability: of the prediction; of several labels the largest.
        probabilities: (columns,).
    """

    index: int
    picture: np.ndarray
    overlay: np.ndarray | None
    explained: str
    truth: str
    prediction: str
    probability: float
    probabilities: tuple[float, ...]


def chosen(outputs: "Outputs", problem: str, count: int) -> list[int]:
    """Rows of the samples to show: the most confident mistakes, up to half of them, then all classes alike."""
    from scale.attribution import selection
    from scale.evaluation.metrics import confident_mistakes

    wrong = [row for row, *_ in confident_mistakes(outputs.labels, outputs.probabilities, problem, count // 2)]
    others = [int(row) for row in selection.spread(outputs.labels, count)]
    return list(dict.fromkeys([*wrong, *others]))[:count]


def samples(
    task: "ClassificationTask", datamodule: "ImageDataModule", outputs: "Outputs", count: int, overlay: str | None
) -> list[Sample]:
    """Test samples with pictures, some of them mistakes.

    Args:
        task: with the weights that made the predictions.
        datamodule: of the run.
        outputs: of test.
        count: of samples, at most.
        overlay: method of the map that is laid over; None: no map.
    """
    from scale.attribution import selection
    from scale.attribution.catalog import METHODS
    from scale.attribution.report.files import picture_of

    problem, names = task.problem.name, list(datamodule.info.labels)
    rows = chosen(outputs, problem, count)
    if not rows:
        return []
    raw, images = gathered(datamodule, "test", outputs.index[rows], device=task.device)
    maps: list[np.ndarray | None] = [None] * len(rows)
    if overlay is not None:
        from scale.attribution.metrics.explainer import Explainer
        from scale.config.schemas import Attribution
        from scale.data.augment import mirrors

        guess = images.new_tensor(selection.predicted(outputs.probabilities[rows])).long()
        explainer = Explainer(task.net, task.problem, Attribution(), mirrors(datamodule.info.symmetry))
        maps = [*explainer.maps(overlay, images, guess).sum(dim=1).numpy()]
    found = []
    for number, row in enumerate(rows):
        label, chance = outputs.labels[row], outputs.probabilities[row]
        likeliest = names[int(chance.argmax())]
        said = likeliest if len(label) == 1 else _listed(names, chance > 0.5)
        truth = names[int(label[0])] if len(label) == 1 else _listed(names, label != 0)
        picture = picture_of(raw[number], dims=datamodule.info.spatial_dims)
        plain, laid = pictures(picture, maps[number], signed=overlay is not None and METHODS[overlay].signed)
        index, most = int(outputs.index[row]), float(chance.max())
        explained = "" if laid is None else likeliest
        found.append(Sample(index, plain, laid, explained, truth, said, most, tuple(float(value) for value in chance)))
    return found


def gathered(datamodule: "ImageDataModule", split: str, index: np.ndarray, *, device: Any) -> tuple[np.ndarray, Any]:
    """Images of a split as stored, (B, *S[, C]), and as the network gets them, (B, C, *S) on a device."""
    import torch

    raw = datamodule.splits[split].images.gather(index)
    images = torch.from_numpy(raw)
    coloured = images.ndim == datamodule.info.spatial_dims + 2
    images = images.movedim(-1, 1) if coloured else images.unsqueeze(1)
    return raw, datamodule.prepare({"image": images.to(device)})["image"]


def pictures(picture: np.ndarray, values: np.ndarray | None, *, signed: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """A picture, and itself below a map, (H, W, 3), uint8; of a volume the planes through the map's peak or its middle.

    Args:
        picture: (H, W), (H, W, 3) or a volume (D, H, W), uint8.
        values: map (H, W) or (D, H, W).
        signed: whether the map's colours are centred at 0.
    """
    from scale.attribution.report import colours
    from scale.attribution.report.figures import peak

    volume = picture.ndim == 3 and picture.shape[-1] != 3 if values is None else values.ndim == 3
    point = [n // 2 for n in picture.shape] if values is None or not volume else peak(values)
    low, high = colours.window(picture)
    grey = (picture.astype(float) - low) / (high - low)
    rgb: np.ndarray = grey if picture.ndim == 3 and not volume else np.repeat(grey[..., None], 3, axis=-1)
    cut = [rgb.take(point[axis], axis) for axis in range(3)] if volume else [rgb]
    plain = _page(cut)
    if values is None:
        return plain, None
    rgba = colours.overlay(values, largest=colours.limit(values), signed=signed, opacity=OPACITY)
    over = [rgba.take(point[axis], axis) for axis in range(3)] if volume else [rgba]
    laid: list[np.ndarray] = [
        below * (1 - above[..., 3:]) + above[..., :3] * above[..., 3:] for below, above in zip(cut, over, strict=True)
    ]
    return plain, _page(laid)


def _page(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Planes (h, w, 3) in [0, 1], enlarged and side by side on white."""
    factor = max(1, EDGE // max(max(plane.shape[:2]) for plane in planes))
    large = [plane.repeat(factor, axis=0).repeat(factor, axis=1) for plane in planes]
    height, gap = max(len(plane) for plane in large), 4 * (len(large) > 1)
    padded = [np.pad(plane, ((0, height - len(plane)), (0, gap), (0, 0)), constant_values=1.0) for plane in large]
    return (np.concatenate(padded, axis=1).clip(0, 1) * 255).round().astype(np.uint8)


def _listed(names: Sequence[str], present: np.ndarray) -> str:
    return ", ".join(name for name, there in zip(names, present, strict=True) if there) or "none"
