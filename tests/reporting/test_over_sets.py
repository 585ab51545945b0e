"""Methods over many data sets: which comparisons are complete, and that the ranks are those of the table."""

import numpy as np
import pytest
from scipy.stats import rankdata

from scale.published.methods import published
from scale.reporting import entries, leaderboard, over_sets
from scale.reporting.entries import Entry


def row(method, flag, auc, **changes):
    given = {"size": 28, "kind": "published", "acc": auc - 0.1, "selected_on": "val", "seeds": 3}
    return Entry(flag=flag, method=method, auc=auc, **{**given, **changes})


FLAGS = ("breastmnist", "pneumoniamnist", "vesselmnist3d", "nodulemnist3d")


def found(*rows):
    return over_sets.blocks(leaderboard.sections(rows))


def test_only_what_is_complete_is_compared():
    rows = [row(name, flag, 0.8 + 0.01 * i) for i, name in enumerate("abc") for flag in FLAGS]
    rows += [row("d", flag, 0.9) for flag in FLAGS[:3]]
    whole, smaller = found(*rows)
    assert (list(whole.methods), sorted(whole.flags)) == (["c", "b", "a"], sorted(FLAGS))
    assert sorted(smaller.methods) == list("abcd")
    assert sorted(smaller.flags) == sorted(FLAGS[:3])


@pytest.mark.parametrize(
    "changes", [{"seeds": 1}, {"selected_on": "test"}, {"size": 64}, {"auc": None}, {"acc": None}], ids=str
)
def test_a_row_that_is_not_ranked_or_not_known_takes_its_method_out(changes):
    rows = [row(name, flag, 0.8 + 0.01 * i) for i, name in enumerate("abcd") for flag in FLAGS[:3]]
    rows[0] = row("a", FLAGS[0], 0.8)
    for name, value in changes.items():
        setattr(rows[0], name, value)
    (block,) = found(*rows)
    assert sorted(block.methods) == list("bcd")


def test_too_few_data_sets_or_methods_are_no_comparison():
    assert found(*(row(name, flag, 0.8) for name in "abc" for flag in FLAGS[:2])) == []
    assert found(*(row(name, flag, 0.8) for name in "ab" for flag in FLAGS)) == []


def test_published_methods_on_all_images():
    sections = leaderboard.sections(entries.of_published(published()))
    blocks = [block for block in over_sets.blocks(sections) if len(block.flags) == 12]
    assert {block.size for block in blocks} == {28, 64, 128, 224}
    block = next(block for block in blocks if block.size == 28)
    assert len(block.methods) >= 20
    of = {"from scratch": False, "pre-trained": True}
    values = {}
    for entry in (entry for section in sections for entry in section.ranked if section.size == 28):
        for trained in {None, entry.pretrained not in ("", "no")}:  # as a name may say or not
            values[entry.flag, entry.method, entry.input_size, trained] = round(entry.auc, 3)
    methods = []
    for name in block.methods:
        method, _, trained = name.rpartition(", ") if name.endswith(tuple(of)) else (name, "", "")
        methods.append((method.removesuffix(", 224 px"), 224 if method.endswith("224 px") else 28, of.get(trained)))
    table = np.array([[values[flag, *method] for method in methods] for flag in block.flags])
    assert np.array_equal(block.ranks("auc").average, np.mean([rankdata(-line) for line in table], axis=0))


def test_methods_of_one_name_are_two():
    """The better of two hid the other: published twice, or a user's own runs beside this project's."""
    blocks = over_sets.blocks(leaderboard.sections(entries.of_published(published())))
    names = next(set(block.methods) for block in blocks if block.size == 28 and len(block.flags) == 12)
    assert {"ResNet-18, 224 px, from scratch", "ResNet-18, 224 px, pre-trained"} <= names
    rows = [row(name, flag, 0.8 + 0.01 * i) for i, name in enumerate("ab") for flag in FLAGS[:3]]
    for kind, auc in (("ours", 0.95), ("run", 0.7)):
        rows += [row("scale", flag, auc, kind=kind) for flag in FLAGS[:3]]
    (block,) = found(*rows)
    values = dict(zip(block.methods, block.values["auc"].T, strict=True))
    assert set(values) == {"a", "b", "scale, this project", "scale, your runs"}
    assert values["scale, your runs"].tolist() == [0.7] * 3
    rows += [row("a", FLAGS[0], 0.6, source="another")]
    (block,) = found(*rows)
    assert block.values["auc"][list(block.flags).index(FLAGS[0]), list(block.methods).index("a")] == 0.8


def test_what_is_equal_in_the_tables_is_a_tie():
    rows = [row(name, flag, auc) for name, auc in (("a", 0.998), ("b", 0.9982), ("c", 0.9)) for flag in FLAGS[:3]]
    (block,) = found(*rows)
    ranks = dict(zip(block.methods, block.ranks("auc").average, strict=True))
    assert ranks == {"a": 1.5, "b": 1.5, "c": 3.0}
