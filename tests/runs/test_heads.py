"""What the heads of several runs say, beside one run's own figures and DeLong's test."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scale.config import compose
from scale.evaluate import _check, _run
from scale.evaluation import convex, delong
from scale.runs import heads
from scale.runs.load import load_run


@pytest.fixture(scope="module")
def pair(a_run):
    """The same run twice, the second one's fused head turned a little."""
    runs = [load_run(a_run) for _ in range(2)]
    torch.manual_seed(0)
    with torch.no_grad():
        weight = runs[1].model.net.head[1].weight
        weight += 0.5 * weight.std() * torch.randn_like(weight)
    for run in runs:
        run.datamodule.setup()
    return runs


def test_means_over_runs_are_those_of_single_runs(pair):
    single = [heads.evaluate(run)["test"] for run in pair]
    found = heads.compare(pair)
    assert set(found) == set(single[0])
    for name in set(found) - {"gate"}:
        for key in ("auc", "acc"):
            values = [one[name][key] for one in single]
            assert found[name][key].mean == pytest.approx(np.mean(values))
            assert found[name][key].sd == pytest.approx(np.std(values, ddof=1))
    assert found["gate"]["mean"] == pytest.approx(np.mean([one["gate"]["mean"] for one in single]))
    assert found["answer"]["difference"] == 0
    assert found["answer"]["interval"] == (0, 0)


def test_the_interval_of_one_run_is_delongs(pair):
    found = heads.compare([pair[0], pair[0]])
    said = heads.read(pair[0], "test", device="cpu")
    probabilities = {
        name: pair[0].model.problem.probabilities(torch.from_numpy(convex.mix(said.logits, np.array(mixture)))).numpy()
        for name, mixture in {"answer": (0.5, 0, 0.5), "planar": (1, 0, 0), "streams": (0.5, 0.5, 0)}.items()
    }
    for name in ("planar", "streams"):
        paired = delong.auc_test(said.labels, probabilities["answer"], probabilities[name], "binary")
        assert found[name]["difference"] == pytest.approx(paired.difference)
        np.testing.assert_allclose(found[name]["interval"], paired.interval, atol=1e-4)


def test_gates_of_several_runs():
    found = heads.gate_statistics([np.array([0.0, 1.0]), np.array([0.2, 0.4])])
    assert found == {"mean": pytest.approx(0.4), "sd": pytest.approx(0.3), "low": 0.0, "high": 1.0}
    assert heads.gate_statistics([np.empty(0), np.empty(0)]) is None


def test_the_command_prints_the_comparison(a_run, capsys):
    assert _run(compose([f"runs=[{a_run},{a_run}]", "heads=true"], name="evaluate")) == 0
    said = capsys.readouterr().out
    assert "mean ± SD over 2 runs, test" in said
    assert "mean of the streams" in said
    assert "stream gate, weight of the planar stream on test: mean 0." in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["runs=[x]", "heads=true"], "compares several runs"),
        (["runs=[x,y]", "heads=true", "output=z"], "leave report, corruptions, output"),
    ],
)
def test_what_heads_do_not_go_with(given, said):
    with pytest.raises(ValueError, match=said):
        _check(compose(given, name="evaluate"))


def test_runs_on_other_data_do_not_compare(pair, monkeypatch):
    read = heads.read

    def other(run, split, *, device):
        found = read(run, split, device=device)
        return heads.Said(found.logits, 1 - found.labels, found.gate) if run is pair[1] else found

    monkeypatch.setattr(heads, "read", other)
    with pytest.raises(ValueError, match="have other test data"):
        heads.compare(pair)


def test_folds_do_not_compare(pair):
    other = replace(pair[1], metrics={**pair[1].metrics, "data_sha256": "another"})
    with pytest.raises(ValueError, match="have other test data"):
        heads.compare([pair[0], other])
