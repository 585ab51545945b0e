"""Sweeps with a stand-in for the training: what starts, stops, is recorded and goes on. `slow`: real trainings."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from processes import command, left, statuses, wait_for

from scale import config
from scale.config.compose import compose_unchecked
from scale.data import catalog
from scale.runs import machine
from scale.runs import process as jobs
from scale.sweeps import callback as sweep
from scale.sweeps import report as sweep_report
from scale.utils.cli import last_words

REPOSITORY = Path(__file__).resolve().parents[2]
# In place of `python -m scale.train`: what a job does depends on its seed, and on whether it has been run before.
STUB = """
import json, os, pathlib, signal, sys, time
given = dict(a.lstrip("-").split("=", 1) for a in sys.argv[1:])
folder = pathlib.Path(given.get("resume") or given["hydra.run.dir"].strip("'"))
seed, how = int(given["seed"]), "resume" if "resume" in given else "new"
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([seed, how, os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES"),
                           sys.argv[1:], os.environ.get("SLURM_JOB_NAME")]) + "\\n")
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
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Every interpreter that is started runs the stand-in for `python -m scale.train`; gives what was run."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "stub.py").write_text(STUB)
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\n"
        "words = 'scale.train', 'submitit.core._submit', 'loky', 'worker', \"'-c'\"\n"
        "if any(word in str(sys.orig_argv) for word in words):  # the command, or a worker of a launcher\n"
        "    from scale.runs import process\n"
        f"    process.COMMAND = (sys.executable, {str(tmp_path / 'site' / 'stub.py')!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(REPOSITORY)]))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))

    def calls():
        path = tmp_path / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return calls


