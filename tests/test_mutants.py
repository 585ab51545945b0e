"""From a random sample of mutants, those for which reading had found no test that would notice: one test each."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import scale
from scale import explain, tune
from scale.attribution.methods.grid import MIDDLE_STRIDE, InputGrid
from scale.attribution.report import colours
from scale.attribution.report.trust_table import clear_best
from scale.config import ConfigError, checks, keys
from scale.data import corruptions_volumes, normalisation
from scale.evaluation import robustness
from scale.exporting import network
from scale.inference import familiarity, listing
from scale.inference.predictor import Predictor
from scale.models.layers import ResidualBlock
from scale.models.scale_net import ScaleNet
from scale.preparing import job as preparing
from scale.preparing.splits import SPLITS
from scale.published import pooled
from scale.reporting import comparison, data_page
from scale.runs import folder, heads, provenance, resume
from scale.runs.reading import check_complete
from scale.sweeps import callback
from scale.sweeps import job as sweep_job
from scale.sweeps import report as sweep_report
from scale.training import loggers, outcome, transfer
from scale.utils import cli
from scale.utils.progress import Progress

REPOSITORY = Path(__file__).resolve().parent.parent


def test_a_launched_run_does_not_hear_slurms_warning_and_the_launcher_does_again():
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with sweep_job._unheard(signal.SIGUSR2):
            assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(0)
        assert heard == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_sweep_that_cannot_begin_ends_the_program(monkeypatch, capsys):
    """Hydra would only warn of what a callback raises."""
    monkeypatch.setattr(callback, "begin", lambda config: {}["a bug of ours"])
    with pytest.raises(SystemExit) as end:
        callback.Sweep().on_multirun_start(OmegaConf.create({}))
    assert end.value.code == 1
    assert "KeyError" in capsys.readouterr().err


def test_why_a_job_is_not_done():
    row = {"folder": "s/1", "reason": "killed"}
    assert sweep_report._why(row) == ": killed (s/1)"
    assert sweep_report._why({**row, "reason": ""}) == " (s/1)"
    assert sweep_report._why({"folder": "", "reason": ""}) == ""


def test_pictures_reach_wandb(tmp_path):
    wandb = pytest.importorskip("wandb")
    from lightning.pytorch.loggers import WandbLogger
    from matplotlib.figure import Figure

    logged = []

    class Recorder(WandbLogger):
        experiment = SimpleNamespace(log=logged.append)

        def __init__(self):
            """No run of W&B's."""

    loggers.log_figures([Recorder()], {"a": Figure()}, step=7, epoch=2, folder=tmp_path)
    assert (logged[0]["trainer/global_step"], logged[0]["epoch"]) == (7, 2)
    assert isinstance(logged[0]["a"], wandb.Image)
    assert (tmp_path / "a_epoch_002.png").is_file()
    loggers.log_figures([Recorder()], {}, step=8, epoch=2, folder=tmp_path)
    assert len(logged) == 1


def test_the_best_of_two_methods_may_be_clear_and_is_not_where_intervals_touch():
    assert clear_best({"a": (0.5, 0.4, 0.6), "b": (0.3, 0.2, 0.39)}, "higher") == "a"
    assert clear_best({"a": (0.5, 0.4, 0.6), "b": (0.3, 0.2, 0.4)}, "higher") is None
    assert clear_best({"a": (0.5, 0.4, 0.6)}, "higher") is None


def test_a_map_is_signed_where_a_value_is_negative():
    assert colours.is_signed(np.array([0.0, 1.0, -1e-9])) is True
    assert colours.is_signed(np.array([0.0, 1.0])) is False
    assert colours.is_signed(np.array([])) is False


def test_a_bias_field_is_the_exponential_of_a_polynomial_of_third_order():
    field = corruptions_volumes.bias_field(np.ones((1, 9, 9, 9, 1), np.float32), 0.5, np.random.default_rng(0))
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, 9)] * 3, indexing="ij")
    powers = [power for power in itertools.product(range(4), repeat=3) if 1 <= sum(power) <= 3]  # all but the constant
    terms = np.stack([(z**i * y**j * x**k).ravel() for i, j, k in powers], axis=1)
    factors, *_ = np.linalg.lstsq(terms, np.log(field).ravel(), rcond=None)
    assert np.allclose(terms @ factors, np.log(field).ravel(), atol=1e-5)
    assert len(factors) == 19
    assert 1e-4 < abs(factors).min() < abs(factors).max() < 0.5


