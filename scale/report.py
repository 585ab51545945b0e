"""`python -m scale.report`: our results beside the published ones, from `scale/published/scale.csv`."""

import csv
import io
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scale.data import catalog
from scale.data.files import replacing
from scale.evaluation import published

RESULTS = Path(__file__).resolve().parent / "published" / "scale.csv"
COLUMNS = (
    *("flag", "size", "model", "seed", "auc", "acc", "val_auc", "val_acc", "tta", "epochs", "best_epoch", "seconds"),
    *("parameters", "macs", "hardware", "commit"),
)
HEAD = (
    "data set",
    "size",
    "model",
    "seeds",
    "AUC",
    "ACC",
    "best published AUC",
    "best published ACC",
    "M params",
    "G MACs",
)


def row(folder: str | Path) -> dict[str, Any]:
    """The row of one finished run.

    Raises:
        FileNotFoundError: the folder holds no finished run.
        ValueError: the run was a fast_dev_run or left test alone, which is no result.
    """
    folder = Path(folder)
    path = folder / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no finished run: there is no metrics.json in it")
    metrics = json.loads(path.read_text())
    if "test" not in metrics:
        raise ValueError(f"{folder} was trained with test=false: it has no result on test")
    environment = json.loads((folder / "environment.json").read_text())
    if metrics["fast_dev_run"]:
        raise ValueError(f"{folder} is a fast_dev_run, which is no result")
    return {
        **{key: metrics[key] for key in ("flag", "size", "seed", "epochs", "best_epoch", "hardware")},
        "model": metrics["model"]["name"],
        "auc": round(metrics["test"]["auc"], 5),
        "acc": round(metrics["test"]["acc"], 5),
        "val_auc": round(metrics["val"]["auc"], 5),
        "val_acc": round(metrics["val"]["acc"], 5),
        "tta": False,
        "seconds": round(metrics["seconds"]["fit"]),
        "parameters": metrics["model"]["parameters"],
        "macs": metrics["model"]["macs"],
        "commit": (environment["commit"] or "")[:10] + ("+" if environment["modified"] else ""),
    }


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    """All rows, as text."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def add(folders: Iterable[str | Path], path: Path = RESULTS) -> None:
    """Adds the rows of runs; a run of the same data set, size, model and seed takes the place of an older one."""
    key = lambda found: tuple(str(found[name]) for name in ("flag", "size", "model", "seed", "tta"))  # noqa: E731
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {key(found): found for found in read(path)}
    for folder in folders:
        found = row(folder)
        rows[key(found)] = found
    order = {flag: number for number, flag in enumerate(catalog.FLAGS)}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        rows[k] for k in sorted(rows, key=lambda k: (order.get(k[0], len(order)), k[0], int(k[1]), *k[2:]))
    )
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table: mean and standard deviation over all seeds beside the best published results."""
    groups: dict[tuple[str, str, str], list[Mapping[str, str]]] = defaultdict(list)
    for found in rows:
        groups[found["flag"], found["size"], found["model"]].append(found)
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    for (flag, size, model), runs in groups.items():
        best = published.best(flag)
        peers = [f"{best[0].auc:.3f} ({best[0].method})", f"{best[1].acc:.3f} ({best[1].method})"] if best else ["", ""]
        title = catalog.get(flag).title if flag in catalog.FLAGS else flag
        cost = [f"{int(runs[0]['parameters']) / 1e6:.2f}", f"{int(runs[0]['macs']) / 1e9:.3f}"]
        seeds = ", ".join(sorted((r["seed"] for r in runs), key=int))
        lines.append(_line([title, size, model, seeds, _mean(runs, "auc"), _mean(runs, "acc"), *peers, *cost]))
    return "\n".join(lines)


def _mean(runs: Sequence[Mapping[str, str]], name: str) -> str:
    values = [float(found[name]) for found in runs]
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """The command."""
    from scale.usage import REPORT, USER_ERRORS, show_help

    if show_help(sys.argv[1:], REPORT):
        return
    try:
        if sys.argv[1:]:
            add(sys.argv[1:])
        print(table(read()))
    except USER_ERRORS as error:
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
