"""How far a command is, and how long it will take: a bar on a terminal, lines in a log."""

import logging
import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

log = logging.getLogger("scale")
SECONDS = 20.0  # between two lines of a log


class Progress:
    """Counts passes through a network.

    Args:
        total: all that is to be done, in the same unit as the steps.
        bar: show a bar; on a terminal only if None.
    """

    def __init__(self, total: float, *, bar: bool | None = None) -> None:
        show = sys.stdout.isatty() if bar is None else bar
        self.total, self.done, self.stage = max(total, 1.0), 0.0, ""
        self._started = self._said = time.perf_counter()
        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left"
        self._bar: tqdm[Any] | None = (
            tqdm(total=self.total, bar_format=form, dynamic_ncols=True, file=sys.stdout) if show else None
        )

    def begin(self, stage: str) -> None:
        """Names what is done next."""
        self.stage = stage
        if self._bar is not None:
            self._bar.set_description_str(stage)

    def step(self, amount: float) -> None:
        """Adds what was done."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(min(amount, self.total - self._bar.n))
            return
        now = time.perf_counter()
        if now - self._said >= SECONDS:
            self._said = now
            share = min(self.done / self.total, 1.0)
            left = (now - self._started) * (1 / share - 1)
            log.info("%3.0f %%  %s left  %s", 100 * share, tqdm.format_interval(left), self.stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
