"""A run in an operating-system process of its own: what sweeps and tuning are made of.

One process a run is what keeps one run's crash, devices, threads and loggers away from the next one's.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from scale.interruption import GRACE_SECONDS, PARENT
from scale.runs import CHECKPOINTS, METRICS


def state(folder: str | Path) -> str:
    """`done`: finished; `started`: has a checkpoint to go on from; `new`: nothing to keep."""
    folder = Path(folder)
    if (folder / METRICS).exists():
        return "done"
    return "started" if (folder / CHECKPOINTS / "last.ckpt").exists() else "new"


def start(
    overrides: Sequence[str], folder: str | Path, *, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts `python -m scale.train` in a process group of its own; goes on where an earlier attempt stopped.

    Args:
        overrides: of the command line, without Hydra's own `hydra.run.dir`.
        folder: of the run.
        environment: variables that differ from this process'.
    """
    folder = Path(folder).resolve()
    place = f"resume={folder}" if state(folder) == "started" else f"hydra.run.dir={folder}"
    variables = {**os.environ, PARENT: str(os.getpid()), **(environment or {})}
    command = [sys.executable, "-m", "scale.train", *overrides, place]
    return subprocess.Popen(command, env=variables, start_new_session=True)


def stop(process: subprocess.Popen[bytes], *, grace: float = GRACE_SECONDS) -> int:
    """Asks a run's whole process group to save and end, and ends it by force after `grace` seconds.

    Returns:
        The exit status.
    """
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    _signal(process, signal.SIGKILL)  # also what a run that has ended left behind in its group
    return process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
