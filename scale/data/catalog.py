"""What is published about the 18 MedMNIST data sets, and what their metadata leave out.

Names, labels, sample counts, addresses and md5 sums are those of the installed `medmnist` package. Its `info.py` is
loaded by file location, because importing the package imports torch. Added here: the name of the problem, the
symmetries that keep the label (with the reason), and what a user must know before believing a number.
"""

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scale.utils.choices import suggest

_PROBLEM_OF_TASK = {
    "binary-class": "binary",
    "multi-class": "multiclass",
    "multi-label, binary-class": "multilabel",
    "ordinal-regression": "ordinal",
}
PROBLEMS = tuple(_PROBLEM_OF_TASK.values())
_SIZES = {2: (28, 64, 128, 224), 3: (28, 64)}


@dataclass(frozen=True)
class Symmetry:
    """Changes of pose that keep the label. Axes are spatial ones in array order: 2D (row, column), so left-right is 1.

    Attributes:
        flips: axes along which the mirror image keeps the label.
        rotation: degrees; rotations up to this angle either way keep the label, 180 = any angle.
        planes: pairs of axes that span the planes in which that rotation is allowed.
        reason: why, in one sentence.
    """

    flips: tuple[int, ...]
    rotation: float
    planes: tuple[tuple[int, int], ...]
    reason: str


@dataclass(frozen=True)
class DataSet:
    """One MedMNIST data set in all its sizes."""

    flag: str
    title: str
    description: str
    problem: str
    labels: tuple[str, ...]
    channels: int
    spatial_dims: int
    sizes: tuple[int, ...]
    samples: Mapping[str, int] = field(hash=False)
    symmetry: Symmetry
    caveats: tuple[str, ...]
    license: str
    _files: Mapping[int, tuple[str, str]] = field(repr=False, hash=False)  # size -> (url, md5)
    shapes: bool = False  # binary masks: there is nothing in the intensity

    def file_name(self, size: int) -> str:
        """Official name of the file: the smallest size carries no suffix."""
        self.check_size(size)
        return f"{self.flag}.npz" if size == self.sizes[0] else f"{self.flag}_{size}.npz"

    def url(self, size: int) -> str:
        """Address of the official file."""
        self.check_size(size)
        return self._files[size][0]

    def md5(self, size: int) -> str:
        """Published md5 sum of the official file, in hexadecimal."""
        self.check_size(size)
        return self._files[size][1]

    def check_size(self, size: int) -> None:
        """Raises ValueError for a size that is not published for this data set."""
        if size not in self.sizes:
            allowed = ", ".join(map(str, self.sizes))
            raise ValueError(f"{self.flag} has no size {size!r}; published sizes are {allowed} (data.size)")


_XY = ((0, 1),)
_XYZ = ((0, 1), (0, 2), (1, 2))
_FREE_2D = functools.partial(Symmetry, (0, 1), 180.0, _XY)
_FREE_3D = functools.partial(Symmetry, (0, 1, 2), 180.0, _XYZ)
_ORGAN = "laterality is the label (left and right kidney, lung, femur are classes) and scans share one orientation"

_SYMMETRIES = {
    "pathmnist": _FREE_2D("a tissue section has no up, down, left or right"),
    "chestmnist": Symmetry(
        (), 10.0, _XY, "the heart lies on the left and films are upright: a mirrored chest is another"
    ),
    "dermamnist": _FREE_2D("a dermatoscope is held at any angle"),
    "octmnist": Symmetry(
        (1,), 10.0, _XY, "left and right eyes mirror each other; the retina's layers have a top and a bottom"
    ),
    "pneumoniamnist": Symmetry(
        (), 10.0, _XY, "the heart lies on the left and films are upright: a mirrored chest is another"
    ),
    "retinamnist": Symmetry(
        (1,), 15.0, _XY, "left and right eyes mirror each other; the vessels' upper and lower arcades differ"
    ),
    "breastmnist": Symmetry(
        (1,), 10.0, _XY, "either breast, either side; sound comes from above, so shadows fall downwards"
    ),
    "bloodmnist": _FREE_2D("cells on a smear lie in any orientation"),
    "tissuemnist": _FREE_2D("cells in a section lie in any orientation"),
    "organamnist": Symmetry((), 10.0, _XY, _ORGAN),
    "organcmnist": Symmetry((), 10.0, _XY, _ORGAN),
    "organsmnist": Symmetry(
        (), 10.0, _XY, "one of a pair of organs is told apart by the shared orientation of the scans"
    ),
    "organmnist3d": Symmetry((), 10.0, _XYZ, _ORGAN),
    "nodulemnist3d": _FREE_3D(
        "malignancy is in size, margin and texture of a centred nodule, voxels are cubes of 1 mm"
    ),
    "adrenalmnist3d": Symmetry(
        (0, 1, 2),
        30.0,
        _XYZ,
        "left and right glands are both there and thickening has no handedness; the pose is the body's",
    ),
    "fracturemnist3d": Symmetry(
        (0, 1, 2),
        30.0,
        _XYZ,
        "ribs of both sides, front and back: a break has no handedness; the course of ribs is the body's",
    ),
    "vesselmnist3d": _FREE_3D(
        "segments are cut from meshes without an anatomical frame, and aneurysms have no handedness"
    ),
    "synapsemnist3d": _FREE_3D("neurites cross a 1 micrometre cube in any direction, and synapses have no handedness"),
}

