"""Each logger gets configuration, curves, scores, charts, samples and files; read back from what it wrote."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wandb_file

import scale
from scale.runs.folder import run_id
from scale.train import train
from scale.training import in_wandb, loggers

EXPLAIN = ["callbacks=explain", "callbacks.explanations.samples=1", "callbacks.explanations.methods=[edges]"]
SAMPLES = [f"logger.{name}.samples=6" for name in ("wandb", "tensorboard")]


@pytest.fixture(scope="module")
def logged(tmp_path_factory, phantom_root):
    """Folder and metrics of a run that TensorBoard and an offline W&B logged, and what it said."""
    given = [
        *("data=phantom2d", f"data.root={phantom_root}", "data.samples={train: 48, val: 24, test: 32}"),
        *("data.batch_size=16", "model=scale_tiny", "budget.min_epochs=2", "budget.max_epochs=2", "logger=many"),
        *("~logger.mlflow", "logger.wandb.offline=true", "logger.wandb.tags=[first]", *SAMPLES, *EXPLAIN),
        *("logger.wandb.log_model=true", "logger.wandb.log_predictions=true"),
    ]
    sweep = tmp_path_factory.mktemp("sweeps") / "lr_sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_text("{}")
    folder = sweep / "0"
    return folder, train(scale.compose(given), folder, overrides=given)


@pytest.fixture(scope="module")
def written(logged):
    return wandb_file.read(logged[0])


def test_tensorboard(logged):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import plugin_data_pb2

    folder, metrics = logged
    found = events.EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert len(found.Scalars("val/auc")) == 2
    assert found.Scalars("test/auc")[0].value == pytest.approx(metrics["test"]["auc"], abs=1e-6)
    low, _ = metrics["intervals"]["test"]["auc"]
    assert found.Scalars("test/auc_low")[0].value == pytest.approx(low, abs=1e-6)
    images = set(found.Tags()["images"])
    assert {"figures/history", "figures/test_roc"} <= images
    assert len([tag for tag in images if tag.startswith("predictions/") and tag.endswith("/overlay")]) == 6
    (explained,) = [tag for tag in images if tag.startswith("explanations/")]
    assert [image.step for image in found.Images(explained)] == [3, 6]
    assert "test/class 1" in found.Tags()["tensors"]
    assert b"| index | truth | prediction |" in found.Tensors("predictions/text_summary")[0].tensor_proto.string_val[0]
    start = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    chosen = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info.hparams
    assert chosen["optimizer.lr"].number_value > 0
    assert not {"data.root", "model._target_"} & set(chosen)  # a place decides nothing
    summary = found.summary_metadata["_hparams_/experiment"].plugin_data.content
    names = plugin_data_pb2.HParamsPluginData.FromString(summary).experiment.metric_infos
    assert {info.name.tag for info in names} == {"val/auc", "val/acc", "test/auc", "test/acc"}


def test_wandb_names_the_run(logged, written):
    assert written.run.project == "scale"
    assert written.run.display_name == "phantom2d-scale_tiny-seed0"
    assert written.run.run_group == "lr_sweep"  # the sweep's name
    assert written.run.job_type == "train"
    assert list(written.run.tags) == ["first", "phantom2d", "scale_tiny"]
    assert written.run.run_id == run_id(logged[0])


def test_wandb_has_the_configuration_and_the_curves_over_the_epochs(written):
    assert written.config["data"]["batch_size"] == 16
    assert written.config["seed"] == 0
    for name in ("val/auc", "val/loss", "train/loss"):
        assert [row["epoch"] for row in written.history if name in row] == [0, 1]
        assert written.axes[name] == "epoch"
    assert written.axes["explanations/*"] == "epoch"
    pictures = [row for row in written.history if any(name.startswith("explanations/") for name in row)]
    assert [row["epoch"] for row in pictures] == [0, 1]


def test_wandb_summary_is_the_official_scores_with_their_intervals(logged, written):
    _, metrics = logged
    for split in ("val", "test"):
        for score in ("auc", "acc"):
            assert written.summary[f"{split}/{score}"] == pytest.approx(metrics[split][score])
            limits = metrics["intervals"][split][score]
            given = [written.summary[f"{split}/{score}_{end}"] for end in ("low", "high")]
            assert given == pytest.approx(limits)
    kept = [
        row["val/loss"] for row in written.history if row.get("epoch") == metrics["best_epoch"] and "val/loss" in row
    ]
    assert written.summary["val/loss"] == pytest.approx(kept[0])


def test_wandb_charts_are_native(logged, written):
    from sklearn.metrics import auc

    folder, metrics = logged
    charts = written.config["_wandb"]["visualize"]
    specs = {name: chart["panel_config"]["panelDefId"] for name, chart in charts.items()}
    assert specs == {
        "charts/test_roc": "wandb/area-under-curve/v0",
        "charts/test_precision_recall": "wandb/area-under-curve/v0",
        "charts/test_confusion": "wandb/confusion_matrix/v1",
    }
    columns, rows = written.table("charts/test_roc_table")
    assert columns == ["class", "1 - specificity", "sensitivity"]
    assert auc(*zip(*[(x, y) for _, x, y in rows], strict=True)) == pytest.approx(metrics["test"]["auc"])
    _, cells = written.table("charts/test_confusion_table")
    assert sum(count for *_, count in cells) == 32
    assert sum(count for truth, said, count in cells if truth == said) == round(metrics["test"]["acc"] * 32)
    assert list(folder.rglob("*test_roc*.png"))


def test_wandb_table_shows_samples_with_picture_and_map(logged, written):
    from PIL import Image

    folder, _ = logged
    files = written.artifacts[f"run-{written.run.run_id}-predictions"]
    found = json.loads(Path(files["predictions.table.json"]).read_text())
    columns, rows = found["columns"], found["data"]
    assert columns[:8] == ["index", "image", "overlay", "explained", "truth", "prediction", "right", "probability"]
    assert columns[8:] == ["p(class 0)", "p(class 1)"]
    assert len(rows) == 6
    saved = np.load(folder / "predictions" / "test.npz")
    for index, image, overlay, explained, truth, prediction, right, probability, *chances in rows:
        assert explained == prediction
        place = list(saved["index"]).index(index)
        assert truth == f"class {saved['labels'][place, 0]}"
        assert prediction == f"class {np.argmax(chances)}"
        assert chances == pytest.approx(saved["probabilities"][place])
        assert (right, probability) == (truth == prediction, max(chances))
        pictures = [np.asarray(Image.open(files[part["path"]])) for part in (image, overlay)]
        assert pictures[0].shape == pictures[1].shape == (112, 112, 3)
        assert (pictures[0] != pictures[1]).any()


def test_wandb_artifacts_are_logged_when_asked_for_and_wait_in_the_run_folder(logged, written):
    model, predictions = (written.artifacts[f"{kind}-{written.run.run_id}"] for kind in ("model", "predictions"))
    assert list(model) == ["best.ckpt"]
    assert {"test.npz", "val.npz"} <= set(predictions)
    assert all(Path(place).is_relative_to(logged[0]) for place in (*model.values(), *predictions.values()))
    assert "WANDB_DATA_DIR" not in os.environ


@pytest.mark.parametrize("name", ["none", "csv"])
def test_the_history_is_the_one_table_of_curves(name, capsys):
    """`csv` is the old name of `none`: a second table, of Lightning's, said the same in other words."""
    assert scale.compose([f"logger={name}"]) == scale.compose()
    assert ("the name is now logger=none" in capsys.readouterr().err) == (name == "csv")


