import importlib
import inspect

import pytest
import yaml

from scale.config import directory, signatures


def _targets():
    def walk(node):
        if isinstance(node, dict):
            if "_target_" in node:
                yield node["_target_"]
            for value in node.values():
                yield from walk(value)

    return sorted({t for path in directory().rglob("*.yaml") for t in walk(yaml.safe_load(path.read_text()))})


@pytest.mark.parametrize("target", _targets())
def test_static_signature_equals_the_imported_one(target):
    module, _, name = target.rpartition(".")
    real = inspect.signature(getattr(importlib.import_module(module), name))
    kinds = {p.kind for p in real.parameters.values()}
    found = signatures.find(target)
    named = {n: p for n, p in real.parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    assert set(named) <= set(found.parameters)
    required = {n for n, p in named.items() if p.default is p.empty}
    assert {n for n, p in found.parameters.items() if p.required and n in named} == required
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        assert set(found.parameters) == set(named)


def check(**settings):
    return list(signatures.check(settings, path="data"))


MODULE = "scale.data.datamodule.MedMNISTDataModule"


def test_a_right_node_has_no_problem():
    assert check(_target_=MODULE, flag="bloodmnist", size=28, batch_size=4, root=None, balance="none") == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flag": "x", "sizee": 28}, "data.sizee: MedMNISTDataModule takes no 'sizee'; did you mean 'size'"),
        ({"flag": "x", "batchsize": 28}, "did you mean 'batch_size'"),  # an argument of the base class
        ({}, "data.flag is missing"),
        ({"flag": "???"}, "data.flag must be given"),
        ({"flag": "x", "size": "28"}, "data.size='28': MedMNISTDataModule takes int"),
        ({"flag": "x", "size": True}, "takes int"),
        ({"flag": "x", "size": 2.5}, "takes int"),
        ({"flag": "x", "verify": "no"}, "takes bool"),
        ({"flag": "x", "root": 3}, "takes str | None"),
        ({"flag": "x", "balance": "weight"}, "takes Literal['none', 'weights', 'sampler', 'sqrt']"),
    ],
)
def test_each_problem_is_named(settings, message):
    (problem,) = check(_target_=MODULE, **settings)
    assert message in problem


def test_all_problems_are_in_one_list_at_any_depth():
    node = {"a": [{"_target_": MODULE, "flag": 3, "sise": 1}], "b": {"_target_": "scale.data.nothing.X"}}
    found = list(signatures.check(node))
    assert len(found) == 3
    assert any(p.startswith("a[0].flag=3") for p in found)
    assert any("b._target_=scale.data.nothing.X: there is no" in p or "has no" in p for p in found)


@pytest.mark.parametrize("target", ["scale.data.datamodule.MedMNISTDatamodule", "nowhere.at.all", "torch.optim.Adamw"])
def test_unknown_targets(target):
    with pytest.raises(LookupError, match="no"):
        signatures.find(target)


def test_partial_nodes_need_no_required_arguments():
    assert list(signatures.check({"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.1}, path="o")) == []
    wrong = {"_target_": "torch.optim.AdamW", "_partial_": "yes", "lr": 0.1}
    assert list(signatures.check(wrong, path="o")) == ["o._partial_='yes': give true or false"]
    assert any("params" in p for p in signatures.check({"_target_": "torch.optim.AdamW"}, path="o"))


@pytest.mark.parametrize(
    ("annotation", "fits", "misfits"),
    [
        ("float", [1, 2.5], ["1", True, None]),
        ("Optional[int]", [None, 3], [2.5, "3"]),
        ("int | str", [3, "a"], [2.5]),
        ("list[int]", [[1, 2], []], [3, [1, "a"]]),
        ("tuple[int, ...]", [[1, 2]], [["a"]]),
        ("Sequence[str]", [["a"]], ["a", [1]]),
        ("dict[str, int]", [{"a": 1}], [[1]]),
        ("Union[int, None]", [1, None], ["x"]),
        ("SomethingElse", [1, "a", None, [1]], []),
    ],
)
def test_types(annotation, fits, misfits):
    import ast

    tree = ast.parse(annotation, mode="eval").body
    assert all(signatures._fits(value, tree) for value in fits)
    assert not any(signatures._fits(value, tree) for value in misfits)
