"""`python -m scale.report`: a leaderboard of runs, our results and the published ones; a sweep's own tables."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scale.config.help import show_help
from scale.utils.choices import check_choice
from scale.utils.cli import one_line_errors, warn

if TYPE_CHECKING:
    from scale.reporting.verified import Gap

HELP = """\
usage: python -m scale.report output=DIR [runs=DIR,GLOB,...] [data=FLAG,...] [published=FILE,...]
       python -m scale.report SWEEP_FOLDER
       python -m scale.report [--ablation | --explanations] [results=FILE [variant=NAME] [RUN_FOLDER ...]]

  output=DIR       writes leaderboard.{csv,md,tex,html} there: for each data set and size the published methods, this
                   project's results and your runs, ranked by protocol (selected on val, at least 3 seeds)
  runs=...         finished runs, folders of runs such as a sweep's, glob patterns (quoted); only runs whose predictions
                   give the figures of their record are taken, every other one is named with the reason
  data=...         only these data sets
  published=FILE   proposed rows in the form of scale/published/others.csv (its README.md says what stands where)

  SWEEP_FOLDER     writes and prints that sweep's own tables, also where the sweep was killed or is running

  Otherwise prints this project's results beside every published one, as a Markdown table for each data set, with
  --ablation what is left without each part of the network, with --explanations what scale.explain measured of each
  method, pooled over the trainings where there are several. results=FILE takes them from another file, to which the run
  folders that are named are added first; runs whose recipe is not their model's default one need a name of their own
  there: variant=NAME, here or in training.
"""
FLAGS = ("--ablation", "--explanations")
LISTS = ("runs", "data", "published")
KEYS = (*LISTS, "output", "results", "variant")


def main() -> None:
    """The command."""
    if show_help(sys.argv[1:], HELP):
        return
    with one_line_errors():
        _report(sys.argv[1:])


def _report(arguments: Sequence[str]) -> None:
    flags = [argument for argument in arguments if argument.startswith("-")]
    for flag in flags:
        check_choice("option", flag, FLAGS)
    pairs = [argument.partition("=") for argument in arguments if _is_pair(argument)]
    for key, _, _ in pairs:
        check_choice("argument", key, KEYS)
    given = {key: [text for name, _, text in pairs if name == key] for key in KEYS}
    folders = [argument for argument in arguments if argument not in flags and not _is_pair(argument)]
    lists = {key: [part for text in given[key] for part in _parts(text)] for key in LISTS}
    one = {key: values[-1] for key, values in given.items() if values and key not in LISTS}
    if "output" in one:
        if flags or folders or {"results", "variant"} & set(one):
            raise ValueError("output=DIR goes with runs=, data= and published= only: name run folders by runs=DIR,DIR")
        _leaderboard(one["output"], lists, command=" ".join(["python -m scale.report", *map(shlex.quote, arguments)]))
        return
    unused = next((key for key in LISTS if lists[key]), None)
    if unused:
        raise ValueError(f"{unused}=... is for the leaderboard: say where to write it, output=DIR")
    _tables(folders, flags, one)


def _leaderboard(output: str, lists: dict[str, list[str]], *, command: str) -> None:
    from scale.published import ours
    from scale.reporting import job

    gaps = job.write(
        output,
        runs=lists["runs"],
        published=lists["published"],
        data=lists["data"],
        ours=ours.read(),
        ablations=ours.ablations(),
        missing=_missing(lists["runs"]),
        command=command,
    )
    for gap in gaps:
        warn(f"left out: {gap.folder} {gap.reason}")
    print(f"leaderboard: {', '.join(str(Path(output) / f'{job.STEM}.{end}') for end in ('html', 'md', 'tex', 'csv'))}")


def _missing(folders: Sequence[str]) -> "list[Gap]":
    """Jobs of the named sweeps that have no folder."""
    from scale.reporting.verified import Gap
    from scale.sweeps.folder import JOB, PLAN, read

    found = []
    for sweep in (Path(folder) for folder in folders if (Path(folder) / PLAN).is_file()):
        begun = {read(path)["number"] for path in sweep.glob(f"**/{JOB}")}
        jobs = enumerate(read(sweep / PLAN)["jobs"])
        found += [Gap(sweep, f"has no run of its job {n}: {' '.join(job)}") for n, job in jobs if n not in begun]
    return found


def _tables(folders: Sequence[str], flags: Sequence[str], one: dict[str, str]) -> None:
    from scale.published import explanations, ours, pooled
    from scale.sweeps import report as sweep_report
    from scale.sweeps.folder import PLAN

    if len(folders) == 1 and (Path(folders[0]) / PLAN).is_file():
        sweep_report.write(folders[0])
        return
    if folders and "results" not in one:
        raise ValueError(
            f"{folders[0]} is no sweep; for a leaderboard with these runs give runs={','.join(folders)} output=DIR, to "
            "add them to a file of results results=FILE: nothing is written into the installed package"
        )
    if not folders and not Path(one.get("results", ".")).exists():
        raise FileNotFoundError(f"results={one['results']}: no such file; name run folders to begin one")
    if "variant" in one and not folders:
        raise ValueError("variant=NAME is the name of runs that are added: give their folders")
    variant = one.get("variant", "")
    if "--explanations" in flags:
        path = Path(one.get("results", explanations.RESULTS))
        if folders:
            explanations.add(folders, path, variant=variant)
        print(pooled.tables(explanations.read(path)))
        return
    path = Path(one.get("results", ours.RESULTS))
    for line in ours.add(folders, path, variant=variant) if folders else []:
        warn(f"replaced {line}")
    print((ours.ablation_table if "--ablation" in flags else ours.table)(ours.read(path)))


def _is_pair(argument: str) -> bool:
    return "=" in argument and argument.partition("=")[0].isidentifier() and not Path(argument).exists()


def _parts(text: str) -> list[str]:
    """`A,B` or `[A,B]`; a name of something that is there may have commas."""
    if Path(text).exists():
        return [text]
    return [part.strip() for part in text.removeprefix("[").removesuffix("]").split(",") if part.strip()]


if __name__ == "__main__":
    main()