def test_wandb_without_key_says_where_the_run_lies_and_resuming_keeps_its_id(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    config, ids = scale.compose(["logger=wandb", "data=phantom2d"]), []
    with loggers_told(tmp_path / "log") as said:
        for _ in range(2):  # begun, and resumed
            made = loggers.build_loggers(config, tmp_path, name="x", tags=["phantom2d", "scale"])
            ids.append(made[0].logger.experiment.id)
            loggers.close_loggers(made, failed=False)
    lines = said()
    assert ids[0] == ids[1]
    assert "there is no API key" in lines[0]
    (first, second) = [line for line in lines if "to upload it" in line]
    assert re.search(rf"wandb sync {tmp_path}/wandb/offline-run-\d+_\d+-{ids[0]}$", first)
    assert second.endswith(f"wandb sync {tmp_path}/wandb/offline-run-*")
    assert "anonymous" not in "".join(capfd.readouterr())


class loggers_told:  # noqa: N801
    """What SCALE's log says meanwhile."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        from scale.training.logs import logging_to

        self.context = logging_to(self.path)
        self.context.__enter__()
        return lambda: [line.split(" ", 3)[3] for line in self.path.read_text().splitlines()]

    def __exit__(self, *error):
        self.context.__exit__(*error)


def test_an_agents_run_has_the_agents_id(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    assert in_wandb._id(tmp_path) is None  # without a sweep the variable would make all runs of a shell one
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    assert in_wandb._id(tmp_path) == "agents"


LOGS_IN = """
import logging, sys
from pathlib import Path
logging.basicConfig(format="%(message)s", stream=sys.stdout)
from scale.training import in_wandb
run = in_wandb.begin({"project": "scale", "log_model": True}, Path(sys.argv[1]), name="x", tags=[], group=None)
print(run.settings.mode, "torch" in sys.modules)
run.finish()
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "Failed to authenticate with"),
        ({}, "there is no API key"),
        ({"WANDB_MODE": "offline"}, None),  # asked for: nothing to say
    ],
)
def test_wandb_neither_asks_nor_hangs(tmp_path, environment, expected):
    """On a terminal, where W&B's own default is to ask for a key."""
    parent, child = pty.openpty()
    others = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    process = subprocess.run(
        [sys.executable, "-c", LOGS_IN, str(tmp_path)], stdin=child, stdout=subprocess.PIPE, check=True, text=True,
        timeout=200, env={**others, "HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), **environment},
    )  # fmt: skip
    os.close(parent)
    os.close(child)
    said = process.stdout.splitlines()
    assert said[-1] == "offline False"
    why = [line for line in said if line.startswith("W&B:")]
    assert len(why) == (expected is not None)
    assert expected is None or expected in why[0]


def test_wandb_is_finished_after_a_failure(small, tmp_path, monkeypatch):
    import wandb

    from scale.tasks.problem import Problem

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(Problem, "loss", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(scale.compose([*small, "logger=wandb"]), tmp_path / "run")
    assert wandb.run is None


def test_a_logger_that_fails_at_the_end_loses_no_run(caplog):
    class Broken(loggers.Backend):
        def results(self, results):
            raise OSError("no space left")

    seen = []

    class Fine(loggers.Backend):
        def results(self, results):
            seen.append(results)

    loggers.log_results([Broken(object()), Fine(object())], lambda: "results")
    assert seen == ["results"]
    assert "object: not all results were logged (no space left)" in caplog.text


def test_a_logger_that_fails_in_training_costs_its_figures_and_no_training(tmp_path, monkeypatch, caplog):
    import matplotlib.figure

    class Broken(loggers.Backend):
        def figures(self, figures, *, step, epoch):
            raise ConnectionError("server is away")

    monkeypatch.setattr(loggers, "of", Broken)
    drawn = {"explanations/sample_0": matplotlib.figure.Figure()}
    loggers.log_figures([object()], drawn, step=3, epoch=1, folder=tmp_path)
    assert (tmp_path / "explanations" / "sample_0_epoch_001.png").is_file()
    assert "object: not all figures were logged (server is away)" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["logger=wandb", "logger.wandb.samples=-1"], r"logger\.wandb\.samples=-1: give a whole number"),
        (["logger=mlflow", "logger.mlflow.samples=many"], r"logger\.mlflow\.samples=many: give a whole number"),
        (["logger=mlflow", "+logger.mlflow.x=1"], r"MLFlowLogger takes no 'x'"),
    ],
)
def test_impossible_settings_are_named_before_anything_is_loaded(given, message):
    with pytest.raises(scale.config.ConfigError, match=message):
        scale.compose(given)


def test_a_map_that_does_not_exist_is_named(tmp_path):
    config = scale.compose(["logger=tensorboard", "logger.tensorboard.overlay=salency"])
    with pytest.raises(ValueError, match="did you mean 'saliency'"):
        loggers.build_loggers(config, tmp_path)


def test_a_logger_that_fails_at_its_end_costs_no_run(caplog):
    closed = []

    class Broken(loggers.Backend):
        def close(self, *, failed):
            raise ConnectionError("server is away")

    class Fine(loggers.Backend):
        def close(self, *, failed):
            closed.append(failed)

    loggers.close_loggers([Broken(object()), Fine(object())], failed=True)
    assert closed == [True]
    assert "object: not all last lines were logged (server is away)" in caplog.text
