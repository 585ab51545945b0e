"""The tables of a sweep: `sweep.csv` and `sweep.md` (mean, SD and n over seeds) and `jobs.csv` (a row per job)."""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scale.config.keys import plain
from scale.data import catalog
from scale.published import medmnist as published
from scale.runs import CONTENT, ENVIRONMENT, METRICS, read_config
from scale.runs.process import LOCK, is_locked, state
from scale.sweeps.folder import JOB, PLAN, REFUSED, read
from scale.sweeps.kept import of_own_file
from scale.sweeps.plan import settings_of, varied
from scale.utils.files import write_csv, write_text
from scale.utils.tables import markdown as markdown_table
from scale.utils.tables import spread

CSV, MARKDOWN, JOBS = "sweep.csv", "sweep.md", "jobs.csv"
SHOWN = ("data", "model", "data.size", "seed")  # keys that have columns of their own
FOLD = "data.fold"  # of which each has a test part of its own
CODE = ("source", "commit")  # of a run's environment
FIGURES = {"auc": "test", "acc": "test", "val_auc": "val"}
PEERS = ("published_auc", "published_auc_method", "published_acc", "published_acc_method")


def write(root: str | Path) -> bool:
    """Writes the tables of a sweep that has ended, in whatever way, or that is running; prints the one over seeds.

    Args:
        root: the sweep's folder.

    Returns:
        Whether every job is done.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    root = Path(root)
    rows, groups = collect(root)
    varied = _varied(rows)
    columns = ["flag", "size", "model", *varied, "n", "planned", "seeds"]
    columns += [f"{name}_{kind}" for name in FIGURES for kind in ("mean", "sd")]
    write_csv(root / CSV, [*columns, *PEERS], groups)
    figures = ["flag", "size", "model", "seed", "epochs", "best_epoch", *FIGURES, "fit_seconds"]
    write_csv(root / JOBS, ["number", "status", *figures, "attempts", "folder", "reason", "overrides"], rows)
    text = markdown(rows, groups)
    write_text(root / MARKDOWN, f"# {root.name}\n\n{text}\n")
    page = compare(root, groups, varied)
    print(f"{text}\n\nsweep folder: {root}\ntables: {root / MARKDOWN}, {root / CSV}, {root / JOBS}", flush=True)
    if FOLD in varied or any(FOLD in row["settings"] for row in rows):
        from scale.sweeps import out_of_fold  # builds the runs' data modules, which takes torch

        for line in out_of_fold.write(root, rows):
            print(line, flush=True)
    if page is not None:
        print(f"comparison of its runs: {page}", flush=True)
    return all(row["status"] == "done" for row in rows)


def compare(root: Path, groups: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> Path | None:
    """Writes `sweep.html`, with paired tests and curves of the runs that are done; None where none is a result."""
    from scale.reporting import comparison

    settings = [
        comparison.Setting(
            data=f"{catalog.title(group['flag'])}, {group['size']}"
            + (f", fold {group[FOLD]}" if FOLD in varied else ""),
            name=", ".join([str(group["model"]), *(f"{key}={group[key]}" for key in varied if key != FOLD)]),
            folders=[Path(folder) for folder in group["folders"]],
        )
        for group in groups
        if group["folders"]
    ]
    if not settings:
        return None
    for gap in comparison.write(root / comparison.NAME, settings, title=f"Sweep {root.name}"):
        print(f"left out of the comparison: {gap}", flush=True)
    return root / comparison.NAME


def collect(root: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What became of every job, and a row for each setting of everything but the seed.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    plan = read(root / PLAN)
    if not plan:
        raise FileNotFoundError(f"{root} holds no sweep: there is no {PLAN} in it")
    folders = {read(path)["number"]: path.parent for path in root.glob(f"**/{JOB}")}
    rows = [_row(number, overrides, folders.get(number)) for number, overrides in enumerate(plan["jobs"])]
    varied = _varied(rows)
    members: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        setting = tuple(row["settings"].get(key, "") for key in ("data", "model", "data.size", *varied))
        members.setdefault(setting, []).append(row)
    for found in members.values():
        _refuse_other_data(found)
    return rows, [_group(found, varied) for found in members.values()]


def markdown(rows: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]) -> str:
    """The table over seeds, and all that is missing in it."""
    varied = _varied(rows)
    head = ["data set", "size", "model", *varied, "n", "AUC", "ACC", "val AUC"]
    lines = []
    for group in groups:
        count = str(group["n"]) if group["n"] == group["planned"] else f"{group['n']} of {group['planned']}"
        peers = [
            f"{group[f'published_{name}']:.3f} ({group[f'published_{name}_method']})"
            if group[f"published_{name}"]
            else ""
            for name in ("auc", "acc")
        ]
        cells = [catalog.title(group["flag"]), group["size"], group["model"], *(group[key] for key in varied), count]
        lines.append([*cells, *(spread(group[f"{name}_values"]) for name in FIGURES), *peers])
    states = {row["status"]: 0 for row in rows}
    for row in rows:
        states[row["status"]] += 1
    notes = [
        f"{len(rows)} job{'s' * (len(rows) != 1)}: "
        + ", ".join(f"{count} {status}" for status, count in states.items())
        + "."
    ]
    notes.append("Mean ± standard deviation over n seeds, each run's epoch chosen on val.")
    binary = [catalog.get(flag) for flag in dict.fromkeys(group["flag"] for group in groups) if flag in catalog.FLAGS]
    notes += [f"Positive class of {info.title}: {info.labels[1]}." for info in binary if info.problem == "binary"]
    if any(row["fast_dev_run"] or row["partial"] for row in rows):
        notes.append("Among them are runs that saw a part of their splits only, which are no results.")
    notes += [
        f"The mean of {catalog.title(group['flag'])}, {group['model']}, is over runs of different code "
        f"({', '.join(group['commits'])}): delete the older ones and give the command again for one that is not."
        for group in groups
        if len(group["commits"]) > 1
    ]
    table = markdown_table([*head, "MedMNIST v2's best AUC", "and ACC"], lines)
    text = table + "\n\n" + " ".join(notes)
    left = [f"- job {row['number']} {row['status']}: `{row['overrides']}`" + _why(row) for row in rows]
    left = [line for line, row in zip(left, rows, strict=True) if row["status"] != "done"]
    return text + ("\n\nNot done:\n\n" + "\n".join(left) if left else "")


def _row(number: int, overrides: Sequence[str], folder: Path | None) -> dict[str, Any]:
    settings = settings_of(overrides)
    row: dict[str, Any] = {"number": number, "overrides": " ".join(f"{k}={v}" for k, v in settings.items())}
    row |= {"settings": settings, "status": "missing", "reason": "", "folder": "", "attempts": 0}
    row |= {"fast_dev_run": False, "partial": False}
    if folder is None:
        return row
    record = read(folder / JOB)
    status = record["status"]
    row |= {"reason": record["reason"], "folder": str(folder), "attempts": len(record["attempts"])}
    if record.get(REFUSED):
        return {**row, "status": status}
    if state(folder) != "done":
        # The record of a job whose sweep was killed says `running` for ever; the lock tells whether somebody is at it.
        if status == "running" and not is_locked(folder / LOCK):
            return {**row, "status": "interrupted", "reason": "ended together with the sweep"}
        return {**row, "status": status}
    found = read(folder / METRICS)
    return {
        **row,
        **{key: found[key] for key in ("flag", "size", "seed", "epochs", "best_epoch", "fast_dev_run")},
        **{name: (found.get(split) or {}).get(name.removeprefix("val_")) for name, split in FIGURES.items()},
        "partial": found.get("partial", False),
        CONTENT: found.get(CONTENT),
        **{key: read(folder / ENVIRONMENT).get(key) for key in CODE},
        "model": found["model"]["name"],
        "fit_seconds": found["seconds"]["fit"],
        "status": "done",
        "reason": "",
    }


def _varied(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs between the jobs beside data set, size, model and seed."""
    return [key for key in varied([row["settings"] for row in rows]) if key not in SHOWN]


