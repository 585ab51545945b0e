"""A data set of random images, and what is said of it."""

import numpy as np

from scale.data import catalog
from scale.data.catalog import DataSet
from scale.data.images import Images
from scale.data.store import Split


def info(problem="multiclass", labels=("a", "b", "c"), channels=1, dims=2):
    return DataSet(
        flag="mine",
        title="Mine",
        description="",
        problem=problem,
        labels=labels,
        channels=channels,
        spatial_dims=dims,
        sizes=(6,),
        samples={},
        symmetry=catalog.get("breastmnist").symmetry,
        caveats=("a caveat",),
        license="",
        _files={},
    )


def splits(item=(6, 6), labels=None, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    found = {}
    for name, count in {"train": 40, "val": 12, "test": 16}.items():
        truth = np.arange(count)[:, None] % classes if labels is None else labels(rng, count)
        found[name] = Split(Images(rng.integers(1, 256, (count, *item), dtype=np.uint8)), truth)
    return found
