"""Sweeps of real trainings: minutes."""

import json
import os
import resource
import signal
import subprocess

import numpy as np
import pytest
from processes import command, left, statuses, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def small(tmp_path) -> list[str]:
    """Overrides for a training that takes seconds, and long enough to be interrupted."""
    return [
        *("data=phantom2d", f"data.root={tmp_path / 'data'}", "data.samples={train: 96, val: 25, test: 33}"),
        *("data.batch_size=16", "model=scale_tiny", "budget.min_epochs=30", "budget.max_epochs=30", "logger=none"),
        *("threads=1", "hydra.sweep.dir=s"),
    ]


def number_of(folder, seconds=3600.0):
    """The run's process, once it has trained an epoch."""
    wait_for((folder / "checkpoints" / "last.ckpt").exists, seconds)
    return json.loads((folder / "job.json").read_text())["pid"]


def test_six_runs_of_which_one_raises_one_is_killed_and_one_is_interrupted(small, tmp_path):
    arguments = command("-m", "optimizer.lr=1e-3,2e-3,3e-3,4e-3,5e-3,1e30", *small)
    folder = tmp_path / "s"
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        os.kill(number_of(folder / "1"), signal.SIGKILL)
        os.kill(number_of(folder / "2"), signal.SIGTERM)
        assert process.wait() == 1
    assert statuses(folder) == {0: "done", 1: "failed", 2: "interrupted", 3: "done", 4: "done", 5: "failed"}
    assert not left(tmp_path)
    kept = {p: p.stat().st_mtime_ns for n in (0, 3, 4) for p in (folder / str(n)).rglob("*")}

    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert statuses(folder) == {0: "done", 1: "done", 2: "done", 3: "done", 4: "done", 5: "failed"}
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert "job 5 failed" in done.stdout
    assert "the loss is" in done.stdout
    for number in (1, 2):
        record = json.loads((folder / str(number) / "environment.json").read_text())
        assert len(record["continued"]) == 1
        assert len((folder / str(number) / "history.csv").read_text().splitlines()) == 31
    assert not left(tmp_path)


def test_three_kinds_of_death_lose_nothing(small, tmp_path):
    """kill -9, SIGTERM and memory that is out; given again, the sweep's results are those of an undisturbed one."""
    shared = [text for text in small if not text.startswith(("budget", "hydra"))]
    given = command("-m", "seed=0,1,2,3,4,5", *shared, "budget.min_epochs=8", "budget.max_epochs=8")
    folder, undisturbed = tmp_path / "s", tmp_path / "u"
    quiet = {"cwd": tmp_path, "stdout": subprocess.DEVNULL}
    with subprocess.Popen([*given, "hydra.sweep.dir=u"], **quiet) as beside:
        with subprocess.Popen([*given, "hydra.sweep.dir=s"], **quiet) as process:
            os.kill(number_of(folder / "1"), signal.SIGKILL)
            os.kill(number_of(folder / "2"), signal.SIGTERM)
            number = number_of(folder / "3")
            resource.prlimit(number, resource.RLIMIT_AS, (1 << 20, resource.prlimit(number, resource.RLIMIT_AS)[1]))
            assert process.wait() == 1
        assert statuses(folder) == {0: "done", 1: "failed", 2: "interrupted", 3: "failed", 4: "done", 5: "done"}
        assert not left(folder)
        kept = {p: p.stat().st_mtime_ns for n in (0, 4, 5) for p in (folder / str(n)).rglob("*")}
        subprocess.run([*given, "hydra.sweep.dir=s"], **quiet, check=True)
        assert beside.wait() == 0
    assert statuses(folder) == dict.fromkeys(range(6), "done")
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    for number in range(6):
        one, other = (json.loads((place / str(number) / "metrics.json").read_text()) for place in (folder, undisturbed))
        for key in ("seed", "epochs", "best_epoch", "val", "test"):
            assert one[key] == other[key], (number, key)
        for split in ("val", "test"):
            paths = [place / str(number) / "predictions" / f"{split}.npz" for place in (folder, undisturbed)]
            with np.load(paths[0]) as mine, np.load(paths[1]) as theirs:
                for name in theirs.files:
                    np.testing.assert_array_equal(mine[name], theirs[name])
    tables = [(place / "sweep.csv").read_text().splitlines() for place in (folder, undisturbed)]
    assert len(tables[0]) == len(tables[1]) > 1
    assert not left(tmp_path)


@pytest.mark.parametrize("first", [True, False])
def test_ddp_in_a_sweep(small, tmp_path, first):
    overrides = ["seed=0,1", "trainer=ddp_cpu", "trainer.max_epochs=2", *small]
    arguments = ["-m", *overrides] if first else [*overrides, "-m"]
    done = subprocess.run(command(*arguments), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.parent.name for path in tmp_path.glob("**/metrics.json")) == ["0", "1"]
    for path in (tmp_path / "s" / "0", tmp_path / "s" / "1"):
        with np.load(path / "predictions" / "test.npz") as arrays:
            assert arrays["index"].tolist() == list(range(33))
    assert not list(tmp_path.glob("outputs")) + list(tmp_path.glob("multirun")) + list(tmp_path.glob("runs"))
    assert not left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_under_ddp_that_is_stopped_goes_on(small, tmp_path, number):
    arguments = command("-m", "seed=0,1", "trainer=ddp_cpu", *small)
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        number_of(tmp_path / "s" / "0")
        process.send_signal(number)
        assert process.wait() == (128 + number if number != signal.SIGKILL else -number)
        wait_for(lambda: not left(tmp_path))
    assert not (tmp_path / "s" / "1" / "metrics.json").exists()
    subprocess.run(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, check=True)
    record = json.loads((tmp_path / "s" / "0" / "environment.json").read_text())
    assert len(record["continued"]) == 1
    assert statuses(tmp_path / "s") == {0: "done", 1: "done"}


def test_two_runs_of_the_same_second_have_two_folders(small, tmp_path):
    plain = [override for override in small if not override.startswith("hydra.")]
    both = [
        subprocess.Popen(command(*plain, "trainer=fast_dev_run"), cwd=tmp_path, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert len(list(tmp_path.glob("runs/phantom2d/scale_tiny/*/metrics.json"))) == 2
