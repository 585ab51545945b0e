"""How far a command is, and how long it will take: a bar on a terminal, lines in a log."""

import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

log = logging.getLogger("scale")
SECONDS = 20.0  # between two lines of a log
PRIOR = 0.02  # share of all work that the pace known beforehand counts as


def live(text: str, *, estimate: bool = True) -> "Bar":
    """A bar as wide as the terminal: description, bar, text, time left; lines that are logged stand above it.

    Args:
        text: behind the bar, a format of the task, such as `{task.percentage:.0f} %`.
        estimate: show the time left as rich estimates it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    def whole() -> Column:
        return Column(no_wrap=True)

    return Progress(
        TextColumn("{task.description}", table_column=whole(), markup=False),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TextColumn(text, table_column=whole(), markup=False),
        *([TimeRemainingColumn(compact=True, table_column=whole())] if estimate else []),
        console=Console(file=sys.stdout, force_terminal=True),
        refresh_per_second=4,
        expand=True,
        speed_estimate_period=300.0,  # longer than an epoch with its validation, so that the time left does not jump
    )


def duration(seconds: float) -> str:
    """As in `01:30`, or `1:00:00` from an hour on."""
    return str(tqdm.format_interval(seconds))


class Progress:
    """Counts passes through a network.

    Args:
        total: all that is to be done, in the same unit as the steps.
        bar: show a bar; on a terminal only if None.
        pace: seconds of a step of 1, as far as they are known before the first; they count less and less.
    """

    def __init__(self, total: float, *, bar: bool | None = None, pace: float | None = None) -> None:
        self.total, self.done, self.stage, self.pace = max(total, 1.0), 0.0, "", pace
        self._started = self._said = time.perf_counter()
        self._begun = False
        self._bar: Bar | None = None
        if sys.stdout.isatty() if bar is None else bar:
            self._bar = live("{task.percentage:3.0f} %  {task.fields[left]} left", estimate=False)
            self._task = self._bar.add_task("", total=self.total, left=self.left())
            self._bar.start()

    def begin(self, stage: str) -> None:
        """Names what is done next."""
        self.stage = stage
        if self._bar is not None:
            self._bar.update(self._task, description=stage, left=self.left())
        elif self.done == 0 and self.pace is not None and not self._begun:
            log.info("  0 %%  %s left  %s", self.left(), stage)
        self._begun = True

    def left(self) -> str:
        """The time left, such as `01:30`; `?` before anything is known."""
        elapsed = time.perf_counter() - self._started
        trust = PRIOR * self.total if self.pace is not None else 0.0
        if trust + self.done == 0:
            return "?"
        pace = ((self.pace or 0.0) * trust + elapsed) / (trust + self.done)
        return duration(max(self.total - self.done, 0.0) * pace)

    def step(self, amount: float) -> None:
        """Adds what was done."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._task, completed=min(self.done, self.total), left=self.left())
            return
        now = time.perf_counter()
        if now - self._said >= SECONDS:
            self._said = now
            share = min(self.done / self.total, 1.0)
            log.info("%3.0f %%  %s left  %s", 100 * share, self.left(), self.stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
