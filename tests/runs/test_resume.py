"""Runs that nothing can lose: interrupted, killed, corrupted, moved, and gone on with."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

import scale
from scale import runs
from scale.callbacks.checkpoint import BestAndLast
from scale.data import phantom
from scale.runs import resume
from scale.runs.interruption import Interrupted
from scale.tasks.classification import ClassificationTask
from scale.train import train


@pytest.fixture(scope="module")
def arguments(phantom_root):
    return [
        "data=phantom2d",
        f"data.root={phantom_root}",
        "data.samples={train: 48, val: 24, test: 32}",
        "data.batch_size=16",
        "model=scale_tiny",
        "model.drop_path=0.1",
        "budget.min_epochs=3",
        "budget.max_epochs=3",
        "threads=1",
        "logger=none",
        "report=false",
    ]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(scale.compose(arguments), folder, overrides=arguments)
    return folder


def _interrupt(monkeypatch, arguments, folder, *, step, number=signal.SIGTERM):
    """Sends a signal while step `step` (from 0) is computed, and lets the run end."""
    original = ClassificationTask.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == step:
            os.kill(os.getpid(), number)
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", training_step)
        with pytest.raises(Interrupted) as caught:
            train(scale.compose(arguments), folder, overrides=arguments)
    assert caught.value.number == number


def _go_on(arguments, folder):
    return train(scale.compose([*arguments, f"resume={folder}"]), folder)


def _same(first, second):
    """Whether two runs have the same figures, predictions, curves and weights, bit for bit."""
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (first, second)]
    for key in ("val", "test", "best_epoch", "epochs", "steps"):
        assert metrics[0][key] == metrics[1][key], key
    for split, arrays in runs.read_predictions(first).items():
        for name, values in runs.read_predictions(second)[split].items():
            np.testing.assert_array_equal(arrays[name], values)
    rows = [
        [line.rsplit(",", 1)[0] for line in (folder / "history.csv").read_text().splitlines()]  # without the seconds
        for folder in (first, second)
    ]
    assert rows[0] == rows[1]
    for name in ("best.ckpt", "last.ckpt"):
        one, two = (torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (first, second))
        for kind in ("state_dict", "current_model_state"):
            for key, value in one[kind].items():
                assert torch.equal(value, two[kind][key]), (name, kind, key)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(1, id="mid_epoch"),
        pytest.param(2, id="epoch_end", marks=pytest.mark.slow),
        pytest.param(8, id="last_step", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(step, whole, arguments, tmp_path, monkeypatch):
    _interrupt(monkeypatch, arguments, tmp_path / "run", step=step)
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == step + 1, "the step was finished, and none after it"
    _go_on(arguments, tmp_path / "run")
    _same(whole, tmp_path / "run")


def test_ctrl_c_saves_and_says_how_to_go_on(whole, arguments, tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGINT)
    _interrupt(monkeypatch, arguments, tmp_path / "run", step=4, number=signal.SIGINT)
    assert f"resume={tmp_path / 'run'}" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    _go_on(arguments, tmp_path / "run")
    _same(whole, tmp_path / "run")


@pytest.mark.slow
def test_two_interruptions_and_the_record_of_both(whole, arguments, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    _interrupt(monkeypatch, arguments, folder, step=1)
    _interrupt(monkeypatch, [*arguments, f"resume={folder}"], folder, step=5)
    _go_on(arguments, folder)
    _same(whole, folder)
    record = json.loads((folder / "environment.json").read_text())
    assert [part["checkpoint"] for part in record["continued"]] == ["last.ckpt", "last.ckpt"]
    seconds = json.loads((folder / "metrics.json").read_text())["seconds"]["fit"]
    rows = (folder / "history.csv").read_text().splitlines()[1:]
    assert seconds == pytest.approx(sum(float(row.rsplit(",", 1)[1]) for row in rows), abs=1e-3)


def test_a_corrupt_checkpoint_gives_way_to_the_one_before(whole, arguments, tmp_path, monkeypatch, capsys):
    _interrupt(monkeypatch, arguments, tmp_path / "run", step=7)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    _go_on(arguments, tmp_path / "run")
    said = capsys.readouterr().out
    assert "last.ckpt cannot be read" in said
    assert "resumes from previous.ckpt: epoch 2, step 6" in said
    _same(whole, tmp_path / "run")


def test_without_a_checkpoint_it_begins_again(whole, arguments, tmp_path, monkeypatch, capsys):
    _interrupt(monkeypatch, arguments, tmp_path / "run", step=1)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    _go_on(arguments, tmp_path / "run")
    assert "no checkpoint yet" in capsys.readouterr().out
    _same(whole, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("optimizer.lr=0.1", "optimizer.lr: 0.003 then, 0.1 now"),
        ("seed=3", "seed: 0 then, 3 now"),
    ],
)
def test_another_configuration_is_named(change, named, arguments, tmp_path, monkeypatch):
    _interrupt(monkeypatch, arguments, tmp_path / "run", step=1)
    before = sorted((tmp_path / "run" / "checkpoints").iterdir())
    with pytest.raises(ValueError, match=named):
        _go_on([*arguments, change], tmp_path / "run")
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == before
    _go_on([*arguments, "paths.runs=elsewhere", "callbacks.checkpoint.every_n_minutes=1"], tmp_path / "run")


def test_other_data_are_named(arguments, tmp_path, monkeypatch):
    own = tmp_path / "phantoms"
    moved = [*arguments, f"data.root={own}"]
    _interrupt(monkeypatch, moved, tmp_path / "run", step=1)
    path = next(own.glob("*.npz"))
    with np.load(path) as arrays:
        content = dict(arrays)
    content["val_labels"] = 1 - content["val_labels"]
    np.savez(path, **content)
    with pytest.raises(ValueError, match="not those the run was begun with"):
        _go_on(moved, tmp_path / "run")


def test_other_code_is_named_and_can_be_accepted(whole, arguments, tmp_path, monkeypatch, capsys):
    _interrupt(monkeypatch, arguments, tmp_path / "run", step=1)
    monkeypatch.setattr(resume, "source", lambda: "other")
    with pytest.raises(ValueError, match="allow_changed_code=true"):
        _go_on(arguments, tmp_path / "run")
    _go_on([*arguments, "allow_changed_code=true"], tmp_path / "run")
    assert "a mixture" in capsys.readouterr().out


@pytest.mark.slow
def test_other_devices_are_a_warning(arguments, tmp_path, monkeypatch):
    _interrupt(monkeypatch, arguments, tmp_path / "run", step=1)
    lines = []
    monkeypatch.setattr(resume.log, "warning", lambda text, *values: lines.append(text % values))
    resume.check(scale.compose([*arguments, "trainer.devices=2"]), tmp_path / "run")
    assert len(lines) == 1
    assert "trainer.devices: 1 then, 2 now" in lines[0]


def test_a_command_with_resume_is_the_first_one_with_more(arguments, tmp_path, monkeypatch):
    folder = tmp_path / "a run"
    _interrupt(monkeypatch, [*arguments, "seed=4"], folder, step=1)
    quoted = f"'{folder}'"
    given = resume.expand([f"resume={quoted}", "seed=5", "data.root=/x"])
    assert given == [
        *(argument for argument in arguments if not argument.startswith("data.root")),
        *("seed=5", "data.root=/x", f"resume={quoted}", f"hydra.run.dir={quoted}"),
    ]
    assert resume.expand([f"rerun={folder}"]) == [*arguments, "seed=4", f"rerun={quoted}"]
    assert resume.expand(["seed=1", "resume=null", "-m"])[0] == "seed=1"


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (["resume=nowhere"], FileNotFoundError, "no config.yaml"),
        (["rerun=nowhere"], FileNotFoundError, "no config.yaml"),
        (["resume=a", "rerun=b"], ValueError, "exclude each other"),
        (["-m", "resume=a"], ValueError, "leave -m out"),
    ],
)
def test_bad_resume(given, error, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        resume.expand(given)


def test_a_finished_run_is_not_gone_on_with(whole, arguments):
    with pytest.raises(FileExistsError, match="finished"):
        resume.expand([f"resume={whole}"])
    with pytest.raises(FileExistsError, match="finished"):
        _go_on(arguments, whole)


def test_a_run_in_use_is_left_alone(arguments, tmp_path, monkeypatch):
    _interrupt(monkeypatch, arguments, tmp_path / "run", step=1)
    take = (
        f"import pathlib; from scale.runs.folder import reopen; lock = reopen(pathlib.Path({str(tmp_path / 'run')!r}))"
    )
    code = f"{take}; print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "1\n"
        with pytest.raises(FileExistsError, match="another process"):
            _go_on(arguments, tmp_path / "run")
        other.kill()
    _go_on(arguments, tmp_path / "run")


def test_a_rerun_says_whether_it_agrees(whole, arguments, tmp_path, capsys):
    train(scale.compose([*arguments, f"rerun={whole}"]), tmp_path / "again")
    assert "the figures agree" in capsys.readouterr().out
    changed = shutil.copytree(whole, tmp_path / "changed")
    metrics = json.loads((changed / "metrics.json").read_text())
    metrics["test"]["auc"] += 0.01
    (changed / "metrics.json").write_text(json.dumps(metrics))
    train(scale.compose([*arguments, f"rerun={changed}"]), tmp_path / "other")
    said = capsys.readouterr().out
    assert "test/auc:" in said
    assert "1 figures differ from those of" in said


def test_a_rerun_is_of_the_same_configuration_data_and_of_a_finished_run(
    whole, arguments, tmp_path, monkeypatch, capsys
):
    with pytest.raises(ValueError, match=r"another configuration.*\n  - seed: 0 then, 1 now$"):
        train(scale.compose([*arguments, "seed=1", f"rerun={whole}"]), tmp_path / "seed")
    other = scale.compose([*arguments, f"rerun={_with_other_data(whole, tmp_path)}"])
    with pytest.raises(ValueError, match="images or labels are not those"):
        train(other, tmp_path / "data")
    unfinished = scale.compose([*arguments, f"rerun={tmp_path}"])
    with pytest.raises(FileNotFoundError, match="no finished run to repeat: resume="):
        train(unfinished, tmp_path / "begun")
    monkeypatch.setattr(resume, "source", lambda: "other")
    record = OmegaConf.load(whole / "config.yaml")
    del record.trainer["detect_anomaly"]
    older = shutil.copytree(whole, tmp_path / "older")
    OmegaConf.save(record, older / "config.yaml")
    train(scale.compose([*arguments, f"rerun={older}"]), tmp_path / "new")
    said = capsys.readouterr().out
    assert "other code" in said
    assert "trainer.detect_anomaly: not there then, False now" in said
    assert "the figures agree" in said


def _with_other_data(run, folder):
    """A copy of a run whose record says that it was trained on other data."""
    copy = shutil.copytree(run, folder / "other data")
    state = torch.load(copy / "checkpoints" / "best.ckpt", weights_only=True)
    (name,) = (key for key in state if key.endswith("DataModule"))
    state[name]["digest"] = "other"
    torch.save(state, copy / "checkpoints" / "best.ckpt")
    return copy


@pytest.mark.parametrize("phase", ["prepare", "evaluate"])
def test_a_signal_before_and_after_the_training_ends_the_run_at_once(
    phase, whole, arguments, tmp_path, monkeypatch, capsys
):
    from scale.utils import slurm

    asked = []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm, "requeue", lambda: asked.append(True))
    before = signal.getsignal(signal.SIGUSR1)
    name = {"prepare": "configure_optimizers", "evaluate": "test_step"}[phase]
    original = getattr(ClassificationTask, name)

    def stopped(self, *args):
        os.kill(os.getpid(), signal.SIGUSR1)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, name, stopped)
        with pytest.raises(Interrupted):
            train(scale.compose(arguments), tmp_path / "run", overrides=arguments)
    assert asked
    assert signal.getsignal(signal.SIGUSR1) is before
    assert "Go on with: python -m scale.train resume=" in capsys.readouterr().out
    assert not (tmp_path / "run" / "metrics.json").exists()
    if phase == "evaluate":
        _go_on(arguments, tmp_path / "run")
        _same(whole, tmp_path / "run")


def test_a_run_on_a_file_that_was_named_from_its_own_folder(arguments, tmp_path, monkeypatch):
    from scale.runs.recompute import evaluate_run

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.savez("own.npz", **phantom.generate(spatial_dims=2, samples={"train": 48, "val": 24, "test": 32}))
    given = ["data=npz", "data.path=own.npz", "data.problem=binary", "data.symmetry=free", *arguments[3:]]
    train(scale.compose(given), tmp_path / "run", overrides=given)
    monkeypatch.chdir(tmp_path)
    assert f"data.path='{tmp_path / 'here' / 'own.npz'}'" in resume.expand([f"rerun={tmp_path / 'run'}"])
    assert evaluate_run(tmp_path / "run")["difference"] == 0
    moved = shutil.move(tmp_path / "here" / "own.npz", tmp_path / "moved.npz")
    with pytest.raises(FileNotFoundError, match=r"data\.path=.*no such file"):
        evaluate_run(tmp_path / "run")
    assert evaluate_run(tmp_path / "run", data={"path": str(moved)})["difference"] == 0
    with pytest.raises(ValueError, match=r"data\.root=.* no such key; .* data\.path and data\.cache"):
        evaluate_run(tmp_path / "run", data={"root": str(tmp_path)})
    np.savez(moved, **phantom.generate(spatial_dims=2, samples={"train": 48, "val": 24, "test": 32}, seed=1))
    with pytest.raises(ValueError, match="images or labels are not those"):
        evaluate_run(tmp_path / "run", data={"path": str(moved)})


def test_minutes_between_checkpoints(arguments, tmp_path, monkeypatch):
    saved = []
    original = BestAndLast.save
    monkeypatch.setattr(
        BestAndLast,
        "save",
        lambda self, trainer, *, best: saved.append(trainer.global_step) or original(self, trainer, best=best),
    )
    train(scale.compose([*arguments, "callbacks.checkpoint.every_n_minutes=1e-9"]), tmp_path / "often")
    assert saved == list(range(1, 10))
    saved.clear()
    train(scale.compose([*arguments, "callbacks.checkpoint.every_n_minutes=0"]), tmp_path / "never")
    assert saved == [3, 6, 9]
    with pytest.raises(ValueError, match="every_n_minutes"):
        BestAndLast(every_n_minutes=-1)


def test_a_requeued_job_goes_on_by_itself(whole, arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12345")
    program, asked = tmp_path / "scontrol", tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("lightning.pytorch.plugins.environments.SLURMEnvironment.detect", lambda: False)
    _interrupt(monkeypatch, arguments, tmp_path / "run", step=4, number=signal.SIGUSR1)
    assert asked.read_text() == "requeue 12345\n"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    train(scale.compose(arguments), tmp_path / "run")
    _same(whole, tmp_path / "run")


def test_folder_names_under_a_cluster(monkeypatch):
    from scale.config.compose import _stamp

    first = _stamp()
    time.sleep(0.001)
    assert _stamp() != first, "two runs of one second"
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setattr(sys, "argv", ["train", "seed=1"])
    name = _stamp()
    assert name.startswith("slurm77-")
    assert _stamp() == name, "the same after a requeue"
    monkeypatch.setattr(sys, "argv", ["train", "seed=2"])
    assert _stamp() != name
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert _stamp().startswith("slurm70_3-")


@pytest.mark.slow
def test_resume_as_a_command(whole, arguments, tmp_path):
    """The whole way: a process that is told to stop, and a second command that knows nothing but the folder."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "scale.train"]
    first = subprocess.Popen([*command, *arguments, f"hydra.run.dir={folder}"], stdout=subprocess.PIPE, text=True)
    while not (folder / "history.csv").exists():
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    said = first.communicate()[0]
    if first.returncode:  # it may have been too quick to be stopped
        assert first.returncode == 143
        assert f"resume={folder}" in said
        subprocess.run([*command, f"resume={folder}"], check=True, stdout=subprocess.PIPE, cwd=tmp_path)
    _same(whole, folder)
    assert not (tmp_path / "runs").exists()
    assert yaml.safe_load((folder / "overrides.yaml").read_text()) == arguments


