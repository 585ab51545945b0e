"""Commands with standard output closed, poor or not read to the end; memory that is out, and disks that are full."""

import errno
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import scale
from scale.train import train
from scale.training.logs import logging_to
from scale.utils import cli
from scale.utils.files import full_disk

# In ASCII, which a poor locale reads too.
PROGRAM = r"from scale.utils import cli; cli.repair_streams(); print('AUC 0.9 \xb1 0.1'); print('end')"


@pytest.mark.parametrize(
    "shell", ["exec >&-", "exec 2>&-", "exec >&- 2>&-", "export LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii"]
)
def test_streams_that_are_closed_or_poor(shell, tmp_path):
    script = f'{shell}; "{sys.executable}" -c "{PROGRAM}"; echo $? > {tmp_path}/status'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (tmp_path / "status").read_text() == "0\n", done.stderr
    assert "Traceback" not in done.stderr
    if "ascii" in shell:
        assert done.stdout == "AUC 0.9 ? 0.1\nend\n"


def test_a_pipe_that_nobody_reads():
    code = "from scale.utils import cli\nwith cli.one_line_errors():\n    while True: print('x' * 10000, flush=True)\n"
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "$0" | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}', code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{cli.PIPE}\n", "")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 bytes")]
)
def test_memory_that_is_out_is_one_line(error, capsys):
    with pytest.raises(SystemExit), cli.one_line_errors():
        raise error
    said = capsys.readouterr().err
    assert said.startswith("scale: memory is full")
    assert "give a smaller data.batch_size or model" in said


def test_bugs_of_our_own_keep_their_traceback():
    with pytest.raises(RuntimeError), cli.one_line_errors():
        raise RuntimeError("shapes do not fit")


def test_a_full_disk_is_told_from_other_errors(tmp_path):
    for error in (OSError(errno.ENOSPC, "x"), OSError(errno.EDQUOT, "x"), RuntimeError("PytorchStreamWriter failed")):
        said = full_disk(error, tmp_path)
        assert "the disk is full" in str(said)
        assert str(tmp_path) in str(said)
    assert full_disk(OSError(errno.EACCES, "x"), tmp_path) is None
    assert full_disk(RuntimeError("shapes"), tmp_path) is None


@pytest.mark.parametrize("moment", ["history.csv", "partial.ckpt", "metrics.json", "config.yaml"])
def test_the_same_command_works_when_there_is_room_again(moment, small, tmp_path, monkeypatch):
    """Where the disk fills up before the first checkpoint is whole, nothing is left; later the run can be resumed."""
    from scale.callbacks import checkpoint, history
    from scale.runs import folder as record
    from scale.utils import files

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    place, name = {
        "history.csv": (history, "write_csv"),
        "partial.ckpt": (checkpoint, "_to_disk"),
        "metrics.json": (files, "write_json"),
        "config.yaml": (record, "_write_yaml"),
    }[moment]
    given = [*small, "logger=none", "budget.min_epochs=1", "budget.max_epochs=1", "trainer.limit_val_batches=1"]
    given[-1] = "+" + given[-1]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, full)
        with pytest.raises(OSError, match="the disk is full: free some of it") as caught:
            train(scale.compose(given), tmp_path / "run", overrides=given)
    assert str(tmp_path / "run") in str(caught.value)
    if moment in ("partial.ckpt", "config.yaml"):
        assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "run").rglob("partial.ckpt"))
    more = [f"resume={tmp_path / 'run'}"] if (tmp_path / "run" / "checkpoints").exists() else []
    train(scale.compose([*given, *more]), tmp_path / "run", overrides=given)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_log_on_a_full_disk_leaves_the_error_to_the_run(capsys):
    with logging_to(Path("/dev/full")):
        logging.getLogger("scale").info("a line")
    said = capsys.readouterr()
    assert said.out == "a line\n"
    assert said.err == ""
