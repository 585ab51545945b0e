"""How far a command is, and how long it will take: a bar on a terminal, lines in a log."""

import logging
import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

log = logging.getLogger("scale")
SECONDS = 20.0  # between two lines of a log
PRIOR = 0.02  # share of all work that the pace known beforehand counts as


class Progress:
    """Counts passes through a network.

    Args:
        total: all that is to be done, in the same unit as the steps.
        bar: show a bar; on a terminal only if None.
        pace: seconds of a step of 1, as far as they are known before the first; they count less and less.
    """

    def __init__(self, total: float, *, bar: bool | None = None, pace: float | None = None) -> None:
        show = sys.stdout.isatty() if bar is None else bar
        self.total, self.done, self.stage, self.pace = max(total, 1.0), 0.0, "", pace
        self._started = self._said = time.perf_counter()
        self._begun = False
        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed} gone{postfix}"
        self._bar: tqdm[Any] | None = (
            tqdm(total=self.total, bar_format=form, dynamic_ncols=True, file=sys.stdout) if show else None
        )

    def begin(self, stage: str) -> None:
        """Names what is done next."""
        self.stage = stage
        if self._bar is not None:
            self._bar.set_description_str(stage, refresh=False)
            self._bar.set_postfix_str(f"{self.left()} left")
        elif self.done == 0 and self.pace is not None and not self._begun:
            log.info("  0 %%  %s left  %s", self.left(), stage)
        self._begun = True

    def left(self) -> str:
        """The time left, such as `01:30`; `?` before anything is known."""
        elapsed, trust = time.perf_counter() - self._started, PRIOR * self.total
        if self.pace is None:
            trust = 0.0
        if trust + self.done == 0:
            return "?"
        pace = ((self.pace or 0.0) * trust + elapsed) / (trust + self.done)
        return str(tqdm.format_interval(max(self.total - self.done, 0.0) * pace))

    def step(self, amount: float) -> None:
        """Adds what was done."""
        self.done += amount
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self.left()} left", refresh=False)
            self._bar.update(min(amount, self.total - self._bar.n))
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
            self._bar.close()
