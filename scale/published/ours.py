"""Our own results, a row a run in `scale.csv`, as tables beside the published ones."""

import csv
import io
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scale.config import options
from scale.data import catalog
from scale.published import medmnist as published
from scale.published import recipe
from scale.runs import check_whole
from scale.utils.files import replacing

RESULTS = Path(__file__).resolve().parent / "scale.csv"
COLUMNS = (
    *("flag", "size", "model", "variant", "seed", "auc", "acc", "tta_auc", "tta_acc", "val_auc", "val_acc"),
    *("epochs", "best_epoch", "seconds", "parameters", "macs", "hardware", "commit"),
)
KEY = ("flag", "size", "model", "variant", "seed")  # what a run is: another row with the same takes its place
Row = Mapping[str, str]


def row(folder: str | Path, *, variant: str = "") -> dict[str, str]:
    """The row of one finished run.

    Args:
        folder: of the run.
        variant: what the run is called, where its own configuration does not say.

    Raises:
        FileNotFoundError: the folder holds no finished run.
        ValueError: the run left samples or the whole test split out, which is no result; or it has no name of its own
            though its recipe is not the default one.
    """
    folder = Path(folder)
    path = folder / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no finished run: there is no metrics.json in it")
    metrics = json.loads(path.read_text())
    if "test" not in metrics:
        raise ValueError(f"{folder} was trained with test=false: it has no result on test")
    environment = json.loads((folder / "environment.json").read_text())
    check_whole(metrics, folder)
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
        "commit": (environment["commit"] or "")[:10] + ("+" if environment["modified"] else ""),
    }
    return {name: str(found.get(name, "")) for name in COLUMNS}


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    """All rows, as text; of several of the same run the last. A column that an older file lacks is empty."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [{name: found.get(name) or "" for name in COLUMNS} for found in csv.DictReader(file)]
    return list({_key(found): found for found in rows}.values())


def add(folders: Iterable[str | Path], path: Path = RESULTS, *, variant: str = "") -> list[str]:
    """Adds the rows of runs.

    A run of the same data set, size, model, variant and seed takes the place of an older one.

    Returns:
        A line for each row that was replaced by another.
    """
    rows = {_key(found): found for found in read(path)}
    replaced = []
    for folder in folders:
        found = row(folder, variant=variant)
        before = rows.get(_key(found))
        if before is not None and before != found:
            replaced.append(f"{' '.join(filter(None, _key(found)))}: AUC {before['auc']} is now {found['auc']}")
        rows[_key(found)] = found
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows.values(), key=_place))
    with replacing(path) as file:
        file.write(text.getvalue().encode())
    return replaced


def table(rows: Sequence[Row]) -> str:
    """A Markdown table for each data set: ours, mean and standard deviation over all seeds, and every published result.

    Ablations have a table of their own. The best AUC and ACC without test-time augmentation are bold.
    """
    groups = _groups(found for found in rows if found["variant"] not in ablations())
    parts = []
    for flag in dict.fromkeys(key[0] for key in groups):
        ours = {key: runs for key, runs in groups.items() if key[0] == flag}
        mirrored = any(found["tta_auc"] for runs in ours.values() for found in runs)
        lines = [
            [_name(model, variant), size, _seeds(runs), _mean(runs, "auc"), _mean(runs, "acc")]
            + ([_mean(runs, "tta_auc"), _mean(runs, "tta_acc")] if mirrored else [])
            + _cost(int(runs[0]["parameters"]), int(runs[0]["macs"]))
            for (_, size, model, variant), runs in ours.items()
        ]
        theirs = published.rows(flag)
        lines += [
            [
                *(found.method + "†" * (found.checked == "recalled"), str(found.input_size), "published"),
                *(f"{found.auc:.3f}", f"{found.acc:.3f}", *([""] * 2 * mirrored)),
                *_cost(*(found.cost or (None, None))),
            ]
            for found in theirs
        ]
        for column in (3, 4):
            best = max(line[column][:5] for line in lines)
            for line in lines:
                if line[column][:5] == best:
                    line[column] = f"**{line[column]}**"
        head = ["method", "input", "seeds", "AUC", "ACC", *(["AUC, mirrored", "ACC, mirrored"] * mirrored)]
        notes = ["", "† not checked against a copy of the paper"] * any(r.checked == "recalled" for r in theirs)
        parts.append("\n".join([f"**{_title(flag)}**", "", *_markdown([*head, "M params", "G MACs"], lines), *notes]))
    return "\n\n".join(parts)


def ablation_table(rows: Sequence[Row]) -> str:
    """A Markdown table of what is left without each part; `change` is the mean difference over the seeds both have."""
    groups = _groups(found for found in rows if not found["variant"] or found["variant"] in ablations())
    lines = []
    for place in dict.fromkeys(key[:3] for key in groups if key[3]):
        flag, size, model = place
        whole = groups.get((*place, ""), [])
        order = ["", *ablations()]
        for variant in sorted((key[3] for key in groups if key[:3] == place), key=order.index):
            runs = groups[*place, variant]
            changes = [_change(runs, whole, name) if variant else "" for name in ("auc", "acc")]
            means = [_mean(runs, "auc"), changes[0], _mean(runs, "acc"), changes[1]]
            cost = _cost(int(runs[0]["parameters"]), int(runs[0]["macs"]))
            lines.append([_title(flag), size, f"`{model}`", variant or "whole", _seeds(runs), *means, *cost])
    if not lines:
        return "there are no ablation runs among the results: python -m scale.train -m experiment=ablation ..."
    head = ["data set", "input", "model", "network", "seeds", "AUC", "change", "ACC", "change", "M params", "G MACs"]
    return "\n".join(_markdown(head, lines))


def ablations() -> list[str]:
    """Variants that are an ablation of a network."""
    return [name for name in options("ablation") if name != "full"]


def _key(found: Row) -> tuple[str, ...]:
    return tuple(found[name] for name in KEY)


def _place(found: Row) -> tuple[Any, ...]:
    """Order of the rows: the catalog's, then everything else."""
    flag = found["flag"]
    number = catalog.FLAGS.index(flag) if flag in catalog.FLAGS else len(catalog.FLAGS)
    return number, flag, int(found["size"]), found["model"], found["variant"], int(found["seed"])


