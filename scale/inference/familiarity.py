"""How far an image lies from the training data, in what a network makes of it.

The Mahalanobis distance (arXiv:1807.03888) to the training samples as one cloud, whatever their labels, with Ledoit and
Wolf's shrinkage of the covariance (doi:10.1016/S0047-259X(03)00096-4), which holds where there are more features than
samples. The features are mean and spread of each channel of the network's levels, fine to coarse, as what gives an
image away may be lost before the head (arXiv:2309.01488). A threshold comes from val, whose samples the network was
not fitted to.
"""

import copy
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scale.data import archive
from scale.utils.files import exclusive, replacing

if TYPE_CHECKING:
    import torch

    from scale.data.datamodule import ImageDataModule
    from scale.runs.load import Run

log = logging.getLogger("scale")
NAME = "familiarity.npz"
FEATURES = b"mean and spread of the levels"  # changes with what `look` returns
MOST = 4000  # training samples that are looked at, spread over the split
BATCH = 64
UNLIKE = 0.05  # share of files like those of val that lie beyond the threshold


@dataclass(frozen=True)
class Reference:
    """The features of a run's training samples.

    Attributes:
        center: (F,), their mean; of features as `look` gives them.
        whitening: (F, F); a feature vector's difference from the mean, times it, has the distance as its length.
        val: (N,), distances of the val samples in their order.
    """

    center: np.ndarray
    whitening: np.ndarray
    val: np.ndarray

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Distances (N,) of features (N, F)."""
        return np.asarray(np.linalg.norm((features - self.center) @ self.whitening, axis=1))


def fit(train: np.ndarray, val: np.ndarray) -> Reference:
    """From features (N, F) of the training samples, and those of val."""
    from sklearn.covariance import ledoit_wolf

    train = np.asarray(train, np.float64)
    center, scale = train.mean(axis=0), train.std(axis=0)
    scale = np.maximum(scale, 1e-3 * max(scale.mean(), 1e-12))  # features that hardly vary must not decide alone
    covariance, _ = ledoit_wolf((train - center) / scale, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(np.maximum(values, 1e-6 * values.max())) / scale[:, None]
    found = Reference(center.astype(np.float32), whitening.astype(np.float32), np.empty(0))
    return Reference(found.center, found.whitening, found.distance(np.asarray(val, np.float32)).astype(np.float32))


def look(net: "torch.nn.Module", given: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor | None]":
    """What a network makes of normalised images (B, C, *S), in one pass.

    Returns:
        Logits (B, outputs), and the features (B, F) by which distances are measured. These are the levels' statistics,
        what the head reads where a network has no levels to show, and None of a network that has `forward` alone.
    """
    if not hasattr(net, "forward_head") or not hasattr(net, "forward_features"):
        return net(given), None
    if hasattr(net, "forward_levels"):
        features, levels = net.forward_levels(given)  # type: ignore[operator]
        seen = levels if levels.shape[1] else features
    else:
        seen = features = net.forward_features(given)  # type: ignore[operator]
    return net.forward_head(features), seen.flatten(1)  # type: ignore[operator]


def threshold(scores: np.ndarray) -> float:
    """What a share `UNLIKE` of files like these exceeds: the conformal quantile of scores (N,), the largest of few."""
    place = min(len(scores), int(np.ceil((len(scores) + 1) * (1 - UNLIKE))))
    return float(np.sort(scores)[place - 1])


def measure(net: "torch.nn.Module", datamodule: "ImageDataModule", *, device: "torch.device | str") -> Reference | None:
    """Of a trained network and the data it was trained on.

    Args:
        net: stays where it is.
        datamodule: set up.
        device: where to compute.

    Returns:
        None where the network shows no features (see `look`), or none that are numbers.
    """
    training, place = net.training, next(net.parameters()).device
    net.eval().to(device)
    try:
        rows = datamodule.train_indices
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, MOST).astype(int))]
        val = np.arange(len(datamodule.splits["val"].labels))
        train, held = (_features(net, datamodule, split, own) for split, own in (("train", chosen), ("val", val)))
        if train is None or held is None or not (np.isfinite(train).all() and np.isfinite(held).all()):
            return None
        return fit(train, held)
    finally:
        net.train(training).to(place)


def keep(folder: Path, net: "torch.nn.Module", found: Reference) -> None:
    """Writes it into a run's folder, bound to the weights it was measured with."""
    weights = np.array(_digest(net))
    with replacing(folder / NAME) as file:
        np.savez(file, weights=weights, center=found.center, whitening=found.whitening, val=found.val)


