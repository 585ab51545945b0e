"""What a W&B run holds of the machine can be left out by one option."""

import pytest
import wandb

import scale
from scale.training import loggers
from scale.training.privacy import without_places

MACHINE = "the-clinics-own-machine"


@pytest.fixture
def of_a_named_machine(monkeypatch):
    """A short name of this machine may occur in any bytes; W&B reads the name once in a process."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_HOST", MACHINE)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.usefixtures("of_a_named_machine")
@pytest.mark.parametrize("private", [True, False])
def test_a_private_wandb_run_names_neither_machine_nor_folders(private, small, tmp_path):
    secret = tmp_path / "a secret place"
    secret.mkdir()
    given = [*small, "logger=wandb", f"logger.wandb.private={private}", f"data.root='{secret}'"]
    config = scale.compose([text for text in given if text != f"data.root={small[1]}"])
    folder = tmp_path / "run"
    folder.mkdir()
    made = loggers.build_loggers(config, folder)
    loggers.log_configuration(made, config, folder)
    assert made[0].logger.experiment.settings.x_disable_meta is private
    loggers.close_loggers(made, failed=False)
    said = b"".join(path.read_bytes() for path in folder.rglob("run-*.wandb"))
    said += b"".join(path.read_bytes() for path in folder.rglob("wandb-metadata.json"))
    assert said
    assert (str(secret).encode() in said) != private
    assert (MACHINE.encode() in said) != private


def test_of_absolute_paths_the_last_part_is_left():
    node = {"data": {"root": "/home/someone/data", "size": 28, "list": ["~/x", "a/b"]}, "seed": 0}
    assert without_places(node) == {"data": {"root": "data", "size": 28, "list": ["x", "a/b"]}, "seed": 0}
