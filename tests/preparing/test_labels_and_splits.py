"""From texts to numbers, and from samples to splits and folds."""

import numpy as np
import pytest

from scale.data.folds import of_fold
from scale.preparing.labels import infer
from scale.preparing.splits import assign, folds


def column(*texts):
    return [(text,) for text in texts]


def test_what_is_inferred():
    found = infer(column("b", "a", "b"), ["label"], problem=None, order=None)
    assert (found.problem, found.names) == ("binary", ("a", "b"))
    assert found.encode(column("b", "a")).tolist() == [[1], [0]]
    found = infer(column("10", "9", "2.0"), ["label"], problem=None, order=None)
    assert (found.problem, found.names) == ("multiclass", ("2", "9", "10"))  # by value
    found = infer([("1", "0"), ("0.0", "1")], ["a", "b"], problem=None, order=None)
    assert (found.problem, found.names) == ("multilabel", ("a", "b"))
    assert found.encode([("1.0", "0")]).tolist() == [[1, 0]]
    found = infer(column("low", "high", "mid"), ["label"], problem="ordinal", order=["low", "mid", "high"])
    assert found.encode(column("high", "low")).tolist() == [[2], [0]]


@pytest.mark.parametrize(
    ("labels", "columns", "options", "words"),
    [
        (column("a", "a"), ["label"], {}, "all samples are of one class, 'a'"),
        (column("a", "b", "c"), ["label"], {"problem": "binary"}, "3 classes"),
        (column("a", "b"), ["label"], {"problem": "ordinal"}, "order="),
        (column("a", "b"), ["label"], {"order": ["a"]}, "lacks the class 'b'"),
        (column("a", "b"), ["label"], {"order": ["a", "b", "c"]}, "no sample has the class 'c'"),
        (column("a", "b"), ["label"], {"problem": "multilabel"}, "several columns"),
        (column("a", "b"), ["label"], {"problem": "multiclas"}, "did you mean 'multiclass'"),
        ([("1", "2")], ["a", "b"], {}, "holds '2'"),
        (column(*(str(n / 7) for n in range(40))), ["label"], {}, "measurements"),
        ([()], [], {}, "no column"),
    ],
)
def test_labels_that_are_none(labels, columns, options, words):
    with pytest.raises(ValueError, match=words):
        infer(labels, columns, **{"problem": None, "order": None, **options})


@pytest.fixture
def labels():
    return np.repeat([0, 1, 2], [60, 30, 10])[:, None]


def splits_of(labels, groups=None, given=None, seed=0):
    groups = groups or [None] * len(labels)
    given = given or [None] * len(labels)
    return assign(labels, groups, given, names=["a", "b", "c"], fractions=(0.7, 0.1, 0.2), seed=seed)


def test_stratified_splits_by_the_seed(labels):
    split = splits_of(labels)
    counts = {name: np.bincount(labels[split == name, 0]).tolist() for name in ("train", "val", "test")}
    assert counts == {"train": [42, 21, 7], "val": [6, 3, 1], "test": [12, 6, 2]}
    assert (splits_of(labels) == split).all()
    assert (splits_of(labels, seed=1) != split).any()


def test_groups_are_never_divided(labels):
    rng = np.random.default_rng(0)
    groups = [f"p{n}" for n in rng.integers(0, 25, len(labels))]
    split = splits_of(labels, groups)
    sides = {group: {split[row] for row in range(len(split)) if groups[row] == group} for group in groups}
    assert all(len(side) == 1 for side in sides.values())
    assert set(split) == {"train", "val", "test"}
    assert abs((split == "test").mean() - 0.2) < 0.08
    fold = folds(labels, groups, names=["a", "b", "c"], count=5, seed=0)
    assert all(len({fold[row] for row in range(len(fold)) if groups[row] == group}) == 1 for group in groups)


def test_given_splits_are_kept_and_val_is_made(labels):
    given = ["test" if n % 5 == 0 else "train" for n in range(len(labels))]
    split = splits_of(labels, given=given)
    assert ((split == "test") == (np.array(given) == "test")).all()
    assert (split == "val").sum() == pytest.approx(10, abs=1)
    with pytest.raises(ValueError, match="1 samples have no split"):
        splits_of(labels, given=[None, *given[1:]])
    with pytest.raises(ValueError, match="train and test are needed"):
        splits_of(labels, given=["train"] * len(labels))


def test_folds(labels):
    fold = folds(labels, [None] * len(labels), names=["a", "b", "c"], count=5, seed=0)
    assert [np.bincount(labels[fold == n, 0]).tolist() for n in range(5)] == [[12, 6, 2]] * 5
    tested = np.zeros(len(labels), int)
    for number in range(5):
        split = of_fold(fold, number)
        tested += split == "test"
        assert (split == "val").sum() == 20
    assert (tested == 1).all()
    with pytest.raises(ValueError, match="5 folds, 0 to 4"):
        of_fold(fold, 5)
    with pytest.raises(ValueError, match="at least 3"):
        folds(labels, [None] * len(labels), names=["a", "b", "c"], count=2, seed=0)


def test_too_few_of_a_class():
    labels = np.array([0] * 10 + [1])[:, None]
    with pytest.raises(ValueError, match="'b' has 1 samples"):
        assign(labels, [None] * 11, [None] * 11, names=["a", "b"], fractions=(0.7, 0.1, 0.2), seed=0)
    with pytest.raises(ValueError, match="'b' has 1 groups"):
        assign(labels, ["x"] * 2 + ["y"] * 9, [None] * 11, names=["a", "b"], fractions=(0.7, 0.1, 0.2), seed=0)
