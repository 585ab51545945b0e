"""What the network looks at in each class: scales, streams, and how alike its parts see the samples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scale.attribution.metrics.quality import summarise
from scale.models.scale_net import STREAMS, ScaleNet
from scale.utils.files import write_csv

LEVELS = ("fine", "middle", "coarse")
COLUMNS = ("data", "quantity", "group", "stream", "level", "against", "mean", "low", "high", "n")
ALL = "all"  # the group of all samples
CKA_SAMPLES = 2000  # at most, evenly spaced: memory grows with their square

Row = dict[str, Any]


@dataclass(frozen=True)
class Observed:
    """What the network did with N samples.

    Attributes:
        scale_attention: of each stream the mean weight of each level over the positions (N, levels); may be empty.
        stream_gate: (N, 2), planar first; None where there is no gate.
        features: of each stream and level the mean activations (N, width), `planar fine` and so on, and `fused`.
    """

    scale_attention: Mapping[str, np.ndarray]
    stream_gate: np.ndarray | None
    features: Mapping[str, np.ndarray]


def observe(net: ScaleNet, batches: Iterable[Tensor]) -> Observed:
    """Runs the network over samples and keeps what the group analysis needs.

    Args:
        net: in evaluation mode; left as it is.
        batches: normalised samples (B, C, *S), on the network's device.

    Raises:
        ValueError: the network is no SCALE network, or there are no samples.
    """
    if not isinstance(net, ScaleNet):
        raise ValueError(f"{type(net).__name__} has no scales and streams to analyse: give a run with model=scale")
    attention: dict[str, list[Tensor]] = {}
    features: dict[str, list[Tensor]] = {}
    gates: list[Tensor] = []
    with torch.inference_mode(), _pyramids(net) as pyramids:
        for images in batches:
            found = net.forward_intermediates(images)
            for name, weights in found.scale_attention.items():
                axis = weights.ndim - (3 if name == "planar" else 4)  # (B, images, levels, H, W), (B, levels, D, H, W)
                over = [a for a in range(1, weights.ndim) if a != axis]
                attention.setdefault(name, []).append(weights.float().mean(dim=over).cpu())
            if found.stream_gate is not None:
                gates.append(found.stream_gate.float().cpu())
            for name, pyramid in pyramids.items():
                for level, x in zip(LEVELS, pyramid, strict=True):
                    pooled = x.float().unflatten(0, (len(images), -1)).transpose(1, 2).flatten(2).mean(dim=2)
                    features.setdefault(f"{name} {level}", []).append(pooled.cpu())
            features.setdefault("fused", []).append(found.features.float().cpu())
    if not features:
        raise ValueError("the group analysis needs samples, and got none")
    return Observed(
        {name: torch.cat(parts).numpy() for name, parts in attention.items()},
        torch.cat(gates).numpy() if gates else None,
        {name: torch.cat(parts).numpy() for name, parts in features.items()},
    )


def group_rows(
    observed: Observed, labels: np.ndarray, names: Sequence[str], *, data: str = "", seed: int = 0
) -> list[Row]:
    """The table of the group analysis.

    Args:
        observed: of N samples.
        labels: (N, L): class numbers (L = 1), or 0 and 1 for several labels; then a group has the samples with the
            label, and one sample may be in several.
        names: of the classes or labels.
        data: name of the data set, so that tables of several runs can be joined.
        seed: of the bootstrap.

    Returns:
        Rows with `COLUMNS`. `scale_attention`: mean weight of a level in a stream, over the class's samples, with its
        bootstrap interval. `stream_gate`: the same of a stream's weight. `cka`: similarity of two features over all
        samples, without an interval (a sample drawn twice is alike to itself).
    """
    groups = _groups(labels, names)
    rows: list[Row] = []

    def add(quantity: str, values: np.ndarray, *, group: str, stream: str, level: str = "") -> None:
        entry = summarise(values, seed=seed)
        rows.append(_row(data, quantity, group=group, stream=stream, level=level, **entry._asdict()))

    for group, chosen in groups.items():
        for stream, weights in observed.scale_attention.items():
            for level, column in zip(LEVELS, weights[chosen].T, strict=True):
                add("scale_attention", column, group=group, stream=stream, level=level)
    if observed.stream_gate is not None:
        for group, chosen in groups.items():
            for stream, column in zip(STREAMS, observed.stream_gate[chosen].T, strict=True):
                add("stream_gate", column, group=group, stream=stream)
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), CKA_SAMPLES)).astype(int))
    names = list(observed.features)
    for number, first in enumerate(names):
        for second in names[number:]:
            value = linear_cka(observed.features[first][chosen], observed.features[second][chosen])
            stream, _, level = first.partition(" ")
            at = {"group": ALL, "stream": stream, "level": level, "against": second}
            rows.append(_row(data, "cka", **at, mean=value, n=len(chosen)))
    return rows


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Linear centred kernel alignment of two sets of features (Kornblith et al. 2019, arXiv:1905.00414).

    The unbiased estimate (Nguyen et al. 2021, arXiv:2010.15327), which does not call unrelated features alike because
    they are wide and the samples few.

    Args:
        first: (N, p), N at least 4.
        second: (N, q) of the same samples.

    Returns:
        1 for features that differ by a rotation and a factor, about 0 for unrelated ones (it may be slightly
        negative); nan with fewer than 4 samples or where a set of features is constant.
    """
    if len(first) != len(second):
        raise ValueError(f"features of the same samples are needed, but got {len(first)} and {len(second)}")
    if len(first) < 4:
        return float("nan")
    a, b = (_gram(x) for x in (first, second))
    within = _hsic(a, a) * _hsic(b, b)
    return float(_hsic(a, b) / np.sqrt(within)) if within > 0 else float("nan")


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the table as CSV, whole or not at all; a number that does not exist stays empty."""
    write_csv(Path(path), COLUMNS, rows, digits=6)


@contextmanager
def _pyramids(net: ScaleNet) -> Iterator[dict[str, Sequence[Tensor]]]:
    """A dict that holds the levels of each stream after every pass; leaves no hook behind."""
    found: dict[str, Sequence[Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(_module: object, _inputs: object, output: Sequence[Tensor]) -> None:
            found[name] = output

        return hook

    handles = [stream.register_forward_hook(keep(name)) for name, stream in net.streams.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _groups(labels: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Row numbers of all samples, and of each class that has any."""
    several = labels.ndim == 2 and labels.shape[1] > 1
    members = {name: labels[:, k] == 1 if several else labels.reshape(-1) == k for k, name in enumerate(names)}
    found = {name: np.flatnonzero(member) for name, member in members.items() if member.any()}
    return {ALL: np.arange(len(labels)), **found}


def _gram(features: np.ndarray) -> np.ndarray:
    """Products of the centred features of each pair of samples (N, N), of comparable size, 0 on the diagonal."""
    x = features.astype(np.float64)
    x = x - x.mean(axis=0)
    scale = np.sqrt((x**2).mean())
    # rounding is no feature
    gram = (x / scale) @ (x / scale).T if scale > 1e-6 * np.abs(features).max() else np.zeros((len(x), len(x)))
    np.fill_diagonal(gram, 0.0)
    return np.asarray(gram)


def _hsic(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased Hilbert-Schmidt criterion of two Gram matrices without diagonal (Song et al. 2012, JMLR 13)."""
    n = len(a)
    product = (a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * a.sum(axis=0) @ b.sum(axis=0)
    return float(product / (n * (n - 3)))


def _row(data: str, quantity: str, **found: Any) -> Row:
    empty: Row = {"level": "", "against": "", "low": float("nan"), "high": float("nan")}
    return {"data": data, "quantity": quantity, **empty, **found}
