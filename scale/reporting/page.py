"""Pages from templates: one HTML file each that asks the network for nothing."""

import base64
import io
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(template: str, **content: Any) -> str:
    """A page from one of the templates; text is escaped.

    Args:
        template: file name below `templates/`.
        content: what the template names; a name that is missing is an error.
    """
    environment = Environment(
        loader=PackageLoader("scale.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def png(figure: "Figure", *, dpi: int = 80) -> str:
    """A figure as base64 text of a PNG, for an address that begins with `data:image/png;base64,`."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return base64.b64encode(file.getvalue()).decode()
