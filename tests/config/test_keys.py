import pytest

from scale import config
from scale.config.keys import KINDS, Kind, flat, kind, plain


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
    present |= {"data.path", "callbacks.rank_watch", "trainer.strategy", "trainer.num_nodes", "trainer.sync_batchnorm"}
    present |= {"trainer.profiler"}
    unknown = [key for key in KINDS if not any(place == key or place.startswith(f"{key}.") for place in present)]
    assert not unknown
