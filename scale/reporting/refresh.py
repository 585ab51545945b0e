"""A finished run's intervals, figures and page made anew from its saved predictions, with no network and no images."""

from pathlib import Path
from typing import Any

from scale import runs
from scale.data import catalog
from scale.evaluation.assessment import assess
from scale.evaluation.metrics import scores
from scale.reporting import run_report
from scale.reporting.run_figures import draw
from scale.runs import check_whole, read_config
from scale.runs.folder import refuse_links
from scale.runs.verify import SUMS, sealed, verify
from scale.utils.files import write_json

SPLITS = ("val", "test", "val_tta", "test_tta")


def refresh(
    folder: str | Path, *, calibrate: str | None = None, threshold: str | None = None, coverage: float | None = None
) -> Path:
    """Adds to a run's `metrics.json` what its predictions say beside the scores, and writes figures and `report.html`.

    Scores that the record has stay as they are. The sheet of mistakes, which needs the images, is that of the training.

    Args:
        folder: of a finished run.
        calibrate: as in `assessment.assess`; None: as in the run's configuration, for this and those that follow.
        threshold: as in `assessment.assess`.
        coverage: as in `assessment.assess`.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: the folder is not that of a finished run, or it has lost predictions.
        ValueError: the run is no result, or its files are not those that it wrote.
    """
    folder = Path(folder).expanduser()
    record = runs.read_metrics(folder)
    check_whole(record, folder)
    if "test" not in record:
        raise ValueError(f"{folder} was not tested (test=false), so that there is nothing to report")
    refuse_links(folder)
    predictions = runs.read_predictions(folder)
    lost = [split for split in SPLITS if split in record and split not in predictions]
    if lost:
        raise FileNotFoundError(f"{folder}: predictions/{lost[0]}.npz is missing, which its metrics.json has scores of")
    wrong = verify(folder) if SUMS in record else []  # runs of earlier code have none, and get none
    if wrong:  # what is written below would be given sums of its own
        raise ValueError(
            f"{folder} is not what its run wrote: {wrong[0]}; python -m scale.evaluate run={folder} says all"
        )
    splits = {split: predictions[split] for split in SPLITS if split in record}
    problem, names = record["problem"], names_of(record)
    asked: dict[str, Any] = {"calibrate": calibrate, "threshold": threshold, "coverage": coverage}
    trained = read_config(folder).get("evaluation", {})  # of old runs these are the defaults
    chosen = {key: trained.get(key) if value is None else value for key, value in asked.items()}
    found = assess(splits, problem, names, **{key: value for key, value in chosen.items() if value is not None})
    kept = {key: value for key, value in record.items() if key not in ("thresholds", "calibration")} | found
    for split, arrays in splits.items():
        kept[split] = {**scores(arrays["labels"], arrays["probabilities"], problem), **record[split]}
    history = runs.read_history(folder) if (folder / runs.HISTORY).exists() else []
    (folder / runs.FIGURES).mkdir(exist_ok=True)
    for name, figure in draw(kept, splits["test"], history, names, title=title_of(record)).items():
        figure.savefig(folder / runs.FIGURES / f"{name}.png", dpi=150)
    write_json(folder / runs.METRICS, sealed(kept, folder) if SUMS in record else kept)
    return run_report.write(folder, kept)


def names_of(record: dict[str, Any]) -> list[str]:
    """Names of a run's classes or labels; numbers where an old run on custom data did not record them."""
    if "per_class" in record:
        return list(record["per_class"]["names"])
    if record["flag"] in catalog.FLAGS:
        return list(catalog.get(record["flag"]).labels)
    return [f"class {number}" for number in range(record["num_classes"])]


def positive_class(record: dict[str, Any]) -> str:
    """`positive class: NAME` for a binary problem, for the foot of a table; empty for others."""
    return f"positive class: {names_of(record)[1]}" if record["problem"] == "binary" else ""


def title_of(record: dict[str, Any]) -> str:
    """Title of a run's data set."""
    return catalog.get(record["flag"]).title if record["flag"] in catalog.FLAGS else record["flag"]
