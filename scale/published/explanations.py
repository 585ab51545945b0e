"""What `scale.explain` measured in named runs, kept beside this project's other results, as tables."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scale import runs
from scale.attribution.catalog import CONTROLS, METHODS
from scale.published import per_sample, recipe
from scale.runs.reading import load_yaml
from scale.utils.files import read_csv, write_csv
from scale.utils.tables import markdown

RESULTS = Path(__file__).resolve().parent / "explanations.csv"  # of the package: read only
RUN = ("flag", "size", "model", "variant", "seed")
COLUMNS = (*RUN, "method", "control", "metric", "better", "mean", "low", "high", "n", "values")
SHOWN = {  # what is measured / what it is compared with: heading of the column
    "pointing_game/": "pointing game",
    "relevance_mass/": "relevance mass",
    "deletion_auc/random": "deletion, gain on random",
    "insertion_auc/random": "insertion, gain on random",
    "randomisation/": "randomisation",
}
USUAL = {"split": "test", "checkpoint": "best", "target": "predicted"}  # what tables are of
Row = Mapping[str, str]


def rows_of(folder: str | Path, *, variant: str = "") -> list[Row]:
    """The metrics of one run's `explanations/`.

    Args:
        folder: of the run.
        variant: what the run is called, where its own configuration does not say.

    Raises:
        FileNotFoundError: the run was not explained, or without metrics.
        ValueError: it has no name of its own though its recipe is not the default one, or its maps are not those of the
            best epoch on test of the predicted classes; or it is no result.
    """
    folder = Path(folder)
    tables = [folder / "explanations" / name for name in ("quality.csv", "against_random.csv")]
    for path in tables:
        if not path.is_file():
            raise FileNotFoundError(f"{folder} has no explanations/{path.name}: python -m scale.explain run={folder}")
    metrics = runs.read_metrics(folder)
    runs.check_whole(metrics, folder)
    asked = folder / "explanations" / runs.CONFIG
    said = load_yaml(asked) if asked.is_file() else {}
    other = [f"{key}={said.get(key)}" for key, value in USUAL.items() if said.get(key, value) != value]
    if other and not variant:
        raise ValueError(
            f"{folder} was explained with {', '.join(other)}, and tables are of the predicted classes on test at the "
            "best epoch: explain it again without that, or give it a name of its own with variant=NAME"
        )
    run = {name: str(metrics[name]) for name in ("flag", "size", "seed")}
    run |= {"model": metrics["model"]["name"], "variant": recipe.name_of(folder, metrics, given=variant)}
    values = per_sample.read(folder / "explanations")
    rows = (run | row | {"values": per_sample.packed(values, row)} for path in tables for row in read_csv(path))
    return [{column: row.get(column) or "" for column in COLUMNS} for row in rows]


def read(path: Path = RESULTS) -> list[Row]:
    """All rows, as text."""
    if not path.is_file():
        return []
    return [{name: row.get(name) or "" for name in COLUMNS} for row in read_csv(path)]


def add(folders: Iterable[str | Path], path: Path, *, variant: str = "") -> None:
    """Adds runs to a file; what a method has of the same data, model, variant and seed takes the place of what it had.

    Args:
        folders: of runs that were explained.
        path: of the file.
        variant: what the runs are called, where their own configuration does not say.

    Raises:
        ValueError: as `rows_of`, or two runs that would be seeds of one mean had other images or labels.
    """
    peers: dict[tuple[str, ...], tuple[Path, dict[str, Any]]] = {}
    checked = [(Path(folder), rows_of(folder, variant=variant)) for folder in folders]
    for folder, own in checked:
        mean = tuple(own[0][name] for name in RUN if name != "seed") if own else ()
        peer, metrics = peers.setdefault(mean, (folder, runs.read_metrics(folder)))
        if not runs.on_same_data(metrics, runs.read_metrics(folder)):
            raise ValueError(f"the images or labels of {folder} are not those of {peer}: no mean is over both")
    for _, new in checked:
        # A method that is measured again replaces all that was known of it: metrics of two settings do not mix.
        places = {(_run(row), row["method"]) for row in new}
        kept = [row for row in read(path) if (_run(row), row["method"]) not in places]
        write_csv(path, COLUMNS, sorted(kept + new, key=_run), digits=6)


def table(rows: Sequence[Row]) -> str:
    """A Markdown table for each run: mean and 95 % interval of each method, controls last."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["head"] = frame["metric"].str.cat(frame["control"], "/").map(SHOWN)
    frame["cell"] = frame.apply(_cell, axis="columns") if len(frame) else ""
    order = [*(name for name in METHODS if name not in CONTROLS), *CONTROLS]
    parts = []
    for run, found in frame.groupby(list(RUN), sort=False):
        cells = found.dropna(subset="head").pivot(index="method", columns="head", values="cell")
        heads = [head for head in SHOWN.values() if head in cells]
        methods = sorted(found["method"].unique(), key=order.index)
        lines = cells.reindex(index=methods, columns=heads).fillna("")
        flag, size, model, variant, seed = run
        name = f"`{model}`, {variant}" if variant else f"`{model}`"
        title = f"**{flag}**, {size} pixels, {name}, seed {seed} (one training)"
        body = markdown(["method", *heads], [[f"`{line[0]}`", *line[1:]] for line in lines.itertuples(name=None)])
        parts.append(f"{title}\n\n{body}")
    return "\n\n".join(parts)


def _run(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in RUN)


def _cell(row: Any) -> str:
    if not row["mean"]:
        return ""
    mean, low, high = (f"{float(row[name]):.2f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
