"""What each head of a run's network says, and the convex mixture of them that fits val best, after the training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scale.evaluation import convex
from scale.evaluation.metrics import official_scores
from scale.models.scale_net import STREAMS, ScaleNet

if TYPE_CHECKING:
    from scale.runs.load import Run

HEADS = (*STREAMS, "fused")


def evaluate(run: "Run", *, device: str = "cpu") -> dict[str, Any]:
    """Scores of the single heads, of the network's answer, of both streams' mean, and of weights fitted on val.

    Nothing is trained and nothing of the run is changed. Val has chosen the weights, so that its figure with them is
    no fair one; test's is.

    Args:
        run: from `load_run`, with its data module set up.
        device: where to compute.

    Returns:
        `weights` by head; and for each split scores `auc`, `acc` and `loss` by `planar`, `volumetric`, `fused`,
        `answer`, `streams` (the mean of both streams' own logits) and `fitted`.

    Raises:
        ValueError: the network has no heads of its streams' own.
    """
    import torch

    net, problem = run.model.net, run.model.problem
    if not isinstance(net, ScaleNet) or not net.auxiliary_heads:
        raise ValueError(f"heads=true: the {type(net).__name__} of {run.folder} has no heads of its streams' own")
    splits = {name: _logits(run, name, device) for name in ("val", "test") if name in run.metrics}

    def loss(labels: np.ndarray) -> Any:
        return lambda mixed: float(problem.loss(torch.from_numpy(mixed), torch.from_numpy(labels)))

    of_val, val_labels = splits["val"]
    weights, _ = convex.fit(of_val, loss(val_labels))
    native = HEADS.index(net.native)
    mixtures = {name: np.eye(len(HEADS))[number] for number, name in enumerate(HEADS)}
    mixtures["answer"] = (np.eye(len(HEADS))[native] + np.eye(len(HEADS))[-1]) / 2
    mixtures |= {"streams": np.array([0.5, 0.5, 0.0]), "fitted": weights}
    found: dict[str, Any] = {"weights": dict(zip(HEADS, map(float, weights), strict=True))}
    for split, (logits, labels) in splits.items():
        found[split] = {}
        for name, mixture in mixtures.items():
            mixed = convex.mix(logits, mixture)
            probabilities = problem.probabilities(torch.from_numpy(mixed)).numpy()
            scores = official_scores(labels, probabilities, problem.name)
            found[split][name] = {**scores, "loss": loss(labels)(mixed)}
    return found


def table(found: Mapping[str, Any]) -> str:
    """The figures of `evaluate`, a line each."""
    splits = [split for split in ("val", "test") if split in found]
    titles = {"answer": "answer", "streams": "mean of the streams", "fitted": "fitted on val"}
    lines = [f"{'':22}" + "".join(f"{split + ' AUC':>10}{'ACC':>7}{'loss':>7}" for split in splits)]
    for name in found[splits[0]]:
        cells = "".join(
            f"{found[split][name]['auc']:10.3f}{found[split][name]['acc']:7.3f}{found[split][name]['loss']:7.3f}"
            for split in splits
        )
        lines.append(f"{titles.get(name, name + ' head'):22}{cells}")
    weights = ", ".join(f"{name} {value:.2f}" for name, value in found["weights"].items())
    return "\n".join([*lines, f"weights fitted on val: {weights}"])


def _logits(run: "Run", split: str, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Of each head (H, N, outputs), float64, and the labels (N, L)."""
    import torch

    net, parts = run.model.net.to(device).eval(), []
    assert isinstance(net, ScaleNet)
    for batch in run.datamodule.eval_dataloader(split):
        images = run.datamodule.prepare({key: value.to(device) for key, value in batch.items()})["image"]
        with torch.inference_mode():
            fused, own = net.forward_auxiliary(images)
            parts.append(torch.stack([*(own[name] for name in STREAMS), fused]).double().cpu())
    labels = run.datamodule.splits[split].labels
    return torch.cat(parts, dim=1).numpy(), labels
