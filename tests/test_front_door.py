"""What a newcomer meets first: the list of commands, help, completion, the first line, a run's repr, public names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import scale
from scale.__main__ import COMMANDS
from scale.evaluation import official
from scale.runs.load import Run

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments, **environment):
    command = [sys.executable, "-m", "scale", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_every_command_has_a_module_and_a_line():
    listed = run("--help").stdout
    for name, text in COMMANDS.items():
        assert (ROOT / "scale" / f"{name}.py").is_file()
        assert f"  {name:12}{text}" in listed
    commands = {path.stem for path in (ROOT / "scale").glob("*.py") if not path.stem.startswith("__")}
    assert commands == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_short_and_begins_with_the_usage(command):
    shown = run(command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"usage: python -m scale.{command}")
    assert len(shown.stdout.splitlines()) <= 60
    assert max(map(len, shown.stdout.splitlines())) <= 125
    assert not re.search(r"\{\w+\}", shown.stdout)  # a part that was not filled in


def test_the_first_line_needs_no_torch(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "def refuse(event, found):\n"
        "    if event == 'import' and found[0] in ('torch', 'lightning', 'pandas', 'matplotlib'):\n"
        "        raise ImportError(f'{found[0]} was imported')\n"
        "sys.addaudithook(refuse)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    said = run("train", "data=phantom2d", "seed=3", f"hydra.run.dir={tmp_path / 'run'}", PYTHONPATH=path)
    assert said.stdout.splitlines()[0] == "scale: scale on phantom2d, seed 3: loading PyTorch and the data"
    assert "was imported" in said.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_completion_knows_commands_groups_and_keys(tmp_path):
    script = run("--completion").stdout
    (tmp_path / "scale").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m scale "$@"\n')
    (tmp_path / "scale").chmod(0o755)

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        setting = f"COMP_LINE='{line}'; COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}"
        text = f'{script}\n{setting}\n_scale\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
        environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)
        return done.stdout.split()

    assert complete("scale ex") == [name for name in COMMANDS if name.startswith("ex")]
    assert complete("scale train model=scale data=breast") == ["data=breastmnist"]
    assert complete("scale describe data=breast") == ["data=breastmnist"]
    assert complete("scale explain attribution=f") == ["attribution=fast", "attribution=full"]


def test_repr_of_a_run_is_five_lines():
    scores = {"auc": 0.91234, "acc": None}
    metrics = {
        "flag": "breastmnist",
        "size": 28,
        "problem": "binary",
        "seed": 4,
        "best_epoch": 7,
        "epochs": 9,
        "model": {"name": "scale_tiny", "parameters": 71234, "macs": 3_000_000},
        "samples": {"train": 546, "val": 78, "test": 156},
        "val": scores,
    }
    shown = repr(Run(Path("runs/x"), None, metrics, {}, SimpleNamespace(net=object()), None))
    assert shown.splitlines() == [
        "Run of scale_tiny on breastmnist (28 pixels, binary), seed 4",
        "  model   object, 71,234 parameters, 0.003 G MACs, best epoch 7 of 9",
        "  val     AUC 0.912  ACC undefined  (78 samples)",
        "  test    not evaluated",
        "  folder  runs/x",
    ]


def test_dir_lists_the_public_names_alone():
    assert dir(scale) == sorted(scale.__all__)
    assert all(callable(getattr(scale, name)) for name in dir(scale))


@pytest.mark.parametrize(
    ("model", "name"),
    [("scale_tiny", "scale_tiny-seed0"), ("resnet18+2.5d", "resnet18+2-5d-seed0"), ("timm/a.b@c", "timm-a-b-c-seed0")],
)
def test_prediction_files_carry_the_models_name(model, name):
    assert official.run_name(model, 0) == name
    parts = {"flag": "breastmnist", "size": 28, "split": "test", "auc": 0.9, "acc": 0.8}
    assert official.parse_name(official.file_name(**parts, run=official.run_name(model, 0))).run == name


def test_contributing_names_every_room():
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", text.split("## To add")[0], flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {path.parent.name for path in (ROOT / "scale").glob("*/__init__.py")}
