"""LightningDataModules of data sets that are not in the catalog: a file of one's own, phantoms."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scale.data import archive, catalog, companion, controlled, counterfactual, folds, orientation, phantom, store
from scale.data.catalog import DataSet, Symmetry
from scale.data.datamodule import ImageDataModule
from scale.data.folds import Selected
from scale.data.store import Split
from scale.utils.files import exclusive


class NpzDataModule(ImageDataModule):
    """A user's own file in MedMNIST's layout: `{train,val,test}_images` uint8 and `{split}_labels`.

    What `python -m scale.prepare` has written says itself what it is, in its companion.

    Args:
        path: the npz file.
        problem: what the labels ask: `binary`, `multiclass`, `multilabel` or `ordinal`; the companion's if None.
        symmetry: changes of pose that keep the label: `upright` (none but small rotations), `mirrored` (also
            left-right: the last spatial axis, or that of the prepared volumes' orientation) or `free` (every flip and
            rotation); the companion's, else upright, if None.
        spatial_dims: 2 or 3, where the images' shape does not tell.
        cache: folder for memory-mapped copies of large files; next to the npz if None.
        fold: of a file that was prepared with folds: the one that is tested on. The next one chooses the epoch.
        options: those of `ImageDataModule`.
    """

    def __init__(
        self,
        path: str,
        *,
        problem: Literal["binary", "multiclass", "multilabel", "ordinal"] | None = None,
        symmetry: Literal["upright", "mirrored", "free"] | None = None,
        spatial_dims: int | None = None,
        cache: str | None = None,
        fold: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if symmetry not in (None, "upright", "mirrored", "free"):
            raise ValueError(f"data.symmetry={symmetry!r}: give upright, mirrored or free")
        self.path, self.problem, self.symmetry = Path(path).expanduser(), problem, symmetry
        self.spatial_dims, self.cache, self.fold = spatial_dims, cache, fold

    def open(self) -> tuple[DataSet, dict[str, Split]]:
        """Reads the file and what it says of itself."""
        return self.open_file(self.file(), name=self.path.stem)

    def file(self) -> Path:
        """The npz file; raises FileNotFoundError where there is none."""
        if not self.path.is_file():
            raise FileNotFoundError(f"data.path={self.path}: no such file: {self.path.absolute()}")
        return self.path

    def open_file(self, path: Path, *, name: str) -> tuple[DataSet, dict[str, Split]]:
        """The same of a file that is known to be there.

        Args:
            path: the npz file.
            name: of the data set.
        """
        said = companion.read(path) or {}
        problem = self.problem or said.get("problem")
        if problem is None:
            raise ValueError(f"data.problem: give binary, multiclass, multilabel or ordinal; {path.name} does not say")
        dims = self.spatial_dims or said.get("spatial_dims")
        layout = store.layout(path, problem=problem, spatial_dims=dims)
        splits = store.read(path, problem=problem, spatial_dims=dims, cache=self.cache)
        classes = said.get("classes")
        if classes is not None and len(classes) != layout.num_classes:
            raise ValueError(f"{path.name} has {layout.num_classes} classes, but its companion names {len(classes)}")
        if self.fold is not None:
            splits = _of_fold(splits, folds.rows_of_fold(path, self.fold))
        self.preprocessing = said.get("preprocessing")
        try:
            axes = orientation.of(self.preprocessing)
        except ValueError as error:
            raise ValueError(f"{companion.path_of(path)}: the preprocessing cannot be read: {error}") from error
        name = re.sub(r"[^a-z0-9-]", "", name.lower()) or "npz"
        info = _describe(
            f"own-{name}" if name in catalog.FLAGS else name,  # not to be taken for the published set
            title=str(said.get("title", path.name)),
            problem=problem,
            num_classes=layout.num_classes,
            channels=layout.channels,
            shape=layout.shape,
            symmetry=self.symmetry or said.get("symmetry") or "upright",
            across=orientation.mirrored_axis(axes) if len(layout.shape) == 3 else 1,
        )
        return info if classes is None else replace(info, labels=tuple(classes)), splits


class PhantomDataModule(ImageDataModule):
    """Synthetic images with known lesions, made once and kept in the data folder.

    Args:
        problem: what the labels ask.
        num_classes: classes, or labels of a multilabel set.
        spatial_dims: 2 or 3.
        size: pixels of a side.
        channels: 1, or more for colour.
        samples: number of samples of each split.
        phantom_seed: of the images; the run's own seed does not change them.
        deciding: of a binary set, the shapes that a lesion may have; `phantom.DECIDING` if None.
        lesions: of a binary set, their number in a positive sample.
        decoys: of a binary set, shapes of which every sample has one that says nothing about the label.
        root: folder of the files; `$SCALE_DATA_ROOT`, else `~/.medmnist`, if None.
        options: those of `ImageDataModule`.
    """

    def __init__(
        self,
        *,
        problem: Literal["binary", "multiclass", "multilabel", "ordinal"] = "binary",
        num_classes: int = 2,
        spatial_dims: int = 3,
        size: int = 28,
        channels: int = 1,
        samples: dict[str, int] | None = None,
        phantom_seed: int = 0,
        deciding: list[str] | None = None,
        lesions: int = 1,
        decoys: list[str] | None = None,
        root: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.recipe: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "problem": problem,
            "num_classes": num_classes,
            "size": size,
            "channels": channels,
            "samples": dict(samples or phantom.SAMPLES),
            "seed": phantom_seed,
        }
        # what is not asked for is left out, so that the name of a file that was made before stays the same
        asked = {"deciding": deciding, "lesions": lesions if lesions != 1 else None, "decoys": decoys}
        self.recipe |= {key: value for key, value in asked.items() if value}

    def open(self) -> tuple[DataSet, dict[str, Split]]:
        """Makes the images, unless an earlier run did."""
        recipe = self.recipe
        name = f"phantom{recipe['spatial_dims']}d-{recipe['problem']}-{recipe['size']}"
        path = _made_once(
            store.folder(self.root), name, [phantom.VERSION, recipe], lambda path: phantom.write(path, **recipe)
        )
        return self.described(), store.read(path, problem=recipe["problem"], spatial_dims=recipe["spatial_dims"])

    def counterfactuals(self, split: str, rows: Sequence[int], of: Sequence[int]) -> dict[str, np.ndarray]:
        """The samples with something else in them (see `scale.data.counterfactual`); `of`: their explained labels."""
        several = self.recipe["problem"] == "multilabel"
        return counterfactual.render_changed(self.recipe, split, rows, of=of if several else None)

    def described(self) -> DataSet:
        """What is known before it is opened."""
        recipe = self.recipe
        return _describe(
            f"phantom{recipe['spatial_dims']}d",
            title=f"{recipe['spatial_dims']}D phantom",
            problem=recipe["problem"],
            num_classes=recipe["num_classes"],
            channels=recipe["channels"],
            shape=(recipe["size"],) * recipe["spatial_dims"],
            symmetry="free",
        )


class ControlledDataModule(ImageDataModule):
    """Synthetic volumes on which one part of a network is needed (see `scale.data.controlled`), made once.

    Args:
        task: `scale`, `plane`, `context` or `both`.
        size: voxels of an edge.
        samples: number of samples in each split.
        phantom_seed: of the volumes; `seed` is the training's.
        root: folder of the files; `$SCALE_DATA_ROOT`, else `~/.medmnist`, if None.
        options: those of `ImageDataModule`.
    """

    def __init__(
        self,
        *,
        task: Literal["scale", "plane", "context", "both", "side"] = "both",
        size: int = 28,
        samples: dict[str, int] | None = None,
        phantom_seed: int = 0,
        root: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        samples = dict(samples or {"train": 1500, "val": 500, "test": 3000})
        self.recipe: dict[str, Any] = {"task": task, "size": size, "samples": samples, "seed": phantom_seed}

    def open(self) -> tuple[DataSet, dict[str, Split]]:
        """Makes the volumes, unless an earlier run did."""
        recipe, name = self.recipe, f"controlled-{self.recipe['task']}-{self.recipe['size']}"
        path = _made_once(
            store.folder(self.root),
            name,
            [controlled.VERSION, recipe],
            lambda path: archive.write(path, controlled.generate(**recipe)),
        )
        return self.described(), store.read(path, problem="binary", spatial_dims=3)

    def described(self) -> DataSet:
        """What is known before it is opened."""
        task, size = self.recipe["task"], self.recipe["size"]
        return _describe(
            f"controlled-{task}",
            title=f"Controlled: {task}",
            problem="binary",
            num_classes=2,
            channels=1,
            shape=(size,) * 3,
            symmetry="free",
        )


def _made_once(folder: Path, name: str, recipe: Any, write: Callable[[Path], object]) -> Path:
    """The file of what a recipe makes, which the first of several processes writes."""
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:10]
    path = folder / f"{name}-{digest}.npz"
    if not path.exists():
        hint = "give a folder that can be written with data.root=... or SCALE_DATA_ROOT"
        with exclusive(path.with_suffix(".lock"), hint=hint):
            if not path.exists():
                write(path)
    return path


def _of_fold(splits: Mapping[str, Split], rows: Mapping[str, np.ndarray]) -> dict[str, Split]:
    """The same samples in the splits of one fold."""
    parts = [splits[name] for name in store.SPLITS]
    labels = np.concatenate([part.labels for part in parts])
    masks = [part.masks for part in parts if part.masks is not None]
    return {
        name: Split(
            Selected([part.images for part in parts], chosen),
            labels[chosen],
            Selected(masks, chosen) if len(masks) == len(parts) else None,
        )
        for name, chosen in rows.items()
    }


def _describe(
    flag: str,
    *,
    title: str,
    problem: str,
    num_classes: int,
    channels: int,
    shape: tuple[int, ...],
    symmetry: str,
    across: int = -1,
) -> DataSet:
    """A description, like the catalog's, of a data set that is not in it; `across`: the axis between left and right."""
    dims = len(shape)
    planes = tuple(combinations(range(dims), 2))
    flips = {"upright": (), "mirrored": (across % dims,), "free": tuple(range(dims))}[symmetry]
    return DataSet(
        flag=flag,
        title=title,
        description="",
        problem=problem,
        labels=tuple(f"class {number}" for number in range(num_classes)),
        channels=channels,
        spatial_dims=dims,
        sizes=(shape[-1],),
        samples={},
        symmetry=Symmetry(flips, 180.0 if symmetry == "free" else 15.0, planes, f"data.symmetry={symmetry}"),
        caveats=(),
        license="",
        _files={},
    )
