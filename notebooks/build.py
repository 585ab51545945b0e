"""Runs `scripts/*.py` and writes them as notebooks with outputs: `python notebooks/build.py [NAME ...]`.

A script has cells that begin with `# %%` (code) or `# %% [markdown]` (text, commented out).
"""

import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "scripts"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def cells(script: Path) -> list[tuple[str, str]]:
    """The cells of a script: kind, `markdown` or `code`, and source."""
    found = []
    for part in re.split(r"^# %%", script.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            text = "\n".join(re.sub(r"^# ?", "", line) for line in body.strip().splitlines())
            found.append(("markdown", text))
        else:
            found.append(("code", body.strip()))
    return found


def tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Joins the parts of a stream, and takes the temporary folder, which is another each time, out of its paths."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = re.sub(r"\S*/scale_\w+/", "", output.text)
            if joined and joined[-1].output_type == "stream" and joined[-1].name == output.name:
                joined[-1].text += output.text
                continue
        joined.append(output)
    return joined


def build(script: Path) -> Path:
    """Runs a script's cells in a fresh kernel and writes the notebook with their outputs."""
    from nbclient import NotebookClient

    made = [(new_markdown_cell if kind == "markdown" else new_code_cell)(text) for kind, text in cells(script)]
    for number, cell in enumerate(made):
        cell["id"] = f"c{number}"  # the same in every build
    notebook = new_notebook(cells=made, metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(HERE)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs)
    path = HERE / f"{script.stem}.ipynb"
    nbformat.write(notebook, path)
    return path


def main() -> None:
    """Builds the notebooks that are named, or all."""
    names = sys.argv[1:]
    for script in sorted(SCRIPTS.glob("*.py")):
        if not names or script.stem in names:
            print(build(script).name, flush=True)


if __name__ == "__main__":
    main()
