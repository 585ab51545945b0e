"""A run in an operating-system process of its own: what sweeps and tuning are made of.

One process a run is what keeps one run's crash, devices, threads and loggers away from the next one's.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from scale.config.keys import quoted
from scale.runs.folder import refuse_links
from scale.runs.interruption import GRACE_SECONDS, PARENT
from scale.runs.reading import CHECKPOINTS, CONFIG, METRICS

LOCK = ".job.lock"
COMMAND = (sys.executable, "-m", "scale.train")


def state(folder: str | Path) -> str:
    """`done`: finished; `started`: has a checkpoint to go on from; `new`: nothing to keep."""
    folder = Path(folder)
    if (folder / METRICS).exists():
        return "done"
    saved = any((folder / CHECKPOINTS / name).exists() for name in ("last.ckpt", "previous.ckpt"))
    return "started" if saved else "new"


def start(
    overrides: Sequence[str],
    folder: str | Path,
    *,
    environment: Mapping[str, str] | None = None,
    output: str | Path | None = None,
    hold: Sequence[int] = (),
    patience: float = GRACE_SECONDS,
) -> subprocess.Popen[bytes]:
    """Starts `python -m scale.train` in a process group of its own; resumes where an earlier attempt stopped.

    The process holds a lock in the folder until it ends, also where the caller dies first: no two work in one folder.

    Args:
        overrides: of the command line, without Hydra's own `hydra.run.dir`.
        folder: of the run; what an attempt left there that ended before its first checkpoint is not kept.
        environment: variables that differ from this process'.
        output: file that what the run prints is added to, in place of this process' output.
        hold: descriptors of further locks that the process is to hold.
        patience: seconds to wait for an earlier process in the folder to end.

    Raises:
        BlockingIOError: another process works in the folder.
        ValueError: the folder is a symbolic link, or has one.
    """
    if Path(folder).is_symlink():
        raise ValueError(f"{str(folder)!r} is a symbolic link: a job's folder is none; delete it")
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder)
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", PARENT: str(os.getpid()), **(environment or {})}
    with contextlib.ExitStack() as stack:
        lock = take(folder / LOCK, patience=patience)
        if lock is None:
            raise BlockingIOError(f"another process works in {folder}: wait for it, or end it")
        stack.callback(os.close, lock)  # the run's own copy goes on holding it
        found = state(folder)  # an earlier process may have finished the run while this one waited
        place = f"resume={folder}" if found == "started" else f"hydra.run.dir={quoted(folder)}"
        # Without a checkpoint there is nothing to resume, and the record alone would make the folder look taken.
        if found == "new":
            (folder / CONFIG).unlink(missing_ok=True)
        command = [*COMMAND, *overrides, place]
        sink = stack.enter_context(Path(output).open("ab")) if output else None
        error = subprocess.STDOUT if output else None
        keep = [lock, *hold]
        # A session of its own: signals for the caller's terminal do not reach the run, and `stop` reaches all of it,
        # data loaders and the other processes of a distributed run included.
        return subprocess.Popen(
            command, env=variables, start_new_session=True, stdout=sink, stderr=error, pass_fds=keep
        )


def stop(process: subprocess.Popen[bytes], *, grace: float = GRACE_SECONDS) -> int:
    """Asks a run's whole process group to save and end, and ends it by force after `grace` seconds.

    Also clears away what a run that has ended left behind in its group.

    Returns:
        The exit status; of a process that a signal ended, the signal's number with a minus.
    """
    try:
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
    finally:
        # To the group, also where its first process has ended: orphaned workers would keep a GPU's memory.
        _signal(process, signal.SIGKILL)
    return process.wait()


def take(path: Path, *, patience: float = 0.0, shared: bool = False) -> int | None:
    """Locks a file, made if need be; the lock lasts until every copy of the descriptor is closed.

    Args:
        path: of the file.
        patience: seconds to go on trying.
        shared: together with others who do the same.

    Returns:
        The descriptor, or None where another process has the lock.
    """
    # flock belongs to the open file, which a child inherits: the lock outlives this process if the child does.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(descriptor)
                return None
            time.sleep(0.1)
        else:
            return descriptor


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock."""
    if not path.exists():
        return False
    descriptor = take(path, shared=True)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