def swept(*arguments, cwd):
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, check=False, timeout=600)


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


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_stops_all_jobs_and_leaves_nothing_behind(stub, tmp_path, number, status):
    arguments = ["seed=0,90,4", "hydra.sweep.dir=s", "-m"]
    with subprocess.Popen(command(*arguments), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        wait_for((tmp_path / "s/1/tried").exists)
        process.send_signal(number)
        assert process.wait(60) == status
        assert "table" in process.stdout.read()
    assert statuses(tmp_path / "s") == {0: "done", 1: "interrupted", 2: "missing"}
    assert (tmp_path / "s/1/checkpoints/last.ckpt").exists()
    assert not left(tmp_path)


@pytest.mark.slow
def test_the_sweeps_process_is_killed(stub, tmp_path):
    arguments = ["-m", "seed=0,90", "data=breastmnist", "hydra.sweep.dir=s"]
    with subprocess.Popen(command(*arguments), cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        wait_for((tmp_path / "s/1/tried").exists)
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


def test_the_parent_needs_no_torch_and_a_jobs_command_line(stub, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "first.yaml").write_text("# @package _global_\nseed: 4\n")
    arguments = ["--config-dir", "mine", "experiment=first", "sweep=seeds", "seed=4", "sweep.resume=true", "-m"]
    code = (
        "import sys, runpy, atexit\n"
        "atexit.register(lambda: print('LIGHT' if not {'torch', 'lightning'} & set(sys.modules) else 'TORCH'))\n"
        f"sys.argv = ['train', *{arguments}, 'hydra.sweep.dir=s']\n"
        "runpy.run_module('scale.train', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "LIGHT" in done.stdout
    assert statuses(tmp_path / "s") == {0: "done"}
    (call,) = stub()
    assert call[4] == [
        f"--config-dir={tmp_path / 'mine'}",
        *("hydra.mode=RUN", "seed=4", "experiment=first", "sweep=seeds"),
        f"hydra.run.dir='{tmp_path / 's' / '0'}'",
    ]


@pytest.fixture
def begin(tmp_path):
    """Takes a sweep's folder as the command does, and lets it go."""
    with initialize_config_dir(config_dir=str(config.directory()), version_base=config.VERSION_BASE):

        def take(*overrides, folder="s"):
            given = ["sweep=seeds", f"hydra.sweep.dir={tmp_path / folder}", *overrides]
            taken, lock = sweep.begin(compose("train", overrides=given, return_hydra_config=True))
            os.close(lock)
            return taken

        yield take


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (
            ["seed=4"],
            r"s holds another sweep \(seed is 0,1,2 there and 4 here\): give another folder with hydra.sweep.dir",
        ),
        (["model=scale_tiny"], "model is not given there and scale_tiny here"),
        (["sweep.resume=false"], "holds a sweep, and sweep.resume=false"),
        (["hydra.sweep.subdir=x"], r"hydra.sweep.subdir='x-\$\{hydra.job.num\}'"),
        (["+hydra.launcher.tasks_per_node=2"], "hydra.launcher.tasks_per_node=2: give 1"),
        (["hydra.sweeper._target_=other.Sweeper"], "only Hydra's basic sweeper"),
    ],
)
def test_the_folder_of_another_sweep_and_settings_that_cannot_be(begin, overrides, text):
    begin()
    with pytest.raises((FileExistsError, ValueError), match=text):
        begin(*overrides)


def test_where_the_data_are_makes_no_other_sweep(begin, tmp_path):
    assert begin() == begin("data.root=/x", "threads=1", "sweep.resume=true") == tmp_path / "s"
    assert len(json.loads((tmp_path / "s" / "sweep.json").read_text())["jobs"]) == 3


def test_a_folder_that_holds_something_else(begin, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "notes.txt").write_text("")
    with pytest.raises(FileExistsError, match=r"s is not empty \(notes.txt\) and holds no sweep"):
        begin()
    with pytest.raises(OSError, match=r"cannot write the sweep's folder.*hydra.sweep.dir=\.\.\."):
        begin(folder="s/notes.txt/x")
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["notes.txt"]


def test_a_folder_whose_sweep_is_running(begin, tmp_path):
    begin()
    lock = jobs.take(tmp_path / "s" / jobs.LOCK)
    with pytest.raises(BlockingIOError, match=f"is running .process {os.getpid()} on"):
        begin()
    os.close(lock)


@pytest.mark.parametrize(
    ("slots", "devices", "expected"),
    [
        (2, 1, [["a"], ["b"]]),
        (4, 1, [["a"], ["b"], ["c"], ["d"]]),
        (5, 1, [["a"], ["b"], ["c"], ["d"], ["a"]]),
        (2, 2, [["a", "b"], ["c", "d"]]),
        (3, 3, [["a", "b", "c"]] * 3),
        (2, None, [["a", "b"], ["c", "d"]]),
        (8, None, [["a"], ["b"], ["c"], ["d"]] * 2),
        (2, 8, [["a", "b", "c", "d"]] * 2),
    ],
)
def test_gpus_of_jobs_that_run_together(slots, devices, expected):
    found = [machine.gpus_of(n, slots=slots, visible=list("abcd"), devices=devices) for n in range(slots)]
    assert found == expected


@pytest.mark.parametrize(
    ("launcher", "batch", "expected"),
    [
        ({"_target_": "x.BasicLauncher"}, None, 1),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 3}, None, 3),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 30}, None, 6),
        ({"_target_": "x.JoblibLauncher", "n_jobs": -1}, None, 4),
        ({"_target_": "x.JoblibLauncher", "n_jobs": -2}, None, 3),
        ({"_target_": "x.LocalLauncher"}, None, 6),
        ({"_target_": "x.LocalLauncher"}, 2, 2),
        ({"_target_": "x.SlurmLauncher"}, None, None),
    ],
)
def test_how_many_jobs_run_together(launcher, batch, expected, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 4)
    assert machine.parallel(launcher, count=6, batch=batch) == expected


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("epoch 1\nscale: the loss is nan\n", "the loss is nan"),
        ("scale: 2 problems:\n  - a\n  - b\n", "2 problems: - a - b"),
        ("Traceback ...\nKeyError: 'x'\n\nSet the environment variable HYDRA_FULL_ERROR=1 for ...\n", "KeyError: 'x'"),
        ("", ""),
    ],
)
def test_an_error_in_one_line(said, reason):
    assert last_words(said) == reason


def test_ready_sweeps_name_every_data_set():
    found = {}
    for name in ("medmnist2d", "medmnist3d", "all"):
        whole = compose_unchecked([f"sweep={name}"], hydra=True)
        found[name] = whole.hydra.sweeper.params.data.replace(" ", "").split(",")
    assert found["medmnist2d"] == [flag for flag in catalog.FLAGS if catalog.get(flag).spatial_dims == 2]
    assert found["medmnist3d"] == [flag for flag in catalog.FLAGS if catalog.get(flag).spatial_dims == 3]
    assert sorted(found["all"]) == sorted(catalog.FLAGS)


@pytest.mark.parametrize(("name", "count"), [("seeds", 3), ("resolution", 6), ("fewshot", 15), ("all", 54)])
def test_the_jobs_of_ready_sweeps(begin, tmp_path, name, count):
    begin(f"sweep={name}")
    assert len(json.loads((tmp_path / "s" / "sweep.json").read_text())["jobs"]) == count


