"""The notebooks are what their scripts build, with outputs; that they run is tested by nbmake in `notebooks/`."""

import importlib.util
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
_spec = importlib.util.spec_from_file_location("build", NOTEBOOKS / "build.py")
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)
SCRIPTS = sorted(build.SCRIPTS.glob("*.py"))
HINT = "stale: run `python notebooks/build.py {name}`"


def test_a_notebook_for_each_script():
    assert [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))] == [path.stem for path in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_what_its_script_builds(script):
    path = NOTEBOOKS / f"{script.stem}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    found = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert found == build.cells(script), HINT.format(name=script.stem)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), HINT.format(name=script.stem)
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs, "committed without outputs"
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    text = path.read_text(encoding="utf-8")
    assert len(text) < 400_000  # small outputs
    assert "/tmp/" not in text.replace("/tmp/scale_", "")
    assert "/home/" not in text
