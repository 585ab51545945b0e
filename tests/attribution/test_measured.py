import csv
import json
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

import scale
from scale import report as command
from scale.attribution.report import write
from scale.published import explanations as results


@pytest.fixture
def explained(tmp_path):
    """A run that was explained: integrated gradients and both controls."""

    def make(name, seed, methods, mean=0.5, **changes):
        folder = tmp_path / name
        (folder / "explanations").mkdir(parents=True)
        record = {"flag": "phantom2d", "size": 28, "seed": seed, "model": {"name": "scale"}}
        (folder / "metrics.json").write_text(json.dumps(record | changes))
        variant = [f"ablation={changes['variant']}"] if "variant" in changes else []
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(scale.compose(["data=phantom2d", *variant])))
        span = f"{mean},{mean - 0.1:.1f},{mean + 0.1:.1f},20\n"
        lines = [f"{method},pointing_game,higher,{span}" for method in methods]
        (folder / "explanations" / "quality.csv").write_text("method,metric,better,mean,low,high,n\n" + "".join(lines))
        lines = [f"{method},random,deletion_auc,{span}" for method in methods if method != "random"]
        text = "method,control,metric,mean,low,high,n\n" + "".join(lines)
        (folder / "explanations" / "against_random.csv").write_text(text)
        return folder

    return make


def test_rows_of_runs_become_tables(explained, tmp_path):
    path = tmp_path / "explanations.csv"
    results.add([explained("b", 1, ["random", "integrated_gradients"]), explained("a", 0, ["edges"])], path)
    lines = results.table(results.read(path)).splitlines()
    assert [line for line in lines if line.startswith("**")] == [
        "**phantom2d**, 28 pixels, `scale`, seed 0 (one training)",
        "**phantom2d**, 28 pixels, `scale`, seed 1 (one training)",
    ]
    assert lines[2] == "| method | pointing game | deletion, gain on random |"  # the other metrics were not taken
    assert lines[-2:] == [
        "| `integrated_gradients` | 0.50 (0.40 to 0.60) | 0.50 (0.40 to 0.60) |",
        "| `random` | 0.50 (0.40 to 0.60) |  |",
    ]


def test_a_method_that_is_measured_again_takes_its_own_place_only(explained, tmp_path):
    path = tmp_path / "explanations.csv"
    results.add([explained("first", 0, ["edges", "saliency"])], path)
    results.add([explained("again", 0, ["saliency"], mean=0.7)], path)
    with path.open(newline="") as file:
        found = {(row["method"], row["metric"]): row["mean"] for row in csv.DictReader(file)}
    assert found == {
        ("edges", "pointing_game"): "0.5",
        ("edges", "deletion_auc"): "0.5",
        ("saliency", "pointing_game"): "0.7",
        ("saliency", "deletion_auc"): "0.7",
    }


def test_an_ablation_has_rows_of_its_own(explained, tmp_path):
    path = tmp_path / "explanations.csv"
    results.add(
        [explained("whole", 0, ["saliency"]), explained("part", 0, ["saliency"], mean=0.1, variant="gate")], path
    )
    results.add([explained("other", 0, ["saliency"], mean=0.3)], path, variant="mine")
    lines = results.table(results.read(path)).splitlines()
    assert [line for line in lines if line.startswith("**")] == [
        "**phantom2d**, 28 pixels, `scale`, seed 0 (one training)",
        "**phantom2d**, 28 pixels, `scale`, gate, seed 0 (one training)",
        "**phantom2d**, 28 pixels, `scale`, mine, seed 0 (one training)",
    ]
    assert [line.split("|")[2][1:5] for line in lines if "saliency" in line] == ["0.50", "0.10", "0.30"]


def test_a_run_that_was_not_explained(tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    arguments = ["--explanations", f"results={tmp_path / 'mine.csv'}", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", ["report", *arguments])
    with pytest.raises(SystemExit):
        command.main()
    assert f"python -m scale.explain run={tmp_path / 'run'}" in capsys.readouterr().err


def test_the_page_gives_the_test_auc_of_the_explained_epoch_alone():
    """That of the best epoch stood on pages of the last; an undefined one ended the job after all its maps."""

    def job(checkpoint, metrics):
        return SimpleNamespace(config=SimpleNamespace(checkpoint=checkpoint), run=SimpleNamespace(metrics=metrics))

    assert write._score(job("best", {"test": {"auc": 0.8765}})) == {"test AUC": "0.876"}
    assert write._score(job("last", {"test": {"auc": 0.8765}})) == {"checkpoint": "last"}
    assert write._score(job("best", {"test": {"auc": None}})) == write._score(job("best", {})) == {}
