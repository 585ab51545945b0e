"""A run in Weights & Biases: never asks for a key, waits for no network in vain, says where an offline run lies."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scale.runs.folder import run_id
from scale.runs.reading import CHECKPOINTS, PREDICTIONS
from scale.training.backend import Backend
from scale.training.privacy import PRIVATE, without_places

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scale.training.shown import Charts, Results, Sample

log = logging.getLogger("scale")
BEGIN_SECONDS = 30  # that a W&B run may take to begin
CURVES = ("train/loss", "train/main_loss", "val/loss", "val/auc", "val/acc", "lr", "explanations/*")  # over the epochs
OURS = ("offline", "private", "log_model", "log_predictions", "samples", "overlay")  # keys that are not wandb.init's
STAGING = "WANDB_DATA_DIR"  # where what is to be uploaded waits; W&B's own default is in the home folder
BEGUN = re.compile(r"(?:offline-)?run-\d+_\d+-(.+)")


class WandbBackend(Backend):
    """Configuration, curves over the epochs, native charts, a table of predictions, artifacts."""

    def configuration(self, config: Mapping[str, Any], folder: Path) -> None:
        """Logs the configuration, and says what the curves' x axis is."""
        self.logger.log_hyperparams(without_places(config) if self.settings.get("private") else config)
        for name in CURVES:
            self.logger.experiment.define_metric(name, step_metric="epoch")

    def figures(self, figures: "Mapping[str, Figure]", *, step: int, epoch: int) -> None:
        """Logs images."""
        import wandb

        if figures:
            pictures = {name: wandb.Image(figure) for name, figure in figures.items()}
            self.logger.experiment.log({**pictures, "epoch": epoch, "trainer/global_step": step})

    def results(self, results: "Results") -> None:
        """Logs summary, figures, charts, the table, and the artifacts that were asked for."""
        run, settings = self.logger.experiment, self.settings
        shown: dict[str, Any] = {} if results.charts is None else charts(results.charts)
        samples = results.samples(settings.get("samples", 0), settings.get("overlay"))
        if samples and results.charts is not None:
            shown["predictions"] = table(samples, results.charts)
        if shown:
            run.log({**shown, "epoch": results.epoch, "trainer/global_step": results.step})
        self.figures(
            {f"figures/{name}": figure for name, figure in results.figures.items()},
            step=results.step,
            epoch=results.epoch,
        )
        run.summary.update(dict(results.summary))
        if settings.get("log_model"):
            self._artifact("model", results.folder / CHECKPOINTS / "best.ckpt")
        if settings.get("log_predictions"):
            self._artifact("predictions", results.folder / PREDICTIONS)

    def close(self, *, failed: bool) -> None:
        """Ends the W&B run; of one that is offline says where it lies."""
        import wandb

        super().close(failed=failed)
        run = wandb.run
        lies = Path(run.sync_dir) if run is not None and run.offline else None
        wandb.finish(exit_code=int(failed))
        if os.environ.get(STAGING) == _staging(self.logger.save_dir):
            del os.environ[STAGING]
        if lies is not None:
            # Of a run that was resumed there are several, which belong together.
            parts = lies if len([*lies.parent.glob("offline-run-*")]) == 1 else lies.parent / "offline-run-*"
            log.info("W&B: the run is offline; to upload it: wandb sync %s", parts)

    def _artifact(self, kind: str, path: Path) -> None:
        import wandb

        found = wandb.Artifact(f"{kind}-{self.logger.experiment.id}", type=kind)
        (found.add_dir if path.is_dir() else found.add_file)(str(path))
        self.logger.experiment.log_artifact(found)


