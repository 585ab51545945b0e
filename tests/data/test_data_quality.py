"""Data whose figures mean less than they seem to are told of, and refused where they would mean nothing."""

import numpy as np
import pytest

from scale.data.images import Images
from scale.data.quality import examine
from scale.data.store import Split

COUNTS = {"train": 40, "val": 12, "test": 20}


@pytest.fixture
def arrays():
    draw = np.random.default_rng(0)
    return {
        name: (draw.integers(0, 256, (count, 9, 9), dtype=np.uint8), np.arange(count)[:, None] % 2)
        for name, count in COUNTS.items()
    }


def look(arrays, problem="binary", num_classes=2):
    splits = {name: Split(Images(images), labels) for name, (images, labels) in arrays.items()}
    return examine(splits, problem=problem, num_classes=num_classes)


def test_clean_data_get_no_word(arrays):
    found = look(arrays)
    assert (found.warnings, found.errors) == ([], [])


def test_copies_within_a_split_are_counted_with_their_labels(arrays):
    images, labels = arrays["train"]
    images[5], images[7], images[8] = images[1], images[1], images[2]  # 1, 5 and 7 are odd: one label
    assert look(arrays).warnings == ["train: 3 of 40 images are exact copies of others in it"]
    labels[7] = 0
    assert look(arrays).warnings == [
        "train: 3 of 40 images are exact copies of others in it, 1 of them with different labels"
    ]


def test_images_of_one_split_in_another_are_counted(arrays):
    arrays["test"][0][:3] = arrays["train"][0][10:13]
    arrays["val"][0][4] = arrays["test"][0][9]
    assert look(arrays).warnings == [
        "3 of 20 images of test are in train too: its figures are too good by that",
        "1 of 20 images of test are in val too: its figures are too good by that",
    ]


@pytest.mark.parametrize("same", [("val", "test"), ("train", "val"), ("train", "test")])
def test_splits_that_are_alike_are_refused(same, arrays):
    first, second = same
    count = COUNTS[second]
    images = arrays[first][0]
    arrays[second] = (np.resize(images, (count, 9, 9)), arrays[second][1])
    assert any(f"all {count} images of {second} are in {first} too" in line for line in look(arrays).errors)


def test_images_of_one_value_are_told_and_a_split_of_them_is_refused(arrays):
    images = arrays["val"][0]
    images[2], images[3], images[4] = 0, 0, 255
    found = look(arrays)
    assert found.warnings == ["3 of 12 images of val have one value each (blank)"], "and not as copies of each other"
    images[:] = 7
    assert look(arrays).errors == ["all 12 images of val have one value each: there is nothing to see in them"]


def test_classes_that_a_split_lacks_are_named(arrays):
    arrays["test"][1][:] = 1
    (line,) = look(arrays).warnings
    assert line == "test: no sample of class 0 among 20, so the AUC is undefined there"
    (line, *_) = look(arrays, "multiclass", 4).warnings
    assert line == "train: no sample of class 2, 3 among 40, so the AUC is undefined there"


def test_labels_that_never_change_are_named(arrays):
    several = {name: (images, np.repeat(labels, 3, axis=1)) for name, (images, labels) in arrays.items()}
    several["val"][1][:, 1] = 0
    (line,) = look(several, "multilabel", 3).warnings
    assert line == "val: label 1 is the same in all 12 samples, so its AUC is undefined there"


def test_large_data_are_not_read_for_it(arrays, monkeypatch):
    from scale.data import quality

    monkeypatch.setattr(quality, "LARGE", 1)
    monkeypatch.setattr(quality, "_hashes", None)
    arrays["test"][1][:] = 1
    assert len(look(arrays).warnings) == 1


def test_a_run_on_splits_that_are_alike_does_not_begin(tmp_path):
    import scale
    from scale.data import phantom
    from scale.train import train

    made = phantom.generate(spatial_dims=2, samples={"train": 24, "val": 8, "test": 8})
    made |= {"test_images": made["train_images"][:8], "test_labels": made["train_labels"][:8]}
    np.savez(tmp_path / "own.npz", **made)
    given = ["data=npz", f"data.path={tmp_path / 'own.npz'}", "data.problem=binary", "trainer=fast_dev_run"]
    with pytest.raises(ValueError, match="all 8 images of test are in train too"):
        train(scale.compose([*given, "model=scale_tiny", "logger=none"]), tmp_path / "run")
    assert not (tmp_path / "run").exists(), "a start that failed leaves no folder"
