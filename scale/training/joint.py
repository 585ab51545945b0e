"""What a joint run found, for its folder and for the console: of each data set what another run has of its one."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig

from scale.training import outcome

if TYPE_CHECKING:
    import lightning as L
    import torch

    from scale.data.joint import JointDataModule
    from scale.models.joint import JointNet
    from scale.tasks.joint import JointTask
    from scale.tasks.outputs import Outputs

log = logging.getLogger("scale")
FLAG = "joint"
FIGURES = ("auc", "acc")  # whose means over the sets the run has


def metrics(
    config: DictConfig,
    trainer: "L.Trainer",
    task: "JointTask",
    datamodule: "JointDataModule",
    outputs: Mapping[str, Mapping[str, "Outputs"]],
    *,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Most of `metrics.json`: in `sets` what `outcome.metrics` says of each, beside it the means over the sets.

    Args:
        config: of the run.
        trainer: that trained.
        task: that was trained.
        datamodule: of all sets.
        outputs: by split and name of the set.
        more: what is said of all sets alike; its `model` gets the cost of each set's own network.
    """
    from scale.models.layers import macs, parameters

    net = cast("JointNet", task.net)
    sets: dict[str, dict[str, Any]] = {}
    for name, module in datamodule.members.items():
        task.problem = task.problems[name]
        own = {split: found[name] for split, found in outputs.items()}
        member = net.use(name)
        cost = {"parameters": parameters(member), "macs": macs(member, module.image_shape)}
        model = {**more["model"], **cost}
        sets[name] = {**outcome.metrics(config, trainer, task, module, own), **more, "model": model}
    first = next(iter(sets.values()))
    shared = ("seed", "variant", "epochs", "steps", "fast_dev_run", "hardware", "precision")
    return {
        "flag": FLAG,
        "size": config.data.size,
        "data_sha256": datamodule.content,
        **{key: first[key] for key in shared},
        "partial": any(found["partial"] for found in sets.values()),
        **{
            split: {key: sum(found[split][key] for found in sets.values()) / len(sets) for key in FIGURES}
            for split in outputs
        },
        "samples": {split: sum(found["samples"][split] for found in sets.values()) for split in ("train", *outputs)},
        **more,
        "sets": sets,
    }


def write(
    folder: Path,
    metrics: Mapping[str, Any],
    datamodule: "JointDataModule",
    outputs: Mapping[str, Mapping[str, Any]],
    *,
    net: "JointNet",
    device: "torch.device",
    figures: bool,
) -> dict[str, Any]:
    """Predictions, official files, figures and `metrics.json` of each set in `sets/<name>`; returns the figures."""
    from scale.runs import METRICS, verify
    from scale.runs.sets import SETS
    from scale.utils.files import write_json

    drawn: dict[str, Any] = {}
    for name, module in datamodule.members.items():
        place, found = folder / SETS / name, metrics["sets"][name]
        place.mkdir(parents=True, exist_ok=True)
        own = {split: of_sets[name] for split, of_sets in outputs.items()}
        of_set = outcome.write(place, found, module, own, net=net.use(name), device=device, figures=figures)
        drawn |= {f"{name}/{key}": figure for key, figure in of_set.items()}
        write_json(place / METRICS, verify.sealed(found, place))
    return drawn


def finish(folder: Path, metrics: dict[str, Any], *, report: bool, rerun: str | None) -> None:
    """Writes `metrics.json`, with which the run is done, and a page for each set; says what was found."""
    from scale.reporting import run_report
    from scale.runs import METRICS, resume, verify
    from scale.runs.sets import SETS
    from scale.utils.files import write_json

    kept = {**metrics, "sets": {name: _short(found) for name, found in metrics["sets"].items()}}
    write_json(folder / METRICS, verify.sealed(kept, folder))
    for name, found in metrics["sets"].items():
        if report and not found["partial"] and not found["fast_dev_run"]:  # a part of the splits is no result
            log.info("report: %s", run_report.write(folder / SETS / name, found))
        log.info("%s\n%s", name, outcome.table(found))
    log.info("run folder: %s", folder)
    if rerun is not None:
        resume.compare(kept, Path(rerun))


def _short(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of a set's metrics what the run's own `metrics.json` repeats; all of it is in the set's folder."""
    keys = ("flag", "size", "problem", "num_classes", "image_shape", "val", "test", "samples", "model")
    return {key: found[key] for key in keys if key in found}
