"""What explanations are worth over trainings: pooled intervals, the spread over trainings, and advice with its bound.

An interval over the samples of one training says nothing on the next training. Where several seeds were explained, the
bootstrap draws trainings and, independently, samples: all trainings were explained on the same ones, so that each draw
takes the same samples of each (the pigeonhole bootstrap; Owen 2007, doi:10.1214/07-AOAS122). The spread over the
trainings and the worst of them stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scale.attribution.catalog import CONTROLS, METHODS, RECOMMENDED
from scale.published import explanations, per_sample
from scale.published.explanations import Row
from scale.utils.tables import markdown

if TYPE_CHECKING:
    import pandas as pd

GROUP = ["flag", "size", "model", "variant"]
WHAT = ["method", "control", "metric"]
ENOUGH = 5  # trainings
SHOWN = explanations.SHOWN | {
    "pointing_game_causal/": "pointing game, lesion used",
    "relevance_mass_causal/": "relevance mass, lesion used",
}


class Pooled(NamedTuple):
    """A metric over trainings.

    Attributes:
        mean: of the trainings' means.
        low: 2.5th percentile of the mean, trainings and samples resampled.
        high: 97.5th percentile.
        sd: standard deviation of the trainings' means; nan for one training.
        worst: smallest of the trainings' means.
        best: largest of them.
        trainings: their number.
        n: values, of all trainings together.
        samples: that they are of; each has a value of every training at most.
    """

    mean: float
    low: float
    high: float
    sd: float
    worst: float
    best: float
    trainings: int
    n: int
    samples: int


def pool(values: Sequence[Mapping[str, float]], *, seed: int = 0, level: float = 0.95, draws: int = 4000) -> Pooled:
    """Pools a metric's values on samples by a bootstrap over trainings and samples, which are crossed.

    With few trainings the interval is too narrow (of five, all five are drawn in 4 % of the draws only): read `worst`
    beside it.

    Args:
        values: of each training, by the sample's index; trainings without values are left out.
        seed: of the drawing.
        level: share of the drawn means inside the interval.
        draws: number of drawn means.

    Raises:
        ValueError: no training has a value.
    """
    trainings = [one for one in values if one]
    if not trainings:
        raise ValueError("there is no value to pool")
    samples = list(dict.fromkeys(index for one in trainings for index in one))
    table = np.array([[one.get(index, np.nan) for index in samples] for one in trainings])
    known = ~np.isnan(table)
    generator = np.random.default_rng(seed)
    times, often = (generator.multinomial(n, np.full(n, 1 / n), size=draws) for n in table.shape)
    with np.errstate(invalid="ignore"):  # a training may have no value of the samples that were drawn
        each = (often @ np.where(known, table, 0).T) / (often @ known.T)
        weight = times * ~np.isnan(each)
        means = np.nansum(weight * np.nan_to_num(each), axis=1) / weight.sum(axis=1)
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    own = np.nanmean(table, axis=1)
    sd = float(own.std(ddof=1)) if len(own) > 1 else np.nan
    limits = float(own.mean()), float(low), float(high), sd, float(own.min()), float(own.max())
    return Pooled(*limits, len(own), int(known.sum()), len(samples))


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The pooled metrics, a row for each of `GROUP` and `WHAT` of which the values of samples are known."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(explanations.COLUMNS)).fillna("")
    table = table[table["values"] != ""]
    found = []
    for key, part in table.groupby([*GROUP, *WHAT], sort=False):
        values = [per_sample.unpacked(cell) for cell in part["values"]]
        found.append(dict(zip([*GROUP, *WHAT], key, strict=True)) | pool(values)._asdict())
    return pd.DataFrame(found, columns=[*GROUP, *WHAT, *Pooled._fields])


def tables(rows: Sequence[Row]) -> str:
    """The advice; a Markdown table for each network that was trained more than once; then the single trainings."""
    pooled = frame(rows)
    several = {tuple(key) for key, part in pooled.groupby(GROUP, sort=False) if part["trainings"].max() > 1}
    parts = [line for line in (advice(pooled),) if line]
    parts += [_table(pooled, key) for key in sorted(several)]
    single = [row for row in rows if tuple(row[name] for name in GROUP) not in several]
    return "\n\n".join([*parts, *([explanations.table(single)] if single else [])])


def advice(pooled: pd.DataFrame) -> str:
    """Which map to trust to say where, with the bounds that hold over the trainings; empty where there are too few.

    Args:
        pooled: from `frame`.
    """
    method = RECOMMENDED[0]
    said = []
    for key, part in pooled[pooled["control"] == ""].groupby(GROUP, sort=True):
        cells = {(row.method, row.metric): row for row in part.itertuples()}
        hit, mass = (cells.get((method, name)) for name in ("pointing_game_causal", "relevance_mass_causal"))
        chance = cells.get(("random", "relevance_mass_causal"))
        if hit is None or mass is None or chance is None or hit.trainings < ENOUGH:
            continue
        name = key[0] + (f" ({key[3]})" if key[3] else "")
        low, worst = (f"{_down(value, 2):.2f}" for value in (hit.low, hit.worst))
        said.append(
            f"{low} on {name} ({hit.trainings} trainings, the worst {worst}; relevance mass at least "
            f"{_down(mass.low / chance.mean):.0f} times a random map's)"
        )
    if not said:
        return ""
    return (
        f"To say where, use `{method}`: where the prediction falls with the lesion, the share of lesions that its peak "
        f"hits is at least (95 % bound over trainings and samples) {'; '.join(said)}. Where the prediction stays "
        "without the lesion, no map need point at it."
    )


def _down(value: float, digits: int = 0) -> float:
    """A bound is never rounded up."""
    scale = 10**digits
    return math.floor(value * scale + 1e-9) / scale


def _table(pooled: pd.DataFrame, key: tuple[str, ...]) -> str:
    part = pooled[(pooled[GROUP] == list(key)).all(axis=1)]
    part = part.assign(head=part["metric"].str.cat(part["control"], "/").map(SHOWN), cell=part.apply(_cell, axis=1))
    shown = part.dropna(subset="head")
    order = [*(name for name in METHODS if name not in CONTROLS), *CONTROLS]
    methods = sorted(shown["method"].unique(), key=order.index)
    heads = [head for head in SHOWN.values() if head in set(shown["head"])]
    cells = shown.pivot(index="method", columns="head", values="cell").reindex(index=methods, columns=heads).fillna("")
    count = part["trainings"].max()
    few = f"; fewer than {ENOUGH}: read the worst" if count < ENOUGH else ""
    flag, size, model, variant = key
    name = f"`{model}`, {variant}" if variant else f"`{model}`"
    title = f"**{flag}**, {size} pixels, {name}, {count} trainings{few}"
    counted = [f"{head} (n = {_counted(shown, head)})" for head in heads]
    body = markdown(["method", *counted], [[f"`{line[0]}`", *line[1:]] for line in cells.itertuples(name=None)])
    return f"{title}\n\n{body}"


def _counted(shown: pd.DataFrame, head: str) -> str:
    """Values of all trainings, and the samples that they are of."""
    part = shown[shown["head"] == head]
    values, samples = (_range(part[name]) for name in ("n", "samples"))
    return f"{values} of {samples} samples"


def _range(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    return str(low) if low == high else f"{low} to {high}"


def _cell(row: pd.Series) -> str:
    """Mean, interval over trainings and samples, and the means of the lowest and the highest training."""
    return f"{row['mean']:.2f} ({row['low']:.2f} to {row['high']:.2f}); {row['worst']:.2f} … {row['best']:.2f}"
