"""This project's results, a row a run in `scale.csv`, as tables beside the published ones."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scale import runs
from scale.config import options
from scale.data import catalog
from scale.published import medmnist as published
from scale.published import recipe
from scale.utils.files import write_csv
from scale.utils.tables import markdown, spread

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).resolve().parent / "scale.csv"  # of the package: read only
KEY = ("flag", "size", "model", "variant", "seed")  # what a run is: another row with the same takes its place
COLUMNS = (
    *KEY,
    *("auc", "acc", "tta_auc", "tta_acc", "val_auc", "val_acc"),
    *("epochs", "best_epoch", "seconds", "parameters", "macs", "pretrained", "hardware", "commit"),
)
NUMBERS = ("size", "seed", "auc", "acc", "tta_auc", "tta_acc", "parameters", "macs")  # that tables show or sort by
Row = Mapping[str, str]


def row(folder: str | Path, *, variant: str = "") -> dict[str, str]:
    """The row of one finished run.

    Args:
        folder: of the run.
        variant: what the run is called, where its own configuration does not say.

    Raises:
        FileNotFoundError: the folder holds no finished run.
        ValueError: the run left samples or the whole test split out, which is no result; or it has no name of its own
            though its recipe is not the default one or its data are a fold.
    """
    folder = Path(folder)
    metrics = runs.read_metrics(folder)
    if "test" not in metrics:
        raise ValueError(f"{folder} was trained with test=false: it has no result on test")
    environment = runs.read_environment(folder)
    config = runs.read_config(folder)
    runs.check_whole(metrics, folder)
    fold = recipe.question(config).get("data.fold")
    if fold is not None and not variant and not metrics.get("variant"):
        raise ValueError(
            f"{folder} is a run on fold {fold}, whose test split is not the file's: pool the folds with python -m "
            f"scale.report SWEEP, or give it a name of its own: python -m scale.report variant=NAME {folder}"
        )
    columns = {"": "test", "tta_": "test_tta", "val_": "val"}
    figures = {
        f"{prefix}{name}": "" if metrics[split][name] is None else round(metrics[split][name], 8)
        for prefix, split in columns.items()
        if split in metrics
        for name in ("auc", "acc")
    }
    found: dict[str, Any] = {
        **{key: metrics[key] for key in ("flag", "size", "seed", "epochs", "best_epoch", "hardware")},
        **figures,
        "model": metrics["model"]["name"],
        "variant": recipe.name_of(folder, metrics, given=variant),
        "seconds": round(metrics["seconds"]["fit"]),
        "parameters": metrics["model"]["parameters"],
        "macs": metrics["model"]["macs"],
        "pretrained": recipe.pretrained(config),
        "commit": (environment["commit"] or "")[:10] + ("+" if environment["modified"] else ""),
    }
    return {name: str(found.get(name, "")) for name in COLUMNS}


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    """All rows, as text; of several of the same run the last. A column that an older file lacks is empty."""
    import pandas as pd

    if not path.is_file():
        return []
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)  # a variant may be called `None`
    frame = frame.reindex(columns=list(COLUMNS), fill_value="")
    last = frame.groupby(list(KEY), sort=False, as_index=False).last()
    return last[list(COLUMNS)].to_dict("records")


def add(folders: Iterable[str | Path], path: Path, *, variant: str = "") -> list[str]:
    """Adds the rows of runs to a file of results.

    A run of the same data set, size, model, variant and seed takes the place of an older one.

    Returns:
        A line for each row that was replaced by another.

    Raises:
        ValueError: as `row`, or two runs that would be seeds of one mean had other images or labels.
    """
    rows = {_key(found): found for found in read(path)}
    replaced = []
    peers: dict[tuple[str, ...], tuple[Path, dict[str, Any]]] = {}
    for folder in map(Path, folders):
        found = row(folder, variant=variant)
        mean = tuple(found[name] for name in KEY if name != "seed")
        peer, metrics = peers.setdefault(mean, (folder, runs.read_metrics(folder)))
        if not runs.on_same_data(metrics, runs.read_metrics(folder)):
            raise ValueError(
                f"the images or labels of {folder} are not those of {peer}, and one mean cannot be over both: give the "
                "runs on either a name of their own with variant=NAME"
            )
        before = rows.get(_key(found))
        if before is not None and before != found:
            replaced.append(f"{' '.join(filter(None, _key(found)))}: AUC {before['auc']} is now {found['auc']}")
        rows[_key(found)] = found
    # The file is sorted as the tables are, so that a new row makes a small difference in a repository.
    order = _frame(list(rows.values())).index
    write_csv(path, COLUMNS, [list(rows.values())[number] for number in order])
    return replaced


def table(rows: Sequence[Row]) -> str:
    """A Markdown table for each data set: ours, mean and standard deviation over all seeds, and every published result.

    Ablations have a table of their own. The best AUC and ACC without test-time augmentation are bold.
    """
    frame = _frame(rows)
    parts = []
    for flag, ours in frame[~frame["variant"].isin(ablations())].groupby("flag", sort=False):
        averaged = ["tta_auc", "tta_acc"] * bool(ours["tta_auc"].notna().any())
        lines = [
            [
                *(f"`{model}`, {variant}" if variant else f"`{model}`", size, _seeds(seeds["seed"])),
                *(_mean(seeds[name]) for name in ("auc", "acc", *averaged)),
                *_cost(*seeds[["parameters", "macs"]].iloc[0]),
            ]
            for (size, model, variant), seeds in ours.groupby(["size", "model", "variant"], sort=False)
        ]
        theirs = published.rows(str(flag))
        lines += [
            [
                *(found.method + "†" * (found.checked == "recalled"), str(found.input_size), "published"),
                *(f"{found.auc:.3f}", f"{found.acc:.3f}", *([""] * len(averaged))),
                *_cost(*(found.cost or (None, None))),
            ]
            for found in theirs
        ]
        for column in (3, 4):  # Equal to three digits is equal: all of the best are bold.
            best = max(line[column][:5] for line in lines)
            for line in lines:
                if line[column][:5] == best:
                    line[column] = f"**{line[column]}**"
        head = ["method", "input", "seeds", "AUC", "ACC", *(["AUC, flip TTA", "ACC, flip TTA"] * bool(averaged))]
        notes = ["", "† not checked against a copy of the paper"] * any(r.checked == "recalled" for r in theirs)
        title = f"**{catalog.title(str(flag))}**"
        parts.append("\n".join([title, "", markdown([*head, "M params", "G MACs"], lines), *notes]))
    return "\n\n".join(parts)


def ablation_table(rows: Sequence[Row]) -> str:
    """A Markdown table of what is left without each part, and of the whole network on each hardware that it ran on.

    `change` is the mean difference from the whole network over the seeds that both have on the same hardware, as the
    same seed on another is another draw; how many these are is said where they are not all.
    """
    frame = _frame(rows)
    frame["hardware"] = frame["hardware"].str.split(", ").str[-1]
    # A variant that is named after its own hardware is the whole network there.
    frame.loc[frame["variant"] == frame["hardware"], "variant"] = ""
    frame = frame.drop_duplicates([*KEY, "hardware"], keep="last")
    order = ["", *ablations()]
    # Variants that their users named are other recipes, and no part of the network is missing in them.
    frame = frame[frame["variant"].isin(order)].sort_values("variant", key=lambda v: v.map(order.index), kind="stable")
    lines = []
    for (flag, size, model), found in frame.groupby(["flag", "size", "model"], sort=False):
        if not found["variant"].any():
            continue
        for (variant, hardware), seeds in found.groupby(["variant", "hardware"], sort=False):
            alike = found[(found["variant"] == "") & (found["hardware"] == hardware)].set_index("seed")
            cells: list[str] = []
            for name in ("auc", "acc"):
                change = (seeds.set_index("seed")[name] - alike[name]).dropna()
                few = f" ({len(change)} seed{'s' * (len(change) > 1)})" if 0 < len(change) < len(seeds) else ""
                cells += [_mean(seeds[name]), spread(change, sign="+") + few if variant else ""]
            cost = _cost(*seeds[["parameters", "macs"]].iloc[0])
            title = [catalog.title(flag), size, f"`{model}`", variant or "whole", hardware]
            lines.append([*title, _seeds(seeds["seed"]), *cells, *cost])
    if not lines:
        return "there are no ablation runs among the results: python -m scale.train -m experiment=ablation ..."
    head = ["data set", "input", "model", "network", "hardware", "seeds"]
    return markdown([*head, "AUC", "change", "ACC", "change", "M params", "G MACs"], lines)


def ablations() -> list[str]:
    """Variants that are an ablation of a network."""
    return [name for name in options("ablation") if name != "full"]


def _key(found: Row) -> tuple[str, ...]:
    return tuple(found[name] for name in KEY)


def _frame(rows: Sequence[Row]) -> "pd.DataFrame":
    """Each run once, in the catalog's order and then in that of all else; what is missing is NaN."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS)).drop_duplicates(list(KEY), keep="last")
    frame[list(NUMBERS)] = frame[list(NUMBERS)].apply(pd.to_numeric)
    places = {flag: number for number, flag in enumerate(catalog.FLAGS)}
    frame["place"] = frame["flag"].map(places).fillna(len(places))
    return frame.sort_values(["place", *KEY], kind="stable")


def _seeds(found: "pd.Series[Any]") -> str:
    seeds = sorted(found)
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def _mean(values: "pd.Series[Any]") -> str:
    """Mean and standard deviation; empty where not every run has the figure, so that no two columns mix runs."""
    return "" if values.isna().any() else spread(values)


def _cost(parameters: float | None, macs: float | None) -> list[str]:
    if parameters is None or macs is None:
        return ["", ""]
    return [f"{parameters / 1e6:.2f}", f"{macs / 1e9:.3f}"]