_SHAPES = ("adrenalmnist3d", "vesselmnist3d")
_REVISED = "A few blank images were removed after the paper: its numbers are on a slightly different test split."
_CAVEATS: dict[str, tuple[str, ...]] = {
    "pathmnist": ("The test split comes from another clinical centre than train and val: val is optimistic.",),
    "chestmnist": (
        "Scores that are all negative have ACC 0.947: look at the AUC.",
        "Labels were mined from radiology reports and are noisy.",
    ),
    "dermamnist": (
        "The same lesion occurs in several splits: test numbers are optimistic.",
        "Two thirds of the images are melanocytic nevi: ACC says little about the rare classes.",
        "The licence forbids commercial use.",
    ),
    "octmnist": (
        "The test split is balanced and the train split is not: ACC depends on the prior learnt in training.",
    ),
    "pneumoniamnist": (
        "The test split is the source's own and differs from val: an epoch chosen on val may not be the best on test.",
        "Patients are children of one centre.",
    ),
    "retinamnist": (
        "One standard error of a published test ACC is 2.5 points: compare several seeds.",
        "Grades are imbalanced, and the official ACC ignores how far off a grade is.",
    ),
    "breastmnist": (
        "Label 1 is 'normal, benign': the positive class is the healthy one.",
        "One standard error of a published test ACC is 2.8 points: compare several seeds.",
    ),
    "organamnist": (_REVISED, "Neighbouring slices of one patient are not independent samples."),
    "organcmnist": ("The paper's test split had 8268 images, this one has 8216.", _REVISED),
    "organsmnist": (_REVISED, "Left and right of a pair look alike in a sagittal plane: no method nears ACC 1."),
    "organmnist3d": (_REVISED, "The order of its labels differs from Organ{A,C,S}MNIST."),
    "nodulemnist3d": ("Malignancy is the opinion of radiologists, not histology; undecided nodules were left out.",),
    "adrenalmnist3d": (
        "One standard error of a published test ACC is 2.5 points: compare several seeds.",
        "Images are binary shapes, not CT; val has 98 samples, so choosing the epoch on it is noisy.",
    ),
    "fracturemnist3d": (
        "One standard error of a published test ACC is 3.2 points: compare several seeds.",
        "Fracture lines are finer than the voxels.",
    ),
    "vesselmnist3d": (
        "One standard error of a published test ACC is 1.7 points; 1 segment in 9 is an aneurysm: look at the AUC.",
        _REVISED,
    ),
    "synapsemnist3d": ("All synapses lie on one neuron of one animal.",),
}


@functools.cache
def _info() -> Mapping[str, Mapping[str, Any]]:
    """`medmnist.INFO` without importing medmnist."""
    package = importlib.util.find_spec("medmnist")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the package 'medmnist' is not installed; pip install 'medmnist>=3.0.2'")
    spec = importlib.util.spec_from_file_location("_medmnist_info", Path(package.origin).with_name("info.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return MappingProxyType(module.INFO)


FLAGS: tuple[str, ...] = tuple(_SYMMETRIES)


@functools.cache
def title(flag: str) -> str:
    """How a table names a data set: its title, or the flag where the catalog has none."""
    return get(flag).title if flag in FLAGS else flag


def get(flag: str) -> DataSet:
    """The data set of a flag such as `pathmnist`; ValueError with the nearest flag for an unknown one."""
    if flag not in FLAGS:
        raise ValueError(f"unknown data set {flag!r}; {suggest(flag, FLAGS)}")
    info = _info()[flag]
    spatial_dims = 3 if flag.endswith("3d") else 2
    sizes = _SIZES[spatial_dims]
    suffixes = {size: "" if size == sizes[0] else f"_{size}" for size in sizes}
    return DataSet(
        flag=flag,
        title=info["python_class"],
        description=info["description"],
        problem=_PROBLEM_OF_TASK[info["task"]],
        labels=tuple(info["label"][str(k)] for k in range(len(info["label"]))),
        channels=info["n_channels"],
        spatial_dims=spatial_dims,
        sizes=sizes,
        samples=dict(info["n_samples"]),
        symmetry=_SYMMETRIES[flag],
        caveats=_CAVEATS.get(flag, ()),
        license=info["license"],
        _files={size: (info[f"url{suffix}"], info[f"MD5{suffix}"]) for size, suffix in suffixes.items()},
        shapes=flag in _SHAPES,
    )
