import os
import signal
import sys
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from scale.config.keys import quoted
from scale.runs import process as jobs

# Says where it is, starts a child that is deaf to SIGTERM, and waits.
STUB = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[-1].partition("=")[2].strip("'"))
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('x', flush=True); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", deaf])
print(sys.argv[1:], os.environ["SCALE_PARENT"], os.environ.get("MORE"), flush=True)
(folder / "child").write_text(str(child.pid))
time.sleep(99)
"""


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Starts the stand-in for a training, and waits until it runs."""
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, "-c", STUB))
    started = []

    def begin(folder, **options):
        (folder / "child").unlink(missing_ok=True)
        process = jobs.start(["seed=1"], folder, output=tmp_path / "said", **options)
        started.append(process)
        end = time.monotonic() + 60
        while not ((folder / "child").exists() and (tmp_path / "said").read_text().count("x\n") == len(started)):
            assert time.monotonic() < end
            time.sleep(0.02)
        return process

    yield begin
    for process in started:
        jobs.stop(process, grace=0)


def alive(pid):
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(") ")[2][0] != "Z"


def test_state(tmp_path):
    assert jobs.state(tmp_path) == "new"
    (tmp_path / "checkpoints").mkdir()
    for name in ("previous.ckpt", "last.ckpt"):
        (tmp_path / "checkpoints" / name).touch()
        assert jobs.state(tmp_path) == "started"
        (tmp_path / "checkpoints" / name).unlink()
    (tmp_path / "metrics.json").touch()
    assert jobs.state(tmp_path) == "done"


def test_the_command_and_the_environment(begin, tmp_path):
    folder = tmp_path / "run"
    jobs.stop(begin(folder, environment={"MORE": "so"}), grace=0)
    given = ["seed=1", f"hydra.run.dir='{folder}'"]
    assert f"{given} {os.getpid()} so" in (tmp_path / "said").read_text()


@pytest.mark.parametrize("name", ["a", "Läsionen (2)", "a=b,c", "it's {x}", "#1 & [2]"])
def test_any_folder_is_one_value_to_hydra(name, tmp_path):
    """Every job of a sweep in such a folder ended with an error of grammar."""
    (override,) = OverridesParser.create().parse_overrides([f"hydra.run.dir={quoted(tmp_path / name)}"])
    assert override.value() == str(tmp_path / name)


def test_an_attempt_without_a_checkpoint_is_cleared_and_one_with_it_goes_on(begin, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").touch()
    jobs.stop(begin(folder), grace=0)
    assert not (folder / "config.yaml").exists()
    (folder / "config.yaml").touch()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    jobs.stop(begin(folder), grace=0)
    assert (folder / "config.yaml").exists()
    assert f"resume={folder}" in (tmp_path / "said").read_text()


def test_stop_ends_the_whole_group(begin, tmp_path):
    process = begin(tmp_path / "run")
    child = int((tmp_path / "run" / "child").read_text())
    assert alive(child)
    assert jobs.stop(process, grace=30) == -signal.SIGTERM
    end = time.monotonic() + 30
    while alive(child):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_two_processes_do_not_share_a_folder(begin, tmp_path):
    folder = tmp_path / "run"
    process = begin(folder)
    with pytest.raises(BlockingIOError, match="another process works in"):
        jobs.start(["seed=1"], folder, patience=0.2)
    assert jobs.is_locked(folder / jobs.LOCK)
    jobs.stop(process, grace=0)
    assert not jobs.is_locked(folder / jobs.LOCK)
    begin(folder)
