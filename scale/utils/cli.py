"""How a command ends: one line that begins with `scale: ` for what the user can mend, a traceback for our own bugs."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

PREFIX = "scale: "
PIPE = 141  # exit status where nobody reads on, as shells have it: 128 + SIGPIPE
USAGE, FAILED = 2, 1  # exit status: the command line is wrong; what it asked for failed
USER_ERRORS: tuple[type[Exception], ...] = (ValueError, OSError, FloatingPointError, ModuleNotFoundError, MemoryError)


def warn(message: object) -> None:
    """One line on standard error."""
    print(f"{PREFIX}{message}", file=sys.stderr)


def fail(message: object, *, status: int = FAILED) -> NoReturn:
    """Ends the program with one line on standard error."""
    warn(message)
    sys.exit(status)


def refuse_flags(arguments: Sequence[str]) -> None:
    """Ends the program where a flag is given to a command that takes `key=value` alone."""
    for argument in arguments:
        if argument.startswith("-"):
            fail(f"{argument}: this command takes key=value and --help, no other flag", status=USAGE)


@contextmanager
def one_line_errors(*, status: int = FAILED, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Ends the program with one line where a `USER_ERRORS` is raised; HYDRA_FULL_ERROR=1 shows the traceback instead.

    Args:
        status: exit status.
        also: further kinds of errors that are the user's to mend.
    """
    caught: tuple[type[Exception], ...] = (*USER_ERRORS, *also, RuntimeError)
    try:
        yield
    except BrokenPipeError:  # as in `| head`: whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE)
    except caught as error:
        mine = not isinstance(error, RuntimeError) or isinstance(error, also) or _is_memory(error)
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or not mine:
            raise
        if _is_memory(error):
            fail(f"memory is full ({_first_line(error)}): give a smaller data.batch_size or model", status=status)
        fail(error if str(error) else type(error).__name__, status=status)


def repair_streams() -> None:
    """Lets a command print where standard output or error is closed, or cannot show a character (LC_ALL=C)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for the whole process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _is_memory(error: BaseException) -> bool:
    """Whether memory is out; torch says so by a plain RuntimeError on CPUs, by a class of its own on GPUs."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def last_words(said: str) -> str:
    """The error message that a command's output ends with, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    first = max((n for n, line in enumerate(lines) if line.startswith(PREFIX)), default=len(lines) - 1)
    return " ".join(lines[max(first, 0) :]).removeprefix(PREFIX)
