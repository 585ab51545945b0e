"""Help texts, made from the files of `conf/`; nothing heavy is imported."""

import textwrap
from collections.abc import Sequence

from scale.attribution.catalog import METHODS
from scale.config import directory, options

TRAIN = """\
usage: python -m scale.train [group=option ...] [key=value ...]

Trains on one MedMNIST data set, picks the epoch by val AUC, tests once, and keeps everything in a run folder.

To start with:
  python -m scale.train                                        synthetic 3D images, offline
  python -m scale.train data=breastmnist                       a real data set, downloaded once
  python -m scale.train data=vesselmnist3d trainer=gpu hardware=amp seed=1

Groups (group=option; * is the default):
{groups}
Keys (key=value), for example:
  seed=1   data.size=64   data.root=DIR   data.batch_size=64   trainer.max_epochs=30   hydra.run.dir=DIR
  python -m scale.train --cfg job                              shows every key with its value
  python -m scale.train -m seed=0,1,2 data=breastmnist         runs a sweep, each job in a process of its own
  python -m scale.train -m sweep=seeds data=breastmnist        the same, ready-made; with hydra.sweep.dir=DIR the same
                                                               command goes on where a sweep was stopped
  python -m scale.train -m sweep=all hydra/launcher=joblib hydra.launcher.n_jobs=4    four jobs at a time
  python -m scale.train -m experiment=ablation seed=0,1,2      runs the network without one of its parts at a time
  python -m scale.train --hydra-help                           shows Hydra's own flags
"""

PREPARE = """\
usage: python -m scale.prepare source=DIR|FILE.npz | labels=FILE.csv [source=DIR] output=NAME.npz [key=value ...]

Turns a folder, a table or an npz file of any images or volumes (PNG, JPEG, TIFF, BMP, WebP, NIfTI, npy, npz, DICOM)
into one file that python -m scale.train data=npz takes. What is inferred is printed and written to NAME.yaml; files
that cannot be used are named in NAME.files/skipped.csv, and make the exit status 3. A call that was stopped goes on.

  python -m scale.prepare source=DIR output=mine.npz                a subfolder for each class, perhaps below
                                                                    train/ val/ test/
  python -m scale.prepare labels=FILE.csv output=mine.npz           columns path and label, perhaps group and split;
                                                                    several columns of 0 and 1: multi-label
  python -m scale.prepare source=DIR output=mine.npz size=64 window=lung spacing=isotropic
  python -m scale.prepare source=DIR output=mine.npz folds=5        then: -m sweep=folds data=npz data.path=mine.npz
  python -m scale.prepare --cfg job                                 shows every key with its value
"""

PREDICT = """\
usage: python -m scale.predict run=DIR | "runs=[DIR,DIR]" input=FILE|DIR|CSV|NPZ output=DIR [key=value ...]

Predicts files: output/predictions.csv has the predicted class, a calibrated probability for each class, the conformal
set, the entropy, and whether the file looks unlike the training data. Files that cannot be used are named in
output/skipped.csv, and make the exit status 3. A call that was stopped goes on. With labels (class folders, a column
of the CSV) it is an external validation: metrics with intervals beside the run's own test. Research only.

  python -m scale.predict run=DIR input=scan.nii.gz output=out explain=integrated_gradients
  python -m scale.predict run=DIR input=FOLDER output=out
  python -m scale.predict run=DIR input=mine.files/samples.csv source=FOLDER split=test output=out
  python -m scale.predict -m run=DIR input=FOLDER output=out shards=4 shard=0,1,2,3 hydra/launcher=joblib
  python -m scale.predict --cfg job                                 shows every key with its value
"""

