"""A finished run on corrupted test images: predictions, table and figure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from scale import runs
from scale.data import corruptions
from scale.data.images import Images
from scale.evaluation import robustness
from scale.evaluation.robustness import CLEAN, Result
from scale.runs.folder import refuse_links
from scale.runs.load import load_run
from scale.runs.predict import predict
from scale.utils.files import replacing, write_csv, write_text

FOLDER = "robustness"
TOLERANCE = 1e-4  # of probabilities, between devices
NOTE = (
    "Balanced error: 1 minus balanced accuracy. Ratio: to the error on clean images. Change: mean absolute difference "
    "of the images, in grey levels of 255. A row is the mean over severities 1 to 5. Corruptions and severities are "
    "MedMNIST-C's (arXiv:2406.17536), applied to the images at the size that the network is given; those of volumes "
    "are this project's."
)


def measure(
    folder: str | Path,
    *,
    name: str,
    device: str = "cpu",
    data: dict[str, Any] | None = None,
    allow: Sequence[str] = (),
    output: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[Result], Path]:
    """Corrupts the test split in every way of a table, and writes what a run's network says of it.

    Args:
        folder: of a finished run.
        name: of the table, as in `corruptions.table`.
        device: where to compute.
        data: changes to the run's `data` node, such as another `root`.
        allow: modules of yours that the run's configuration may name.
        output: folder for the results; `robustness/{name}` in the run's by default.
        seed: of the corruptions.
        progress: is told what has been done.

    Returns:
        The results, and the folder that has `predictions.npz`, `robustness.csv`, `robustness.md` and `robustness.png`.

    Raises:
        ValueError: there is no such table, the run is no result, or its record is not reproduced on clean images.
    """
    metrics = runs.read_metrics(folder)
    runs.check_whole(metrics, folder)
    spatial_dims = len(metrics["image_shape"]) - 1
    chosen = corruptions.table(name, flag=metrics["flag"], spatial_dims=spatial_dims)
    run = load_run(folder, data=data, allow=allow)
    if "test" not in run.predictions:
        raise ValueError(f"{folder} was not tested (test=false): corruptions are for a run with a result on test")
    if output is None:
        refuse_links(run.folder)
    run.datamodule.setup()
    info, clean = run.datamodule.info, run.datamodule.splits["test"]
    place = Path(output).expanduser() if output is not None else run.folder / FOLDER / name
    if place.exists() and not place.is_dir():
        raise ValueError(f"output={output} is a file: give a folder")
    images = clean.images.gather(np.arange(len(clean)))
    found, changes = {(CLEAN, 0): predict(run, "test", device=device)["probabilities"]}, {(CLEAN, 0): 0.0}
    recorded = run.predictions["test"]["probabilities"]
    gap = float(np.abs(found[CLEAN, 0] - recorded).max())
    if gap > TOLERANCE:
        raise ValueError(
            f"{folder}: its network's probabilities of the clean test images differ from its record by {gap:.2g}: "
            "other data, code or versions; python -m scale.evaluate run=... says more"
        )
    try:
        for corruption, parameters in chosen.items():
            for severity, parameter in zip(corruptions.SEVERITIES, parameters, strict=True):
                worse = corruptions.corrupt(
                    images, corruption, parameter, severity=severity, spatial_dims=spatial_dims, seed=seed
                )
                run.datamodule.splits["test"] = replace(clean, images=Images(worse))
                found[corruption, severity] = predict(run, "test", device=device)["probabilities"]
                changes[corruption, severity] = _change(images, worse)
            progress(corruption)
    finally:
        run.datamodule.splits["test"] = clean
    results = robustness.results(clean.labels, found, changes, run.metrics["problem"])
    place.mkdir(parents=True, exist_ok=True)
    with replacing(place / "predictions.npz") as file:
        named = {f"{corruption}_{severity}": values for (corruption, severity), values in found.items()}
        np.savez_compressed(file, labels=clean.labels, **named)  # type: ignore[arg-type]
    columns = [field.name for field in fields(Result)]
    write_csv(place / "robustness.csv", columns, map(asdict, results), digits=6)
    title = f"{info.title}, {run.metrics['model']['name']}, seed {run.metrics['seed']}"
    write_text(place / "robustness.md", f"# {title}: corrupted test images\n\n{robustness.table(results)}\n\n{NOTE}\n")
    with replacing(place / "robustness.png") as file:
        robustness.figure(results, title=f"{title}: test images, {name}").savefig(file, format="png")
    return results, place


def _change(clean: np.ndarray, worse: np.ndarray) -> float:
    step = max(1, (64 << 20) // max(1, clean[:1].nbytes))
    sums = [
        np.abs(worse[start : start + step].astype(np.int16) - clean[start : start + step]).sum(dtype=np.int64)
        for start in range(0, len(clean), step)
    ]
    return float(sum(sums) / clean.size)
