"""Small finished runs that the tests of this folder share."""

from pathlib import Path

import pytest

from scale.config import compose


@pytest.fixture(scope="session")
def run3d(tmp_path_factory) -> Path:
    """A run on binary phantoms of 28 voxels."""
    return _train(tmp_path_factory, "phantom3d", "{train: 32, val: 24, test: 12}")


@pytest.fixture(scope="session")
def run2d(tmp_path_factory) -> Path:
    """A run on colour phantoms of four classes."""
    options = ["data.problem=multiclass", "data.num_classes=4", "data.channels=3"]
    return _train(tmp_path_factory, "phantom2d", "{train: 64, val: 40, test: 24}", *options)


def _train(factory, data, samples, *options) -> Path:
    from scale.train import train

    folder = factory.mktemp(data)
    overrides = [
        f"data={data}", f"data.root={folder}/data", f"data.samples={samples}", "model=scale_tiny", "logger=none",
        "budget.min_epochs=1", "budget.max_epochs=1", *options,
    ]  # fmt: skip
    train(compose(overrides), folder / "run", overrides=overrides)
    return folder / "run"