def test_folds_are_not_compared_with_one_another(monkeypatch, tmp_path, capsys):
    """Each has other test samples."""
    asked = []
    monkeypatch.setattr(comparison, "write", lambda path, settings, title: asked.extend(settings) or [])
    groups = [
        {"flag": "mine", "size": 28, "model": "scale", "data.fold": f, "optimizer.lr": r, "folders": ["a"]}
        for f in ("0", "1")
        for r in ("1e-3", "1e-2")
    ]
    sweep_report.compare(tmp_path, groups, ["data.fold", "optimizer.lr"])
    assert [(one.data, one.name) for one in asked] == [
        (f"mine, 28, fold {fold}", f"scale, optimizer.lr={rate}") for fold in (0, 1) for rate in ("1e-3", "1e-2")
    ]


def test_a_log_gets_a_line_now_and_then(caplog):
    caplog.set_level("INFO", "scale")
    progress = Progress(100, bar=False)
    progress.begin("maps")
    progress.step(10)
    assert not caplog.messages
    progress._said -= 21  # seconds
    progress.step(15)
    assert [" ".join(line.split()[:2]) for line in caplog.messages] == ["25 %"]
    progress.step(15)
    assert len(caplog.messages) == 1


def test_what_goes_on_with_a_run_that_a_full_disk_ended(tmp_path):
    assert folder.cure(tmp_path) == "give the same command again"
    (tmp_path / "checkpoints").mkdir()
    assert folder.cure(tmp_path) == "give the same command again"
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert folder.cure(tmp_path) == f"resume the run with python -m scale.train resume={tmp_path}"
    (tmp_path / "metrics.json").touch()  # trained, and evaluated
    assert "report=true" in folder.cure(tmp_path)


def test_a_classs_name_stands_beside_the_middle_of_its_bars():
    split = SimpleNamespace(counts=np.array([2, 4]), images=6)
    found = SimpleNamespace(names=["a", "b"], splits=dict.fromkeys(("train", "val", "test"), split))
    (axes,) = data_page.shares(found).axes
    bars = np.array([bar.get_y() + bar.get_height() / 2 for bar in axes.patches]).reshape(3, 2)
    assert np.allclose(axes.get_yticks(), bars.mean(axis=0))


def test_what_an_old_record_does_not_say_is_what_is_done_by_default():
    config = scale.compose(["data=phantom2d"])
    assert {key: OmegaConf.select(config, key, default="absent") for key in keys.LATER} == keys.LATER


def test_a_resumed_run_begins_with_the_file_that_it_began_with(tmp_path):
    record = {"source": "run", "file": "run/best.ckpt", "sha256": "a"}
    transfer._compare(record, tmp_path)  # a run that begins
    (tmp_path / "init_from.json").write_text(json.dumps(record))
    transfer._compare(record, tmp_path)
    with pytest.raises(ValueError, match="is not the file that"):
        transfer._compare({**record, "sha256": "b"}, tmp_path)


def test_figures_that_one_of_two_runs_has_are_not_compared(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"val": {"auc": 0.5}, "test": {"auc": 0.25}}))
    assert resume.differing({"val": {"auc": 0.75}}, tmp_path) == {"val/auc": (0.5, 0.75)}


def test_what_stands_in_brackets_is_said():
    metrics = {"val": {"auc": 0.5, "acc": 0.5}, "best_epoch": 3, "flag": "mine", "problem": "multiclass"}
    assert "in brackets" not in outcome.table(metrics)
    metrics["intervals"] = {"val": {"auc": [0.25, 0.75], "acc": [0.25, 0.75]}}
    assert "0.500 (0.250–0.750)" in outcome.table(metrics)
    assert "in brackets: 95 %" in outcome.table(metrics)


