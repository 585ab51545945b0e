"""Help texts of the commands, filled in from `conf/`; nothing heavy is imported."""

import textwrap
from collections.abc import Callable, Iterable, Sequence

from omegaconf import OmegaConf

from scale.config.compose import directory, options
from scale.utils.cli import one_line_errors, repair_streams


def show_help(arguments: Sequence[str], text: str, **parts: Callable[[], str]) -> bool:
    """Prints a help text if it is asked for; says whether it was.

    Args:
        arguments: of the command line.
        text: with `{name}` where a part belongs.
        parts: by name, what is filled in.
    """
    repair_streams()  # the first thing that every command does
    if not {"-h", "--help"} & set(arguments):
        return False
    for name, part in parts.items():
        text = text.replace(f"{{{name}}}", part())
    with one_line_errors():  # `| head` is no error
        print(text, flush=True)
    return True


def groups(root: str = "train") -> str:
    """The groups of `conf/` that a root chooses from, with their options; * marks the default.

    Hydra's own `$APP_CONFIG_GROUPS` marks no default and lists the files that are only parts of others.
    """
    chosen = defaults(root)
    lines = []
    for folder in sorted(path.name for path in directory().iterdir() if path.name in chosen):
        names = [f"{name}*" if chosen[folder] == name else name for name in options(folder)]
        text = textwrap.wrap(" ".join(names), width=96, break_on_hyphens=False)
        lines += [f"  {folder if number == 0 else '':12}{line}" for number, line in enumerate(text)]
    return "\n".join(lines) + "\n"


def defaults(root: str = "train") -> dict[str, str]:
    """The option of each group in the defaults of a root configuration."""
    entries = OmegaConf.to_container(OmegaConf.load(directory() / f"{root}.yaml")).get("defaults", [])  # type: ignore[union-attr]
    pairs = [next(iter(entry.items())) for entry in entries if isinstance(entry, dict)]
    return {str(group): str(option) for group, option in pairs if not str(group).startswith("override ")}


def settings(root: str, *, first: str) -> str:
    """The keys of a root configuration from `first` on, with the comments that explain them."""
    lines = (directory() / f"{root}.yaml").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{first}:"))
    return "\n".join(f"  {line}" for line in lines[start:])


def wrapped(names: Iterable[str], *, indent: int) -> str:
    """Names in lines of at most 118 characters, the further ones indented."""
    space = " " * indent
    return textwrap.fill(", ".join(names), width=118, initial_indent=space, subsequent_indent=space).lstrip()
