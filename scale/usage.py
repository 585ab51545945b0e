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
DESCRIBE = """\
usage: python -m scale.describe [data=...] [model=...] [output=FILE.png]

Prints the shapes on a sample's way through a SCALE network, its parameters and multiply-adds, and draws them.
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

Methods: {methods}
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
    methods = textwrap.fill(", ".join(METHODS), width=118, initial_indent=" " * 9, subsequent_indent=" " * 9).lstrip()
    print(text.replace("{groups}", _groups()).replace("{methods}", methods))
    return True


def _groups() -> str:
    defaults = _defaults()
    lines = []
    for folder in sorted(path.name for path in directory().iterdir() if path.name in defaults):
        names = [f"{name}*" if defaults.get(folder) == name else name for name in options(folder)]
        text = textwrap.wrap(" ".join(names), width=96, break_on_hyphens=False)
        lines += [f"  {folder if number == 0 else '':12}{line}" for number, line in enumerate(text)]
    return "\n".join(lines) + "\n"


def _defaults() -> dict[str, str]:
    lines = (directory() / "train.yaml").read_text().splitlines()
    pairs = (line.strip("- ").split(": ") for line in lines if line.startswith("  - "))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
