"""What every logger is handed, and what a logger of any kind makes of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from matplotlib.figure import Figure

    from scale.training.shown import Results


class Backend:
    """One logger of a run; this one is for any of Lightning's, which takes numbers alone.

    Args:
        logger: Lightning's.
        settings: its node of the configuration, with the keys that are ours.
    """

    def __init__(self, logger: "Logger", settings: Mapping[str, Any] | None = None) -> None:
        self.logger: Any = logger
        self.settings = settings or {}

    def configuration(self, config: Mapping[str, Any], folder: Path) -> None:
        """Takes the resolved configuration, before the training."""
        self.logger.log_hyperparams(config)

    def figures(self, figures: "Mapping[str, Figure]", *, step: int, epoch: int) -> None:
        """Takes pictures by names such as `explanations/sample_3`; a step's picture stands beside another step's."""

    def results(self, results: "Results") -> None:
        """Takes what the training found."""
        tested = {name: value for name, value in results.summary.items() if name.startswith("test")}  # val has curves
        self.logger.log_metrics(tested, step=results.step)

    def close(self, *, failed: bool) -> None:
        """Ends the logger's run, so that a second run in the same process is another one."""
        self.logger.finalize("failed" if failed else "success")
