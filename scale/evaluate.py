"""`python -m scale.evaluate`: recompute a run's figures from its checkpoint, average runs, score an official file."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from omegaconf import DictConfig

from scale import config as configuration

if TYPE_CHECKING:
    from scale.runs import Run

TOLERANCE = 1e-6  # between figures recomputed on the same kind of device


def predict(run: "Run", split: str, *, device: str = "cpu") -> dict[str, np.ndarray]:
    """What a run's network says of a split, in the split's order.

    Args:
        run: from `load_run`, with its data module set up.
        split: `train`, `val` or `test`.
        device: where to compute.

    Returns:
        `index` (N,), `logits` (N, outputs), `probabilities` (N, columns), `labels` (N, L).
    """
    import torch

    task, parts = run.model.to(device).eval(), []
    for batch in run.datamodule.eval_dataloader(split):
        moved = run.datamodule.prepare({key: value.to(device) for key, value in batch.items()})
        with torch.inference_mode():
            parts.append((moved["index"].cpu(), task(moved["image"]).float().cpu(), moved["label"].cpu()))
    index, logits, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    return {
        "index": index.numpy(),
        "logits": logits.numpy(),
        "probabilities": task.problem.probabilities(logits.double()).numpy(),
        "labels": labels.numpy(),
    }


def evaluate_run(
    folder: str | Path, *, device: str = "cpu", data: dict[str, Any] | None = None, tta: bool = False
) -> dict[str, Any]:
    """Recomputes val and test figures from the best checkpoint.

    Args:
        folder: of a finished run.
        device: where to compute.
        data: changes to the run's `data` node, such as another `root`.
        tta: also with test-time augmentation. A run that was trained without it gets these figures added to its record,
            `val_tta` and `test_tta`, if its plain figures are reproduced.

    Returns:
        `val` and, if the run has it, `test` (`val_tta` and `test_tta`), each with its scores; `difference`: the largest
        absolute difference to `metrics.json`; `added`: whether figures were added to the record.
    """
    from scale.evaluation.ensemble import Averaged
    from scale.evaluation.metrics import scores
    from scale.runs import add_averaged, check_whole, load_run
    from scale.tasks.classification import Outputs
    from scale.tta import predict as predict_mirrored

    run = load_run(folder, data=data)
    if tta:
        check_whole(run.metrics, folder)
    run.datamodule.setup()
    again = lambda: {split: Outputs(**predict(run, split, device=device)) for split in _splits(run.metrics)}  # noqa: E731
    outputs = again()
    averaged = predict_mirrored(run.datamodule, outputs, again) if tta else {}
    found: dict[str, Any] = {}
    differences = [0.0]
    predicted: dict[str, Outputs | Averaged] = {**outputs, **averaged}
    for split, output in predicted.items():
        seen = run.predictions[split]["index"] if split in run.predictions else slice(None)  # all, or a fast_dev_run's
        found[split] = scores(output.labels[seen], output.probabilities[seen], run.metrics["problem"])
        recorded = run.metrics.get(split, {})
        differences += [abs(found[split][name] - value) for name, value in recorded.items() if value is not None]
    new = {split: output for split, output in averaged.items() if split not in run.metrics}
    added = bool(new) and max(differences) <= TOLERANCE
    if added:
        add_averaged(run.folder, new, found)
    return {**found, "difference": max(differences), "added": added}


def score_file(path: str | Path, *, data: DictConfig) -> dict[str, float]:
    """Official `auc` and `acc` of a file in the official format; data set, size and split come from its name."""
    from scale.data import store
    from scale.evaluation import official

    name = official.parse_name(path)
    splits = store.load(
        name.flag,
        size=name.size,
        splits=(name.split,),
        **{key: value for key, value in configuration.plain(data).items() if key != "path"},
    )
    return official.score(path, splits[name.split].labels)


def _job(config: DictConfig) -> None:
    from scale.usage import USER_ERRORS

    logging.basicConfig(format="%(message)s", force=True)  # Hydra's own format is for its jobs
    try:
        sys.exit(_run(config))
    except USER_ERRORS as error:
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(1)


def _run(config: DictConfig) -> int:
    """Prints a table; the exit status is 1 where a run's record cannot be reproduced."""
    if sum(given is not None for given in (config.run, config.runs, config.predictions)) != 1:
        raise ValueError(
            'give one of run=<folder of a finished run>, "runs=[<folder>,<folder>]", "predictions=\'<official csv>\'"'
        )
    if config.output is not None and config.runs is None:
        raise ValueError("output=<folder> is for runs=[...] only: nothing else is written")
    if config.runs is not None:
        return _average(list(config.runs), config.output)
    if config.predictions is not None:
        found = score_file(config.predictions, data=config.data)
        print(f"AUC {found['auc']:.3f}  ACC {found['acc']:.3f}")
        return 0
    changes = {key: value for key, value in configuration.plain(config.data).items() if value is not None}
    tta = bool(config.evaluation.tta)
    result = evaluate_run(config.run, device=find_device(config.accelerator), data=changes, tta=tta)
    print(f"{'':8}{'AUC':>9}{'ACC':>7}")
    for split in ("val", "test", "val_tta", "test_tta"):
        if split in result:
            print(f"{split:10}{result[split]['auc']:7.3f}{result[split]['acc']:7.3f}")
    if result["added"]:
        print("added to the run's record: val_tta and test_tta in metrics.json, predictions/{val,test}_tta.npz")
    if result["difference"] <= TOLERANCE:
        print(f"agrees with metrics.json (largest difference {result['difference']:.1e})")
        return 0
    print(f"DIFFERS from metrics.json by up to {result['difference']:.1e}: other data, code, versions or device?")
    return 1


def _splits(scores: Mapping[str, Any]) -> list[str]:
    """Those that a run was evaluated on; `test=false` leaves test out."""
    return [split for split in ("val", "test") if split in scores]


def _average(folders: list[str], output: str | None) -> int:
    from scale import ensemble

    record, place = ensemble.evaluate(folders, output=output)
    members = [
        f"{run['model']}{' ' * bool(run['variant'])}{run['variant']} seed {run['seed']}" for run in record["runs"]
    ]
    print(f"mean of {len(members)} runs on {record['flag']}, size {record['size']}: {', '.join(members)}")
    print(ensemble.table(record))
    print(f"written to {place}")
    return 0


def find_device(accelerator: str) -> str:
    """The torch device of `auto`, `cpu` or `gpu`; raises ValueError where there is none."""
    import torch

    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator in ("gpu", "cuda"):
        if not torch.cuda.is_available():
            raise ValueError(f"accelerator={accelerator}, but no CUDA device is visible: use accelerator=cpu")
        return "cuda"
    if accelerator != "cpu":
        raise ValueError(f"accelerator={accelerator!r}: give auto, cpu or gpu")
    return "cpu"


def main() -> None:
    """The command."""
    from scale.usage import EVALUATE, show_help

    if show_help(sys.argv[1:], EVALUATE):
        return
    configuration.check_command_line(sys.argv[1:], name="evaluate")
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="evaluate")(_job)()


if __name__ == "__main__":
    main()
