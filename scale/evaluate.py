"""`python -m scale.evaluate`: recompute a run's figures from its checkpoint, or score an official prediction file."""

import sys
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


def evaluate_run(folder: str | Path, *, device: str = "cpu", data: dict[str, Any] | None = None) -> dict[str, Any]:
    """Recomputes val and test figures from the best checkpoint.

    Args:
        folder: of a finished run.
        device: where to compute.
        data: changes to the run's `data` node, such as another `root`.

    Returns:
        `val` and `test`, each with its scores, and `difference`: the largest absolute difference to `metrics.json`.
    """
    from scale.evaluation.metrics import scores
    from scale.runs import load_run

    run = load_run(folder, data=data)
    run.datamodule.setup()
    found: dict[str, Any] = {}
    differences = [0.0]
    for split in ("val", "test"):
        outputs = predict(run, split, device=device)
        seen = run.predictions[split]["index"]  # all, but for a fast_dev_run
        found[split] = scores(outputs["labels"][seen], outputs["probabilities"][seen], run.metrics["problem"])
        recorded = run.metrics[split]
        differences += [abs(found[split][name] - value) for name, value in recorded.items() if value is not None]
    return {**found, "difference": max(differences)}


def score_file(path: str | Path, *, data: DictConfig) -> dict[str, float]:
    """Official `auc` and `acc` of a file in the official format; data set, size and split come from its name."""
    from scale.data import store
    from scale.evaluation import official

    name = official.parse_name(path)
    splits = store.load(name.flag, size=name.size, splits=(name.split,), **configuration.plain(data))
    return official.score(path, splits[name.split].labels)


def _job(config: DictConfig) -> None:
    from scale.usage import USER_ERRORS

    try:
        sys.exit(_run(config))
    except USER_ERRORS as error:
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(1)


def _run(config: DictConfig) -> int:
    """Prints a table; the exit status is 1 where a run's record cannot be reproduced."""
    if (config.run is None) == (config.predictions is None):
        raise ValueError("give one of run=<folder of a finished run> and \"predictions='<official csv>'\"")
    if config.predictions is not None:
        found = score_file(config.predictions, data=config.data)
        print(f"AUC {found['auc']:.3f}  ACC {found['acc']:.3f}")
        return 0
    changes = {key: value for key, value in configuration.plain(config.data).items() if value is not None}
    result = evaluate_run(config.run, device=find_device(config.accelerator), data=changes)
    print(f"{'':8}{'AUC':>7}{'ACC':>7}")
    for split in ("val", "test"):
        print(f"{split:8}{result[split]['auc']:7.3f}{result[split]['acc']:7.3f}")
    if result["difference"] <= TOLERANCE:
        print(f"agrees with metrics.json (largest difference {result['difference']:.1e})")
        return 0
    print(f"DIFFERS from metrics.json by up to {result['difference']:.1e}: other data, code, versions or device?")
    return 1


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
