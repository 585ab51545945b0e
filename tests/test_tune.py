import contextlib
import csv
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from processes import wait_for

from scale import config, tune
from scale.config import experiment
from scale.published import ours as report
from scale.runs import process as jobs
from scale.runs.recompute import evaluate_run
from scale.train import train

STAND_IN = (sys.executable, "-S", str(Path(__file__).with_name("stand_in.py")))
SPACE = "optimizer.lr: {low: 1e-4, high: 0.1, log: true}\noptimizer.weight_decay: {low: 0.01, high: 0.5}\n"
# A command of its own whose runs are stand-ins.
COMMAND = f"""
from scale import tune
from scale.config import experiment
from scale.runs import process
from scale.tuning import report
process.COMMAND = {STAND_IN!r}
report._draw = experiment.write = lambda *_, **__: None
tune.main()
"""
COMPOSE, WRITE = config.compose, experiment.write

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("optuna"), reason="the extra `tune` is not installed")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with a search space."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "tune").mkdir()
    (folder / "tune" / "two.yaml").write_text(SPACE)
    return str(folder)


@pytest.fixture(scope="module")
def composed_once():
    """`compose`, which takes a fifth of a second, remembers what it gave."""
    compose = functools.cache(lambda overrides, options: COMPOSE(overrides, **dict(options)))
    return lambda overrides=(), **options: compose(tuple(overrides), tuple(options.items()))


@pytest.fixture
def given(request, tmp_path, own, composed_once, monkeypatch):
    """A command line for a study of stand-ins, without the number of trials."""
    monkeypatch.setattr(jobs, "COMMAND", STAND_IN)
    monkeypatch.setattr("scale.tuning.trials.POLL_SECONDS", 0.02)
    monkeypatch.setattr(config, "compose", composed_once)
    if request.function is not test_a_study_from_end_to_end:
        monkeypatch.setattr("scale.tuning.report._draw", lambda study: None)
        monkeypatch.setattr("scale.config.experiment.write", lambda *_, **__: None)
    study = tmp_path / "study"
    return [
        *("tune=two", f"study={study}", "data=phantom2d", "model=scale_tiny", "budget.max_epochs=6"),
        *("startup_trials=3", "warmup_epochs=2", "sampler_seed=5"),
    ]


@pytest.fixture
def npz(tmp_path):
    """Writes a small file of two classes, of another content for another seed."""

    def write(name, seed=0):
        draw, arrays = np.random.default_rng(seed), {}
        for split, count in (("train", 16), ("val", 8), ("test", 8)):
            arrays[f"{split}_images"] = draw.integers(0, 256, (count, 12, 12), dtype=np.uint8)
            arrays[f"{split}_labels"] = np.arange(count) % 2
        np.savez(tmp_path / name, **arrays)
        return ["data=npz", f"data.path={tmp_path / name}", "data.problem=binary", "data.batch_size=8"]

    return write


def run(given, own, *more):
    return tune.tune(tune.plan([*given, *more], config_dir=own))


def begin(given, own, *more, **environment):
    """The command in a process of its own."""
    command = [sys.executable, "-c", COMMAND, "--config-dir", own, *given, *more]
    return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def lines(path):
    return path.read_text().split() if path.exists() else []


def states(study):
    return [trial.state.name for trial in study.trials()]


