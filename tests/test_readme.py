"""The README's commands and examples, run as they stand.

What is substituted, so that a newcomer's minutes are a test's seconds, stands in `SUBSTITUTES` and `SMALL` alone.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scale.__main__ import COMMANDS
from scale.config import check_command_line, options, options_first

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
_spec = importlib.util.spec_from_file_location("blocks", ROOT / "docs" / "blocks.py")
blocks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(blocks)

SUBSTITUTES = {  # tests use neither a network nor a GPU
    "data=breastmnist": "data=phantom2d",
    "data=vesselmnist3d": "data=phantom3d",
    "data=nodulemnist3d": "data=phantom3d",
    "trainer=gpu hardware=amp": "trainer=cpu",
    "data.size=64": "data.size=28",
    "output=.github/dataflow.png": "output=dataflow.png",
}
SMALL = {  # added to a command
    "train": "model=scale_tiny budget.min_epochs=1 budget.max_epochs=1",
    "explain": "attribution=fast attribution.methods=[saliency,edges] samples.wrong=0 samples.uncertain=0 groups=false",
}
FEW = "data.samples={train:48,val:24,test:32}"
# what needs a plug-in, a run or minutes
ELSEWHERE = ("hydra/", "hydra.launcher", "resume=", "rerun=", "experiment=first", "sweep=")
ELSEWHERE_TESTED = ("--config-dir", "scale.serve")  # below, and a server does not end
LATER = ("--cfg", "experiment=best", "data.path=mine.npz")  # no run; files that an earlier command makes
INSTALL = "pip install"  # tested by the wheel's tests and by CI's first line
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def lines(text):
    return [line for line in dict.fromkeys(blocks.commands(text)) if line.startswith(("python -m scale.", "scale "))]


def run(line, folder):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SCALE_DATA_ROOT": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable if word == "python" else word for word in shlex.split(line)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def write_images(folder):
    """Class folders of pictures, the README's IMAGES."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number, kind in enumerate(("dark", "light")):
        (folder / kind).mkdir(parents=True)
        for n in range(50):
            pixels = rng.integers(0, 120, (28, 28)) + 100 * number
            Image.fromarray(pixels.astype("uint8")).save(folder / kind / f"{n}.png")


def write_examples(folder):
    for name, text in blocks.files(README).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_at_most_1200_words():
    assert len(README.split()) <= 1200  # as `wc -w` counts, code and tables included


def test_the_table_of_commands_is_that_of_the_program():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, flags=re.MULTILINE))
    assert rows == COMMANDS


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_examples_are_short():
    examples = blocks.files(README)
    assert {"make_data.py", "mynet.py", "seconds.py"} <= set(examples)
    assert all(len(text.splitlines()) < 20 for text in examples.values())


@pytest.mark.slow
def test_a_data_set_a_model_and_a_callback_of_ones_own(tmp_path):
    write_examples(tmp_path)
    first, second = [line for line in blocks.commands(README) if "make_data.py" in line or "--config-dir" in line]
    run(first, tmp_path)
    said = run(f"{second} trainer.max_epochs=1 hydra.run.dir=run", tmp_path)
    assert "MyNet: 419 parameters" in said  # width 32 from the YAML, one channel and three classes from the data
    assert "trained for" in said
    assert (tmp_path / "run" / "metrics.json").is_file()


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.stem)
def test_command_lines_have_no_unknown_group_key_or_option(page, tmp_path, monkeypatch):
    """Composed and checked like the commands do, before anything is loaded; a wrong line would exit with status 2."""
    monkeypatch.chdir(tmp_path)
    write_examples(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for line in lines(page.read_text(encoding="utf-8")):
        command, *arguments = shlex.split(re.sub(r"^(python -m scale\.|scale )", "", line))
        assert command in COMMANDS, line
        if not (ROOT / "conf" / f"{command}.yaml").exists() or any(part in line for part in LATER):
            continue  # no configuration of its own; or a file that an earlier command makes
        sweeps = [text.removeprefix("sweep=") for text in arguments if text.startswith("sweep=")]
        assert set(sweeps) <= set(options("sweep")), line
        plain = [text.replace("...", "x") for text in arguments if not text.startswith(ELSEWHERE)]
        check_command_line(options_first(plain), name=command)


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path):
    write_examples(tmp_path)
    for name in ("IMAGES", "NEW_IMAGES"):
        write_images(tmp_path / name)
    places = {"RUN": "made/phantom2d", "MINE": "made/npz", "SWEEP": "made/sweep"}
    for number, line in enumerate(blocks.commands(README)):
        if line.startswith(INSTALL) or any(part in line for part in ELSEWHERE_TESTED):
            continue
        small = line
        for given, instead in SUBSTITUTES.items():
            small = small.replace(given, instead)
        command = re.search(r"scale\.(\w+)", small)
        if command and command[1] in SMALL:
            small += f" {SMALL[command[1]]}"
        data = re.search(r"data=(\w+)", small)
        if data and "phantom" in data[1]:
            small += f" {FEW}"
        if data and " -m " not in small.removeprefix("python -m "):
            first = not (tmp_path / "made" / data[1]).exists()
            small += f" hydra.run.dir=made/{data[1]}{'' if first else number}"
        for name, place in places.items():
            small = re.sub(rf"\b{name}\b", place, small)
        run(small, tmp_path)
    (tmp_path / "read_back.py").write_text(blocks.files(README)["read_back.py"].replace("RUN", places["RUN"]))
    assert "Run of scale_tiny on phantom2d" in run("python read_back.py", tmp_path)
