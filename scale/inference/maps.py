"""Explanations of new files: maps on each file's own grid, and what the page with the viewer shows.

They are made as `scale.explain` makes them by default, so that what was measured of a method holds for them.
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scale.attribution.catalog import METHODS
from scale.attribution.methods.attribute import applicable, obstacle
from scale.attribution.metrics import explainer as making
from scale.attribution.report import files, page
from scale.attribution.report.colours import limit, overlay
from scale.config.schemas import Attribution
from scale.data.augment import subsets
from scale.inference.predictor import Predictor
from scale.preparing.pool import picture
from scale.preparing.preprocess import Preprocessing
from scale.preparing.samples import Sample
from scale.readers import Picture

log = logging.getLogger("scale")
FOLDER = "maps"
UNLIKE = "This file looks unlike the training data: neither its prediction nor its map may mean anything."


class Explainer:
    """Makes maps of the predicted class, of several labels the likeliest one.

    Args:
        predictor: of one network.
        method: a name of the catalog.
        folder: of the predictions.

    Raises:
        ValueError: several runs, or a method that does not exist or does not fit the network.
    """

    def __init__(self, predictor: Predictor, method: str, folder: Path) -> None:
        if len(predictor.members) > 1:
            raise ValueError("explain= takes one run: a map is of one network")
        net = predictor.members[0].net
        names = applicable(net)
        if method not in METHODS:
            raise ValueError(f"explain={method}: there is no such method; what applies: {', '.join(names)}")
        if reason := obstacle(net, method):
            raise ValueError(f"explain={method} does not apply: {reason}; what does: {', '.join(names)}")
        self.predictor, self.method, self.folder = predictor, method, folder / FOLDER
        flips = predictor.flips
        if flips is None and "views" in METHODS[method].per:
            log.warning(
                "explain=%s: nothing says which flips keep the labels of %s, so its maps are not averaged over them, "
                "as those of scale.explain are",
                method,
                predictor.inputs.title,
            )
        self.making = making.Explainer(net, predictor.task, Attribution(), subsets(flips or ()))

    @property
    def record(self) -> dict[str, Any]:
        """How the maps are made, as `prediction.json` has it."""
        said = self.making
        return {"method": self.method, "baseline": said.settings.baseline, "views": [list(view) for view in said.views]}

    def values(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps (B, *S) on the network's grid and the explained classes (B,), of preprocessed images, uint8."""
        import torch

        probabilities, _ = self.predictor.raw(images)
        targets = torch.from_numpy(probabilities.argmax(axis=1)).to(self.predictor.device)
        given = self.predictor.members[0].normalise(self.predictor.tensor(images))
        maps = self.making.maps(self.method, given, targets)
        return maps.sum(dim=1).numpy(), targets.cpu().numpy()

    def explain(
        self, samples: Sequence[Sample], images: np.ndarray, rows: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Writes a map for each sample: of images an overlay PNG, of volumes a NIfTI file, in the file's own grid.

        Args:
            samples: the files.
            images: (B, *S[, C]), uint8, what the network sees of them.
            rows: their predictions.

        Returns:
            What the page shows of each.
        """
        entries = []
        self.folder.mkdir(exist_ok=True)
        maps, targets = self.values(images)
        names = self.predictor.inputs.classes
        for sample, image, values, target, row in zip(samples, images, maps, targets, rows, strict=True):
            found = picture(sample)
            _, geometry = self.predictor.see(found)
            own = geometry.back(values)
            name = file_name(sample.name)
            if found.spatial_dims == 3:
                axes = self.predictor.inputs.preprocessing.orientation
                write_nifti(self.folder / f"{name}_{self.method}.nii.gz", own, found, axes)
            else:
                write_overlay(self.folder / f"{name}_{self.method}.png", own, found, signed=METHODS[self.method].signed)
            entries.append(page.entry(self.shown(sample.name, image, values, names[target], row)))
        return entries

    def shown(
        self, name: str, image: np.ndarray, values: np.ndarray, explained: str, row: dict[str, Any]
    ) -> page.Sample:
        """A sample as the viewer takes it, on the network's grid."""
        how = self.predictor.inputs.preprocessing
        drawn = image
        if how.spatial_dims == 3 and image.ndim == 4:
            drawn = image.mean(axis=-1).round().astype(np.uint8)
        facts = {
            "explained": explained,
            "set": row["set"],
            "unlike training": "yes" if row["unlike_training"] else "no",
        }
        chance = f"{row[f'p_{explained}']:.2f}"
        signed = {self.method: METHODS[self.method].signed}
        title = f"{name}: {row['predicted'] or 'none of the labels'} (map: {explained}, {chance})"
        warning = UNLIKE if row["unlike_training"] else ""
        return page.Sample(title, drawn, {self.method: values}, None, facts, signed, warning)

    @property
    def header(self) -> dict[str, str]:
        """Facts under the page's title."""
        names = ", ".join(place.name for place in self.predictor.places)
        return {"model": names, "method": self.method, "use": "research only"}


def file_name(name: str) -> str:
    """A sample's name as part of a file's; two samples never have the same, as `a/b.png` and `a_b.png` might."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_nifti(path: Path, values: np.ndarray, found: Picture, orientation: str) -> None:
    """Writes a map on a volume's own grid, so that viewers lay it over the file.

    A volume without an affine lies as the run's volumes do; its map is written as `scale.explain` writes theirs.
    """
    import nibabel

    if found.affine is None:
        files.write_nifti(path, values.astype(np.float32), orientation)
    else:
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(values, np.float32), found.affine), path)


def write_overlay(path: Path, values: np.ndarray, found: Picture, *, signed: bool) -> None:
    """Writes a map (H, W) over its image, of the image's own size."""
    from PIL import Image

    own = Preprocessing(size=found.shape, channels=found.channels, intensity="percentiles", percentiles=(0, 100))
    image, _ = own.apply(found)
    base = np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image
    colours = overlay(values, largest=limit(values), signed=signed, opacity=0.7)
    weight = colours[..., 3:]
    Image.fromarray(np.rint(base * (1 - weight) + 255 * colours[..., :3] * weight).astype(np.uint8)).save(path)
