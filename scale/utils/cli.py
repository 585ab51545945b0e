"""How a command ends: one line that begins with `scale: ` for what the user can mend, a traceback for our own bugs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

PREFIX = "scale: "
USAGE, FAILED = 2, 1  # exit status: the command line is wrong; what it asked for failed
USER_ERRORS: tuple[type[Exception], ...] = (ValueError, OSError, FloatingPointError, ModuleNotFoundError, MemoryError)


def warn(message: object) -> None:
    """One line on standard error."""
    print(f"{PREFIX}{message}", file=sys.stderr)


def fail(message: object, *, status: int = FAILED) -> NoReturn:
    """Ends the program with one line on standard error."""
    warn(message)
    sys.exit(status)


@contextmanager
def one_line_errors(*, status: int = FAILED, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Ends the program with one line where a `USER_ERRORS` is raised; HYDRA_FULL_ERROR=1 shows the traceback instead.

    Args:
        status: exit status.
        also: further kinds of errors that are the user's to mend.
    """
    try:
        yield
    except (*USER_ERRORS, *also) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        fail(error, status=status)


def last_words(said: str) -> str:
    """The error message that a command's output ends with, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    first = max((n for n, line in enumerate(lines) if line.startswith(PREFIX)), default=len(lines) - 1)
    return " ".join(lines[max(first, 0) :]).removeprefix(PREFIX)