@pytest.mark.slow
def test_a_study_from_end_to_end(given, own, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STAND_IN_WAITS_BELOW", "0.77")  # from trial 3 on: for ever, if it is not pruned
    study = run(given, own, "n_trials=7", "sampler_seed=0")
    trials, out = study.trials(), capsys.readouterr().out
    # Trial 0 is the configuration itself, and every value is the best epoch's of its own curve.
    assert trials[0].params == {"optimizer.lr": 0.003, "optimizer.weight_decay": 0.05}
    finished = [t for t in trials if t.state.name == "COMPLETE"]
    for trial in finished:
        metrics = json.loads((study.run_folder(trial.number) / "metrics.json").read_text())
        assert trial.value == metrics["val"]["auc"]
        assert list(trial.intermediate_values) == list(range(6))
    assert study.best().value == max(t.value for t in finished) > trials[0].value
    # Pruned while the run went on.
    pruned = [t for t in trials if t.state.name == "PRUNED"]
    assert pruned
    for trial in pruned:
        epochs = len(trial.intermediate_values)  # seen when the parent looked: behind the warm-up, before the wait
        assert epochs in (3, 4)
        assert list(trial.intermediate_values) == list(range(epochs))
        assert jobs.state(study.run_folder(trial.number)) == "started"
        assert f"trial {trial.number:3}  pruned after epoch {epochs}" in out
    # What is said and left to read.
    for trial in finished:
        assert f"trial {trial.number:3}  val AUC {trial.value:.4f}" in out
    assert f"best {study.best().value:.4f} (trial {study.best().number})" in out
    assert "0:00 left" in out
    assert len(list(csv.DictReader((study.folder / "trials.csv").open()))) == 7
    assert sorted(path.name for path in (study.folder / "figures").iterdir()) == ["history.png", "importances.png"]
    # The best trial as an experiment.
    of_trial = [f"{key}={value}" for key, value in study.best().params.items()]
    expected = COMPOSE(["data=phantom2d", "model=scale_tiny", "budget.max_epochs=6", *of_trial])
    assert COMPOSE(["experiment=best"], config_dir=str(study.folder)) == expected
    assert expected.test
    # The same command has nothing left to do; a larger one adds to it.
    before = {path: path.stat().st_mtime_ns for path in (study.folder / "trials").rglob("*")}
    run(given, own, "n_trials=7", "sampler_seed=0")
    assert {path: path.stat().st_mtime_ns for path in (study.folder / "trials").rglob("*")} == before
    assert len(run(given, own, "n_trials=8", "sampler_seed=0").trials()) == 8


def test_trials_at_the_same_time(given, own, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.1")
    trials = run(given, own, "n_trials=4", "n_jobs=2", "prune=false").trials()
    begun, ended = ([getattr(t, name) for t in trials] for name in ("datetime_start", "datetime_complete"))
    at_once = [sum(a <= moment < b for a, b in zip(begun, ended, strict=True)) for moment in begun]
    assert max(at_once) == 2


def test_trials_at_the_same_time_share_the_machine(given, own, tmp_path, monkeypatch):
    seen = []

    class Runner:
        def __init__(self, study, *, environment, n_jobs, **_):
            seen.append([environment(slot) for slot in range(n_jobs)])

        def run(self):
            pass

    monkeypatch.setattr("scale.tuning.trials.Runner", Runner)
    monkeypatch.setattr("scale.runs.machine.cores", lambda: 8)
    monkeypatch.setattr("scale.runs.machine.visible_gpus", lambda: ["4", "5"])
    for number, more in enumerate((["n_jobs=2", "trainer=gpu"], ["n_jobs=2"], [])):
        run([*given, f"study={tmp_path / str(number)}"], own, *more)
    gpus = [{"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": name} for name in ("4", "5")]
    assert seen == [gpus, [{"OMP_NUM_THREADS": "4"}] * 2, [{}]]


def test_a_run_that_is_killed_goes_on(given, own, tmp_path, monkeypatch):
    start, ended = jobs.start, []

    def start_and_kill(*arguments, **options):
        process = start(*arguments, **options)
        if len(ended) < 1:
            wait_for(lambda: len(lines(Path(arguments[1]) / "computed.txt")) >= 2)
            process.kill()
            ended.append(process.wait())
        return process

    monkeypatch.setenv("STAND_IN_SECONDS", "0.1")
    monkeypatch.setattr(jobs, "start", start_and_kill)
    study = run(given, own, "n_trials=1")
    assert ended == [-9]
    assert states(study) == ["COMPLETE"]
    assert lines(study.run_folder(0) / "computed.txt") == list("012345")
    assert "SIGKILL ended its process; resumed (1 of 2)" in (tmp_path / "study" / "tune.log").read_text()


def test_trials_that_fail_are_recorded_and_the_others_go_on(given, own, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STAND_IN_FAILS_ABOVE", "0.2")
    study = run(given, own, "n_trials=8")
    failed = [t for t in study.trials() if t.state.name == "FAIL"]
    assert 0 < len(failed) < 8
    assert all(t.params["optimizer.weight_decay"] > 0.2 for t in failed)
    assert {t.user_attrs["error"] for t in failed} == {"this weight decay is too much"}
    log = study.run_folder(failed[0].number) / "console.log"
    assert f"FAILED: this weight decay is too much ({log})" in capsys.readouterr().out
    monkeypatch.setenv("STAND_IN_FAILS_ABOVE", "0")
    with pytest.raises(ValueError, match="the first 3 trials failed, the last with: this weight decay"):
        run([*given, f"study={tmp_path / 'hopeless'}"], own, "n_trials=8")


def test_a_killed_command_is_gone_on_with(given, own, tmp_path):
    process = begin(given, own, "n_trials=3", "prune=false", STAND_IN_SECONDS="0.4")
    second = tmp_path / "study" / "trials" / "0001" / "computed.txt"
    wait_for(lambda: len(lines(second)) >= 2)
    process.kill()
    assert process.wait() == -9
    study = run(given, own, "n_trials=3", "prune=false")
    assert states(study) == ["COMPLETE"] * 3
    assert lines(second) == list("012345")  # no epoch twice, and none left out
    for (
        trial
    ) in study.trials():  # sampler and pruner are told of the same figure: the AUC of the kept epoch, not the best
        curve = list(trial.intermediate_values.values())
        assert trial.value == curve[-1] == curve[3] > curve[2]
        with (study.run_folder(trial.number) / "history.csv").open() as file:
            assert max(float(row["val/auc"]) for row in csv.DictReader(file)) > trial.value
    assert [list(t.intermediate_values) for t in study.trials()] == [list(range(6))] * 3


def test_a_command_that_is_asked_to_stop_leaves_its_trial_to_the_next(given, own, tmp_path, capsys, monkeypatch):
    computed = tmp_path / "study" / "trials" / "0000" / "computed.txt"

    def ask():
        wait_for(lambda: lines(computed))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setenv("STAND_IN_SECONDS", "0.4")
    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(KeyboardInterrupt):
        run(given, own, "n_trials=1")
    asking.join()
    assert "The same command resumes" in capsys.readouterr().out
    assert len(lines(computed)) < 6
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    study = run(given, own, "n_trials=1")
    assert states(study) == ["COMPLETE"]
    assert lines(computed) == list("012345")


@pytest.mark.slow
def test_processes_share_a_study(given, own, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.15")
    plan = tune.plan([*given, "n_trials=6", "prune=false"], config_dir=own)  # not while the other one works
    other = begin(given, own, "n_trials=6", "prune=false")
    wait_for(lambda: lines(tmp_path / "study" / "trials" / "0000" / "computed.txt"))
    study = tune.tune(plan)
    said = [other.communicate(timeout=500)[0], capsys.readouterr().out]
    assert other.returncode == 0
    assert states(study) == ["COMPLETE"] * 6  # not one too many
    done = [sum(f"trial {n:3}  val AUC" in text for n in range(6)) for text in said]
    assert sum(done) == 6
    assert min(done) >= 1
    assert all(lines(study.run_folder(n) / "computed.txt") == list("012345") for n in range(6))


def test_the_configuration_may_lie_outside_the_space(given, own, tmp_path, capsys):
    study = run(given, own, "n_trials=1", "optimizer.weight_decay=0.9")
    assert "lies outside the space" in capsys.readouterr().out
    assert study.trials()[0].params["optimizer.weight_decay"] <= 0.5


def test_the_folder_has_a_name_of_its_own(given, own, tmp_path):
    rest = [override for override in given if not override.startswith("study=")]
    plan = tune.plan(rest, config_dir=own)
    assert plan.folder == Path("studies/phantom2d/scale_tiny/two")
    rest = [override for override in rest if not override.startswith("data=")]
    for override, name in {
        "data=npz data.path=x/lesions.npz data.problem=binary": "npz-lesions",
        "data=folder data.path=a/b/": "folder-b",
    }.items():
        plan = tune.plan([*rest, *override.split()], config_dir=own)
        assert plan.folder == Path("studies", name, "scale_tiny", "two")


def test_another_file_is_not_tuned_in_the_same_study(given, own, npz, tmp_path):
    rest = [override for override in given if not override.startswith("data=")]
    run([*rest, *npz("a.npz")], own, "n_trials=1")
    run([*rest, *npz("moved.npz")], own, "n_trials=1")
    with pytest.raises(ValueError, match=r"study of something else: the images or labels at data\.path"):
        run([*rest, *npz("b.npz", seed=1)], own, "n_trials=1")
    with pytest.raises(FileNotFoundError, match="no such file"):
        run([*rest, "data=npz", "data.path=none.npz", "data.problem=binary"], own, "n_trials=1")


def test_a_file_of_ones_own_is_tuned_and_the_best_trial_trained(given, own, npz, tmp_path, monkeypatch):
    monkeypatch.setattr("scale.config.experiment.write", WRITE)
    rest = [override for override in given if not override.startswith("data=")]
    study = run([*rest, *npz("a.npz")], own, "n_trials=2")
    assert states(study) == ["COMPLETE"] * 2
    assert (tmp_path / "study" / "trials.csv").is_file()
    short = ["experiment=best", "budget.min_epochs=1", "budget.max_epochs=1", "report=false", "callbacks.console=null"]
    composed = COMPOSE(short, config_dir=str(tmp_path / "study"))
    assert composed.optimizer.lr == study.best().params["optimizer.lr"]
    assert train(composed, tmp_path / "run")["flag"] == "a"


def test_the_table_is_written_whatever_becomes_of_the_experiment(given, own, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("no space")

    monkeypatch.setattr("scale.config.experiment.write", full)
    with pytest.raises(OSError, match="no space"):
        run(given, own, "n_trials=1")
    assert (tmp_path / "study" / "trials.csv").is_file()


WRONG = {
    "n_trials=0": "n_trials=0: give at least 1",
    "n_jobs=0": "n_jobs=0: give at least 1",
    "n_trails=3": "n_trails=3: there is no such key; did you mean 'n_trials'?",
    "optimzer.lr=3": "did you mean 'optimizer'?",
    "optimizer.lrr=3": "did you mean 'optimizer.lr'?",
    "tune=defalt": "did you mean 'default'?",
    "data=bloodmist": "did you mean 'bloodmnist'?",
    "~optimizer.weight_decay": "set it to null",
    "test=true": "leaves the test split alone",
    "hydra.run.dir=x": "every trial has a folder of its own",
}


@pytest.mark.parametrize("override", WRONG)
def test_mistakes_on_the_command_line(override):
    with pytest.raises(config.ConfigError) as error:
        tune.plan([override])
    assert WRONG[override] in str(error.value)


def test_mistakes_come_in_one_report_before_anything_is_written(tmp_path):
    report = "atexit.register(lambda: print('torch' in sys.modules))"
    code = f"import atexit, sys; from scale import tune; {report}; tune.main()"
    command = [sys.executable, "-c", code, "n_trials=0", "n_jobs=0", "modle=scale"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    for part in ("3 problems", "n_trials=0", "n_jobs=0", "did you mean 'model'"):
        assert part in done.stderr
    assert done.stdout == "False\n"
    assert not list(tmp_path.iterdir())


def test_without_optuna(tmp_path):
    code = "import sys; sys.modules['optuna'] = None; from scale import tune; tune.main()"
    for arguments, status in (([], 1), (["--help"], 0)):
        done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == status
        assert ("pip install 'scale-medvision[tune]'" in done.stderr) == bool(status)
    assert "n_trials: 20" in done.stdout


@pytest.mark.slow
def test_real_runs(small, own, tmp_path):
    """A trial of real training: the record, and that the test split is not evaluated."""
    study = run(["tune=two", f"study={tmp_path / 'study'}", *small, "logger=none"], own, "n_trials=1")
    assert states(study) == ["COMPLETE"]
    for trial in study.trials():
        folder = study.run_folder(trial.number)
        metrics = json.loads((folder / "metrics.json").read_text())
        recorded = OmegaConf.load(folder / "config.yaml")
        assert trial.value == metrics["val"]["auc"]
        assert recorded.optimizer.lr == trial.params["optimizer.lr"]
        assert recorded.seed == 0
        assert "test" not in metrics
        assert sorted(path.name for path in (folder / "predictions").glob("*.npz")) == ["val.npz"]
    recomputed = evaluate_run(folder)
    assert "val" in recomputed
    assert "test" not in recomputed
    assert recomputed["difference"] <= 1e-6
    with pytest.raises(ValueError, match="test=false: it has no result on test"):
        report.row(folder)
    best = OmegaConf.load(study.run_folder(study.best().number) / "config.yaml")
    composed = config.compose(["experiment=best"], config_dir=str(study.folder))
    assert config.plain(composed) == {**config.plain(best), "test": True}


def _real(given, own, folder):
    """The command with real runs, in a process of its own."""
    command = [sys.executable, "-m", "scale.tune", "--config-dir", own, *given, f"study={folder}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _trial_process(folder):
    """The number of the process that trains in a folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_text().split("\0")
            if "scale.train" in words and any(word.rstrip("'").endswith(str(folder)) for word in words):
                return int(path.parent.name)
    return None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the process of a run in /proc")
def test_killed_and_shared_with_real_runs_the_record_is_the_same(small, own, tmp_path):
    """Kill -9 of the command, then of a trial's process, then two commands: the same as without any of it."""
    budget = ["budget.min_epochs=12", "budget.max_epochs=12", "logger=none", "threads=1", "prune=false"]
    given = ["tune=two", *small, *budget, "startup_trials=4"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    out, _ = _real([*given, "n_trials=4"], own, whole).communicate(timeout=1200)
    assert "4 trials: 4 complete" in out, out

    first = _real([*given, "n_trials=2"], own, parts)
    wait_for(lambda: len(lines(parts / "trials" / "0000" / "history.csv")) > 3, seconds=600)
    first.kill()
    first.wait()
    second = _real([*given, "n_trials=2"], own, parts)
    wait_for(lambda: len(lines(parts / "trials" / "0001" / "history.csv")) > 3, seconds=600)
    os.kill(_trial_process(parts / "trials" / "0001"), signal.SIGKILL)
    out, _ = second.communicate(timeout=1200)
    assert second.returncode == 0, out
    assert "trial 0 resumes after epoch" in out
    assert "trial 1: SIGKILL ended its process; resumed (1 of 2)" in out
    for number in ("0000", "0001"):
        assert "resumes from last.ckpt" in (parts / "trials" / number / "train.log").read_text()

    both = [_real([*given, "n_trials=4"], own, parts) for _ in range(2)]
    said = [process.communicate(timeout=1200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert all(sum(f"trial {n:3}  val AUC" in text for n in range(4)) == 1 for text in said)  # one each
    assert (parts / "trials.csv").read_text() == (whole / "trials.csv").read_text()
    assert _trial_process(parts / "trials" / "0000") is None


@pytest.mark.slow
def test_a_tuning_finds_better_than_the_configuration_itself(phantom_root, tmp_path):
    samples = "data.samples={train: 120, val: 200, test: 300}"
    given = ["data=phantom2d", "model=scale_tiny", samples, f"data.root={phantom_root}", "logger=none", "threads=1"]
    study = tune.tune(tune.plan([*given, "budget.samples=960", "budget.min_epochs=1", f"study={tmp_path}"]))
    assert len(study.trials()) == 20
    assert study.best().value > study.trials()[0].value + 0.01
