"""A fold of a prepared file is trained on like any other data: its statistics, its checks and its digest."""

import pickle

import numpy as np
import pytest

from scale.data.own import NpzDataModule
from scale.training import before


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """40 images in three stored splits, whose folds run across them."""
    rng = np.random.default_rng(0)
    place = tmp_path_factory.mktemp("folds") / "a.npz"
    arrays, start = {}, 0
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        rows = np.arange(start, start + count)
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 9, 9), np.uint8)
        arrays[f"{split}_labels"] = rows[:, None] % 2
        arrays[f"{split}_index"], arrays[f"{split}_fold"] = rows, rows % 5
        start += count
    np.savez(place, **arrays)
    return place


def fold_of(path, number):
    module = NpzDataModule(str(path), problem="binary", fold=number)
    module.setup()
    return module


def test_a_fold_can_be_trained_on_and_resumed(path):
    """Everything that `scale.train` asks of the data: it failed where the digest of all pixels is taken."""
    module = fold_of(path, 1)
    before.examine(module)
    state = module.state_dict()
    again = fold_of(path, 1)
    again.load_state_dict(state)
    for other in (fold_of(path, 2), NpzDataModule(str(path), problem="binary")):
        other.setup()
        with pytest.raises(ValueError, match="not those"):
            other.load_state_dict(state)


def test_pixels_rows_and_parts_all_change_the_digest(path):
    images = fold_of(path, 1).splits["train"].images
    sums = {images.sha256(), fold_of(path, 2).splits["train"].images.sha256()}
    shuffled = pickle.loads(pickle.dumps(images))
    assert shuffled.sha256() == images.sha256()
    shuffled.rows = shuffled.rows[::-1]
    sums.add(shuffled.sha256())
    changed = pickle.loads(pickle.dumps(images))
    changed.parts[0]._array = changed.parts[0]._array ^ 1
    sums.add(changed.sha256())
    assert len(sums) == 4


def test_the_folds_cover_every_sample_once(path):
    with np.load(path) as file:
        stored = np.concatenate([file[f"{split}_images"] for split in ("train", "val", "test")])
    modules = [fold_of(path, number) for number in range(5)]
    tested = np.concatenate([m.splits["test"].images.gather(np.arange(len(m.splits["test"].labels))) for m in modules])
    assert sorted(map(bytes, tested)) == sorted(map(bytes, stored))
    for module in modules:
        parts = [set(map(bytes, s.images.gather(np.arange(len(s.labels))))) for s in module.splits.values()]
        assert sum(map(len, parts)) == len(set().union(*parts)) == 40
