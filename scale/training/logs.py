"""Every line once to the console and once to a file."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from scale.utils.files import is_disk_full

FILE_ONLY = {"file_only": True}  # `extra` of a record that the console shows in another way


class _Console(logging.StreamHandler[TextIO]):
    """Writes to what standard output is now: while a bar is shown, rich stands there and keeps the line above it."""

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """The base class sets it."""


class _LogFile(logging.FileHandler):
    """A log file that a full disk leaves incomplete; logging's own answer would be a traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Ignores what could not be written: the run itself says that the disk is full."""

    def close(self) -> None:
        """Closes the file, and does not say again that lines could not be written."""
        try:
            super().close()
        except OSError as error:
            if not is_disk_full(error):
                raise


@contextlib.contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Sends our lines and all warnings to standard output and to a file; others' handlers are set aside.

    Args:
        path: the file, appended to; without one (the other processes of a distributed run) only errors are shown.
    """
    root, ours = logging.getLogger(), logging.getLogger("scale")
    console = _Console()
    console.setFormatter(logging.Formatter("%(message)s"))
    console.addFilter(lambda record: not getattr(record, "file_only", False))
    handlers: list[logging.Handler] = [console]
    if path is not None:
        file = _LogFile(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        handlers.append(file)
    kept, level, showwarning = root.handlers, root.level, warnings.showwarning
    own_level = ours.level
    root.handlers, root.level = handlers, logging.WARNING
    ours.setLevel(logging.INFO if path is not None else logging.ERROR)
    for name in ("lightning.pytorch", "lightning.fabric"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate, library.level = True, logging.WARNING
    if path is not None:
        warnings.showwarning = lambda message, category, *_, **__: ours.warning("warning: %s", message)
    try:
        yield
    finally:
        root.handlers, root.level, warnings.showwarning = kept, level, showwarning
        if path is None:  # or no later warning of this process would be seen
            ours.setLevel(own_level)
        for handler in handlers[1:]:
            handler.close()
