"""`python -m scale.predict`: predictions of new files, how far each can be believed, and where the network looked."""

import logging
import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from scale import config as configuration
from scale.config.help import show_help
from scale.utils.cli import one_line_errors

SKIPPED = 3  # exit status where files could not be used
HELP = """\
usage: python -m scale.predict run=DIR | "runs=[DIR,DIR]" input=FILE|DIR|CSV|NPZ output=DIR [key=value ...]

Predicts files: output/predictions.csv has the predicted class, a calibrated probability for each class, the conformal
set, the entropy, and whether the file looks unlike the training data (its features lie further from theirs than those
of 95 % of val). Files that cannot be used are named in output/skipped.csv, and make the exit status 3. The same call
again resumes. With labels (class folders, a column of the CSV) it is an external validation: metrics with intervals
beside the run's own test. With explain=METHOD output/explanations.html shows every file. Research only.

  python -m scale.predict run=DIR input=scan.nii.gz output=out explain=integrated_gradients
  python -m scale.predict run=DIR input=FOLDER output=out
  python -m scale.predict run=DIR input=mine.files/samples.csv source=FOLDER split=test output=out
  python -m scale.predict -m run=DIR input=FOLDER output=out shards=4 shard=0,1,2,3 hydra/launcher=joblib
  python -m scale.predict --cfg job                                 shows every key with its value
"""


def predict(config: DictConfig) -> int:
    """Predicts and prints; the exit status says whether files were skipped.

    Args:
        config: composed by `scale.config.compose(..., name="predict")`.

    Raises:
        FileNotFoundError: there is no such run or input.
        FileExistsError: the output holds other predictions.
        ValueError: a value, label or method that does not fit the run.
    """
    if (config.run is None) == (not config.runs):
        raise ValueError('give run=<folder of a finished run> or "runs=[<folder>,<folder>]"')
    for key, example in (("input", "FILE, DIR, CSV or NPZ"), ("output", "DIR")):
        if config[key] is None:
            raise ValueError(f"give {key}={example}")
    if config.batch_size < 1:
        raise ValueError(f"batch_size={config.batch_size}: give a number of at least 1")
    if config.split not in (None, "train", "val", "test"):
        raise ValueError(f"split={config.split}: give train, val or test")
    import torch

    from scale.exporting.pretrained import load_predictor
    from scale.inference import job
    from scale.inference.listing import listing_of
    from scale.inference.maps import Explainer
    from scale.inference.uncertainty import CALLED
    from scale.runs.predict import find_device
    from scale.runs.sets import folder_of

    shard, folder = job.Shard(config.shard, config.shards), Path(config.output).expanduser()
    if config.threads:
        torch.set_num_threads(config.threads)
    places = [config.run] if config.run is not None else config.runs
    predictor = load_predictor(
        [folder_of(place, config.set) for place in places],
        device=find_device(config.accelerator),
        alpha=config.alpha,
        calibrate=bool(config.calibrate),
        allow=config.allow,
    )
    source = None if config.source is None else Path(config.source).expanduser()
    listing = listing_of(Path(config.input).expanduser(), predictor.inputs.classes, source=source, split=config.split)
    explainer = None if config.explain is None else Explainer(predictor, config.explain, folder)
    found = job.predict(
        predictor,
        listing,
        folder,
        shard=shard,
        batch_size=config.batch_size,
        workers=config.workers or os.cpu_count() or 1,
        explainer=explainer,
    )
    if found.table:
        print(found.table)
    if found.missing:
        print(f"shard {shard.number}: {found.predicted} files predicted; still to be done: {found.missing}")
    else:
        print(f"{found.predicted} files predicted: {folder}/predictions.csv (research only)")
    if found.unlike:
        told = predictor.uncertainty.unlike
        print(
            f"{found.unlike} look unlike the training data ({CALLED[told.score]} above {told.threshold:.4g}, "
            "which 5 % of val exceeds): do not trust their predictions"
        )
    if found.skipped:
        print(f"{found.skipped} files skipped" + ("" if found.missing else f": {folder}/skipped.csv"))
    return SKIPPED if found.skipped else 0


def _job(config: DictConfig) -> int | None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    logging.basicConfig(format="%(message)s", level=logging.INFO, force=True)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    with one_line_errors():
        status = predict(config)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return status
    sys.exit(status)


def main() -> None:
    """The command."""
    if show_help(sys.argv[1:], HELP):
        return
    sys.argv[1:] = configuration.options_first(sys.argv[1:])
    configuration.check_command_line(sys.argv[1:], name="predict")
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="predict")(_job)()


if __name__ == "__main__":
    main()
