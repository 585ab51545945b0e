import numpy as np
import pytest

from scale.attribution import selection
from scale.attribution.selection import Choice

LABELS = np.array([[0], [0], [0], [1], [1], [1], [1]])
PROBABILITIES = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.95, 0.05], [0.45, 0.55], [0.1, 0.9], [0.3, 0.7]])


def test_the_telling_samples_of_each_class():
    found = selection.telling(LABELS, PROBABILITIES, right=1, wrong=1, uncertain=1, target="predicted")
    assert found == [
        Choice(0, 0, "right", 0),
        Choice(2, 1, "wrong", 0),
        Choice(1, 0, "uncertain", 0),
        Choice(5, 1, "right", 1),
        Choice(3, 0, "wrong", 1),
        Choice(4, 1, "uncertain", 1),
    ]


def test_counts_and_target_are_those_that_were_asked_for():
    found = selection.telling(LABELS, PROBABILITIES, right=2, wrong=0, uncertain=0, target="truth")
    assert [choice.row for choice in found] == [0, 1, 5, 6]
    assert [choice.target for choice in found] == [0, 0, 1, 1]
    assert {c.target for c in selection.telling(LABELS, PROBABILITIES, right=1, wrong=1, uncertain=1, target=1)} == {1}
    # there is one wrong sample of each class, and no sample is taken twice
    many = selection.telling(LABELS, PROBABILITIES, right=9, wrong=9, uncertain=9, target="truth")
    assert sorted(choice.row for choice in many) == list(range(7))


def test_several_labels_are_looked_at_one_by_one():
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    probabilities = np.array([[0.9, 0.2], [0.1, 0.6], [0.8, 0.99], [0.4, 0.45]])
    found = selection.telling(labels, probabilities, right=1, wrong=1, uncertain=0, target="predicted")
    assert found == [Choice(0, 0, "right", 0), Choice(1, 0, "wrong", 0), Choice(2, 1, "right", 1)]

    # with a number, samples are chosen for this label alone: why they were chosen is said of what is explained
    found = selection.telling(labels, probabilities, right=1, wrong=1, uncertain=0, target=1)
    assert found == [Choice(2, 1, "right", 1)]


def test_what_is_said_of_a_sample_is_of_the_explained_label():
    names = ["a", "b", "c"]
    found = selection.named(np.array([0, 1, 1]), np.array([0.7, 0.2, 0.9]), 1, names)
    assert found == (("b", "no b", "b"), pytest.approx(0.8))
    assert selection.named(np.array([0, 0, 0]), np.array([0.7, 0.2, 0.1]), 0, names) == (("no a", "a", "a"), 0.7)
    assert selection.named(np.array([2]), np.array([0.7, 0.2, 0.1]), 1, names) == (("c", "a", "b"), 0.7)


def test_the_lesion_beside_a_map_is_the_explained_labels():
    targets = np.array([2, 0])
    assert selection.whose_lesion(np.array([[1, 1, 1], [0, 1, 0]]), targets).tolist() == [2, 0]
    assert selection.whose_lesion(np.array([[1], [2]]), targets).tolist() == [1, 2]


def test_given_samples_are_found_by_their_place_in_the_split():
    index = np.array([10, 11, 12, 13, 14, 15, 16])
    found = selection.given([13, 10, 13], index, LABELS, PROBABILITIES, target="predicted")
    assert found == [Choice(3, 0, "chosen", 1), Choice(0, 0, "chosen", 0)]
    with pytest.raises(ValueError, match="there is no sample 3; the split has 7, 10 to 16"):
        selection.given([13, 3], index, LABELS, PROBABILITIES, target="truth")


def test_spread_takes_all_classes_alike():
    labels = np.repeat([0, 1, 2], [90, 9, 2])[:, None]
    rows = selection.spread(labels, 12, seed=1)
    assert np.bincount(labels[rows, 0]).tolist() == [5, 5, 2]
    assert np.array_equal(rows, np.sort(rows))
    assert len(set(rows)) == 12
    assert not np.array_equal(rows, selection.spread(labels, 12, seed=2))
    assert np.array_equal(selection.spread(labels, 500), np.arange(101))
    assert len(selection.spread(labels, 0)) == 0
