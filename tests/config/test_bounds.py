"""Numbers that lead to a wrong result or to none are refused before anything loads."""

import pytest

from scale import config
from scale.config import bounds, checks
from scale.config.compose import compose_unchecked

REFUSED = {
    "optimizer.lr": (0, -1, "abc", None, float("nan"), float("inf"), 1e9, True, {"a": 1}, {}),
    "optimizer.weight_decay": (-0.1, "x"),
    "scheduler.warmup": (1, -0.1),
    "scheduler.final": (-2, 1.5),
    "model.dropout": (2, 1.0, -0.1),
    "model.drop_path": (1, "much"),
    "model.dim": (0, 10**9),
    "model.planar_widths": ([16, 0, 64],),
    "task.label_smoothing": (1, -1),
    "callbacks.averaging.decay": (1, -1),
    "data.batch_size": (0, -16, 10**12),
    "data.train_fraction": (0, 1.1),
    "data.num_workers": (-1, 10**6),
    "threads": (0, 100_000),
    "seed": (10**30,),
    "trainer.gradient_clip_val": (-1, "x"),
    "trainer.limit_train_batches": (0, 0.0, -1, 1.5, "x"),
    "trainer.limit_val_batches": (0, -1),
    "trainer.limit_test_batches": (0, 0.0, -2),
    "trainer.max_steps": (0, -2),
    "trainer.val_check_interval": (0.5, 10, 0),
    "trainer.overfit_batches": (1, 0.5),
    "trainer.precision": ("33", "double"),
    "trainer.accelerator": ("tpuu",),
}
ALLOWED = {
    "optimizer.lr": (0.001, 1, 1e-8),
    "scheduler.final": (0, 1, 0.1),
    "model.dropout": (0, 0.5),
    "trainer.gradient_clip_val": (None, 0, 5.0),
    "trainer.limit_train_batches": (1, 0.5, 1.0, 20),
    "trainer.max_steps": (-1, 1),
    "trainer.val_check_interval": (None, 1.0),
    "trainer.overfit_batches": (0, 0.0),
    "trainer.precision": (*checks.PRECISIONS_OF_TRAINER, 32, 64),
    "threads": (None, 1, 64),
}


@pytest.fixture(scope="module")
def usual():
    return config.plain(config.compose([]))


def _with(node, key, value):
    name, _, rest = key.partition(".")
    return {**node, name: _with(node[name], rest, value) if rest else value}


@pytest.mark.parametrize(("key", "values"), REFUSED.items(), ids=REFUSED)
def test_impossible_numbers_are_refused_by_name(key, values, usual):
    for value in values:
        found = [line for line in checks.of_train(_with(usual, key, value)) if line.startswith(f"{key}=")]
        assert found, (key, value)
        assert ": give " in found[0] or "allowed: " in found[0] or "nothing" in found[0] or "needs" in found[0], found


@pytest.mark.parametrize(("key", "values"), ALLOWED.items(), ids=ALLOWED)
def test_possible_numbers_are_not(key, values, usual):
    for value in values:
        found = list(checks.of_train({**_with(usual, key, value)}))
        assert not [line for line in found if line.startswith(key)], (key, value, found)


def test_a_range_says_what_it_allows():
    assert str(bounds.Range(0, 10, above=True)) == "a number above 0 and of at most 10"
    assert str(bounds.Range(1, None, null=True, whole=True)) == "a whole number of at least 1, or null"
    assert str(bounds.WHOLE_SHARE) == "a number from 0 to 1"
    assert str(bounds.SHARE) == "a number of at least 0 and below 1"


def test_every_bounded_key_is_one_of_the_configuration():
    known = set()
    choices = (
        "model=scale",
        "model=timm",
        "optimizer=sgd",
        "optimizer=adam",
        "scheduler=multistep",
        "data=breastmnist",
        "data=joint",
    )
    for choice in choices:
        more = ["data=breastmnist", "model.name=x"] if "timm" in choice else []
        known |= {key for key, _ in config.flat(config.plain(compose_unchecked([choice, *more])))}
    extra = {
        "optimizer.eps",
        "optimizer.betas",
        "model.in_channels",
        "model.outputs",
        *(f"trainer.{name}" for name in bounds.BATCHES),
    }
    extra |= {f"trainer.{name}" for name in ("overfit_batches", "val_check_interval", "min_epochs", "min_steps")}
    assert {*bounds.RANGES, *bounds.LISTED} - known - extra == set()