EVALUATE = """\
usage: python -m scale.evaluate run=DIR | "runs=[DIR,DIR]" | "predictions='FILE'" [data.root=DIR]
                                [accelerator=auto|cpu|gpu]

  python -m scale.evaluate run=runs/breastmnist/scale/seed0-...       recomputes val and test from the best checkpoint
                                                                    and compares them with metrics.json
  python -m scale.evaluate run=DIR evaluation.tta=true              also averaged over the mirrorings that keep the
                                                                    label; added to the run's record, apart
  python -m scale.evaluate "runs=[DIR,DIR,DIR]" [output=DIR]        averages the saved probabilities of runs on the same
                                                                    data and writes them to a folder of their own
  python -m scale.evaluate "predictions='breastmnist_test_[AUC]0.913_[ACC]0.846@1.csv'"
                                                                    scores a file in the official format; data set, size
                                                                    and split come from its name
"""
TUNE = """\
usage: python -m scale.tune [study=DIR] [tune=SPACE] [n_trials=20] [n_jobs=1] [group=option ...] [key=value ...]

Searches for a better configuration by val AUC. Each trial is a run in a process of its own, which never looks at the
test split; all train with the same seed. Trial 0 is the configuration itself, as python -m scale.train takes it. A
trial that is worse than the median is stopped early. The same command goes on where an earlier one stopped; given in
several terminals, it shares the work.

  python -m scale.tune data=breastmnist n_trials=40
  python -m scale.tune data=breastmnist tune=optimizer n_jobs=2        two trials at a time
  python -m scale.tune data=breastmnist --config-dir DIR tune=mine     the space in DIR/tune/mine.yaml
  python -m scale.train --config-dir DIR experiment=best              the best trial of the study in DIR, with its test

Spaces (tune=...): {spaces}
Keys of the study, with their defaults:
{settings}
All other groups and keys: python -m scale.train --help
"""
DESCRIBE = """\
usage: python -m scale.describe [data=...] [model=...] [output=FILE.png]

Prints the shapes on a sample's way through a SCALE network, its parameters and multiply-adds, and draws them.
"""
BENCHMARK = """\
usage: python -m scale.benchmark [models=[scale,resnet18]] [accelerator=auto|cpu|gpu] [group=option ...] [key=value ...]

Times networks on images of a data set's shape, in turns: samples a second in training (augmentation, losses, backward,
optimizer) and in evaluation, median and range of five rounds, and the GPU's peak memory. Needs no data.

  python -m scale.benchmark data=vesselmnist3d models=[scale,scale_tiny,resnet18]
  python -m scale.benchmark data=breastmnist hardware=amp data.batch_size=128 threads=1
"""
EXPLAIN = """\
usage: python -m scale.explain run=DIR [attribution=default|fast|full] [key=value ...]

Draws maps of what a run's answers rest on, measures how far each can be trusted, and writes DIR/explanations/.

  python -m scale.explain run=DIR                                  every method that fits, on the most telling samples
  python -m scale.explain run=DIR attribution=fast                 the maps alone
  python -m scale.explain run=DIR indices=[3,17] target=truth      samples and class of one's own choice
  python -m scale.explain run=DIR attribution.methods=[integrated_gradients,rollout] attribution.batch_size=4
  python -m scale.explain run=DIR compare=[DIR2,DIR3]              how far the maps of other seeds agree
  python -m scale.explain --cfg job                                shows every key with its value

A call replaces what an earlier one wrote; what has measures that are not made again is kept as explanations-1 (2, ...).

Methods: {methods}
"""
REPORT = """\
usage: python -m scale.report [--ablation | --explanations] [variant=NAME] [RUN_FOLDER ...] | SWEEP_FOLDER

Prints our results beside every published one, as a Markdown table for each data set: mean and standard deviation over
all seeds that were run. With --ablation: what is left without each part of the network. With --explanations: what
scale.explain measured of each method. Run folders that are named are added to the results first
(scale/published/scale.csv, a row per run; scale/published/explanations.csv, a row per method and measure). Runs whose
recipe is not their model's default one need a name of their own in the table: variant=NAME, here or in training.
Of a sweep's folder, it writes and prints that sweep's own tables, also where the sweep was killed or is running.
"""
USER_ERRORS = (
    ValueError,
    OSError,
    FloatingPointError,
    ModuleNotFoundError,
)  # shown as one line; anything else with its traceback


def show_help(arguments: Sequence[str], text: str) -> bool:
    """Prints the help if it is asked for; says whether it was."""
    if not {"-h", "--help"} & set(arguments):
        return False
    methods = textwrap.fill(", ".join(METHODS), width=118, initial_indent=" " * 9, subsequent_indent=" " * 9).lstrip()
    text = text.replace("{groups}", _groups()).replace("{methods}", methods)
    print(text.replace("{spaces}", " ".join(options("tune"))).replace("{settings}", _settings()))
    return True


def _groups() -> str:
    defaults = _defaults()
    lines = []
    for folder in sorted(path.name for path in directory().iterdir() if path.name in defaults):
        names = [f"{name}*" if defaults.get(folder) == name else name for name in options(folder)]
        text = textwrap.wrap(" ".join(names), width=96, break_on_hyphens=False)
        lines += [f"  {folder if number == 0 else '':12}{line}" for number, line in enumerate(text)]
    return "\n".join(lines) + "\n"


def _settings() -> str:
    """The keys of `conf/tune.yaml` with what is said there."""
    lines = (directory() / "tune.yaml").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("study:"))
    return "\n".join(f"  {line}" for line in lines[first:])


def _defaults() -> dict[str, str]:
    lines = (directory() / "train.yaml").read_text().splitlines()
    pairs = (line.strip("- ").split(": ") for line in lines if line.startswith("  - "))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
