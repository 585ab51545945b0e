"""`python -m scale.export`: one file with normalisation and metadata, checked on the test split, and a model card."""

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from scale import config as configuration
from scale.config.help import show_help
from scale.utils.cli import one_line_errors

if TYPE_CHECKING:
    import numpy as np

    from scale.runs.load import Run

HELP = """\
usage: python -m scale.export run=DIR [format=safetensors|onnx|torch_export] [output=DIR] [data.root=DIR]

Writes a run's network as one file, with the normalisation inside and the classes, size and problem as metadata; any
batch size goes in. It is compared with torch on the whole test split before it is kept. Beside it come config.json and
a model card (model_card.md, and as README.md for Hugging Face's hub, to which the folder can be uploaded).

  python -m scale.export run=DIR                                    then: scale.load_pretrained("DIR/export")
  python -m scale.export run=DIR format=onnx                        for onnxruntime
  python -m scale.export --cfg job                                  shows every key with its value
"""
CARD, README = "model_card.md", "README.md"


def export(config: DictConfig) -> list[str]:
    """Writes the folder; returns what to print.

    Args:
        config: composed by `scale.config.compose(..., name="export")`.

    Raises:
        FileExistsError: the folder holds what this command did not write.
        FileNotFoundError: there is no such run, or its test split is not there to compare on.
        ValueError: the format does not exist, or what was written differs from torch.
        ModuleNotFoundError: the format's library is not installed.
    """
    from scale.exporting import formats, network
    from scale.exporting.card import card
    from scale.exporting.pretrained import CONFIG
    from scale.inference.predictor import Predictor
    from scale.runs.load import load_run
    from scale.utils.files import replacing_folder, write_json, write_text

    if config.run is None:
        raise ValueError("give run=<folder of a finished run>")
    formats.check_format(config.format)
    changes = {key: value for key, value in configuration.plain(config.data).items() if value is not None}
    run = load_run(config.run, data=changes, allow=config.allow)
    if "test" not in run.predictions:
        raise ValueError(f"{run.folder} has no test split, on which what is exported is compared")
    run.datamodule.setup()
    predictor = Predictor.of_runs([run], alpha=config.alpha)
    deployed, said = network.of_predictor(predictor), network.record(run, predictor)
    folder = Path(config.output).expanduser() if config.output is not None else run.folder / "export"
    name = formats.FILES[config.format]
    ours = {*formats.FILES.values(), CONFIG, CARD, README}
    odd = sorted(place.name for place in folder.iterdir() if place.name not in ours) if folder.is_dir() else []
    if odd or (folder.exists() and not folder.is_dir()):
        what = f"holds {odd[0]}, which this command did not write" if odd else "is no folder"
        raise FileExistsError(f"{folder} {what}: give another output=DIR")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(folder) as fresh:
        if folder.is_dir() and _same(folder / CONFIG, said):
            _keep(folder, fresh, [file for file in formats.FILES.values() if file != name])
        formats.write(fresh / name, config.format, deployed, said)
        worst, found = formats.compare(
            _batches(run), deployed, formats.runner(fresh / name, config.format, deployed, said, allow=config.allow)
        )
        if not worst <= formats.TOLERANCE:
            raise ValueError(f"{name} differs from torch by {worst:.1e} on the test split: it is not kept")
        own = run.predictions["test"]
        recorded = float(abs(found[own["index"]] - own["probabilities"]).max())  # a fast_dev_run has a part of them
        write_json(fresh / CONFIG, said)
        text = card(
            run,
            predictor,
            {file.name: "weights" for file in sorted(fresh.iterdir()) if file.name in formats.FILES.values()},
        )
        write_text(fresh / CARD, text)
        write_text(fresh / README, text)
    from scale.evaluation.metrics import official_scores

    labels = run.datamodule.splits["test"].labels
    scores = official_scores(labels, found.astype("float64"), said["problem"])
    return [
        f"test split in {config.format}: AUC {scores['auc']:.3f}  ACC {scores['acc']:.3f} (n = {len(found)}); largest "
        f"difference to torch {worst:.1e}, to the run's record {recorded:.1e}",
        f"written: {folder}/{name}, {CONFIG}, {CARD}",
    ]


def _batches(run: "Run") -> Iterator["np.ndarray"]:
    """The test split as (B, C, *S), uint8."""
    for batch in run.datamodule.eval_dataloader("test"):
        yield batch["image"].numpy()


def _same(path: Path, said: Mapping[str, Any]) -> bool:
    """Whether an earlier call exported the same network."""
    from scale.utils.files import read_json, strict

    return path.is_file() and read_json(path, cure="delete the folder") == strict(said)


def _keep(old: Path, new: Path, names: list[str]) -> None:
    """Copies other formats of an earlier call."""
    import shutil

    for name in names:
        if (old / name).is_file():
            shutil.copy2(old / name, new / name)


def _job(config: DictConfig) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    with one_line_errors():
        print("\n".join(export(config)))


def main() -> None:
    """The command."""
    if show_help(sys.argv[1:], HELP):
        return
    configuration.check_command_line(sys.argv[1:], name="export")
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="export")(_job)()


if __name__ == "__main__":
    main()
