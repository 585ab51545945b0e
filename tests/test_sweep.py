"""Sweeps with a stand-in for the training: what starts, stops, is recorded and goes on. `slow`: real trainings."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
# In place of `python -m scale.train`: what a job does depends on its seed, and on whether it has been run before.
STUB = '''
import json, os, pathlib, signal, sys, time
given = dict(a.lstrip("-").split("=", 1) for a in sys.argv[1:])
folder = pathlib.Path(given.get("resume") or given["hydra.run.dir"])
seed, how = int(given["seed"]), "resume" if "resume" in given else "new"
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([seed, how, os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES"),
                           sys.argv[1:]]) + "\\n")
(folder / "config.yaml").open("x" if how == "new" else "r").close()
(folder / "checkpoints").mkdir(exist_ok=True)
def stop(number, frame):
    (folder / "checkpoints" / "last.ckpt").touch()
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
again = (folder / "tried").exists()
(folder / "tried").touch()
print("epoch 1", "ä", flush=True)
if seed == 1:
    print("scale: the loss is nan", file=sys.stderr)
    sys.exit(1)
if seed == 2 and not again:
    os.kill(os.getpid(), signal.SIGKILL)
if seed == 3 and not again:
    os.kill(os.getpid(), signal.SIGTERM)
if seed >= 90:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.1)
    stop(15, None)
figures = {"auc": 0.8 + seed / 100, "acc": 0.7}
content = {"flag": "breastmnist", "size": 28, "seed": seed, "epochs": 2, "best_epoch": 1, "fast_dev_run": False,
           "val": figures, "test": figures, "model": {"name": "scale"}, "seconds": {"fit": 1.5}}
(folder / "metrics.json").write_text(json.dumps(content))
'''


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Every interpreter that is started runs the stand-in for `python -m scale.train`; gives what was run."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "stub.py").write_text(STUB)
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\n"
        "if not sys.argv or not sys.argv[0].endswith('stub.py'):\n"
        "    from scale import jobs\n"
        f"    jobs.COMMAND = (sys.executable, {str(tmp_path / 'site' / 'stub.py')!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(REPOSITORY)]))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))

    def calls():
        path = tmp_path / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return calls


def command(*arguments):
    return [sys.executable, "-m", "scale.train", *arguments]


def swept(*arguments, cwd):
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, check=False, timeout=600)


def statuses(folder):
    with (folder / "jobs.csv").open(newline="") as file:
        return {int(row["number"]): row["status"] for row in csv.DictReader(file)}


def left(folder):
    """Processes that work in a folder or were started for it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in text:
            found.append(text)
    return found


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_six_jobs_of_which_one_raises_one_is_killed_and_one_is_interrupted(stub, tmp_path):
    arguments = ["-m", "seed=0,1,2,3,4,5", "data=breastmnist", "hydra.sweep.dir=s"]
    first = swept(*arguments, cwd=tmp_path)
    assert first.returncode == 1, first.stderr
    folder = tmp_path / "s"
    assert statuses(folder) == {0: "done", 1: "failed", 2: "failed", 3: "interrupted", 4: "done", 5: "done"}
    assert "epoch 1 ä" in first.stdout
    record = json.loads((folder / "1" / "job.json").read_text())
    assert (record["status"], record["reason"]) == ("failed", "exit status 1: the loss is nan")
    assert "killed by signal 9" in json.loads((folder / "2" / "job.json").read_text())["reason"]
    assert "the loss is nan" in (folder / "sweep.md").read_text()
    kept = {p: p.stat().st_mtime_ns for n in (0, 4, 5) for p in (folder / str(n)).rglob("*")}

    second = swept(*arguments, cwd=tmp_path)
    assert second.returncode == 1
    assert statuses(folder) == {0: "done", 1: "failed", 2: "done", 3: "done", 4: "done", 5: "done"}
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    runs = [(seed, how) for seed, how, *_ in stub()]
    assert runs == [(n, "new") for n in range(6)] + [(1, "new"), (2, "new"), (3, "resume")]
    assert len(json.loads((folder / "3" / "job.json").read_text())["attempts"]) == 2
    assert "job 1 failed: `seed=1 data=breastmnist`: exit status 1: the loss is nan" in second.stdout
    assert f"sweep folder: {folder}" in second.stdout
    assert "| BreastMNIST | 28 | scale | 5 of 6 | 0.828 ± 0.019 | 0.700 ± 0.000 |" in second.stdout
    assert "0.919 (Google AutoML Vision)" in second.stdout
    assert not left(tmp_path)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_all_jobs_and_leaves_nothing_behind(stub, tmp_path, number, status):
    arguments = ["seed=0,90,4", "hydra.sweep.dir=s", "-m"]
    with subprocess.Popen(command(*arguments), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        wait_for(lambda: (tmp_path / "s/1/tried").exists())
        process.send_signal(number)
        assert process.wait(60) == status
        assert "table" in process.stdout.read()
    assert statuses(tmp_path / "s") == {0: "done", 1: "interrupted", 2: "missing"}
    assert (tmp_path / "s/1/checkpoints/last.ckpt").exists()
    assert not left(tmp_path)


def test_the_sweeps_process_is_killed(stub, tmp_path):
    arguments = ["-m", "seed=0,90", "data=breastmnist", "hydra.sweep.dir=s"]
    with subprocess.Popen(command(*arguments), cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: (tmp_path / "s/1/tried").exists())
        running = swept(*arguments, cwd=tmp_path)
        assert running.returncode == 2
        assert f"is running (process {process.pid} on" in running.stderr
        process.kill()
    wait_for(lambda: not left(tmp_path))
    assert not (tmp_path / "s/sweep.md").exists()
    told = subprocess.run(
        [sys.executable, "-m", "scale.report", "s"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "job 1 interrupted" in told.stdout
    assert (tmp_path / "s/sweep.md").read_text().split("\n\n", 1)[1] in told.stdout


def test_the_parent_needs_no_torch(stub, tmp_path):
    code = (
        "import sys, runpy, atexit\n"
        "atexit.register(lambda: print('LIGHT' if not {'torch', 'lightning'} & set(sys.modules) else 'TORCH'))\n"
        "sys.argv = ['train', '-m', 'seed=0', 'hydra.sweep.dir=s']\n"
        "runpy.run_module('scale.train', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "LIGHT" in done.stdout
    assert statuses(tmp_path / "s") == {0: "done"}


def test_mistakes_before_anything_starts(stub, tmp_path):
    assert swept("-m", "seed=0", "hydra.sweep.dir=s", cwd=tmp_path).returncode == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    cases = {
        ("seed=0,4", "hydra.sweep.dir=s"): "s holds another sweep (seed is 0 there and 0,4 here): give another folder",
        ("seed=0", "model=scale_tiny", "hydra.sweep.dir=s"): "model is not given there and scale_tiny here",
        ("seed=0", "sweep.resume=false", "hydra.sweep.dir=s"): "holds a sweep, and sweep.resume=false",
        ("seed=0", "hydra.sweep.dir=other"): "other is not empty (notes.txt) and holds no sweep",
        ("seed=0", "hydra.sweep.dir=n", "hydra.sweep.subdir=x"): "hydra.sweep.subdir='x-${hydra.job.num}'",
        ("seed=0", "hydra.sweep.dir=other/notes.txt"): "hydra.sweep.dir=...",
    }
    for arguments, text in cases.items():
        done = swept("-m", *arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert text in done.stderr
        assert "Traceback" not in done.stderr
    # Where the data are makes no other sweep.
    assert swept("-m", "seed=0", "data.root=/x", "threads=1", "hydra.sweep.dir=s", cwd=tmp_path).returncode == 0
    assert len(stub()) == 1


def test_a_jobs_command_line(stub, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "first.yaml").write_text("# @package _global_\nseed: 4\n")
    arguments = ["--config-dir", "mine", "-m", "experiment=first", "sweep=seeds", "seed=4", "sweep.resume=true"]
    assert swept(*arguments, "hydra.sweep.dir=s", cwd=tmp_path).returncode == 0
    (call,) = stub()
    assert call[4] == [
        f"--config-dir={tmp_path / 'mine'}",
        *("hydra.mode=RUN", "seed=4", "experiment=first", "sweep=seeds"),
        f"hydra.run.dir={tmp_path / 's' / '0'}",
    ]


def test_two_sweeps_of_the_same_second_have_two_folders(stub, tmp_path):
    both = [subprocess.Popen(command("-m", "seed=0"), cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(list(tmp_path.glob("sweeps/*/0/metrics.json"))) == 2


def test_joblib_divides_threads_and_stops_gracefully(stub, tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    arguments = ["-m", "seed=0,1,90,91,4", *launcher, "hydra.sweep.dir=s"]
    with subprocess.Popen(
        command(*arguments), cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(lambda: all((tmp_path / f"s/{n}/tried").exists() for n in (2, 3)))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C: to the workers too
        assert process.wait(60) == 130
    assert statuses(tmp_path / "s") == {0: "done", 1: "failed", 2: "interrupted", 3: "interrupted", 4: "missing"}
    assert {threads for _, _, threads, *_ in stub()} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    wait_for(lambda: not left(tmp_path))


def test_joblibs_workers_end_their_jobs_when_the_sweep_is_killed(stub, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = ["-m", "seed=90,91", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=s"]
    with subprocess.Popen(command(*arguments), cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: all((tmp_path / f"s/{n}/tried").exists() for n in (0, 1)))
        process.kill()
    wait_for(lambda: not left(tmp_path))
    assert {json.loads((tmp_path / f"s/{n}/job.json").read_text())["status"] for n in (0, 1)} == {"interrupted"}


def test_jobs_that_run_together_have_gpus_of_their_own(stub, tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    arguments = ["-m", "seed=90,91", "trainer=gpu", *launcher, "hydra.sweep.dir=s"]
    with subprocess.Popen(command(*arguments), cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: all((tmp_path / f"s/{n}/tried").exists() for n in (0, 1)))
        process.terminate()
        assert process.wait(60) == 143
    assert {gpus for *_, gpus, _ in stub()} == {"3", "5"}


def test_submitit_local(stub, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = ["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2"]
    done = swept("-m", "seed=0,1,4,5", *launcher, "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert statuses(tmp_path / "s") == {0: "done", 1: "failed", 2: "done", 3: "done"}
    assert not left(tmp_path)


@pytest.mark.slow
def test_ray(stub, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    done = swept("-m", "seed=0,1,4,5", "hydra/launcher=ray", "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert statuses(tmp_path / "s") == {0: "done", 1: "failed", 2: "done", 3: "done"}
    assert not left(tmp_path)