def _job(root, number, status, **metrics):
    folder = root / str(number)
    folder.mkdir()
    content = {"number": number, "status": status, "reason": "why", "attempts": [{}]}
    (folder / "job.json").write_text(json.dumps(content))
    if metrics:
        auc = metrics.pop("auc")
        figures = {"auc": auc, "acc": None if auc is None else auc - 0.1}
        content = {"size": 28, "epochs": 2, "best_epoch": 1, "fast_dev_run": False, "val": figures, "test": figures}
        content |= {"model": {"name": "scale"}, "seconds": {"fit": 1.5}, **metrics}
        (folder / "metrics.json").write_text(json.dumps(content))


def test_the_table_groups_by_everything_but_the_seed(tmp_path, capsys):
    keys = [(data, lr, seed) for data in ("breastmnist", "phantom2d") for lr in ("1e-3", "1e-2") for seed in (0, 1, 2)]
    overrides = [[f"data={data}", f"optimizer.lr={lr}", f"seed={seed}", "threads=1"] for data, lr, seed in keys]
    (tmp_path / "sweep.json").write_text(json.dumps({"choices": {}, "jobs": overrides}))
    for number, auc in enumerate((0.90, 0.92, 0.97)):
        _job(tmp_path, number, "done", flag="breastmnist", seed=number, auc=auc)
    _job(tmp_path, 3, "done", flag="breastmnist", seed=0, auc=0.8)
    _job(tmp_path, 4, "failed")
    _job(tmp_path, 5, "running")  # its process is gone: nobody holds the lock
    _job(tmp_path, 6, "done", flag="phantom2d", seed=0, auc=None)
    assert not sweep_report.write(tmp_path)
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["optimizer.lr"], row["n"], row["planned"], row["seeds"]) for row in rows] == [
        *(("1e-3", "3", "3", "0 1 2"), ("1e-2", "1", "3", "0")),
        *(("1e-3", "1", "3", "0"), ("1e-2", "0", "3", "")),
    ]
    assert float(rows[0]["auc_mean"]) == pytest.approx(0.93)
    assert float(rows[0]["auc_sd"]) == pytest.approx((0.0026 / 2) ** 0.5)  # deviations -0.03, -0.01, 0.04
    assert rows[0]["published_auc"] == "0.919"
    assert (rows[1]["auc_sd"], rows[2]["auc_mean"], rows[2]["published_auc"]) == ("", "", "")
    assert statuses(tmp_path) == dict(enumerate(["done"] * 4 + ["failed", "interrupted", "done"] + ["missing"] * 5))
    text = capsys.readouterr().out
    assert "| BreastMNIST | 28 | scale | 1e-3 | 3 | 0.930 ± 0.036 | 0.830 ± 0.036 | 0.930 ± 0.036 | 0.919 (" in text
    assert "| BreastMNIST | 28 | scale | 1e-2 | 1 of 3 | 0.800 | 0.700 | 0.800 |" in text
    assert "12 jobs: 5 done, 1 failed, 1 interrupted, 5 missing." in text
    assert "- job 4 failed: `data=breastmnist optimizer.lr=1e-2 seed=1 threads=1`: why (" in text
    assert "- job 11 missing: `data=phantom2d optimizer.lr=1e-2 seed=2 threads=1`" in text
    assert str(tmp_path / "sweep.md") in text


def test_a_mean_over_other_code_says_so(tmp_path, capsys):
    """A sweep that was resumed after the code had changed."""
    jobs = [["data=breastmnist", f"model={model}", f"seed={n}"] for model in ("scale", "scale_tiny") for n in range(2)]
    (tmp_path / "sweep.json").write_text(json.dumps({"choices": {}, "jobs": jobs}))
    for number, code in enumerate("abaa"):
        _job(tmp_path, number, "done", flag="breastmnist", seed=number % 2, auc=0.9)
        environment = {"source": code, "commit": f"{code}123456789abc"}
        (tmp_path / str(number) / "environment.json").write_text(json.dumps(environment))
    sweep_report.write(tmp_path)
    said = capsys.readouterr().out
    assert said.count("is over runs of different code (a123456789, b123456789)") == 1


