"""`scale.train` on a disk that fills up: a small tmpfs, which only root can mount."""

import errno
import json
import os
import subprocess
from types import SimpleNamespace

import pytest
from processes import command, wait_for

pytestmark = pytest.mark.slow
PATIENCE = 3600  # s, on a busy machine


@pytest.fixture
def disk(tmp_path):
    """A tmpfs: its folder, a way to fill it to the last byte, and to make room again."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
        return done.returncode == 0

    if os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", "size=64m", "tmpfs"):
        pytest.skip("mounting a small tmpfs takes root")

    def fill():
        handle = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        block = bytes(1 << 16)
        try:
            while block:
                try:
                    os.write(handle, block)
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017
                    block = block[: len(block) // 2]
        finally:
            os.close(handle)

    yield SimpleNamespace(
        folder=folder,
        fill=fill,
        empty=(folder / "filler").unlink,
        resize=lambda size: mount("-o", f"remount,size={size}"),
    )
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def given(disk, tmp_path):
    return [
        *("data=phantom2d", f"data.root={tmp_path / 'data'}", "data.samples={train: 48, val: 24, test: 32}"),
        *("data.batch_size=16", "model=scale_tiny", "budget.min_epochs=8", "budget.max_epochs=8", "logger=none"),
        *("threads=1", f"paths.runs={disk.folder / 'runs'}"),
    ]


def begin(given, tmp_path):
    return subprocess.Popen(
        command(*given), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def refused(process, cure):
    """The one line that a command ends with."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, out + err
    said = [line for line in (out + err).splitlines() if "disk is full" in line]
    assert len(said) == 1, out + err
    assert said[0].startswith("scale: [Errno 28] the disk is full: free some of it, then ")
    assert cure in said[0]
    assert "Traceback" not in out + err
    return said[0]


def done(process):
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out + err


def records(disk):
    return sorted(disk.folder.glob("runs/**/metrics.json"))


def test_full_at_the_start(disk, given, tmp_path):
    disk.fill()
    refused(begin(given, tmp_path), "give the same command again")
    disk.empty()
    assert not [path for path in disk.folder.rglob("*") if path.is_file()]
    done(begin(given, tmp_path))
    assert len(records(disk)) == 1


def test_full_within_the_first_checkpoint(disk, given, tmp_path):
    disk.resize("200k")  # room for the record, not for the weights
    refused(begin(given, tmp_path), "give the same command again")
    assert not [path for path in disk.folder.rglob("*") if path.is_file()]
    disk.resize("64m")
    done(begin(given, tmp_path))
    assert len(records(disk)) == 1


def test_full_in_an_epoch(disk, given, tmp_path):
    process = begin(given, tmp_path)
    wait_for(lambda: list(disk.folder.rglob("last.ckpt")), seconds=PATIENCE)
    disk.fill()
    run = next(disk.folder.rglob("config.yaml")).parent
    refused(process, f"resume the run with python -m scale.train resume={run}")
    assert not list(run.rglob("partial.ckpt")) + list(run.rglob("copy.ckpt"))
    disk.empty()
    done(begin([f"resume={run}"], tmp_path))
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 8


def test_full_while_figures_are_written(disk, given, tmp_path):
    process = begin(given, tmp_path)
    wait_for(lambda: list(disk.folder.rglob("figures")), seconds=PATIENCE)
    disk.fill()
    run = next(disk.folder.rglob("config.yaml")).parent
    refused(process, f"resume the run with python -m scale.train resume={run}")
    assert not records(disk)
    disk.empty()
    done(begin([f"resume={run}"], tmp_path))
    done(begin(given, tmp_path))  # the same command: a run of its own
    first, second = (json.loads(path.read_text()) for path in records(disk))
    assert first["test"] == second["test"]
