"""MLflow on SQLite: what stands in the database and beside it, and that a resumed run continues its MLflow run."""

import json
import sqlite3

import pytest

import scale
from scale.train import train
from scale.training import loggers


@pytest.mark.slow
def test_mlflow_on_sqlite(small, tmp_path):
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    given = [*small, "report=true", "logger=mlflow", "logger.mlflow.samples=4", "logger.mlflow.log_model=true"]
    given += [f"paths.runs={tmp_path / 'runs'}", "logger.mlflow.log_predictions=true", "+logger.mlflow.tags.who=me"]
    config = scale.compose(given)
    metrics = train(config, tmp_path / "run", overrides=given)
    base = sqlite3.connect(tmp_path / "runs" / "mlflow.db")

    def table(name, key, value):
        return dict(base.execute(f"select {key}, {value} from {name}"))

    ((number, status, place, name),) = base.execute("select run_uuid, status, artifact_uri, name from runs")
    assert (status, name) == ("FINISHED", "phantom2d-scale_tiny-seed0")
    assert table("experiments", "experiment_id", "name").popitem()[1] == "scale"
    latest = table("latest_metrics", "key", "value")
    assert latest["test/auc"] == pytest.approx(metrics["test"]["auc"])
    assert latest["test/auc_low"] == pytest.approx(metrics["intervals"]["test"]["auc"][0])
    assert base.execute("select count(*) from metrics where key = 'val/auc'").fetchone()[0] == 3  # epochs, and the kept
    assert table("params", "key", "value")["data/batch_size"] == "16"
    tags = table("tags", "key", "value")
    assert (tags["data"], tags["model"], tags["who"]) == ("phantom2d", "scale_tiny", "me")
    artifacts = tmp_path / "runs" / "mlflow" / number / "artifacts"
    assert place == artifacts.as_uri()
    there = {path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()}
    assert {"config.yaml", "figures/test_roc.png", "model/best.ckpt", "predictions/test.npz"} <= there
    shown = json.loads((artifacts / "predictions.json").read_text())
    assert {"index", "image", "overlay", "explained", "truth", "prediction", "probability"} == set(shown["columns"])
    assert len(shown["data"]) == 4

    again = loggers.build_loggers(config, tmp_path / "run", name="other", tags=[])  # as a resumed run does
    loggers.log_configuration(again, config, tmp_path / "run")
    assert again[0].logger.run_id == number
    loggers.close_loggers(again, failed=True)
    assert base.execute("select status from runs").fetchall() == [("FAILED",)]


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch):
    import importlib.util

    config = scale.compose(["logger=mlflow"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"logger=mlflow: it is not installed: pip install 'scale-medvision\[mlflow\]'"
    ):
        loggers.build_loggers(config, tmp_path)
