"""How the guide is built, offline: `sphinx-build -W --keep-going docs docs/_build/html` (extra `docs`)."""

import ast
import builtins
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from sphinx import addnodes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]
import blocks  # noqa: E402

from scale.__main__ import COMMANDS  # noqa: E402

project, author, copyright = "SCALE", "SCALE's authors", "SCALE's authors, MIT licence"
try:
    release = metadata.version("scale-medvision")
except metadata.PackageNotFoundError:  # a checkout that is not installed
    release = "source"

os.environ["SPHINX_APIDOC_OPTIONS"] = "members,show-inheritance,ignore-module-all"  # the setting leaves packages out
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.apidoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "Thumbs.db"]
html_theme, html_title = "furo", f"SCALE {release}"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072b2", "color-brand-content": "#0072b2"},
    "dark_css_variables": {"color-brand-primary": "#56b4e9", "color-brand-content": "#56b4e9"},
}
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks carry their outputs; the tests run them

default_role = "literal"  # `name` in a docstring
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
apidoc_modules = [
    {
        "path": str(ROOT / "scale"),
        "destination": "_generated/api",
        "separate_modules": True,
        "module_first": True,
    }
]


def write_help(folder: Path) -> None:
    """The commands' own help texts, and the table of commands: the pages include them, so they cannot differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for command in COMMANDS:
        shown = subprocess.run(
            [sys.executable, "-m", f"scale.{command}", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        (folder / f"{command}.txt").write_text(shown.stdout.rstrip() + "\n", encoding="utf-8")
    rows = [f"| [`{name}`](/commands/{name}.md) | {text} |" for name, text in COMMANDS.items()]
    table = "\n".join(["| command | what it does |", "| --- | --- |", *rows])
    (folder / "commands.md").write_text(table + "\n", encoding="utf-8")


def write_examples(folder: Path) -> None:
    """The README's example files, which the page on extending includes."""
    for name, text in blocks.files((ROOT / "README.md").read_text(encoding="utf-8")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def copy_notebooks(folder: Path) -> None:
    """The notebooks, with the outputs that they are committed with."""
    folder.mkdir(parents=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copy(path, folder / path.name)


def plain_text(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:  # noqa: PLR0917 Sphinx calls it so
    """Docstrings are plain text with `code`: what reStructuredText would read as markup outside of it is escaped."""
    markup = re.compile(r"(?<=\S)([*|])|(?<=\w)_(?!\w)|[*|](?=\S)")
    parts = re.split(r"(``[^`]+``|`[^`]+`)", "\n".join(lines))  # every second part is code
    parts[1::2] = [re.sub(r"^(`+)\s*(.*?)\s*(`+)$", r"\1\2\3", part, flags=re.DOTALL) for part in parts[1::2]]
    text = "".join(part if n % 2 else markup.sub(r"\\\g<0>", part) for n, part in enumerate(parts))
    lines[:] = re.sub(r"(?<!`)(`[^`]+`)(?=\w)", r"\1\\ ", text).split("\n")  # `name`s


def skip_foreign(app: Any, what: str, name: str, obj: object, skip: bool, options: Any) -> bool | None:  # noqa: PLR0917
    """What a module imports is none of its members, but for what a package takes from its own modules."""
    home, here = getattr(obj, "__module__", None), app.env.temp_data.get("autodoc:module")
    foreign = isinstance(home, str) and isinstance(here, str) and not f"{home}.".startswith(f"{here}.")
    return True if what == "module" and foreign else None


@functools.cache
def imported(module: str) -> dict[str, str]:
    """What the names that a module imports stand for, also those that it imports for its annotations alone."""
    spec = importlib.util.find_spec(module)
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8")) if spec and spec.origin else ast.Module([], [])
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {one.asname or one.name: f"{node.module}.{one.name}" for node in found for one in node.names}


def qualify(app: Any, doctree: Any) -> None:
    """Gives the names in annotations the module that they are imported from: several classes may share one name."""
    for node in doctree.findall(addnodes.pending_xref):
        module, name = node.get("py:module"), node.get("reftarget", "")
        if node.get("refdomain") != "py" or not module or "." in name:
            continue
        node["reftarget"] = imported(module).get(name, f"builtins.{name}" if hasattr(builtins, name) else name)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    shutil.rmtree(HERE / "_generated", ignore_errors=True)
    write_help(HERE / "_generated" / "help")
    write_examples(HERE / "_generated" / "readme")
    copy_notebooks(HERE / "_generated" / "notebooks")
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("doctree-read", qualify)
    app.connect("autodoc-process-docstring", plain_text, priority=400)  # before napoleon
