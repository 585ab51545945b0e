"""`python -m scale.report`: our results beside the published ones; a sweep's own tables."""

import sys
from pathlib import Path

from scale.config.help import show_help
from scale.utils.cli import one_line_errors, warn

HELP = """\
usage: python -m scale.report [--ablation | --explanations] [variant=NAME] [RUN_FOLDER ...] | SWEEP_FOLDER

Prints our results beside every published one, as a Markdown table for each data set: mean and standard deviation over
all seeds that were run. With --ablation: what is left without each part of the network. With --explanations: what
scale.explain measured of each method, pooled over the trainings where there are several. Run folders that are named are
added to the results first (scale/published/scale.csv, a row per run; scale/published/explanations.csv, a row per method
and metric). Runs whose recipe is not their model's default one need a name of their own in the table: variant=NAME,
here or in training. Of a sweep's folder, it writes and prints that sweep's own tables, also where the sweep was killed
or is running.
"""
FLAGS = ("--ablation", "--explanations")


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

    named = [argument for argument in arguments if argument.startswith("variant=")]
    folders = [argument for argument in arguments if argument not in (*FLAGS, *named)]
    variant = named[-1].partition("=")[2] if named else ""
    unknown = [argument for argument in folders if argument.startswith("-")]
    if unknown:
        raise ValueError(f"there is no option {unknown[0]}: give {', '.join(FLAGS)}, or folders of finished runs")
    if len(folders) == 1 and (Path(folders[0]) / PLAN).is_file():
        sweep_report.write(folders[0])
    elif "--explanations" in arguments:
        explanations.add(folders, variant=variant)
        print(pooled.tables(explanations.read()))
    else:
        for line in ours.add(folders, variant=variant) if folders else []:
            warn(f"replaced {line}")
        print((ours.ablation_table if "--ablation" in arguments else ours.table)(ours.read()))


if __name__ == "__main__":
    main()
