"""Signals that ask a run to stop, and the process that a run must not outlive."""

import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Self

from scale.utils import slurm

log = logging.getLogger("scale")
PARENT = "SCALE_PARENT"  # environment variable: number of the process that a run ends with
GRACE_SECONDS = 60.0


class Interrupted(Exception):  # noqa: N818 - no error: the run did what it was asked to
    """A training that was asked to stop and has saved all it needs to go on.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")


def stopped(error: BaseException | None) -> Interrupted | None:
    """The request to stop that an error is, or that a library failed at while it was on its way."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__cause__ or error.__context__
    return error


class Signals:
    """Remembers the first signal that asks to stop, for the training to look at between steps.

    A second Ctrl-C interrupts at once. Only the main thread can listen; elsewhere (a notebook's worker thread) signals
    stay as they are.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Takes the handlers over."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _asking_to_stop():
            self._before[number] = signal.signal(number, self._handle)

    def release(self) -> None:
        """Gives the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # SIGTERM may come twice, from a scheduler and from the process that waits; only a person presses Ctrl-C again.
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number


class StopAtOnce(Signals):
    """Raises `Interrupted` where the first signal arrives: for what comes before and after the training's steps.

    Nothing has to be finished there, as all files are written whole or not at all. While the training listens itself,
    its handlers are in force.
    """

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.received
        super()._handle(number, frame)
        if not again:
            raise Interrupted(number)


def _asking_to_stop() -> list[int]:
    numbers: list[int] = [signal.SIGTERM, signal.SIGINT]
    if "SLURM_JOB_ID" in os.environ:
        numbers.append(signal.SIGUSR1)  # what SLURM is told to send before a job's time is up
    return numbers


def ask_for_more_time(number: int) -> None:
    """After SLURM's warning that a job's time is up: asks for another run of it, which resumes here.

    Args:
        number: of the signal that stopped the run.
    """
    if number != signal.SIGUSR1:
        return
    refused = slurm.requeue()
    if refused:
        log.warning("SLURM did not requeue job %s: %s", slurm.slurm_job(), refused)
    else:
        log.info("SLURM job %s is requeued", slurm.slurm_job())


def end_with_parent(*, seconds: float = 1.0) -> None:
    """Ends this process, by SIGTERM and later by force, when the one that started it has gone.

    That is the process named by the environment variable SCALE_PARENT, such as a sweep's; for the further processes
    of a distributed run, the one that started them. Otherwise nothing happens.
    """
    given, child = os.environ.get(PARENT), "LOCAL_RANK" in os.environ
    if given is None and not child:
        return
    parent = os.getppid() if child or given is None else int(given)

    # Polling, as the only means that every Unix has: the system gives an orphan another parent and sends no signal.
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        # First as a scheduler would, so that the training saves; by force where it hangs, for instance in a collective
        # operation whose other processes have gone.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="scale-parent").start()
