import pytest
from omegaconf import OmegaConf

from scale import config
from scale.config.keys import KINDS, Kind, current, flat, in_todays_words, kind, plain


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("data.root", Kind.PLACE),
        ("callbacks.console.bar", Kind.PLACE),
        ("trainer.devices", Kind.HARDWARE),
        ("trainer.precision", Kind.ARITHMETIC),
        ("trainer.gradient_clip_val", Kind.RECIPE),
        ("model.width", Kind.RECIPE),
        ("optimizer.fused", Kind.ARITHMETIC),
        ("data.flag", Kind.WHAT),
        ("seed", Kind.WHAT),
    ],
)
def test_kind(key, expected):
    assert kind(key) is expected


def test_every_key_of_the_table_exists():
    """A key that was renamed in `conf/` and not here would silently have another kind."""
    present = {key for name in ("breastmnist", "phantom3d") for key, _ in flat(plain(config.compose([f"data={name}"])))}
    together = config.compose(["data=joint", "data.sets=[phantom2d,phantom3d]"])
    present |= {key for key, _ in flat(plain(together))}
    present |= {"data.path", "callbacks.rank_watch", "trainer.strategy", "trainer.num_nodes", "trainer.sync_batchnorm"}
    present |= {"trainer.profiler", "data.labels", "data.workers"}
    present |= {"logger.any"}  # none by default
    unknown = [key for key in KINDS if not any(place == key or place.startswith(f"{key}.") for place in present)]
    assert not unknown


@pytest.mark.parametrize(
    ("given", "now"),
    [
        ("augment.quarter_turns=true", "augment.rotate90=true"),
        ("++augment.quarter_turns=false", "++augment.rotate90=false"),
        ("data.balance=root", "data.balance=sqrt"),
        ("data.balance=none", "data.balance=none"),
        ("data.root=root", "data.root=root"),
    ],
)
def test_names_of_earlier_versions_are_accepted_with_a_warning(given, now, capsys):
    assert current(given) == now
    warned = capsys.readouterr().err
    assert (f"the name is now {now.lstrip('+')}" in warned) == (given != now)
    plainly = config.compose(["data=breastmnist", now])
    assert config.compose(["data=breastmnist", given]) == plainly


def test_records_of_earlier_versions_are_read_in_todays_words():
    record = OmegaConf.create({"augment": {"quarter_turns": True}, "data": {"balance": "root"}})
    assert in_todays_words(record) == {"augment": {"rotate90": True}, "data": {"balance": "sqrt"}}
    assert in_todays_words(OmegaConf.create({"augment": None})) == {"augment": None}


def test_how_many_processes_read_files_is_no_part_of_what_is_trained():
    assert kind("data.workers") is kind("data.num_workers") is Kind.PLACE
