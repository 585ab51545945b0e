"""The wheel holds all that the commands need."""

import os
import subprocess
import sys
import zipfile

import pytest

from scale.config import directory

ROOT = directory().parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built and installed into a folder of its own, away from the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    return wheel, site


def test_wheel_holds_configuration_and_published_table(installed):
    names = set(zipfile.ZipFile(installed[0]).namelist())
    sources = {f"scale/conf/{p.relative_to(ROOT / 'conf')}" for p in (ROOT / "conf").rglob("*.yaml")}
    assert sources <= names
    data = {p.relative_to(ROOT).as_posix() for p in (ROOT / "scale").rglob("*") if p.suffix in (".csv", ".html", ".js")}
    assert len(data) > 5
    assert data <= names
    assert not any(name.startswith(("tests/", "conf/", "notebooks/")) for name in names)


@pytest.mark.slow
def test_wheel_trains_anywhere(installed, tmp_path, phantom_root):
    site = installed[1]
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    where = subprocess.run(
        [sys.executable, "-c", "import scale; print(scale.__file__)"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(site) in where.stdout
    options = ["data=phantom2d", "trainer=fast_dev_run", f"data.root={phantom_root}", "hydra.run.dir=run"]
    done = subprocess.run(
        [sys.executable, str(site / "bin" / "scale"), "train", *options],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "metrics.json").is_file()
