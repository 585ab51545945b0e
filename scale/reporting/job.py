"""`scale.report` with an output folder: gathers results, and writes the leaderboard."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scale.published import methods
from scale.reporting import entries, leaderboard, leaderboard_files, leaderboard_page, verified
from scale.reporting.verified import Gap, Verified
from scale.utils.files import write_csv, write_text

PACKAGE = Path(__file__).resolve().parent.parent
STEM = "leaderboard"


def write(
    output: str | Path,
    *,
    runs: Sequence[str] = (),
    published: Sequence[str] = (),
    data: Sequence[str] = (),
    ours: Sequence[Mapping[str, str]] = (),
    ablations: Sequence[str] = (),
    missing: Sequence[Gap] = (),
    command: str,
) -> list[Gap]:
    """Writes `leaderboard.{csv,md,tex,html}`.

    Args:
        output: folder; it is made if need be.
        runs: run folders, folders of runs, or glob patterns.
        published: files of proposed rows, in the form of `published/others.csv`.
        data: flags to show; all if none are given.
        ours: rows of this project's results, from `scale.csv`.
        ablations: variants that are not ranked.
        missing: runs that were planned and are not there, each with its reason.
        command: that made it, shown on the page.

    Returns:
        The runs that are not in the tables, each with its reason.

    Raises:
        FileNotFoundError: runs or a file that are not there.
        ValueError: a proposed row is not in form, `data` matches nothing, or the output folder is in the package.
    """
    output = Path(output).expanduser()
    if output.resolve().is_relative_to(PACKAGE):
        raise ValueError(f"output={output} is in the installed package, where nothing is written: give another folder")
    if output.exists() and not output.is_dir():
        raise ValueError(f"output={output} is a file: give a folder")
    proposed = [row for path in published for row in methods.read(path)]
    checked = [verified.verify(folder) for folder in verified.find(runs)]
    good, gaps = verified.together([run for run in checked if isinstance(run, Verified)])
    gaps = [*missing, *(gap for gap in checked if isinstance(gap, Gap)), *gaps]
    found = entries.of_runs(good, ablations)
    found += entries.of_ours(ours, ablations) + entries.of_published([*methods.published(), *proposed])
    known = {entry.flag for entry in found}
    unknown = [flag for flag in data if flag not in known]
    if unknown:
        raise ValueError(f"data={unknown[0]}: there is no result on it; results are on {', '.join(sorted(known))}")
    sections = leaderboard.sections(entry for entry in found if not data or entry.flag in data)
    output.mkdir(parents=True, exist_ok=True)
    texts = {
        "md": leaderboard_files.as_markdown(sections, gaps),
        "tex": leaderboard_files.as_tex(sections),
        "html": leaderboard_page.page(sections, gaps, command=command),
    }
    write_csv(output / f"{STEM}.csv", leaderboard_files.COLUMNS, leaderboard_files.rows(sections), digits=6)
    for suffix, text in texts.items():
        write_text(output / f"{STEM}.{suffix}", text)
    return gaps
