"""The runs of a tuning: each trial a training in a process of its own, watched through its curve."""

import contextlib
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scale import runs
from scale.runs import kept
from scale.runs import process as jobs
from scale.tuning import space
from scale.utils.cli import last_words
from scale.utils.progress import duration

if TYPE_CHECKING:
    from scale.tuning.study import Study, Task

log = logging.getLogger("scale")
POLL_SECONDS = 0.5
RETRIES = 2  # of a run whose process was killed
HOPELESS = 3  # trials that fail before any ends well
STOP_SECONDS = 30.0  # for a pruned run to end by itself
OUTPUT = "console.log"


@dataclass
class _Active:
    """A trial whose run is under way."""

    task: "Task"
    slot: int
    process: "subprocess.Popen[bytes] | None" = None
    retries: int = 0
    started: float = field(default_factory=time.monotonic)
    stamp: int = 0  # of the curve that was read last, in ns


class Runner:
    """Keeps trials running until the study has enough.

    Each trial is a process, so that one that is killed (out of memory, a cluster's limit) takes neither the others nor
    the study with it, and so that pruning can stop it between two epochs by the same signal that stops any run. The
    curve is read from the run's `history.csv`, which a run writes whole whatever happens to it.

    Args:
        study: where trials come from.
        overrides: of every trial; Hydra's `--config-dir` may be among them.
        n_trials: of the whole study.
        n_jobs: trials at the same time.
        environment: variables of the process in a slot, from 0.
        better: called when a trial is the best so far.
    """

    def __init__(
        self,
        study: "Study",
        *,
        overrides: Sequence[str],
        n_trials: int,
        n_jobs: int = 1,
        environment: Callable[[int], Mapping[str, str]] = lambda slot: {},
        better: Callable[[], None] = lambda: None,
    ) -> None:
        self.study, self.overrides, self.n_trials, self.n_jobs = study, list(overrides), n_trials, n_jobs
        self.environment, self.better = environment, better
        self.failed: dict[int, str] = {}
        self._active: list[_Active] = []
        self._seconds: list[float] = []

    def run(self) -> None:
        """Runs trials; if interrupted, stops them with their last epoch saved, for another command to resume.

        Raises:
            KeyboardInterrupt: by Ctrl-C or SIGTERM.
            ValueError: every trial fails.
        """
        try:
            with _terminable():
                while self._fill():
                    time.sleep(POLL_SECONDS)
                    for active in list(self._active):
                        self._look(active)
        finally:
            for active in self._active:
                if active.process is not None:
                    jobs.stop(active.process)
                self.study.drop(active.task)

    def _fill(self) -> bool:
        """Starts what can be started; says whether anything runs."""
        while len(self._active) < self.n_jobs and (task := self.study.take(self.n_trials)) is not None:
            slot = min(set(range(self.n_jobs)) - {active.slot for active in self._active})
            active = _Active(task, slot)
            self._active.append(active)
            if task.reported:
                log.info("trial %d resumes after epoch %d", task.number, max(task.reported) + 1)
            self._start(active)
        return bool(self._active)

    def _start(self, active: _Active) -> None:
        # Its command may have been killed between the end of the run and the moment in which it would have told Optuna.
        if jobs.state(active.task.folder) == "done":
            return
        values = [space.assignment(key, value) for key, value in active.task.values.items()]
        active.process = jobs.start(
            [*self.overrides, *values, "test=false"],
            active.task.folder,
            environment=self.environment(active.slot),
            output=active.task.folder / OUTPUT,
        )

    def _look(self, active: _Active) -> None:
        """Reads a trial's curve; ends or prunes the trial if it is time."""
        ended = active.process is None or active.process.poll() is not None
        prune = self.study.report(active.task, self._curve(active))
        if ended:
            self._end(active)
        elif prune and active.process is not None:
            jobs.stop(active.process, grace=STOP_SECONDS)
            if jobs.state(active.task.folder) == "done":
                return  # It was about to end when it was asked to stop: what it found counts, at the next look.
            self.study.tell(active.task, pruned=True)
            self._finish(active, f"pruned after epoch {max(active.task.reported) + 1}")

    def _curve(self, active: _Active) -> dict[int, float]:
        """The objective after each epoch, if there are new ones."""
        path = active.task.folder / runs.HISTORY
        with contextlib.suppress(FileNotFoundError):
            stamp = path.stat().st_mtime_ns
            if stamp != active.stamp:
                active.stamp = stamp
                return kept.objective(active.task.folder)
        return {}

    def _end(self, active: _Active) -> None:
        """Records a run that has ended, or starts it again if its process was killed."""
        task = active.task
        status = 0 if active.process is None else jobs.stop(active.process)  # also clears its group away
        if jobs.state(task.folder) == "done":
            value = runs.read_metrics(task.folder)["val"]["auc"]
            if value is not None:
                self.study.tell(task, value=value)
                self._finish(active, f"val AUC {value:.4f}")
                return
            error = "val AUC is not defined: the val split lacks a class"
        # A signal is the machine's fault (memory, a cluster's limit), not the trial's: its values get another chance,
        # from its checkpoint. A run that ends by itself would end the same way again.
        elif (status < 0 or status > 128) and active.retries < RETRIES:
            active.retries += 1
            number = -status if status < 0 else status - 128
            name = signal.Signals(number).name if number in list(signal.Signals) else str(number)
            log.warning(
                "trial %d: %s ended its process; resumed (%d of %d)", task.number, name, active.retries, RETRIES
            )
            self._start(active)
            return
        else:
            error = _said(task.folder / OUTPUT) or f"exit status {status}"
        self.failed[task.number] = error
        self.study.tell(task, error=error)
        self._finish(active, f"FAILED: {error} ({task.folder / OUTPUT})")

    def _finish(self, active: _Active, text: str) -> None:
        """One line about a trial that has ended."""
        self._active.remove(active)
        self._seconds.append(time.monotonic() - active.started)
        best = self.study.best()
        so_far = f"best {best.value:.4f} (trial {best.number})" if best else "no best yet"
        values = " ".join(f"{key}={_short(value)}" for key, value in active.task.values.items())
        log.info("trial %3d  %s  %s  %s left  %s", active.task.number, text, so_far, self._left(), values)
        if best is not None and best.number == active.task.number:
            self.better()
        # A mistake that all trials share shows in the first few: the rest of the budget would buy the same error.
        if best is None and len(self.failed) >= HOPELESS:
            raise ValueError(
                f"the first {len(self.failed)} trials failed, the last with: {self.failed[active.task.number]}"
            )

    def _left(self) -> str:
        """Time until the study has enough trials, by the mean of those that ended here."""
        trials = max(self.n_trials - self.study.begun(), 0) + len(self._active)
        return duration(trials * sum(self._seconds) / len(self._seconds) / self.n_jobs)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is as Ctrl-C."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else space.assignment("", value)[1:]


def _said(path: Path) -> str:
    return last_words(path.read_text(errors="replace")) if path.exists() else ""