def of_run(run: "Run", *, device: str = "cpu") -> Reference | str:
    """That of a finished run: kept in its folder, else measured once, where the run's data are at hand.

    Returns:
        It, or why there is none.
    """
    found = _read(run)
    if found is not None:
        return found
    datamodule = data_of(run)
    if isinstance(datamodule, str):
        return datamodule
    try:
        with exclusive(run.folder / f".{NAME}.lock", hint="it is not kept"):  # shards start at the same moment
            found = _read(run) or _measured(run, datamodule, device)
            if found is not None:
                keep(run.folder, run.model.net, found)
    except OSError as error:
        log.warning("%s", error)
        found = found or _measured(run, datamodule, device)
    return found or "the network shows no features: it has no forward_features and forward_head"


def data_of(run: "Run") -> "ImageDataModule | str":
    """The data that a run was trained on, set up; or why they are not at hand. Nothing is downloaded."""
    from scale.data.datamodule import MedMNISTDataModule

    datamodule = copy.copy(run.datamodule)
    if isinstance(datamodule, MedMNISTDataModule):
        datamodule.source = {**datamodule.source, "download": False}
    try:
        datamodule.setup()
    except (OSError, ValueError) as error:
        return f"the run's data are not at hand ({' '.join(str(error).split()):.200})"
    return datamodule


LARGEST_WIDTH = 8192  # of features


def _measured(run: "Run", datamodule: "ImageDataModule", device: str) -> Reference | None:
    log.info("measuring once how the training data look to the network")
    return measure(run.model.net, datamodule, device=device)


def _read(run: "Run") -> Reference | None:
    """What the folder has, where it is of these weights and makes sense."""
    path = run.folder / NAME
    if not path.is_file():
        return None
    try:
        found = archive.headers(path)
        width, count = found["center"].shape[0], len(run.predictions["val"]["labels"])
        shapes = {"center": (width,), "whitening": (width, width), "val": (count,)}
        if width > LARGEST_WIDTH or any(found[name].shape != shape for name, shape in shapes.items()):
            return None
        if found["weights"].nbytes > 1024 or str(archive.read_array(path, "weights")) != _digest(run.model.net):
            return None
        arrays: dict[str, Any] = {name: archive.read_array(path, name) for name in shapes}
    except (OSError, ValueError, KeyError, IndexError):
        return None
    sound = all(value.shape == shapes[name] and np.isfinite(value).all() for name, value in arrays.items())
    return Reference(**arrays) if sound else None


def _digest(net: "torch.nn.Module") -> str:
    """Tells other weights, and other features of them."""
    found = hashlib.sha256(FEATURES)
    for name, value in net.state_dict().items():
        plain = value.float() if value.is_floating_point() else value  # as a run is read back, whatever its precision
        found.update(name.encode() + plain.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _features(
    net: "torch.nn.Module", datamodule: "ImageDataModule", split: str, rows: Sequence[int] | np.ndarray
) -> np.ndarray | None:
    import torch

    weight = next(net.parameters())
    parts = []
    for images in _images(datamodule, split, rows):
        with torch.inference_mode():
            given = datamodule.prepare({"image": images.to(weight.device)})["image"].to(weight.dtype)
            _, seen = look(net, given)
        if seen is None:
            return None
        parts.append(seen.float().cpu().numpy())
    return np.concatenate(parts)


def _images(datamodule: "ImageDataModule", split: str, rows: Sequence[int] | np.ndarray) -> "Iterator[torch.Tensor]":
    from scale.data.loading import BatchDataset
    from scale.data.sampling import Batch

    dataset = BatchDataset(datamodule.splits[split], spatial_dims=datamodule.info.spatial_dims)
    for start in range(0, len(rows), BATCH):
        yield dataset[Batch((np.asarray(rows[start : start + BATCH]), 0, 0, 0))]["image"]
