"""SCALE: scale-aware cross-modal attention learning for 2D and 3D medical image classification."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scale.config import compose
    from scale.exporting.pretrained import load_pretrained
    from scale.runs.load import Run, load_run

__all__ = ["Run", "compose", "load_pretrained", "load_run"]

_HOME = {
    "Run": "scale.runs.load",
    "load_run": "scale.runs.load",
    "compose": "scale.config",
    "load_pretrained": "scale.exporting.pretrained",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: `import scale` and `--help` need no torch."""
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted(__all__)