def _refuse_other_data(members: Sequence[dict[str, Any]]) -> None:
    """Takes jobs that were trained on other data than the first one for failed: no mean is over two data sets."""
    done = [row for row in members if row["status"] == "done" and row[CONTENT] is not None]
    for row in done[1:]:
        if row[CONTENT] != done[0][CONTENT] and _reads_own_file(row["folder"]):
            reason = (
                f"trained on other images or labels than job {done[0]['number']}: delete the folder of the one that "
                "is wrong, and give the sweep's command again"
            )
            row.update(status="failed", reason=reason)


def _reads_own_file(folder: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return of_own_file(plain(read_config(folder)).get("data") or {})
    return False


def _group(members: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> dict[str, Any]:
    """Mean, SD and n of the jobs that differ in their seed only."""
    done = [row for row in members if row["status"] == "done"]
    settings = members[0]["settings"]
    first = done[0] if done else {"flag": settings.get("data"), "size": settings.get("data.size")}
    group = {
        "flag": first["flag"] or "",
        "size": first["size"] or "",
        "model": first.get("model", settings.get("model", "")),
        **{key: settings.get(key, "") for key in varied},
        "n": len(done),
        "planned": len(members),
        "seeds": " ".join(str(row["seed"]) for row in done),
        "folders": [row["folder"] for row in done if not (row["fast_dev_run"] or row["partial"])],
        "commits": list({row["source"]: str(row["commit"] or "unknown")[:10] for row in done}.values()),
    }
    for name in FIGURES:
        values = [row[name] for row in done if row[name] is not None]
        group[f"{name}_values"] = values
        group[f"{name}_mean"] = statistics.fmean(values) if values else None
        group[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    best = published.best(group["flag"])
    peers = (best[0].auc, best[0].method, best[1].acc, best[1].method) if best else ("", "", "", "")
    return group | dict(zip(PEERS, peers, strict=True))


def _why(row: Mapping[str, Any]) -> str:
    where = f" ({row['folder']})" if row["folder"] else ""
    return f": {row['reason']}{where}" if row["reason"] else where
