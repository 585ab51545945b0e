"""What each head of a run's network says, and the convex mixture of them that fits val best, after the training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scale.evaluation import convex, delong
from scale.evaluation.metrics import official_scores
from scale.evaluation.statistics import summarise
from scale.models.scale_net import STREAMS, ScaleNet
from scale.runs.reading import on_same_data

if TYPE_CHECKING:
    from scale.runs.load import Run

HEADS = (*STREAMS, "fused")
TITLES = {"answer": "prediction", "streams": "mean of the streams", "fitted": "fitted on val"}
NORMAL_95 = 1.96  # standard errors on either side of a 95 % interval


@dataclass(frozen=True)
class Said:
    """What the heads say of one split.

    Attributes:
        logits: of each head (H, N, outputs), float64.
        labels: (N, L).
        gate: (N,), weight of the planar stream; empty where the fusion has no gate.
    """

    logits: np.ndarray
    labels: np.ndarray
    gate: np.ndarray


def evaluate(run: "Run", *, device: str = "cpu") -> dict[str, Any]:
    """Scores of the single heads, of the network's prediction, of both streams' mean, and of weights fitted on val.

    Nothing is trained and nothing of the run is changed. Val has chosen the weights, so that its figure with them is
    no fair one; test's is.

    Args:
        run: from `load_run`, with its data module set up.
        device: where to compute.

    Returns:
        `weights` by head; and for each split scores `auc`, `acc` and `loss` by `planar`, `volumetric`, `fused`,
        `answer`, `streams` (the mean of both streams' own logits) and `fitted`, and `gate`, that of `gate_statistics`.

    Raises:
        ValueError: the network has no heads of its streams' own.
    """
    splits = {name: read(run, name, device=device) for name in ("val", "test") if name in run.metrics}
    weights = mixtures(run, splits["val"])
    found: dict[str, Any] = {"weights": dict(zip(HEADS, map(float, weights["fitted"]), strict=True))}
    for split, said in splits.items():
        found[split] = {}
        for name, mixture in weights.items():
            mixed = convex.mix(said.logits, mixture)
            scores = official_scores(said.labels, _probabilities(run, mixed), run.model.problem.name)
            found[split][name] = {**scores, "loss": _loss(run, said.labels)(mixed)}
        found[split]["gate"] = gate_statistics([said.gate])
    return found


def compare(runs: Sequence["Run"], *, device: str = "cpu") -> dict[str, Any]:
    """The heads of several runs on one test split: means over the runs, and the prediction's AUC against each.

    The interval is that of the mean difference over the runs, paired over the samples (DeLong et al., doi:10.2307/
    2531595): what another test split of this size might give, of the same networks.

    Args:
        runs: at least two of the same data and problem, from `load_run`, with their data modules set up.
        device: where to compute.

    Returns:
        By head and mixture, as `evaluate` names them: `auc` and `acc`, each of `statistics.summarise`, and
        `difference` and `interval` of the prediction's AUC minus this one's; and `gate`, that of `gate_statistics`.

    Raises:
        ValueError: other labels, or a network that has no heads of its streams' own.
    """
    problem = runs[0].model.problem.name
    said = [read(run, "test", device=device) for run in runs]
    for run, one in zip(runs, said, strict=True):
        if not (on_same_data(run.metrics, runs[0].metrics) and np.array_equal(one.labels, said[0].labels)):
            raise ValueError(f"{run.folder} and {runs[0].folder} have other test data: give runs on the same data")
    scores: dict[str, list[dict[str, float]]] = {}
    parts: dict[str, list[np.ndarray]] = {}
    for run, one in zip(runs, said, strict=True):
        for name, mixture in mixtures(run, read(run, "val", device=device)).items():
            probabilities = _probabilities(run, convex.mix(one.logits, mixture))
            scores.setdefault(name, []).append(official_scores(one.labels, probabilities, problem))
            parts.setdefault(name, []).append(delong.auc_parts(one.labels, probabilities, problem)[1])
    found: dict[str, Any] = {}
    for name, own in scores.items():
        found[name] = {key: summarise([run[key] for run in own]) for key in ("auc", "acc")}
    for name, own_parts in parts.items():
        found[name]["difference"] = found["answer"]["auc"].mean - found[name]["auc"].mean
        each = np.mean(np.stack(parts["answer"]) - np.stack(own_parts), axis=0)
        reach = NORMAL_95 * float(np.sqrt(np.square(each).sum()))
        found[name]["interval"] = (found[name]["difference"] - reach, found[name]["difference"] + reach)
    found["gate"] = gate_statistics([one.gate for one in said])
    return found


def read(run: "Run", split: str, *, device: str) -> Said:
    """What the heads of a run's network say of a split. Raises as `evaluate`."""
    import torch

    net = run.model.net
    if not isinstance(net, ScaleNet) or not net.auxiliary_heads:
        raise ValueError(f"heads=true: the {type(net).__name__} of {run.folder} has no heads of its streams' own")
    net, parts, gates = net.to(device).eval(), [], []
    for batch in run.datamodule.eval_dataloader(split):
        images = run.datamodule.prepare({key: value.to(device) for key, value in batch.items()})["image"]
        with torch.inference_mode():
            fused, own, gate = net.forward_gated(images)
            parts.append(torch.stack([*(own[name] for name in STREAMS), fused]).double().cpu())
            gates += [] if gate is None else [gate[:, 0].double().cpu()]
    labels = run.datamodule.splits[split].labels
    return Said(torch.cat(parts, dim=1).numpy(), labels, torch.cat(gates).numpy() if gates else np.empty(0))


def mixtures(run: "Run", val: Said) -> dict[str, np.ndarray]:
    """The weights (H,) of the heads in each single one and in each mixture."""
    single = np.eye(len(HEADS))
    net = run.model.net
    assert isinstance(net, ScaleNet)
    weights, _ = convex.fit(val.logits, _loss(run, val.labels))
    named = {name: single[number] for number, name in enumerate(HEADS)}
    named["answer"] = (single[HEADS.index(net.native)] + single[-1]) / 2
    return {**named, "streams": np.array([0.5, 0.5, 0.0]), "fitted": weights}


def gate_statistics(gates: Sequence[np.ndarray]) -> dict[str, float] | None:
    """The planar stream's weight over the samples of several runs: `mean`, `sd` within a run, `low`, `high`."""
    if not all(len(gate) for gate in gates):
        return None
    return {
        "mean": float(np.mean([gate.mean() for gate in gates])),
        "sd": float(np.mean([gate.std() for gate in gates])),
        "low": float(min(gate.min() for gate in gates)),
        "high": float(max(gate.max() for gate in gates)),
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures of `evaluate`, a line each."""
    splits = [split for split in ("val", "test") if split in found]
    lines = [f"{'':22}" + "".join(f"{split + ' AUC':>10}{'ACC':>7}{'loss':>7}" for split in splits)]
    for name in (name for name in found[splits[0]] if name != "gate"):
        cells = "".join(
            f"{found[split][name]['auc']:10.3f}{found[split][name]['acc']:7.3f}{found[split][name]['loss']:7.3f}"
            for split in splits
        )
        lines.append(f"{_title(name):22}{cells}")
    weights = ", ".join(f"{name} {value:.2f}" for name, value in found["weights"].items())
    return "\n".join([*lines, f"weights fitted on val: {weights}", *_of_gate(found[splits[-1]]["gate"], splits[-1])])


def comparison_table(found: Mapping[str, Any], *, runs: int) -> str:
    """The figures of `compare`, a line each."""
    lines = [f"mean ± SD over {runs} runs, test", f"{'':22}{'AUC':>15}{'ACC':>15}   the prediction's AUC minus it"]
    for name, row in ((name, row) for name, row in found.items() if name != "gate"):
        low, high = row["interval"]
        against = "" if name == "answer" else f"   {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
        cells = "".join(f"{f'{row[key].mean:.3f} ± {row[key].sd:.3f}':>15}" for key in ("auc", "acc"))
        lines.append(f"{_title(name):22}{cells}{against}")
    return "\n".join([*lines, "in brackets: 95 % of other test splits of this size", *_of_gate(found["gate"], "test")])


def _title(name: str) -> str:
    return TITLES.get(name, f"{name} head")


def _of_gate(gate: Mapping[str, float] | None, split: str) -> list[str]:
    if gate is None:
        return []
    spread = f"SD over samples {gate['sd']:.2f}, from {gate['low']:.2f} to {gate['high']:.2f}"
    return [f"stream gate, weight of the planar stream on {split}: mean {gate['mean']:.2f}, {spread}"]


def _probabilities(run: "Run", logits: np.ndarray) -> np.ndarray:
    import torch

    found: np.ndarray = run.model.problem.probabilities(torch.from_numpy(logits)).numpy()
    return found


def _loss(run: "Run", labels: np.ndarray) -> Any:
    import torch

    return lambda mixed: float(run.model.problem.loss(torch.from_numpy(mixed), torch.from_numpy(labels)))
