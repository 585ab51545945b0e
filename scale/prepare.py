"""`python -m scale.prepare`: a folder, a table or an npz file of any images becomes one file that networks train on."""

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
usage: python -m scale.prepare source=DIR|FILE.npz | labels=FILE.csv [source=DIR] output=NAME.npz [key=value ...]

Turns a folder, a table or an npz file of any images or volumes (PNG, JPEG, TIFF, BMP, WebP, NIfTI, npy, npz, DICOM)
into one file that python -m scale.train data=npz takes. What is inferred is printed and written to NAME.yaml; files
that cannot be used are named in NAME.files/skipped.csv, and make the exit status 3. A stopped call is resumed.

  python -m scale.prepare source=DIR output=mine.npz                a subfolder for each class, perhaps below
                                                                    train/ val/ test/
  python -m scale.prepare labels=FILE.csv output=mine.npz           columns path and label, perhaps group and split;
                                                                    several columns of 0 and 1: multi-label
  python -m scale.prepare source=DIR output=mine.npz size=64 window=lung spacing=isotropic
  python -m scale.prepare source=DIR output=mine.npz folds=5        then: -m sweep=folds data=npz data.path=mine.npz
  python -m scale.prepare --cfg job                                 shows every key with its value
"""


def _run(config: DictConfig) -> int:
    """Prepares and prints; the exit status says whether files were skipped."""
    from scale.preparing.job import prepare
    from scale.preparing.settings import Settings

    if config.output is None:
        raise ValueError("give output=NAME.npz")
    values = configuration.plain(config)
    places = {key: values.pop(key) for key in ("source", "labels", "output")}
    workers = values.pop("workers") or os.cpu_count() or 1
    found = prepare(
        Path(places["output"]).expanduser(),
        source=None if places["source"] is None else Path(places["source"]).expanduser(),
        table=None if places["labels"] is None else Path(places["labels"]).expanduser(),
        settings=Settings.of(values),
        workers=workers,
    )
    print("\n".join(found.lines))
    for name, reason in found.skipped[:5]:
        print(f"skipped: {name} {reason}")
    if len(found.skipped) > 5:
        print(f"skipped: {len(found.skipped) - 5} more, see {found.folder}/skipped.csv")
    print(f"written: {found.path}, {found.companion.name}; look at the contact sheets in {found.folder}/sheets")
    print(f"train: python -m scale.train data=npz data.path={found.path}")
    return SKIPPED if found.skipped else 0


def _job(config: DictConfig) -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO, force=True)
    with one_line_errors():
        sys.exit(_run(config))


def main() -> None:
    """The command."""
    if show_help(sys.argv[1:], HELP):
        return
    configuration.check_command_line(sys.argv[1:], name="prepare")
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="prepare")(_job)()


if __name__ == "__main__":
    main()
