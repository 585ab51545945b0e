"""A finished run, read back from its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError

from scale.config import targets
from scale.config.keys import DATA_PATHS, plain
from scale.runs import checkpoints, sets
from scale.runs.reading import (
    ANOTHER,
    CHECKPOINTS,
    CONFIG,
    METRICS,
    check_complete,
    check_config,
    read_config,
    read_environment,
    read_metrics,
    read_predictions,
)

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

    def __repr__(self) -> str:
        """Five lines: what it is, the network, val, test, where."""
        m, model = self.metrics, self.metrics["model"]
        cost = f"{model['parameters']:,} parameters, {model['macs'] / 1e9:.3f} G MACs"
        lines = [
            f"Run of {model['name']} on {m['flag']} ({m['size']} pixels, {m['problem']}), seed {m['seed']}",
            f"  model   {type(self.model.net).__name__}, {cost}, best epoch {m['best_epoch']} of {m['epochs']}",
            *(f"  {split:7} {self._scores(split)}" for split in ("val", "test")),
            f"  folder  {self.folder}",
        ]
        return "\n".join(lines)

    def predict(self, images: Any, *, alpha: float = 0.1, calibrate: bool = True) -> "pd.DataFrame":
        """Predictions of new images or files, as `python -m scale.predict` makes them.

        Args:
            images: a path or an array, or a list of them, as `scale.inference.predictor.Predictor.predict` takes them.
            alpha: share of conformal sets that may miss the true class.
            calibrate: divide logits by the temperature that fits val best.

        Returns:
            A row for each image: predicted class, probabilities, conformal set, entropy, and whether (and by which
            score) it looks unlike the training data.

        Raises:
            ValueError: an image that cannot be used; says which and why.
        """
        from scale.inference.predictor import Predictor

        return Predictor.of_runs([self], alpha=alpha, calibrate=calibrate).predict(images)

    def _scores(self, split: str) -> str:
        found = self.metrics.get(split)
        if found is None:
            return "not evaluated"
        known = {name: found.get(name) for name in ("auc", "acc")}
        scores = "  ".join(f"{name.upper()} {'undefined' if v is None else f'{v:.3f}'}" for name, v in known.items())
        return f"{scores}  ({self.metrics['samples'][split]:,} samples)"


def load_run(
    folder: str | Path,
    *,
    checkpoint: str = "best",
    data: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
) -> Run:
    """Reads a run back; nothing but the run folder is needed until images are.

    Nothing that the folder says is believed: it decides neither what code runs nor where something is written.

    Args:
        folder: of a finished run.
        checkpoint: `best` or `last`.
        data: changes to the run's `data` node, such as another `root`; what says how to get a file (`download`,
            `verify`) is left out where the run has no use for it.
        allow: modules of yours that the run's configuration may name, such as `my_package`.

    Raises:
        FileNotFoundError: the folder is no run, or the run is not finished.
        ValueError: its network is not that of the present code, `data` has a key that the run does not have, a file
            is damaged, or the configuration names code that is neither ours nor allowed.
    """
    from scale.tasks.build import build_datamodule, build_task
    from scale.tasks.problem import Problem

    folder = Path(folder).expanduser()
    if checkpoint not in ("best", "last"):
        raise ValueError(f"checkpoint={checkpoint!r}: give best or last")
    metrics, config = read_metrics(folder), read_config(folder)
    sets.refuse_joint(folder, metrics)
    check_complete(metrics, folder)
    config.allow = list(allow)
    for node in sorted(targets.NETWORK):
        targets.check(plain(config.get(node)), allow, path=node, source=str(folder / CONFIG))
    check_config(config, folder)
    changes = {key: value for key, value in (data or {}).items() if key in config.data}
    unknown = set(data or {}) - set(changes) - {"download", "verify"}
    if unknown:
        known = [key for key in DATA_PATHS if key in config.data]
        raise ValueError(
            f"data.{min(unknown)}=...: {folder} was trained on data that have no such key; where they are is said by "
            + " and ".join(f"data.{key}" for key in known)
        )
    foreign = [f"data.{key}={config.data[key]}" for key in ("root", "cache") if _is_elsewhere(config, key, changes)]
    config.data.update(changes)
    if "pretrained" in config.model:
        config.model.pretrained = False  # the checkpoint has the weights: nothing to download
    state, name = checkpoints.read(sets.home(folder) / CHECKPOINTS / f"{checkpoint}.ckpt"), sets.name_in(folder)
    try:
        datamodule = build_datamodule(config)
        datamodule.load_state_dict(state[type(datamodule).__qualname__])
        if name is not None:  # one set of a joint run
            datamodule, state = datamodule.members[name], checkpoints.of_member(state, name)
        datamodule.foreign = foreign
        problem = Problem(metrics["problem"], metrics["num_classes"])
        task = build_task(config, problem, image_shape=metrics["image_shape"])
    except (TypeError, KeyError, AttributeError, AssertionError, ConfigAttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        raise ValueError(
            f"{folder}: {CONFIG}, {METRICS} and {checkpoint}.ckpt do not go together ({reason}); {ANOTHER}"
        ) from error
    try:
        task.load_state_dict(state["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        commit = read_environment(folder).get("commit")
        raise ValueError(
            f"{folder}: its weights do not fit the network of the present code; use the code of its commit, {commit}"
        ) from error
    return Run(folder, config, metrics, read_predictions(folder), task.eval(), datamodule)


def _is_elsewhere(config: DictConfig, key: str, changes: Mapping[str, Any]) -> bool:
    """Whether a record names a data folder that is not here; nothing is made on its word."""
    recorded = config.data.get(key)
    return recorded is not None and key not in changes and not Path(str(recorded)).expanduser().is_dir()