def _groups(rows: Iterable[Row]) -> dict[tuple[str, str, str, str], list[Row]]:
    """Runs that differ in their seed only, by flag, size, model and variant; each run once."""
    unique = {_key(found): found for found in rows}
    groups: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for found in sorted(unique.values(), key=_place):
        groups[found["flag"], found["size"], found["model"], found["variant"]].append(found)
    return dict(groups)


def _title(flag: str) -> str:
    return catalog.get(flag).title if flag in catalog.FLAGS else flag


def _name(model: str, variant: str) -> str:
    return f"`{model}`, {variant}" if variant else f"`{model}`"


def _seeds(runs: Sequence[Row]) -> str:
    seeds = sorted(int(found["seed"]) for found in runs)
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def _mean(runs: Sequence[Row], name: str) -> str:
    """Mean and standard deviation; empty where not every run has the figure, so that no two columns mix runs."""
    values = [float(found[name]) for found in runs if found[name]]
    return _spread(values) if len(values) == len(runs) else ""


def _change(runs: Sequence[Row], whole: Sequence[Row], name: str) -> str:
    """Mean difference to the whole network's runs with the same seeds."""
    before = {found["seed"]: float(found[name]) for found in whole if found[name]}
    changes = [float(found[name]) - before[found["seed"]] for found in runs if found[name] and found["seed"] in before]
    return _spread(changes, sign="+") if changes else ""


def _spread(values: Sequence[float], *, sign: str = "") -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{sign}.3f}{spread}"


def _cost(parameters: int | None, macs: int | None) -> list[str]:
    if parameters is None or macs is None:
        return ["", ""]
    return [f"{parameters / 1e6:.2f}", f"{macs / 1e9:.3f}"]


def _markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *lines):
        yield "| " + " | ".join(cells) + " |"