def test_a_folder_without_a_sweep(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        sweep_report.write(tmp_path)


@pytest.mark.slow
def test_two_sweeps_of_the_same_second_have_two_folders(stub, tmp_path):
    both = [subprocess.Popen(command("-m", "seed=0"), cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(list(tmp_path.glob("sweeps/*/0/metrics.json"))) == 2


@pytest.mark.slow
def test_joblib_divides_threads_and_gpus_and_stops_gracefully(stub, tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer=gpu"]
    arguments = ["-m", "seed=0,1,90,91,4", *launcher, "hydra.sweep.dir=s"]
    with subprocess.Popen(
        command(*arguments), cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(lambda: all((tmp_path / f"s/{n}/tried").exists() for n in (2, 3)))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C: to the workers too
        wait_for(lambda: process.poll() is not None, seconds=60)
        assert process.returncode == 130
    assert statuses(tmp_path / "s") == {0: "done", 1: "failed", 2: "interrupted", 3: "interrupted", 4: "missing"}
    assert {gpu for seed, _, _, gpu, *_ in stub() if seed >= 90} == {"3", "5"}
    assert {threads for _, _, threads, *_ in stub()} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    wait_for(lambda: not left(tmp_path))


@pytest.mark.slow
def test_joblibs_workers_end_their_jobs_when_the_sweep_is_killed(stub, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = ["-m", "seed=90,91", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=s"]
    with subprocess.Popen(command(*arguments), cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: all((tmp_path / f"s/{n}/tried").exists() for n in (0, 1)))
        process.kill()
    wait_for(lambda: not left(tmp_path))
    records = [tmp_path / f"s/{n}/job.json" for n in (0, 1)]  # the worker outlives the sweep and writes behind the end
    wait_for(lambda: {json.loads(path.read_text())["status"] for path in records} == {"interrupted"})


@pytest.mark.slow
def test_submitit_local(stub, tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    launcher = ["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2"]
    done = swept("-m", "seed=0,1,4,5", *launcher, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert statuses(folder) == {0: "done", 1: "failed", 2: "done", 3: "done"}
    assert {threads for _, _, threads, *_ in stub()} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    assert not left(tmp_path)


SLURM = {  # runs the jobs of an array on this machine, in the background
    "sbatch": """
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
export SLURM_ARRAY_JOB_ID=7 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1
for n in $(seq 0 "$last"); do
  SLURM_JOB_ID=$((7 + n)) SLURM_ARRAY_TASK_ID=$n setsid bash "$1" >"$CALLS.$n" 2>&1 &
done
echo "Submitted batch job 7"
""",
    "srun": """
while [[ $1 == -* ]]; do
  if [[ $1 == --output || $1 == --error ]]; then shift; fi
  shift
done
exec "$@"
""",
    "sacct": """
echo "JobID|State|NodeList"
for n in 0 1; do echo "7_$n|RUNNING|here"; done
""",
}


def test_slurms_command_lines(stub, tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    (tmp_path / "bin").mkdir()
    for name, text in SLURM.items():
        (tmp_path / "bin" / name).write_text("#!/usr/bin/env bash" + text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]))
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.gpus_per_node=2", "hydra.launcher.partition=long"]
    more = ["hydra.launcher.timeout_min=90", "trainer=ddp", "trainer.devices=2"]
    done = swept("-m", "seed=0,4", *launcher, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "sweeps").iterdir()  # named once, in the process of the command
    assert statuses(folder) == {0: "done", 1: "done"}
    (script,) = folder.glob(".submitit/**/*_submission.sh")
    lines = script.read_text().splitlines()
    for option in ("gpus-per-node=2", "partition=long", "time=90", "array=0-1%2", "signal=USR2@120", "nodes=1"):
        assert f"#SBATCH --{option}" in lines
    assert "#SBATCH --ntasks-per-node=1" in lines
    # The run starts its processes itself, and uses the GPUs and cores that SLURM has given.
    assert [(call[2], call[3], call[5]) for call in stub()] == [
        (os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES"), "interactive")
    ] * 2
    wait_for(lambda: not left(tmp_path))


@pytest.mark.slow
def test_ray(stub, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    launcher = ["hydra/launcher=ray", "+hydra.launcher.ray.init.include_dashboard=false"]
    done = swept("-m", "seed=0,1,4,5", *launcher, "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert statuses(tmp_path / "s") == {0: "done", 1: "failed", 2: "done", 3: "done"}
    wait_for(lambda: not left(tmp_path))
    with subprocess.Popen(command("-m", "seed=90,4", *launcher, "hydra.sweep.dir=t"), cwd=tmp_path) as process:
        wait_for((tmp_path / "t/0/tried").exists)
        process.terminate()  # Ray's own handler would end the jobs without saving
        assert process.wait() == 143
    assert statuses(tmp_path / "t")[0] == "interrupted"
    wait_for(lambda: not left(tmp_path))


def test_tables_that_cannot_be_written_are_no_success(tmp_path, monkeypatch, capsys):
    """Hydra would only warn, and the sweep ended with status 0."""

    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweep.report, "write", full)
    for received, status in ((0, 1), (15, 143)):
        callback = sweep.Sweep()
        callback.folder, callback.received = tmp_path, received
        with pytest.raises(SystemExit) as ended:
            callback.on_multirun_end(None)
        assert ended.value.code == status
        assert "No space left" in capsys.readouterr().err
