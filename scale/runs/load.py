"""A finished run, read back from its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from scale.config.keys import DATA_PATHS
from scale.runs.folder import CHECKPOINTS, read_config, read_environment, read_metrics, read_predictions

if TYPE_CHECKING:
    import pandas as pd

    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask


@dataclass(frozen=True)
class Run:
    """A finished run, read back.

    Attributes:
        folder: where it is.
        config: resolved configuration.
        metrics: content of `metrics.json`.
        predictions: per split `index` (N,), `logits` (N, outputs), `probabilities` (N, columns), `labels` (N, L); with
            test-time augmentation also `val_tta` and `test_tta`, without logits.
        model: the best epoch's network in the LightningModule, on the CPU, in evaluation mode.
        datamodule: with the training's normalisation; opens its files when `setup()` is called.
    """

    folder: Path
    config: DictConfig
    metrics: dict[str, Any]
    predictions: dict[str, dict[str, np.ndarray]]
    model: "ClassificationTask"
    datamodule: "ImageDataModule"

    def predict(self, images: Any, *, alpha: float = 0.1, calibrate: bool = True) -> "pd.DataFrame":
        """Predictions of new images or files, as `python -m scale.predict` makes them.

        Args:
            images: a path or an array, or a list of them, as `scale.inference.predictor.Predictor.predict` takes them.
            alpha: share of conformal sets that may miss the true class.
            calibrate: divide logits by the temperature that fits val best.

        Returns:
            A row for each image: predicted class, probabilities, conformal set, entropy, energy, and whether it looks
            unlike the training data.

        Raises:
            ValueError: an image that cannot be used; says which and why.
        """
        from scale.inference.predictor import Predictor

        return Predictor.of_runs([self], alpha=alpha, calibrate=calibrate).predict(images)


def load_run(folder: str | Path, *, checkpoint: str = "best", data: Mapping[str, Any] | None = None) -> Run:
    """Reads a run back; nothing but the run folder is needed until images are.

    Args:
        folder: of a finished run.
        checkpoint: `best` or `last`.
        data: changes to the run's `data` node, such as another `root`; what says how to get a file (`download`,
            `verify`) is left out where the run has no use for it.

    Raises:
        FileNotFoundError: the folder is no run, or the run is not finished.
        ValueError: its network is not that of the present code, or `data` has a key that the run does not have.
    """
    import torch

    from scale.tasks.build import build_datamodule, build_task
    from scale.tasks.problem import Problem

    folder = Path(folder).expanduser()
    metrics, config = read_metrics(folder), read_config(folder)
    changes = {key: value for key, value in (data or {}).items() if key in config.data}
    unknown = set(data or {}) - set(changes) - {"download", "verify"}
    if unknown:
        known = [key for key in DATA_PATHS if key in config.data]
        raise ValueError(
            f"data.{min(unknown)}=...: {folder} was trained on data that have no such key; where they are is said by "
            + " and ".join(f"data.{key}" for key in known)
        )
    config.data.update(changes)
    if "pretrained" in config.model:
        config.model.pretrained = False  # the checkpoint has the weights: nothing to download
    state = torch.load(folder / CHECKPOINTS / f"{checkpoint}.ckpt", map_location="cpu", weights_only=True)
    datamodule = build_datamodule(config)
    datamodule.load_state_dict(state[type(datamodule).__qualname__])
    problem = Problem(metrics["problem"], metrics["num_classes"])
    task = build_task(config, problem, image_shape=metrics["image_shape"])
    try:
        task.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        commit = read_environment(folder).get("commit")
        raise ValueError(
            f"{folder}: its weights do not fit the network of the present code; use the code of its commit, {commit}"
        ) from error
    return Run(folder, config, metrics, read_predictions(folder), task.eval(), datamodule)
