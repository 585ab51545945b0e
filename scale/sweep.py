"""Sweeps: `python -m scale.train -m ...`. Every job is a run in a process of its own, whatever Hydra's launcher.

The sweep's folder holds `sweep.json` (what is swept), a folder for each job with `job.json` (what became of it) and
`console.log` (what it said), and at the end the tables. The same command with the same `hydra.sweep.dir` goes on: jobs
that are done are kept, interrupted ones continue from their last checkpoint, all others are run.
"""

import atexit
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from scale import jobs, sweep_plan
from scale.resume import PLACES
from scale.runs import METRICS, write_json
from scale.usage import USER_ERRORS

PLAN, JOB, CONSOLE, STOP, GPUS = "sweep.json", "job.json", "console.log", ".stop", ".gpu"
BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ENDS = {130: "SIGINT", 143: "SIGTERM"}  # exit status of a run that was asked to stop, and saved
POLL_SECONDS = 0.2


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
            print(f"scale: {error}", file=sys.stderr)
            sys.exit(2)
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
        atexit.register(self._report)  # also where a launcher's own failure ends the sweep

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Writes the tables; ends the program with status 0 only where every job is done."""
        atexit.unregister(self._report)
        done = self._report()
        if self.received:
            sys.exit(128 + self.received)
        if not done:
            sys.exit(1)

    def _report(self) -> bool:
        from scale import sweep_report

        assert self.folder is not None
        return sweep_report.write(self.folder)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Asks all jobs to stop: they look for the file. Another signal ends this process at once."""
        assert self.folder is not None
        self.received = number
        (self.folder / STOP).touch()
        os.write(2, b"scale: stopping: running jobs save and end; the same command with this sweep's folder goes on\n")
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
    given = sweep_plan.plan(config)
    if (folder / PLAN).is_file():
        _compare(read(folder / PLAN), given, folder, resume=config.sweep.resume)
    elif folder.is_dir() and any(path.name != jobs.LOCK for path in folder.iterdir()):
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:3])
        raise FileExistsError(
            f"{folder} is not empty ({names}) and holds no sweep: give another folder with hydra.sweep.dir=..., "
            "or none, for a new one"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = jobs.take(folder / jobs.LOCK, patience=2)  # a job that looks for it takes it for a moment
    except OSError as error:
        hint = f"cannot write the sweep's folder ({error.strerror}); give another with hydra.sweep.dir=..."
        raise type(error)(error.errno, hint, str(folder)) from error
    if lock is None:
        holder = (folder / jobs.LOCK).read_text()
        raise BlockingIOError(f"the sweep in {folder} is running ({holder}): wait for it, or give another folder")
    os.truncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    (folder / STOP).unlink(missing_ok=True)
    write_json(folder / PLAN, {**given, "host": socket.gethostname(), "gpus": visible_gpus()})
    return folder, lock


def visible_gpus() -> list[str]:
    """Names of the GPUs that CUDA_VISIBLE_DEVICES allows, found without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(found.iterdir())))] if found.is_dir() else []


def gpus_of(slot: int, *, slots: int, visible: Sequence[str], devices: int | None) -> list[str]:
    """The GPUs of one of several jobs that run at the same time.

    Args:
        slot: number of the job among those that run, from 0.
        slots: how many run at the same time.
        visible: all GPUs.
        devices: how many a job asks for; None: an equal share.

    Returns:
        As many as it asks for, shared with no other job while there are enough of them.
    """
    size = devices or max(1, len(visible) // slots)
    parts = len(visible) // size
    if not parts:
        return list(visible)  # the run says that there are too few
    first = slot % parts * size
    return list(visible[first : first + size])


def parallel(launcher: Mapping[str, Any], *, count: int, batch: int | None) -> int | None:
    """How many of a sweep's jobs run at the same time on this machine.

    Args:
        launcher: its configuration.
        count: of jobs.
        batch: the sweeper's `max_batch_size`.

    Returns:
        None where the launcher itself hands out cores and GPUs (SLURM, Ray).
    """
    most = min(count, batch or count)
    match str(launcher["_target_"]).rpartition(".")[2]:
        case "BasicLauncher":
            return 1
        case "JoblibLauncher":
            wanted = int(launcher["n_jobs"])
            return min(most, wanted if wanted > 0 else max(1, cores() + 1 + wanted))
        case "LocalLauncher":
            return most  # all at once
    return None


def read(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty where there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def result(folder: Path) -> str:
    """Test AUC and ACC of a finished run, in words."""
    test = read(folder / METRICS).get("test") or {}
    return ", ".join(f"{name.upper()} {test[name]:.3f}" for name in ("auc", "acc") if test.get(name) is not None)


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
    key = override.partition("=")[0]
    return not any(key == place or key.startswith(f"{place}.") for place in PLACES)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def now() -> str:
    """Local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S")
