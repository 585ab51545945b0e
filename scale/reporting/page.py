"""HTML pages from the templates beside this file: one file each, which asks nothing of the network."""

import base64
import io
import math
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

UNDEFINED = "–"


def render(template: str, **values: Any) -> str:
    """A page; text in it is escaped unless a template marks it safe.

    Args:
        template: name of a file in `templates/`.
        values: what the template asks for; a name that it uses and that is not given is an error.
    """
    return _environment().get_template(template).render(**values)


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals, or a dash where it is undefined."""
    return UNDEFINED if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def interval(limits: tuple[float | None, float | None] | list[float | None] | None, digits: int = 3) -> str:
    """`low–high`, or nothing where there is no interval."""
    if limits is None or any(end is None or not math.isfinite(end) for end in limits):
        return ""
    return f"{number(limits[0], digits)}–{number(limits[1], digits)}"


def png(figure: "Figure", *, dpi: int = 110) -> str:
    """A figure as base64 text of a PNG, for an address that begins with `data:image/png;base64,`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return base64.b64encode(buffer.getvalue()).decode()


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("scale.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number, "interval": interval}
    return found