def charts(found: "Charts") -> dict[str, Any]:
    """ROC, precision-recall and confusion as W&B's own charts; of several labels a table of counts each."""
    import wandb

    drawn: dict[str, Any] = {}
    curves = {
        "test_roc": ("ROC, test", found.roc(), "1 - specificity", "sensitivity"),
        "test_precision_recall": ("precision and recall, test", found.precision_recall(), "recall", "precision"),
    }
    for name, (title, lines, x, y) in curves.items():
        rows = [[text, float(a), float(b)] for text, xy in lines.items() for a, b in zip(*xy, strict=True)]
        drawn[f"charts/{name}"] = wandb.plot_table(
            "wandb/area-under-curve/v0",
            wandb.Table(columns=["class", x, y], data=rows),
            {"x": x, "y": y, "class": "class"},
            {"title": title, "x-axis-title": x, "y-axis-title": y},
        )
    if found.confusion.ndim == 3:
        rows = [
            [name, *map(int, cells[::-1, ::-1].ravel())]
            for name, cells in zip(found.names, found.confusion, strict=True)
        ]
        columns: list[str | int] = ["label", "found", "missed", "false alarm", "rightly absent"]
        return {**drawn, "charts/test_confusion": wandb.Table(columns=columns, data=rows)}
    names = list(found.names)
    rows = [[names[a], names[b], int(n)] for a, row in enumerate(found.confusion) for b, n in enumerate(row)]
    drawn["charts/test_confusion"] = wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=rows),
        {name: name for name in ("Actual", "Predicted", "nPredictions")},
        {"title": "confusion, test"},
    )
    return drawn


def table(samples: "list[Sample]", found: "Charts") -> Any:
    """Test samples with their pictures: image, overlay and the class it is of, truth, prediction and probabilities."""
    import wandb

    columns = ["index", "image", "overlay", "explained", "truth", "prediction", "right", "probability"]
    made = wandb.Table(columns=[*columns, *(f"p({name})" for name in found.names)])
    for sample in samples:
        overlay = None if sample.overlay is None else wandb.Image(sample.overlay)
        words = [sample.truth, sample.prediction, sample.truth == sample.prediction, sample.probability]
        made.add_data(
            sample.index, wandb.Image(sample.picture), overlay, sample.explained, *words, *sample.probabilities
        )
    return made


def begin(settings: Mapping[str, Any], folder: Path, *, name: str, tags: "list[str]", group: str | None) -> Any:
    """Begins a W&B run, or continues that of the folder.

    Args:
        settings: the logger's node.
        folder: of the run.
        name: of the run, unless the settings have one.
        tags: beside those of the settings.
        group: the sweep's name, unless the settings have one.

    Raises:
        ValueError: `wandb.init` does not know a setting.
    """
    import wandb

    mode: Any = "offline" if settings.get("offline") else os.environ.get("WANDB_MODE", "online")
    reason = _no_login() if mode in ("online", "run") else None
    if reason:
        mode = "offline"
        log.warning("W&B: %s, so this run is logged offline", reason)
    hidden = PRIVATE if settings.get("private") else {}
    how = wandb.Settings(silent=True, init_timeout=BEGIN_SECONDS, mode=mode, **hidden)
    given = {key: value for key, value in settings.items() if key not in (*OURS, "_target_", "prefix")}
    given |= {"name": given.get("name") or name, "group": given.get("group") or group}
    given["tags"] = list(dict.fromkeys([*(given.get("tags") or ()), *tags]))
    os.environ.setdefault(STAGING, _staging(folder))
    try:
        return wandb.init(dir=str(folder), id=_id(folder), resume="allow", settings=how, **given)
    except TypeError as error:
        raise ValueError(f"logger.wandb: {error}") from error


def _staging(folder: str | Path) -> str:
    return str(Path(folder).absolute() / "wandb")


def _id(folder: Path) -> str | None:
    """The id of the W&B run that was begun in a folder, else the one that a W&B agent gave, else the run's own."""
    found = [match[1] for path in sorted(folder.glob("wandb/*run-*")) if (match := BEGUN.fullmatch(path.name))]
    if found:
        return found[-1]
    return os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else run_id(folder)


def _no_login() -> str | None:
    """Why no run can be sent to the W&B server, or None: W&B itself looks for a key and tries it."""
    import wandb

    try:
        known = wandb.login(prompt=False, verify=True)
    except wandb.errors.Error as error:  # a server that cannot be reached, in about ten seconds; a key that it refuses
        return str(error).splitlines()[0].rstrip(".")
    return None if known else "there is no API key (WANDB_API_KEY or `wandb login`)"
