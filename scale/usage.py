"""Help texts, made from the files of `conf/`; nothing heavy is imported."""

import textwrap
from collections.abc import Sequence

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
  python -m scale.train -m seed=0,1,2 data=breastmnist         runs a sweep
  python -m scale.train --hydra-help                           shows Hydra's own flags
"""

EVALUATE = """\
usage: python -m scale.evaluate run=DIR | "predictions='FILE'" [data.root=DIR] [accelerator=auto|cpu|gpu]

  python -m scale.evaluate run=runs/breastmnist/scale/seed0-...       recomputes val and test from the best checkpoint
                                                                    and compares them with metrics.json
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
REPORT = """\
usage: python -m scale.report [RUN_FOLDER ...]

Prints our results beside the published ones as a Markdown table: mean and standard deviation over all seeds that were
run. Run folders that are named are added to the results first (scale/published/scale.csv, a row per run).
"""
USER_ERRORS = (ValueError, OSError, FloatingPointError)  # shown as one line; anything else with its traceback


def show_help(arguments: Sequence[str], text: str) -> bool:
    """Prints the help if it is asked for; says whether it was."""
    if not {"-h", "--help"} & set(arguments):
        return False
    text = text.replace("{groups}", _groups())
    print(text.replace("{spaces}", " ".join(options("tune"))).replace("{settings}", _settings()))
    return True


def _groups() -> str:
    defaults = _defaults()
    lines = []
    for folder in sorted(path.name for path in directory().iterdir() if path.is_dir() and path.name != "tune"):
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