def test_how_the_training_data_look_is_read_from_the_folder(a_run, tmp_path):
    """Where the data are gone, and not where the file is not whole."""
    run = scale.load_run(shutil.copytree(a_run, tmp_path / "run"), data={"root": str(tmp_path / "nothing")})
    found = familiarity.of_run(run)
    assert isinstance(found, familiarity.Reference)
    found.val[0] = np.nan
    familiarity.keep(run.folder, run.model.net, found)
    assert familiarity._read(run) is None


def test_one_split_of_a_table_is_predicted(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    table = tmp_path / "t.csv"
    table.write_text("path,label,split\na.png,x,train\nb.png,y,test\n")
    given = {"source": tmp_path, "split": "test"}
    assert [sample.name for sample in listing.listing_of(table, ("x", "y"), **given).samples] == ["b.png"]
    with pytest.raises(ValueError, match=r"split=val: .*t\.csv has no samples of it"):
        listing.listing_of(table, ("x", "y"), **{**given, "split": "val"})


def test_an_exported_network_says_how_far_an_image_lies_from_the_training_data(a_run):
    run = scale.load_run(a_run)
    predictor = Predictor.of_runs([run])
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    deployed = network.of_predictor(predictor)
    found = deployed(torch.from_numpy(images[:, None]))
    assert len(found) == len(deployed.outputs) == 3
    assert np.allclose(found[2], predictor.raw(images)[1], rtol=1e-3)


def test_mean_and_deviation_of_a_split_are_numpys():
    values = np.random.default_rng(0).integers(0, 256, (150, 6, 5, 3), np.uint8)
    images = MagicMock(**{"gather.side_effect": values.__getitem__, "__len__.return_value": len(values)})
    mean, std = normalisation.measured_statistics(images, 3)
    assert np.allclose(mean, (values / 255).mean(axis=(0, 1, 2)), atol=1e-6)
    assert np.allclose(std, (values / 255).std(axis=(0, 1, 2)), atol=1e-6)


def test_training_batches_are_augmented_and_others_are_not(a_run):
    module = scale.load_run(a_run).datamodule
    module.setup()
    batch = next(iter(module.eval_dataloader("val")))
    plain = module.prepare(batch)["image"]
    assert torch.equal(module.on_after_batch_transfer(dict(batch), 0)["image"], plain)
    for training in (False, True):
        module.trainer = SimpleNamespace(
            training=training, global_step=0, precision_plugin=SimpleNamespace(convert_input=lambda batch: batch)
        )
        found = module.on_after_batch_transfer(dict(batch), 0)["image"]
        assert torch.equal(found, plain) != training


def test_classes_that_a_split_lacks():
    assert robustness._absent(np.array([[0], [2]]), 4, "multiclass") == [1, 3]
    assert robustness._absent(np.array([[1], [1]]), 1, "binary") == [0]


def test_a_block_drops_nothing_unless_it_is_told():
    block, x = ResidualBlock(4, 4, spatial_dims=2), torch.randn(8, 4, 6, 6)
    assert torch.equal(block(x), block(x))
    assert keys.without_own("seed", 3) == 3


def test_small_facts_that_others_rely_on():
    assert cli.PIPE == 128 + signal.SIGPIPE
    assert scale.compose([]).sweep.resume is True  # a sweep's own command goes on with it
    assert tune._command(SimpleNamespace(folder="study")) == (
        "python -m scale.train --config-dir study experiment=best"
    )


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="no git checkout")
def test_the_commit_is_that_of_the_checkout():
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert provenance._git("rev-parse", "HEAD") == head.stdout.strip()


def test_heads_of_a_run_that_was_not_tested():
    scores = {"auc": 0.5, "acc": 0.25, "loss": 1.0}
    found = {"val": {"answer": scores, "gate": None}, "weights": {"planar": 1.0}}
    assert "0.500  0.250  1.000" in heads.table(found)


