"""A run in MLflow: all runs in one SQLite file beside the run folders, unless a server is named."""

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from scale.runs.folder import run_id
from scale.runs.reading import CHECKPOINTS, CONFIG, PREDICTIONS
from scale.training.backend import Backend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scale.training.shown import Results, Sample

DATABASE, ARTIFACTS = "mlflow.db", "mlflow"
OURS = ("log_model", "log_predictions", "samples", "overlay")
KIND = {"mlflow.experimentKind": "custom_model_development"}  # its page opens as that of trainings, not of chats
TAG = "scale.run"  # the run's own name, by which a resumed run finds its MLflow run


class MLflowBackend(Backend):
    """Parameters, metrics, figures, a table of predictions, artifacts."""

    def configuration(self, config: Mapping[str, Any], folder: Path) -> None:
        """Logs the configuration as parameters and as a file; of a resumed run it is there."""
        client, run = self.logger.experiment, self.logger.run_id
        client.update_run(run, status="RUNNING")
        if not client.get_run(run).data.params:
            self.logger.log_hyperparams(config)
            client.log_artifact(run, str(folder / CONFIG))

    def figures(self, figures: "Mapping[str, Figure]", *, step: int, epoch: int) -> None:
        """Logs pictures as artifacts; those of explanations carry their epoch."""
        for name, figure in figures.items():
            place = f"{name}_epoch_{epoch:03d}.png" if name.startswith("explanations/") else f"{name}.png"
            self.logger.experiment.log_figure(self.logger.run_id, figure, place)

    def results(self, results: "Results") -> None:
        """Logs scores with their intervals, figures, the table, and the artifacts that were asked for."""
        client, run, settings = self.logger.experiment, self.logger.run_id, self.settings
        self.logger.log_metrics(dict(results.summary), step=results.step)
        self.figures(
            {f"figures/{name}": figure for name, figure in results.figures.items()},
            step=results.step,
            epoch=results.epoch,
        )
        samples = results.samples(settings.get("samples", 0), settings.get("overlay"))
        if samples:
            client.log_table(run, table(samples), "predictions.json")
        if settings.get("log_model"):
            client.log_artifact(run, str(results.folder / CHECKPOINTS / "best.ckpt"), "model")
        if settings.get("log_predictions"):
            client.log_artifacts(run, str(results.folder / PREDICTIONS), "predictions")


def table(samples: "list[Sample]") -> dict[str, list[Any]]:
    """Columns of MLflow's table of test samples, with their pictures."""
    from mlflow import Image

    found: dict[str, list[Any]] = {
        "index": [s.index for s in samples],
        "image": [Image(s.picture) for s in samples],
        "truth": [s.truth for s in samples],
        "prediction": [s.prediction for s in samples],
        "probability": [s.probability for s in samples],
    }
    laid = [Image(s.overlay) for s in samples if s.overlay is not None]
    return {**found, "overlay": laid, "explained": [s.explained for s in samples]} if laid else found


def arguments(
    settings: Mapping[str, Any], folder: Path, root: Path, *, name: str, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Arguments of Lightning's logger, which continues the MLflow run of a run that is resumed.

    Args:
        settings: the logger's node.
        folder: of the run.
        root: where the database lies.
        name: of the run, unless the settings have one.
        tags: beside those of the settings.
    """
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table of the database
    uri = settings.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
    place = settings.get("artifact_location")
    if not uri:
        root.mkdir(parents=True, exist_ok=True)
        uri, place = f"sqlite:///{root.absolute() / DATABASE}", place or (root.absolute() / ARTIFACTS).as_uri()
    experiment, mine = settings["experiment_name"], run_id(folder)
    lock = (
        root / f".{DATABASE}.lock" if uri.startswith("sqlite:") else Path(tempfile.gettempdir()) / "scale-mlflow.lock"
    )
    with FileLock(lock):  # jobs that begin together must not all make the tables
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else client.create_experiment(experiment, place, tags=KIND)
        begun = client.search_runs([number], filter_string=f"tags.`{TAG}` = '{mine}'") if mine else []
    own = {**(settings.get("tags") or {}), **tags, TAG: mine or ""}
    return {
        "tracking_uri": uri,
        "artifact_location": place,
        "run_name": settings.get("run_name") or name,
        "tags": own,
        "run_id": begun[0].info.run_id if begun else None,
    }
