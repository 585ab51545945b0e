"""`python -m scale.prepare`: a folder, a table or an npz file of any images becomes one file that networks train on."""

import logging
import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from scale import config as configuration

SKIPPED = 3  # exit status where files could not be used


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
    from scale.usage import USER_ERRORS

    logging.basicConfig(format="%(message)s", level=logging.INFO, force=True)
    try:
        sys.exit(_run(config))
    except USER_ERRORS as error:
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(1)


def main() -> None:
    """The command."""
    from scale.usage import PREPARE, show_help

    if show_help(sys.argv[1:], PREPARE):
        return
    configuration.check_command_line(sys.argv[1:], name="prepare")
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="prepare")(_job)()


if __name__ == "__main__":
    main()
