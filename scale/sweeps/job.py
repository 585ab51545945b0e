"""One job of a sweep: starts the run as a process of its own, waits for it, records what became of it."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from scale.runs.folder import refuse_links
from scale.runs.machine import GPU, parallel, share
from scale.runs.process import LOCK, is_locked, start, state, stop, take
from scale.sweeps.callback import Sweep
from scale.sweeps.folder import CONSOLE, GPUS, JOB, PLAN, POLL_SECONDS, REFUSED, STOP, now, read, result
from scale.sweeps.kept import refusal
from scale.sweeps.plan import settings_of, varied
from scale.utils.cli import last_words
from scale.utils.files import write_json

ENDS = {130: "SIGINT", 143: "SIGTERM"}  # exit status of a run that was asked to stop, and saved


def run(config: DictConfig) -> str:
    """What Hydra runs for each job, in the process that the launcher chose; imports no torch.

    Returns:
        What the job's `status` is in its `job.json`: `done`, `failed`, `interrupted`; or `stopped`, where the sweep
        was asked to stop before the job began, and `running`, where another process works on it.
    """
    settings = HydraConfig.get()
    folder, root = Path(settings.runtime.output_dir), Path(settings.sweep.dir).absolute()
    keys = varied([settings_of(overrides) for overrides in read(root / PLAN)["jobs"]])
    differs = [text for text in settings.overrides.task if text.partition("=")[0] in keys]
    name = f"job {settings.job.num} ({' '.join(differs)})" if differs else f"job {settings.job.num}"
    if (root / STOP).exists():
        return "stopped"
    record: dict[str, Any] = {"number": settings.job.num, "overrides": list(settings.overrides.task), "attempts": []}
    record |= read(folder / JOB)
    record.pop(REFUSED, None)
    if state(folder) == "done":
        return _keep(config, folder, record, name)
    attempt = {"started": now(), "host": socket.gethostname(), "from": state(folder)}
    started = time.monotonic()
    try:
        status, reason = _attempt(config, folder, root, {**record, "attempts": [*record["attempts"], attempt]})
    except BlockingIOError as error:  # the job's record is the other process'
        print(f"{name}: running: {error}", flush=True)
        return "running"
    except Exception as error:  # no memory for a process, a full disk: the other jobs go on
        status, reason = "failed", f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError), (folder / CONSOLE).open("a") as file:
            traceback.print_exc(file=file)
    except BaseException as error:
        _write(folder, record, attempt, "interrupted", type(error).__name__)
        raise
    _write(folder, record, attempt, status, reason)
    detail = result(folder) if status == "done" else f"{reason}; see {folder / CONSOLE}"
    print(f"{name}: {status}: {detail} ({time.monotonic() - started:.0f} s)", flush=True)
    return status


def _keep(config: DictConfig, folder: Path, record: Mapping[str, Any], name: str) -> str:
    """Keeps a job that is done, unless the command asks for another run now."""
    try:
        reason = refusal(config, folder)
    except Exception as error:  # a record or data that cannot be read: the other jobs go on
        reason = f"done before, but cannot be compared ({type(error).__name__}: {error})"
    if reason is not None:
        write_json(folder / JOB, {**record, "status": "failed", "reason": reason, REFUSED: True})
        print(f"{name}: failed: {reason}", flush=True)
        return "failed"
    # The run's own record decides, not the job's: it is written last of all, whatever becomes of the sweep.
    if record.get("status") != "done":  # finished in the moment in which the sweep was killed
        write_json(folder / JOB, {**record, "status": "done", "reason": ""})
    print(f"{name}: done before, kept: {result(folder)}", flush=True)
    return "done"


def _attempt(config: DictConfig, folder: Path, root: Path, record: Mapping[str, Any]) -> tuple[str, str]:
    """Runs the job to its end, or until the sweep is to stop; returns the status and its reason."""
    settings, plan = HydraConfig.get(), read(root / PLAN)
    console = folder / CONSOLE
    if folder.is_symlink():
        raise ValueError(f"{str(folder)!r} is a symbolic link: a job's folder is none; delete it")
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder)
    console.touch()
    begins = console.stat().st_size
    alone = str(settings.launcher["_target_"]).endswith("BasicLauncher")
    with contextlib.ExitStack() as stack:
        environment, slot = _share(config, settings, root, plan)
        if slot is not None:
            stack.callback(os.close, slot)
        # The run is in a process group of its own, so that Ctrl-C on a terminal reaches the sweep alone, which then
        # asks all runs to save, each once.
        asked = stack.enter_context(_listening())
        with _unheard(signal.SIGUSR2):
            process = start(
                _command(settings),
                folder,
                environment=environment,
                output=console,
                hold=[] if slot is None else [slot],
            )
        try:
            write_json(folder / JOB, {**record, "status": "running", "reason": "", "pid": process.pid})
            tail = stack.enter_context(console.open(errors="replace"))
            tail.seek(begins)
            stopped = False
            while process.poll() is None:
                if asked or (root / STOP).exists() or _abandoned(settings, root, plan):
                    stopped = True
                    break
                time.sleep(POLL_SECONDS)
                _echo(tail, alone)
        finally:
            code = stop(process)
        _echo(tail, alone)
    # A run that was stopped while it still imported torch dies of the signal instead of ending with 128 + its number.
    if stopped and code in (-signal.SIGTERM, -signal.SIGINT):
        code = 128 - code
    return _verdict(code, folder, begins)


def _verdict(code: int, folder: Path, begins: int) -> tuple[str, str]:
    """Status and reason from a run's exit status and the end of what it said in this attempt."""
    if state(folder) == "done":
        return "done", ""
    if code in ENDS:
        saved = "resumes from its last checkpoint" if state(folder) == "started" else "begins again"
        return "interrupted", f"{ENDS[code]}; {saved} when the same command is given again"
    if code < 0:
        hint = ", as when memory is out" if code == -signal.SIGKILL else ""
        return "failed", f"killed by signal {-code} ({signal.Signals(-code).name}{hint})"
    with (folder / CONSOLE).open("rb") as file:
        file.seek(begins)
        return "failed", f"exit status {code}: {last_words(file.read().decode(errors='replace'))}"


