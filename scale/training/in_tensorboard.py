"""A run in TensorBoard: scalars are Lightning's; here the hyper-parameters with their result, images, PR curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scale.config.keys import Kind, flat, kind
from scale.training.backend import Backend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scale.training.shown import Results, Sample

OURS = ("samples", "overlay")
HEADLINE = ("auc", "acc")


class TensorBoardBackend(Backend):
    """`hparams.yaml` at once; at the end the tab of hyper-parameters, figures, PR curves, samples."""

    def configuration(self, config: Mapping[str, Any], folder: Path) -> None:
        """Keeps what decides the result: the tab of hyper-parameters compares that, not where files are."""
        self.logger.log_hyperparams(config)
        decides = (Kind.WHAT, Kind.RECIPE)
        leaves = {key: value for key, value in flat(config) if kind(key) in decides and not key.endswith("_target_")}
        self._chosen = {
            key: value if isinstance(value, str | bool | int | float) else str(value) for key, value in leaves.items()
        }

    def figures(self, figures: "Mapping[str, Figure]", *, step: int, epoch: int) -> None:
        """Logs images."""
        for name, figure in figures.items():
            self.logger.experiment.add_figure(name, figure, global_step=step, close=False)

    def results(self, results: "Results") -> None:
        """Logs test's scores, hyper-parameters with them, figures, PR curves and samples."""
        from torch.utils.tensorboard.summary import hparams

        super().results(results)
        writer, step = self.logger.experiment, results.step
        names = [f"{split}/{score}" for split in ("val", "test") for score in HEADLINE]
        for summary in hparams(
            self._chosen, {name: results.summary[name] for name in names if name in results.summary}
        ):
            writer.file_writer.add_summary(summary)
        self.figures(
            {f"figures/{name}": figure for name, figure in results.figures.items()}, step=step, epoch=results.epoch
        )
        if results.charts is not None:
            for c, name in results.charts.questions.items():
                truth, score = results.charts.truth[:, c], results.charts.score[:, c]
                writer.add_pr_curve(f"test/{name}", truth, score, global_step=step)
        samples = results.samples(self.settings.get("samples", 0), self.settings.get("overlay"))
        for sample in samples:
            shown = [sample.picture] if sample.overlay is None else [sample.picture, sample.overlay]
            for part, picture in zip(("image", "overlay"), shown, strict=False):
                writer.add_image(f"predictions/{sample.index}/{part}", picture, global_step=step, dataformats="HWC")
        if samples:
            writer.add_text("predictions", markdown(samples), global_step=step)


def markdown(samples: "list[Sample]") -> str:
    """Samples as a table."""
    lines = ["| index | truth | prediction | probability | map of |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {s.index} | {s.truth} | {s.prediction} | {s.probability:.3f} | {s.explained} |" for s in samples]
    return "\n".join(lines)
