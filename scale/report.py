"""`python -m scale.report`: this project's results beside the published ones; a sweep's own tables."""

import sys
from pathlib import Path
from typing import Any

from scale.config.help import show_help
from scale.utils.choices import check_choice
from scale.utils.cli import one_line_errors, warn

HELP = """\
usage: python -m scale.report [--ablation | --explanations] [results=FILE [variant=NAME] [RUN_FOLDER ...]]
       python -m scale.report SWEEP_FOLDER

Prints this project's results beside every published one, as a Markdown table for each data set: mean and standard
deviation over all seeds that were run. With --ablation: what is left without each part of the network. With
--explanations: what scale.explain measured of each method, pooled over the trainings where there are several.
results=FILE takes the rows from a CSV file of yours, to which the run folders that are named are added first; runs
whose recipe is not their model's default one need a name of their own there: variant=NAME, here or in training. What is
installed is never written to.
Of a sweep's folder, it writes and prints that sweep's own tables, also where the sweep was killed or is running.
"""
FLAGS = ("--ablation", "--explanations")
KEYS = ("results", "variant")


def main() -> None:
    """The command."""
    if show_help(sys.argv[1:], HELP):
        return
    with one_line_errors():
        _report(sys.argv[1:])


def _report(arguments: list[str]) -> None:
    from scale.published import explanations, ours, pooled
    from scale.sweeps import report as sweep_report
    from scale.sweeps.folder import PLAN

    flags = [argument for argument in arguments if argument.startswith("-")]
    for flag in flags:
        check_choice("option", flag, FLAGS)
    folders = [a for a in arguments if a not in flags and ("=" not in a or Path(a).exists())]
    given = dict(argument.split("=", 1) for argument in arguments if argument not in (*flags, *folders))
    for key in given:
        check_choice("argument", key, KEYS)
    if len(folders) == 1 and (Path(folders[0]) / PLAN).is_file():
        sweep_report.write(folders[0])
        return
    if folders and "results" not in given:
        raise ValueError(
            f"{folders[0]} is no sweep: to add runs to a file of results, name it, results=FILE (made if need be); "
            "nothing is written into the installed package"
        )
    room: Any = explanations if "--explanations" in flags else ours
    path = Path(given.get("results") or room.RESULTS).expanduser()
    if folders:
        for line in room.add(folders, path, variant=given.get("variant", "")) or ():
            warn(f"replaced {line}")
    elif not path.is_file():
        raise FileNotFoundError(f"results={path}: there is no such file; name run folders to begin one")
    written = ours.ablation_table if "--ablation" in flags else ours.table
    print((pooled.tables if room is explanations else written)(room.read(path)))


if __name__ == "__main__":
    main()
