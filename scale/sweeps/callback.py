"""Sweeps: `python -m scale.train -m ...`. Every job is a run in a process of its own, whatever Hydra's launcher.

The sweep's folder holds `sweep.json` (what is swept), a folder for each job with `job.json` (what became of it) and
`console.log` (what it said), and at the end the tables. The same command with the same `hydra.sweep.dir` resumes: jobs
that are done are kept, interrupted ones resume from their last checkpoint, all others are run.
"""

import atexit
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from scale.config.keys import Kind, key_of, kind
from scale.runs.folder import refuse_links
from scale.runs.machine import visible_gpus
from scale.runs.process import LOCK, take
from scale.sweeps import report
from scale.sweeps.folder import PLAN, STOP, read
from scale.sweeps.plan import plan
from scale.utils.cli import USAGE, USER_ERRORS, fail
from scale.utils.files import write_json

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Sweep(Callback):
    """Hydra's callback around all jobs; lives in the process of the command."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.lock: int | None = None
        self.received = 0
        self.waits = True

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Takes the sweep's folder, or ends the program with status 2 and one line that says why it cannot."""
        try:
            self.folder, self.lock = begin(config)
        except USER_ERRORS as error:
            fail(error, status=USAGE)
        except Exception:  # Hydra would only warn
            traceback.print_exc()
            sys.exit(1)
        launcher = str(config.hydra.launcher._target_)
        self.waits = not launcher.endswith("SlurmLauncher")
        if launcher.endswith("RayLauncher"):
            _start_ray(config.hydra.launcher.ray.init)
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a job in a script's background
                signal.signal(number, self._handle)
        # Hydra calls `on_multirun_end` only where the launcher returns; the tables are due where it raises, too.
        atexit.register(self._report)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Writes the tables; ends the program with status 0 only where every job is done."""
        atexit.unregister(self._report)
        try:
            done = self._report()
        except Exception:  # Hydra would only warn, and end with status 0
            traceback.print_exc()
            done = False
        if self.received:
            sys.exit(128 + self.received)
        if not done:
            sys.exit(1)

    def _report(self) -> bool:
        assert self.folder is not None
        return report.write(self.folder)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Asks all jobs to stop: they look for the file. Another signal ends this process at once."""
        assert self.folder is not None
        self.received = number
        # A file and not a signal: jobs may be threads, worker processes or on other machines, and all see the folder.
        (self.folder / STOP).touch()
        # print() is not safe in a signal handler: the signal may have come in the middle of another print.
        os.write(2, b"scale: stopping: running jobs save and end; the same command with this sweep's folder resumes\n")
        # From here on the next signal interrupts: whoever asks twice does not want to wait for the jobs to save.
        for other in SIGNALS:
            if signal.getsignal(other) == self._handle:
                signal.signal(other, signal.default_int_handler)
        if not self.waits:  # jobs in a cluster's queue see the file when they begin
            sys.exit(128 + number)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": None, "lock": None, "received": 0, "waits": True}  # workers need none of it


def begin(config: DictConfig) -> tuple[Path, int]:
    """Takes a new sweep folder, or that of the same sweep.

    Returns:
        The folder, and the descriptor of the lock on it.

    Raises:
        FileExistsError: the folder holds another sweep (says what differs), or something else.
        BlockingIOError: the sweep is running.
        ValueError: two jobs would share a folder; a sweeper or launcher setting that is not supported.
    """
    folder = Path(config.hydra.sweep.dir).absolute()
    _check(config)
    given = plan(config)
    if (folder / PLAN).is_file():
        _compare(read(folder / PLAN), given, folder, resume=config.sweep.resume)
    elif folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:3])
        raise FileExistsError(
            f"{folder} is not empty ({names}) and holds no sweep: give another folder with hydra.sweep.dir=..., "
            "or none, for a new one"
        )
    refuse_links(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = take(folder / LOCK, patience=2)  # a job that looks for it takes it for a moment
    except OSError as error:
        hint = f"cannot write the sweep's folder ({error.strerror}); give another with hydra.sweep.dir=..."
        raise type(error)(error.errno, hint, str(folder)) from error
    if lock is None:
        holder = (folder / LOCK).read_text()
        raise BlockingIOError(f"the sweep in {folder} is running ({holder}): wait for it, or give another folder")
    # The lock is the descriptor, not the file: the system lets go of it however this process ends, and the text in the
    # file is for people only.
    os.truncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    # What an earlier command was asked to stop by must not stop this one.
    (folder / STOP).unlink(missing_ok=True)
    write_json(folder / PLAN, {**given, "host": socket.gethostname(), "gpus": visible_gpus()})
    return folder, lock


def _start_ray(settings: Mapping[str, Any]) -> None:
    """Starts Ray before the launcher would: it takes the signal handlers over, and ours have to come later."""
    import ray

    least = {"object_store_memory": 80 * 2**20}  # nothing passes through the store
    ray.init(**{**least, **settings})


def _check(config: DictConfig) -> None:
    settings = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(settings, dict)
    subdir, sweeper, launcher = settings["sweep"]["subdir"], settings["sweeper"], settings["launcher"]
    if "hydra.job.num" not in str(subdir):
        raise ValueError(
            f"hydra.sweep.subdir={subdir}: jobs would share a folder; let it end with the job's number, "
            f"as in hydra.sweep.subdir='{subdir}-${{hydra.job.num}}'"
        )
    if sweeper["_target_"] != BASIC:
        raise ValueError(f"hydra/sweeper={sweeper['_target_']}: only Hydra's basic sweeper is supported")
    for key in ("nodes", "tasks_per_node"):
        if launcher.get(key, 1) != 1:
            raise ValueError(f"hydra.launcher.{key}={launcher[key]}: give 1, a run starts its own processes")


def _compare(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path, *, resume: bool) -> None:
    hint = "give another folder with hydra.sweep.dir=..., or none, for a new one"
    if not resume:
        raise FileExistsError(f"{folder} holds a sweep, and sweep.resume=false: {hint}")
    # Places are left out: a sweep that is resumed on another machine, or with its data elsewhere, is the same sweep.
    before, now = ([[text for text in job if _tells(text)] for job in found["jobs"]] for found in (old, new))
    if before == now:
        return
    there, here = ({key: value for key, value in found["choices"].items() if _tells(key)} for found in (old, new))
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    differs = [f"{key} is {there.get(key, 'not given')} there and {here.get(key, 'not given')} here" for key in keys]
    if not differs:
        differs = [f"{len(old['jobs'])} jobs there and {len(new['jobs'])} here, or in another order"]
    raise FileExistsError(f"{folder} holds another sweep ({'; '.join(differs)}): {hint}")


def _tells(override: str) -> bool:
    """Whether an override makes another sweep, and does not only say where its jobs run or find their data."""
    return kind(key_of(override)) is not Kind.PLACE