@pytest.mark.parametrize("shape", [[1, 0, 28], [1, 28, 0, 28], [0, 28, 28], [1, 28], [1, 4097, 28]])
def test_images_without_pixels_are_no_images(shape, tmp_path):
    metrics = {
        **{"flag": "x", "problem": "binary", "seed": 0, "num_classes": 2, "samples": {}, "model": {}},
        **{"fast_dev_run": False, "image_shape": [1, 28, 28]},
    }
    check_complete(metrics, tmp_path)
    with pytest.raises(ValueError, match="image_shape"):
        check_complete({**metrics, "image_shape": shape}, tmp_path)


def test_what_is_said_of_pooled_trainings_and_of_labels():
    shown = pd.DataFrame({"head": ["a", "a", "b", "b"], "n": [12, 12, 10, 12], "samples": [4, 4, 4, 4]})
    assert [pooled._counted(shown, head) for head in "ab"] == ["12 of 4 samples", "10 to 12 of 4 samples"]
    assert data_page._per_image(np.array([3, 0, 1200])) == "0 labels: 3, 2 labels: 1,200"


def test_what_is_said_of_prepared_images():
    table = SimpleNamespace(
        labels=np.array([[0], [1], [1]]),
        split=np.array([SPLITS[0], SPLITS[0], SPLITS[2]]),
        samples=[SimpleNamespace(group=None)] * 3,
    )
    encoding = SimpleNamespace(problem="binary", names=["no", "yes"])
    said = preparing._said(encoding, table, SimpleNamespace(folds=5, symmetry="free"), 2)
    assert said[0] == "problem=binary, 2 classes: no, yes"
    assert said[2] == "  yes: 1 train, 0 val, 1 test"
    assert "symmetry=free: every flip and rotation keeps the label" in said
    assert said[-2:] == ["5 folds: data.fold=0..4; the splits above are those of fold 0", "2 files skipped"]
    assert len(preparing._said(encoding, table, SimpleNamespace(folds=None, symmetry="free"), 0)) == len(said) - 2


def test_metrics_of_one_method_are_metrics(tmp_path):
    (tmp_path / "quality.csv").write_text("method,metric\n")
    assert not explain._has_metrics(tmp_path)
    (tmp_path / "quality.csv").write_text("method,metric\nrollout,deletion\n")
    assert explain._has_metrics(tmp_path)


def test_a_launcher_that_is_not_installed_says_how_to_install_it():
    with pytest.raises(ConfigError, match=r"hydra/launcher=ray is not installed: pip install 'scale-medvision\[ray\]'"):
        scale.compose(["hydra/launcher=ray"])


@pytest.mark.parametrize(("cells", "tokens"), [(4, 4), (4, 2)])
def test_a_token_lies_in_the_middle_of_its_cells(cells, tokens):
    """Exactly: a map of tokens is linear between their centres, so the token's own value stands at its centre."""
    size = cells * MIDDLE_STRIDE
    grid = InputGrid(ScaleNet(spatial_dims=2, in_channels=1, outputs=2), (size, size))
    values = np.arange(tokens, dtype=np.float32)[None, :, None].repeat(tokens, axis=2)
    found = grid._stretch(torch.from_numpy(values), axes=(0, 1), tokens=True)[0, :, 0].numpy()
    width = size / tokens
    centres = (
        np.arange(size) + 0.5 * MIDDLE_STRIDE
    ) / width - 0.5  # a cell of the middle level has its place at its start
    assert np.allclose(found, np.clip(centres, 0, tokens - 1), atol=1e-5)


def test_limits_of_numbers():
    usual = scale.config.plain(scale.compose([]))
    for key, value, wrong in (
        ("trainer.min_epochs", None, False),
        ("scheduler.factor", 0.1, False),
        ("scheduler.factor", 1.5, True),
        ("scheduler.milestones", [0.5, 0.75], False),
        ("scheduler.milestones", [0.5, 1.5], True),
        ("scheduler.milestones", [0, 0.5], True),
    ):
        node, name = key.split(".")
        found = list(checks.of_train({**usual, node: {**usual[node], name: value}}))
        assert bool([line for line in found if line.startswith(f"{key}=")]) == wrong, (key, value, found)
