"""What a run's network says of a split."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scale.runs.load import Run


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
