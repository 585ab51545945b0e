"""Pooling over trainings: the interval covers the next training, and the advice is recomputed from the CSV."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from scale.attribution.catalog import RECOMMENDED
from scale.published import explanations, per_sample, pooled
from scale.published.pooled import pool


@pytest.fixture(scope="module")
def published():
    """The rows in the package, and the advice that is drawn from them: pooling takes seconds."""
    found = explanations.read()
    return found, pooled.advice(pooled.frame(found))


def slow(values, *, draws, seed):
    """The bootstrap over trainings and samples in plain Python: the same samples of every training in a draw."""
    generator = np.random.default_rng(seed)
    samples = sorted({index for one in values for index in one})
    means = []
    for _ in range(draws):
        indices = [samples[k] for k in generator.integers(len(samples), size=len(samples))]
        chosen = [values[k] for k in generator.integers(len(values), size=len(values))]
        found = [[one[index] for index in indices if index in one] for one in chosen]
        means.append(np.mean([np.mean(one) for one in found if one]))
    return np.quantile(means, [0.025, 0.975])


def on(values, first=0):
    """As values of samples with successive indices."""
    return {str(first + k): float(value) for k, value in enumerate(values)}


def test_pooling_is_the_bootstrap_over_trainings_and_samples():
    generator = np.random.default_rng(0)
    values = [on(generator.normal(mean, 0.3, size=size)) for mean, size in ((0.9, 20), (0.5, 20), (0.7, 35))]
    found = pool(values, draws=4000)
    low, high = slow(values, draws=1500, seed=7)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    means = [np.mean(list(one.values())) for one in values]
    assert found.mean == pytest.approx(np.mean(means))
    assert found.sd == pytest.approx(np.std(means, ddof=1))
    assert (found.worst, found.best) == (pytest.approx(min(means)), pytest.approx(max(means)))
    assert (found.trainings, found.n, found.samples) == (3, 75, 35)


def test_the_same_samples_in_every_training_are_no_more_samples():
    """Of five trainings that agree on each of 20 samples, the interval is that of one; of five on others, narrower."""
    hits = [1.0] * 3 + [0.0] * 17
    one, five = pool([on(hits)]), pool([on(hits)] * 5)
    assert (five.low, five.high) == (pytest.approx(one.low, abs=0.026), pytest.approx(one.high, abs=0.026))
    apart = pool([on(hits, first=20 * k) for k in range(5)])
    assert (apart.n, apart.samples) == (100, 100)
    assert apart.high - apart.low < 0.6 * (five.high - five.low)


def test_a_training_without_a_value_of_the_drawn_samples_is_left_out_of_the_draw():
    found = pool([on([1.0] * 9), {"0": 0.5}])
    assert np.isfinite([found.low, found.high]).all()
    assert found.mean == 0.75


def test_trainings_that_differ_widen_the_interval_and_samples_alone_do_not_hide_it():
    same = pool([on([0.0, 1.0] * 50)] * 5)
    apart = pool([on([value] * 100) for value in (0.0, 0.25, 0.5, 0.75, 1.0)])
    assert same.mean == apart.mean == 0.5
    assert apart.high - apart.low > 2 * (same.high - same.low)
    assert same.sd == 0
    one = pool([on([0.0, 1.0] * 50)])
    assert np.isnan(one.sd)
    with pytest.raises(ValueError, match="no value"):
        pool([{}])


@pytest.mark.parametrize("missing", ["nan", ""])
def test_samples_without_a_value_are_left_out(missing, tmp_path):
    """Half of the samples of a phantom have no lesion, and so no value of the pointing game."""
    lines = [
        "method,metric,index,value",
        *(f"deeplift,pointing_game,{i},{v}" for i, v in enumerate((1, missing, 0, 1))),
    ]
    (tmp_path / "quality_values.csv").write_text("\n".join(lines))
    cell = per_sample.packed(per_sample.read(tmp_path), {"method": "deeplift", "metric": "pointing_game"})
    assert per_sample.unpacked(cell) == {"0": 1, "2": 0, "3": 1}


def test_values_without_their_samples_are_refused():
    """A file of an earlier version: which values belong together is not known."""
    with pytest.raises(ValueError, match="do not say of which samples they are"):
        per_sample.unpacked("0.5 1 0.25")


def rows(seed, method, measure, values, control=""):
    run = {"flag": "phantom2d", "size": "28", "model": "scale", "variant": "", "seed": str(seed)}
    cells = {"method": method, "control": control, "metric": measure, "better": "higher", "n": str(len(values))}
    mean = {
        "mean": f"{np.mean(values)}",
        "low": "0",
        "high": "1",
        "values": " ".join(f"{k}:{v}" for k, v in enumerate(values)),
    }
    return run | cells | mean


def trained(count):
    found = []
    for seed in range(count):
        hits = [1.0] * 18 + [0.0] * (1 + seed % 3)
        found += [
            rows(seed, RECOMMENDED[0], "pointing_game", hits),
            rows(seed, RECOMMENDED[0], "pointing_game_causal", hits),
            rows(seed, RECOMMENDED[0], "relevance_mass_causal", [0.6, 0.5, 0.7]),
            rows(seed, "random", "relevance_mass_causal", [0.05, 0.04, 0.06]),
        ]
    return found


def test_several_trainings_are_one_table_and_single_ones_are_marked():
    other = rows(0, "saliency", "pointing_game", [1.0, 0.0]) | {"flag": "breastmnist", "values": ""}
    text = pooled.tables([*trained(3), other])
    assert "**phantom2d**, 28 pixels, `scale`, 3 trainings; fewer than 5: read the worst" in text
    assert "**breastmnist**, 28 pixels, `scale`, seed 0 (one training)" in text
    assert "| method | pointing game (n = 60 of 21 samples) |" in text
    line = next(line for line in text.splitlines() if line.startswith(f"| `{RECOMMENDED[0]}`"))
    assert re.search(r"0\.90 \(0\.7\d to 1\.00\); 0\.86 … 0\.95", line)
    assert "To say where" not in text  # three trainings are not enough for advice


def test_the_advice_states_the_lower_bound():
    text = pooled.tables(trained(5)).splitlines()[0]
    low = slow([on([1.0] * 18 + [0.0] * (1 + seed % 3)) for seed in range(5)], draws=1500, seed=3)[0]
    bound = float(re.search(r"is at least .*? (\d\.\d\d) on phantom2d", text)[1])
    assert bound == pytest.approx(low, abs=0.015)
    assert "5 trainings, the worst 0.85" in text  # 18 of 21: a bound is not rounded up
    assert re.search(r"relevance mass at least 10 times", text)


def test_the_published_rows_hold_what_the_advice_says(published):
    """Recomputes the bound of each phantom from the CSV in the package, by the slow reference."""
    found, advice = published
    said = dict(re.findall(r"(\d\.\d\d) on ([\w ()]+?) \(\d+ trainings", advice))
    known = {flag: float(bound) for bound, flag in said.items()}
    if not known:
        pytest.skip("explanations.csv has no method over five trainings yet: there is no advice to check")
    for name, bound in known.items():
        flag, variant = re.fullmatch(r"(\w+)(?: \((\w+)\))?", name).groups(default="")
        values = [
            per_sample.unpacked(row["values"])
            for row in found
            if (row["flag"], row["variant"], row["method"], row["control"], row["metric"])
            == (flag, variant, RECOMMENDED[0], "", "pointing_game_causal")
        ]
        assert len(values) >= pooled.ENOUGH
        assert bound == pytest.approx(slow(values, draws=1500, seed=1)[0], abs=0.02)


def test_the_readme_states_the_lowest_of_the_bounds(published):
    known = published[1]
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    bounds = [float(bound) for bound in re.findall(r"(\d\.\d\d) on \w+", known)]
    assert f"`{RECOMMENDED[0]}`" in known
    said = re.search(
        rf"To say where, use `{RECOMMENDED[0]}`[^.]*? at least (\d+) % of the lesions", readme.replace("\n", " ")
    )
    assert said, "README.md has no sentence of advice with a bound"
    assert int(said[1]) == round(100 * min(bounds))


@pytest.mark.parametrize(
    ("metrics", "config", "said"),
    [
        ({}, "split: val\ncheckpoint: best\ntarget: predicted\n", "was explained with split=val"),
        ({}, "split: test\ncheckpoint: last\ntarget: 1\n", "was explained with checkpoint=last, target=1"),
        ({"fast_dev_run": True}, "split: test\n", "fast_dev_run"),
    ],
)
def test_maps_of_something_else_are_in_no_table(metrics, config, said, tmp_path):
    (tmp_path / "explanations").mkdir()
    for name in ("quality.csv", "against_random.csv"):
        (tmp_path / "explanations" / name).write_text("method,metric\n")
    (tmp_path / "explanations" / "config.yaml").write_text(config)
    known = {"flag": "x", "size": 28, "seed": 0, "problem": "binary", "num_classes": 2, "image_shape": [1, 28, 28]}
    (tmp_path / "metrics.json").write_text(json.dumps({**known, "model": {"name": "scale"}, **metrics}))
    with pytest.raises(ValueError, match=said):
        explanations.rows_of(tmp_path)
