"""The files of a run's explanations: arrays, volumes for medical viewers, tables."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scale.attribution.catalog import METHODS
from scale.attribution.report import figures
from scale.attribution.report.page import Sample
from scale.data.orientation import SPL, affine

FIGURES = {  # figures of a sample, and the kinds of methods on them
    "gradients": ("gradient", "perturbation"),
    "activations": ("activation", "control"),
    "attention": ("attention",),
}
COMPARED = 12  # samples on which the methods' maps are compared with each other
QUALITY = ("method", "metric", "better", "mean", "low", "high", "n")
AGAINST = ("method", "control", "metric", "mean", "low", "high", "n")


def write_sample(
    folder: Path, name: str, sample: Sample, maps: Mapping[str, np.ndarray], *, orientation: str = SPL, **facts: Any
) -> None:
    """Writes a sample's arrays, and those of a volume as NIfTI.

    Args:
        folder: of the explanations.
        name: of the sample, without an ending.
        sample: what the page shows.
        maps: by method, (C, *S).
        orientation: where a volume's axes point to.
        facts: further arrays or numbers.
    """
    place = folder / "samples"
    place.mkdir(exist_ok=True)
    mask = {} if sample.mask is None else {"mask": sample.mask}
    arrays: dict[str, Any] = {f"map_{method}": values for method, values in maps.items()}
    np.savez_compressed(place / f"{name}.npz", **{"image": sample.image, **mask, **arrays, **facts})
    if next(iter(maps.values())).ndim == 4:
        volumes = {"image": sample.image, **mask, **{method: values.sum(axis=0) for method, values in maps.items()}}
        (folder / "nifti" / name).mkdir(parents=True, exist_ok=True)
        for key, volume in volumes.items():
            write_nifti(folder / "nifti" / name / f"{key}.nii.gz", volume, orientation)


def write_nifti(path: Path, volume: np.ndarray, orientation: str = SPL) -> None:
    """Writes a volume (depth, row, column) as NIfTI (column, row, depth), a voxel of one millimetre.

    Args:
        path: file to write.
        volume: (D, H, W).
        orientation: where its axes point to. `SPL`: slices run to the top, rows to the back, columns to the left, as in
            an axial scan in radiological view. The files of MedMNIST have none, so it is a convention there.
    """
    import nibabel

    kind = np.uint8 if volume.dtype in (np.uint8, np.bool_) else np.float32
    values = np.ascontiguousarray(volume.transpose(2, 1, 0).astype(kind))
    picture = nibabel.Nifti1Image(values, affine(orientation[::-1]))
    nibabel.save(picture, path)


def draw_sample(folder: Path, name: str, sample: Sample, *, best: str, orientation: str = SPL) -> None:
    """Draws a sample: the methods side by side, and one method large.

    Args:
        folder: of the explanations.
        name: of the sample, without an ending.
        sample: what the page shows.
        best: the method that is drawn large.
        orientation: where a volume's axes point to.
    """
    place = folder / "figures"
    place.mkdir(exist_ok=True)
    for figure, kinds in FIGURES.items():
        chosen = [method for method in sample.maps if METHODS[method].kind in kinds]
        labels = {method: label_of(method) for method in chosen}
        if chosen:
            drawn = figures.side_by_side(
                sample.image,
                {labels[method]: sample.maps[method] for method in chosen},
                title=sample.title,
                mask=sample.mask,
                signed={labels[method]: sample.signed[method] for method in chosen},
                orientation=orientation,
            )
            drawn.savefig(place / f"{name}_{figure}.png")
    title = f"{sample.title}\n{best.replace('_', ' ')}"
    values = sample.maps[best]
    options: dict[str, Any] = {"signed": sample.signed[best], "mask": sample.mask}
    if values.ndim == 2:
        figures.overlay_2d(sample.image, values, title=title, **options).savefig(place / f"{name}.png")
    else:
        across = figures.planes(sample.image, values, title=title, orientation=orientation, **options)
        across.savefig(place / f"{name}.png")
        figures.montage(sample.image, values, title=title, **options).savefig(place / f"{name}_montage.png")


def label_of(method: str) -> str:
    """A method's name in lines that fit above a panel."""
    return textwrap.fill(method.replace("_", " "), 18)


def picture_of(image: np.ndarray, *, dims: int) -> np.ndarray:
    """An image (*S) or (*S, C), uint8, as it can be drawn: (H, W), (H, W, 3) or (D, H, W); else its channels' mean."""
    if image.ndim == dims or (dims == 2 and image.shape[-1] == 3):
        return image
    return np.asarray(image.mean(axis=-1).round().astype(np.uint8))
