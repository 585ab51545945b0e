"""What a W&B run tells others of the machine and of its folders, and how not to."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

PRIVATE: dict[str, Any] = {  # of wandb.Settings
    **dict.fromkeys(("disable_git", "disable_code", "disable_job_creation"), True),
    **dict.fromkeys(("x_disable_meta", "x_disable_machine_info", "x_disable_stats"), True),
    **dict.fromkeys(("host", "program", "program_abspath", "program_relpath"), "private"),
}


def without_places(node: Any) -> Any:
    """A plain configuration in which of absolute paths the last part alone is left."""
    if isinstance(node, Mapping):
        return {key: without_places(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_places(value) for value in node]
    return PurePath(node).name if isinstance(node, str) and node.startswith(("/", "~")) else node
