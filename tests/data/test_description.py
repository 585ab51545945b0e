"""The description of a data set: what is counted, against slow counts; copies planted into random images are found."""

import numpy as np
import pytest
from described import info, splits

from scale.data import catalog, store
from scale.data.description import describe
from scale.data.images import Images
from scale.data.store import Split


def array(split):
    return split.images.gather(np.arange(len(split)))


def test_counts_and_intensities():
    given = splits()
    found = describe(info(), given)
    assert found.shape == (6, 6)
    assert found.copies == 0
    for name, split in given.items():
        facts, pixels = found.splits[name], array(split)
        assert facts.images == len(split)
        assert facts.counts.tolist() == np.bincount(split.labels[:, 0]).tolist()
        assert np.isclose(facts.mean, pixels.mean())
        assert np.isclose(facts.sd, pixels.std())
        assert facts.limits == (pixels.min(), pixels.max())
    assert found.caveats == ("a caveat",)
    assert found.found == ()


def test_colour_is_counted_by_channel():
    given = splits(item=(6, 6, 3))
    found = describe(info(channels=3), given)
    assert np.allclose(found.splits["train"].mean, array(given["train"]).mean(axis=(0, 1, 2)))
    assert found.examples[0].shape == (8, 6, 6, 3)


def test_planted_copies_are_found():
    given = splits()
    train, val, test = (array(given[name]) for name in ("train", "val", "test"))
    train[1] = train[2] = train[0]  # two copies inside train, of other classes
    val[3] = train[7]  # class 0 and 1
    test[2] = test[4] = train[9]  # one image of train, twice in test
    given = {n: Split(Images(x), given[n].labels) for n, x in zip(given, (train, val, test), strict=True)}
    found = describe(info(), given)
    assert [found.splits[name].copies for name in given] == [2, 0, 1]
    assert found.shared == {("train", "val"): 1, ("train", "test"): 1, ("val", "test"): 0}
    labels = {name: given[name].labels[:, 0] for name in given}
    groups = [
        labels["train"][:3],
        [labels["train"][7], labels["val"][3]],
        [labels["train"][9], *labels["test"][[2, 4]]],
    ]
    assert found.contradicting == sum(len(set(map(int, group))) > 1 for group in groups) > 0
    assert any("both in train and in test" in remark for remark in found.found)
    assert any("different labels" in remark for remark in found.found)


def test_labels_that_occur_together():
    given = splits(labels=lambda rng, n: (rng.random((n, 4)) < 0.4).astype(np.int64))
    found = describe(info("multilabel", tuple("abcd")), given)
    everything = np.concatenate([split.labels for split in given.values()])
    slow = [[sum(row[i] and row[j] for row in everything.tolist()) for j in range(4)] for i in range(4)]
    assert found.together.tolist() == slow
    per = np.bincount(given["train"].labels.sum(axis=1))
    assert found.splits["train"].labels_per_image.tolist() == per.tolist()
    assert found.splits["train"].counts.tolist() == given["train"].labels.sum(axis=0).tolist()


def test_blank_absent_and_rare_are_told():
    given = splits()
    pixels, labels = array(given["test"]), given["test"].labels.copy()
    pixels[5] = 0
    labels[labels == 2] = 1
    given["test"] = Split(Images(pixels), labels)
    rare = np.zeros_like(given["train"].labels)
    rare[:18], rare[-1] = 1, 2
    given["train"].labels = rare
    remarks = " ".join(describe(info(), given).found)
    assert "1 image is blank" in remarks
    assert "No sample of c in test" in remarks
    assert "c has 1 of 40 samples in train" in remarks
    assert "The share of" in remarks


def test_examples_are_of_their_class():
    given = splits(item=(5, 6, 7))
    found = describe(info(dims=3), given, examples=3)
    train = array(given["train"])
    for number, images in enumerate(found.examples):
        mine = train[given["train"].labels[:, 0] == number]
        assert len(images) == 3
        assert all(any(np.array_equal(image, one) for one in mine) for image in images)


def test_pneumoniamnist_has_the_duplicates_of_the_published_audit(real_data):
    """18 inside train, 8 between train and val, 3 inside test, none between train and test."""
    found = describe(
        catalog.get("pneumoniamnist"), store.load("pneumoniamnist", size=28, root=real_data, download=False)
    )
    assert [found.splits[name].copies for name in ("train", "val", "test")] == [18, 0, 3]
    assert found.shared == {("train", "val"): 8, ("train", "test"): 0, ("val", "test"): 0}


def test_breastmnist_has_a_test_image_in_train_with_the_other_label(real_data):
    found = describe(catalog.get("breastmnist"), store.load("breastmnist", size=28, root=real_data, download=False))
    assert found.shared["train", "test"] == 1
    assert found.contradicting == 1


@pytest.mark.parametrize("batch", [1, 1 << 20])
def test_batches_change_nothing(monkeypatch, batch):
    from scale.data import description

    whole = describe(info(), splits())
    monkeypatch.setattr(description, "BATCH_BYTES", batch)
    again = describe(info(), splits())
    for name, facts in whole.splits.items():
        assert np.array_equal(facts.histogram, again.splits[name].histogram)
