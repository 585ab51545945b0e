import pytest
from omegaconf import OmegaConf

from scale import benchmark, describe, evaluate, explain, report, train, tune
from scale.config import compose, directory, options
from scale.config.help import defaults, groups, settings


def test_the_epoch_is_picked_by_what_the_default_callback_monitors():
    monitor = compose([]).callbacks.checkpoint.monitor
    assert f"keeps the epoch of the lowest val {monitor}" in train.HELP


def test_groups_show_every_option_and_mark_the_default():
    shown = groups().split()
    for group in ("data", "model", "trainer", "hardware", "logger"):
        chosen = defaults()[group]
        assert {f"{name}{'*' * (name == chosen)}" for name in options(group)} <= set(shown)


def test_settings_of_a_study_are_those_of_its_file():
    found = OmegaConf.create(settings("tune", first="study"))
    root = OmegaConf.load(directory() / "tune.yaml")
    assert dict(found) == {key: value for key, value in root.items() if key in found}
    assert "n_trials" in found


@pytest.mark.parametrize("command", [train, evaluate, explain, report, tune, describe, benchmark])
def test_help_fits_a_terminal(command):
    assert max(map(len, command.HELP.splitlines())) <= 120
    assert command.HELP.startswith(f"usage: python -m {command.__name__}")