@pytest.mark.slow
def test_killed_at_twenty_moments(arguments, tmp_path):
    """Kill -9 from the first second to the last, in the middle of checkpoints too: the figures never change."""
    more = [*arguments, "budget.min_epochs=6", "budget.max_epochs=6", "callbacks.checkpoint.every_n_minutes=1e-9"]
    command = [sys.executable, "-m", "scale.train"]
    whole = tmp_path / "whole"
    started = time.perf_counter()
    subprocess.run([*command, *more, f"hydra.run.dir={whole}"], check=True, stdout=subprocess.PIPE)
    took, draw, kills = time.perf_counter() - started, random.Random(0), 0
    number = 0
    while kills < 20:
        number += 1
        folder = tmp_path / f"run{number}"
        while not (folder / "metrics.json").exists():
            begun = (folder / "config.yaml").exists()
            place = [f"resume={folder}"] if begun else [*more, f"hydra.run.dir={folder}"]
            run = subprocess.Popen([*command, *place], stdout=subprocess.PIPE)
            moment = draw.uniform(0.5, took)
            try:
                run.communicate(timeout=moment if kills < 20 else 600)
                assert run.returncode == 0
            except subprocess.TimeoutExpired:
                run.kill()
                run.communicate()
                kills += 1
                print(f"killed after {moment:.1f} s: {sorted(path.name for path in folder.glob('checkpoints/*'))}")
        _same(whole, folder)
