"""The run folder: the record of one training with one seed. Its names, its writers and its readers."""

from scale.runs.reading import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    FIGURES,
    HISTORY,
    LOG,
    METRICS,
    OVERRIDES,
    PREDICTIONS,
    check_whole,
    read_config,
    read_environment,
    read_history,
    read_metrics,
    read_overrides,
    read_predictions,
)

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "ENVIRONMENT",
    "FIGURES",
    "HISTORY",
    "LOG",
    "METRICS",
    "OVERRIDES",
    "PREDICTIONS",
    "check_whole",
    "read_config",
    "read_environment",
    "read_history",
    "read_metrics",
    "read_overrides",
    "read_predictions",
]
