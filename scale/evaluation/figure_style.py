"""One style for all figures: column width, colours that colour-blind readers tell apart, what is shown in the title."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scale.evaluation.statistics import Interval

# Okabe and Ito's colours that show on white (https://jfly.uni-koeln.de/color/); later rounds change the dashes
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
GREY = "0.55"
COLUMN, PAGE = 3.5, 7.16  # inches: one and two columns of a journal's page
DPI = 200
LONGEST = 26  # characters of a name


@dataclass(frozen=True)
class Caption:
    """What a figure is of, for the line above it; what is empty is left out.

    Attributes:
        data: the data set, with its size.
        split: `val` or `test`.
        run: model and seed.
        positive: name of the positive class of a binary problem.
    """

    data: str = ""
    split: str = ""
    run: str = ""
    positive: str = ""

    @property
    def text(self) -> str:
        """The line."""
        parts = [self.data, self.split, self.run, f"positive class: {short(self.positive)}" if self.positive else ""]
        return " · ".join(part for part in parts if part)


def blank(width: float, height: float, caption: Caption | None) -> Figure:
    """A figure, in inches, and its caption above that height."""
    lines = _lines(caption.text, int(width * 21)) if caption else []
    figure = Figure(figsize=(width, height + 0.13 * len(lines)), dpi=DPI, layout="constrained")
    if lines:
        figure.suptitle("\n".join(lines), fontsize=6.5, color="0.35", x=0.01, ha="left")
    return figure


def _lines(text: str, room: int) -> list[str]:
    """The parts of a caption on lines of so many characters."""
    lines: list[str] = []
    for part in text.split(" · ") if text else []:
        if lines and len(lines[-1]) + 3 + len(part) <= room:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines


def colour(number: int) -> str:
    """Colour of the curve with this number."""
    return COLOURS[number % len(COLOURS)]


def dashes(number: int) -> Literal["-", "--", ":"]:
    """Dashes of the curve with this number, so that no two of 21 look alike."""
    return DASHES[number // len(COLOURS) % len(DASHES)]


def plain(axes: Axes) -> None:
    """Small type, no frame above and to the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.title.set_fontsize(8.5)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)


def unit_square(axes: Axes) -> None:
    """Both axes from 0 to 1, equally long."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", anchor="N")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))


def short(name: str) -> str:
    """A name cut to `LONGEST` characters."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip(" ,(") + "…"


def unique(names: Sequence[str]) -> list[str]:
    """Short names, numbered where two became the same."""
    cut = [short(name) for name in names]
    return [name if cut.count(name) == 1 else f"{i} {name}" for i, name in enumerate(cut)]


def shown(value: float, limits: Interval | None = None) -> str:
    """A number, with its interval if it has one."""
    if limits is None or not math.isfinite(limits.low):
        return f"{value:.3f}"
    return f"{value:.3f} ({limits.low:.3f}–{limits.high:.3f})"