def _command(settings: HydraConf) -> list[str]:
    """The job's own command line, in plain mode."""
    sources = [source.path for source in settings.runtime.config_sources if source.provider == "command-line"]
    options = [f"--config-dir={path}" for path in sources]
    kept = [override for override in settings.overrides.hydra if override.startswith("hydra.searchpath=")]
    # A job's own command resumes by its folder; `sweep.resume` is the sweep's, and would be an unknown key there.
    task = [override for override in settings.overrides.task if not override.startswith("sweep.resume=")]
    return [*options, *kept, "hydra.mode=RUN", *task]


def _share(
    config: DictConfig, settings: HydraConf, root: Path, plan: Mapping[str, Any]
) -> tuple[dict[str, str], int | None]:
    """Environment variables that give the job its share of the machine, and the lock on its share of the GPUs."""
    variables: dict[str, str] = {}
    if "SLURM_JOB_ID" in os.environ:  # the run is no SLURM task: it starts its own processes, as on any machine
        variables["SLURM_JOB_NAME"] = "interactive"
    count, batch = len(plan["jobs"]), settings.sweeper.max_batch_size
    slots = parallel(settings.launcher, count=count, batch=batch)
    if slots is None or slots == 1:
        return variables, None
    visible, trainer = plan["gpus"], config.trainer
    if not visible or trainer.accelerator not in GPU:
        return variables | share(0, slots=slots, visible=[], trainer=trainer), None
    # Launchers do not say which of their workers runs a job, so each job takes the first share of GPUs that nobody
    # holds. The run inherits the lock: the share is free when the run has ended, not when its sweep has.
    (root / GPUS).mkdir(exist_ok=True)
    while True:
        for slot in range(slots):
            lock = take(root / GPUS / str(slot))
            if lock is not None:
                return variables | share(slot, slots=slots, visible=visible, trainer=trainer), lock
        time.sleep(POLL_SECONDS)


def _abandoned(settings: HydraConf, root: Path, plan: Mapping[str, Any]) -> bool:
    """Whether the sweep's own process has gone; SLURM's jobs may outlive it."""
    if str(settings.launcher["_target_"]).endswith("SlurmLauncher") or plan["host"] != socket.gethostname():
        return False
    return not is_locked(root / LOCK)


@contextlib.contextmanager
def _listening() -> Iterator[list[int]]:
    """In a launcher's worker: collects the signals that ask to stop; the command's own process has its handlers."""
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM) if _in_main_thread() else ():
        handler = signal.getsignal(number)
        if not isinstance(getattr(handler, "__self__", None), Sweep) and handler != signal.SIG_IGN:
            before[number] = signal.signal(number, handle)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _unheard(number: int) -> Iterator[None]:
    """A process started here ignores the signal (SLURM's warning goes to all processes, and would end the run)."""
    if not _in_main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def _in_main_thread() -> bool:
    """Elsewhere Python allows no signal handlers."""
    return threading.current_thread() is threading.main_thread()


def _write(folder: Path, record: dict[str, Any], attempt: dict[str, Any], status: str, reason: str) -> None:
    attempt = {**attempt, "ended": now(), "status": status, "reason": reason}
    content = {**record, "status": status, "reason": reason, "attempts": [*record["attempts"], attempt]}
    write_json(folder / JOB, content)


def _echo(tail: IO[str], alone: bool) -> None:
    text = tail.read() if alone else ""
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()
