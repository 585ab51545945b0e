"""The main job from end to end, in this process."""

import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import scale
from scale import runs
from scale.data import catalog, phantom
from scale.evaluation.bootstrap import bootstrap
from scale.reporting.refresh import refresh
from scale.runs import read_history
from scale.runs.predict import predict
from scale.runs.recompute import evaluate_run, score_file
from scale.train import train
from scale.training import outcome
from scale.utils.files import strict

RECORD = {
    *("config.yaml", "overrides.yaml", "environment.json", "history.csv", "metrics.json", "train.log"),
    *("predictions/val.npz", "predictions/test.npz", "checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    *(f"figures/{name}.png" for name in ("history", "test_roc", "test_confusion", "test_reliability")),
    *(f"figures/test_{name}.png" for name in ("precision_recall", "score_distributions", "mistakes")),
    "report.html",
}
FAST = ["trainer=fast_dev_run", "model=scale_tiny", "logger=none", "report=false"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, phantom_root):
    """A short run of a small phantom, with its folder and the lines it logged."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    return folder, train(scale.compose(_small(phantom_root, "report=true")), folder, overrides=["seed=0"])


def _small(root, *more):
    return [
        "data=phantom2d",
        f"data.root={root}",
        "data.samples={train: 48, val: 24, test: 32}",
        "data.batch_size=16",
        "model=scale_tiny",
        "budget.min_epochs=2",
        "budget.max_epochs=2",
        "report=false",
        *more,
    ]


def test_run_folder_holds_the_whole_record(finished):
    folder, metrics = finished
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files >= RECORD
    assert {p.name.split("_")[1] for p in (folder / "predictions").glob("*.csv")} == {"val", "test"}
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(strict(metrics)))
    assert (metrics["flag"], metrics["size"], metrics["seed"], metrics["problem"]) == ("phantom2d", 28, 0, "binary")
    assert metrics["samples"] == {"train": 48, "val": 24, "test": 32}
    assert metrics["epochs"] == 2
    assert metrics["steps"] == 6
    assert metrics["best_epoch"] in (0, 1)
    assert metrics["selected_on"] == "val"
    assert metrics["model"]["parameters"] > 1000
    assert metrics["model"]["macs"] > 1e5
    assert set(metrics["seconds"]) == {"prepare", "fit", "evaluate"}
    assert OmegaConf.load(folder / "overrides.yaml") == ["seed=0"]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert len((folder / "history.csv").read_text().splitlines()) == 3


def test_scores_are_those_of_the_saved_predictions_and_of_the_official_file(finished):
    from medmnist.evaluator import getACC, getAUC

    folder, metrics = finished
    for split in ("val", "test"):
        arrays = runs.read_predictions(folder)[split]
        assert arrays["index"].tolist() == list(range(metrics["samples"][split]))
        assert metrics[split]["auc"] == pytest.approx(getAUC(arrays["labels"], arrays["probabilities"], "binary-class"))
        assert metrics[split]["acc"] == pytest.approx(getACC(arrays["labels"], arrays["probabilities"], "binary-class"))
        (path,) = (folder / "predictions").glob(f"phantom2d_{split}_*.csv")
        written = np.loadtxt(path, delimiter=",")
        np.testing.assert_allclose(written[:, 1:], arrays["probabilities"], rtol=1e-12)
        assert f"[AUC]{metrics[split]['auc']:.3f}_[ACC]{metrics[split]['acc']:.3f}@" in path.name


def test_record_has_intervals_and_the_report_shows_them(finished):
    folder, metrics = finished
    record = runs.read_metrics(folder)
    arrays = runs.read_predictions(folder)["test"]
    want = bootstrap(arrays["labels"], arrays["probabilities"], "binary")
    assert record["intervals"]["test"]["auc"] == pytest.approx(list(want.metrics["auc"]))
    assert {"val", "test"} <= set(record["intervals"])
    assert record["per_class"]["names"] == list(catalog_names(folder))
    low, high = record["intervals"]["test"]["acc"]
    assert f"{low:.3f}–{high:.3f}" in (folder / "report.html").read_text()
    assert f"({low:.3f}–{high:.3f})" in outcome.table(metrics)
    assert f"positive class: {record['per_class']['names'][1]}" in outcome.table(metrics)
    assert "calibration" not in record


def catalog_names(folder):
    run = scale.load_run(folder)
    run.datamodule.setup()
    return run.datamodule.info.labels


def test_evaluation_choices_reach_the_record_and_the_figures(tmp_path, phantom_root):
    more = ("evaluation.calibrate=temperature", "evaluation.threshold=f1", "evaluation.coverage=0.8", "report=true")
    found = train(scale.compose(_small(phantom_root, *more)), tmp_path / "run")
    assert found["calibration"]["temperature"] > 0
    assert found["thresholds"]["rule"] == "f1"
    assert found["conformal"]["coverage"] == 0.8
    assert "Temperature scaling" in (tmp_path / "run" / "report.html").read_text()


def test_without_a_report_all_else_is_there_and_it_is_made_later(tmp_path, phantom_root):
    folder = tmp_path / "run"
    train(scale.compose(_small(phantom_root, "report=false", "trainer.max_epochs=1")), folder)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert RECORD - files == {name for name in RECORD if name.startswith(("figures/", "report.html"))}
    refresh(folder)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert RECORD - files == {"figures/test_mistakes.png"}  # which needs the images


def test_loss_beside_that_of_val_has_no_auxiliary_terms(finished):
    for row in read_history(finished[0]):
        assert 0 < row["train/main_loss"] < row["train/loss"]


def test_a_run_that_is_no_result_has_no_intervals_and_no_report(tmp_path, phantom_root):
    metrics = train(scale.compose(_small(phantom_root, "report=true", "trainer=fast_dev_run")), tmp_path / "part")
    assert not {"intervals", "per_class", "conformal"} & set(metrics)
    assert not (tmp_path / "part" / "report.html").exists()
    assert "(" not in outcome.table(metrics).splitlines()[1]
    metrics = train(
        scale.compose(_small(phantom_root, "report=true", "test=false", "trainer.max_epochs=1")),
        tmp_path / "untested",
    )
    assert not {"intervals", "test"} & set(metrics)
    assert "The test split was not evaluated" in (tmp_path / "untested" / "report.html").read_text()


def test_checkpoints_load_with_plain_containers_only(finished):
    state = torch.load(finished[0] / "checkpoints" / "best.ckpt", weights_only=True)
    assert state["epoch"] == finished[1]["best_epoch"]


def test_the_run_reads_back_and_recomputes(finished):
    folder, metrics = finished
    run = scale.load_run(folder)
    assert run.metrics == json.loads(json.dumps(strict(metrics)))
    assert not run.model.training
    run.datamodule.setup()
    again = predict(run, "test")
    np.testing.assert_allclose(again["logits"], run.predictions["test"]["logits"], atol=1e-5)
    assert evaluate_run(folder)["difference"] <= 1e-6


def test_evaluation_notices_other_weights(finished, tmp_path):
    import shutil

    shutil.copytree(finished[0], tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    state["state_dict"] = {k: v + 0.5 if v.is_floating_point() else v for k, v in state["state_dict"].items()}
    torch.save(state, path)
    assert evaluate_run(tmp_path / "copy")["difference"] > 1e-3


def test_weights_of_another_version_of_the_network(finished, tmp_path):
    import shutil

    shutil.copytree(finished[0], tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    state["state_dict"]["net.older.weight"] = torch.zeros(1)
    torch.save(state, path)
    with pytest.raises(ValueError, match="do not fit the network of the present code; use the code of its commit"):
        scale.load_run(tmp_path / "copy")


def test_one_seed_gives_one_result_and_another_seed_another(finished, tmp_path, phantom_root):
    same = train(scale.compose(_small(phantom_root)), tmp_path / "same")
    other = train(scale.compose(_small(phantom_root, "seed=1")), tmp_path / "other")
    for split in ("val", "test"):
        assert same[split] == finished[1][split]
        assert other[split] != finished[1][split]
    a, b = (runs.read_predictions(f)["test"]["logits"] for f in (finished[0], tmp_path / "same"))
    np.testing.assert_array_equal(a, b)


def test_a_finished_run_is_not_overwritten(finished, phantom_root):
    folder, _ = finished
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(FileExistsError, match=r"holds a finished run.*hydra.run.dir"):
        train(scale.compose(_small(phantom_root)), folder)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


def test_an_unfinished_run_is_not_overwritten(tmp_path, phantom_root):
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    with pytest.raises(FileExistsError, match="has not finished"):
        train(scale.compose(_small(phantom_root)), tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "seed: 3\n"
    with pytest.raises(FileNotFoundError, match="has not finished"):
        scale.load_run(tmp_path)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        scale.load_run(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path, phantom_root):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"hydra.run.dir"):
        train(scale.compose(_small(phantom_root)), tmp_path / "file" / "run")


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path, phantom_root, monkeypatch):
    from scale.tasks.problem import Problem

    loss, calls = Problem.loss, []

    def spoiled(self, logits, labels, **options):
        calls.append(None)
        value = loss(self, logits, labels, **options)
        return value * float("nan") if len(calls) > 12 else value

    monkeypatch.setattr(Problem, "loss", spoiled)
    with pytest.raises(FloatingPointError, match="nan at step [0-9]+ .epoch 1, batch"):
        train(scale.compose(_small(phantom_root)), tmp_path / "run")
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert "FloatingPointError" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize(("dims", "conv"), [(2, "3d"), pytest.param(3, "acs", marks=pytest.mark.slow)])
def test_a_baseline_trains_in_the_same_harness(dims, conv, tmp_path, phantom_root):
    model = ["model=resnet18", f"model.conv={conv}", f"data=phantom{dims}d", "trainer=fast_dev_run"]
    small = [f"data.root={phantom_root}", "data.samples={train: 4, val: 4, test: 4}", "data.batch_size=2"]
    metrics = train(scale.compose([*model, *small]), tmp_path / "run")
    assert metrics["model"]["parameters"] > 11e6


def test_a_run_without_data_can_be_repeated_in_its_folder(tmp_path):
    config = scale.compose(["data=breastmnist", f"data.root={tmp_path}", "data.download=false"])
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="breastmnist.npz is missing"):
            train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists(), "a start that failed leaves no folder"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"no CUDA device.*trainer=cpu"):
        train(scale.compose(["trainer=gpu"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.batch_size=1"], "leaves a batch of one sample"),
        (["trainer=ddp_cpu", "trainer.devices=2", "data.batch_size=15"], "give a positive multiple of 2"),
        (["trainer=ddp_cpu", "trainer.devices=2", "trainer.sync_batchnorm=false", "data.batch_size=2"], "one sample"),
        (["trainer=ddp_cpu", "trainer.devices=4096", "data.batch_size=8192"], "CPU cores: give at most that many"),
    ],
)
def test_batches_and_devices_that_cannot_be(overrides, said, tmp_path, phantom_root):
    with pytest.raises(ValueError, match=said):
        train(scale.compose(_small(phantom_root, *overrides)), tmp_path / "run")
    assert not (tmp_path / "run").exists(), "before anything is made"


@pytest.mark.parametrize(("hardware", "precision"), [("default", "highest"), ("tf32", "high")])
def test_precision_of_float32_products(hardware, precision, tmp_path, phantom_root):
    train(
        scale.compose([*FAST, "data=phantom2d", f"data.root={phantom_root}", f"hardware={hardware}"]), tmp_path / "run"
    )
    assert torch.get_float32_matmul_precision() == precision
    assert torch.backends.cudnn.allow_tf32 == (precision == "high")
    torch.set_float32_matmul_precision("highest")


def test_mixed_precision_is_for_training_alone(tmp_path, phantom_root):
    train(scale.compose(_small(phantom_root, "hardware=amp")), tmp_path / "run")
    probabilities = runs.read_predictions(tmp_path / "run")["test"]["probabilities"]
    assert len(np.unique(probabilities[:, 1])) == len(probabilities)  # bfloat16 would tie
    assert evaluate_run(tmp_path / "run")["difference"] < 1e-6


def test_figures_of_val_stand_only_where_it_was_seen_and_a_profile_is_written(tmp_path, phantom_root):
    more = ["debug=profile", "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2"]
    train(scale.compose(_small(phantom_root, *more)), tmp_path / "run")
    rows = read_history(tmp_path / "run")
    assert ["val/auc" in row for row in rows] == [False, True, False, True]
    assert len({row["lr"] for row in rows}) == 4
    lines = [line for line in (tmp_path / "run" / "train.log").read_text().splitlines() if "epoch " in line]
    assert ["val AUC" in line for line in lines if "/4" in line] == [False, True, False, True]
    assert "run_training_batch" in (tmp_path / "run" / "fit-profile.txt").read_text()


def test_double_precision_trains(tmp_path, phantom_root):
    config = scale.compose(_small(phantom_root, "trainer.precision=64-true", "trainer=fast_dev_run"))
    assert train(config, tmp_path / "run")["precision"] == "64-true"


def test_weights_and_budget_reach_the_training(tmp_path, phantom_root):
    config = scale.compose(_small(phantom_root, "budget.samples=96", "budget.max_epochs=9", "budget.min_epochs=1"))
    assert train(config, tmp_path / "run")["epochs"] == 2
    config = scale.compose(_small(phantom_root, "trainer.max_epochs=1", "data.balance=weights"))
    assert train(config, tmp_path / "other")["epochs"] == 1


@pytest.mark.parametrize(
    ("balance", "given"), [("none", None), ("weights", "class_weights"), ("sqrt", "logit_adjustment")]
)
def test_balance_reaches_the_loss(balance, given, tmp_path, phantom_root, monkeypatch):
    from scale.tasks import build as assembly

    made = []
    build = assembly.build_task
    monkeypatch.setattr(assembly, "build_task", lambda *a, **k: made.append(build(*a, **k)) or made[-1])
    train(scale.compose(_small(phantom_root, "trainer=fast_dev_run", f"data.balance={balance}")), tmp_path / "run")
    found = {name: getattr(made[0], name) is not None for name in ("class_weights", "logit_adjustment")}
    assert found == {name: name == given for name in found}


def test_threads_are_set(tmp_path, phantom_root, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    train(scale.compose(_small(phantom_root, "threads=3", "trainer=fast_dev_run")), tmp_path / "run")
    assert asked == [3]


def test_every_line_stands_once_on_the_console_and_in_the_log(tmp_path, phantom_root, capsys):
    train(scale.compose(_small(phantom_root)), tmp_path / "run")
    shown = capsys.readouterr().out.splitlines()
    logged = (tmp_path / "run" / "train.log").read_text().splitlines()
    for start in ("2D phantom", "ScaleNet: ", "epoch   0 (1/2)", "epoch   1 (2/2)", "run folder: "):
        assert sum(line.startswith(start) for line in shown) == 1, shown
        assert sum(start in line for line in logged) == 1
    said = [line for line in shown if line]
    assert len(said) == len(set(said)), shown
    assert logging.getLogger().level != logging.DEBUG


LARGER = ("breastmnist", "vesselmnist3d")  # the others at 64 are slow tests


@pytest.mark.parametrize(
    ("flag", "size"),
    [
        *((flag, 28) for flag in catalog.FLAGS),
        *(pytest.param(flag, 64, marks=[] if flag in LARGER else [pytest.mark.slow]) for flag in catalog.FLAGS),
    ],
)
def test_every_data_set_runs(flag, size, tmp_path):
    info = catalog.get(flag)
    small = {"train": 16, "val": 8, "test": 8}
    phantom.write(
        tmp_path / info.file_name(size),
        spatial_dims=info.spatial_dims,
        problem=info.problem,
        num_classes=len(info.labels),
        size=size,
        channels=info.channels,
        samples={split: max(n, 2 * len(info.labels)) for split, n in small.items()},
    )
    options = [f"data={flag}", f"data.size={size}", f"data.root={tmp_path}", "data.verify=false", "data.batch_size=8"]
    metrics = train(scale.compose([*options, *FAST]), tmp_path / "run")
    assert (metrics["flag"], metrics["size"], metrics["problem"]) == (flag, size, info.problem)
    assert metrics["fast_dev_run"]
    assert np.isfinite(metrics["test"]["acc"])
    assert scale.load_run(tmp_path / "run").metrics["num_classes"] == len(info.labels)


def test_official_files_are_read_by_the_official_evaluator(tmp_path, monkeypatch):
    """A whole tiny run on a generated file under an official name."""
    import medmnist.evaluator

    phantom.write(
        tmp_path / "bloodmnist.npz",
        spatial_dims=2,
        problem="multiclass",
        num_classes=8,
        channels=3,
        samples={"train": 32, "val": 16, "test": 24},
    )
    data = ["data=bloodmnist", f"data.root={tmp_path}", "data.verify=false", "data.batch_size=16"]
    config = scale.compose([*data, "model=scale_tiny", "trainer.max_epochs=1", "logger=none"])
    metrics = train(config, tmp_path / "run")
    defaults = medmnist.evaluator.Evaluator.__init__.__defaults__
    monkeypatch.setattr(medmnist.evaluator.Evaluator.__init__, "__defaults__", (*defaults[:-1], str(tmp_path)))
    for split in ("val", "test"):
        (path,) = (tmp_path / "run" / "predictions").glob(f"bloodmnist_{split}_*.csv")
        before = path.name
        official = medmnist.evaluator.Evaluator.parse_and_evaluate(str(path))
        assert pytest.approx(metrics[split]["auc"], abs=1e-6) == official.AUC
        assert pytest.approx(metrics[split]["acc"], abs=1e-6) == official.ACC
        assert before == path.name
        found = score_file(path, data={"root": str(tmp_path), "verify": False})
        assert found["auc"] == pytest.approx(metrics[split]["auc"], abs=1e-9)


def test_commands_end_with_one_line_on_user_errors(tmp_path, monkeypatch, capsys):
    from scale import train as command

    arguments = ["data=vesselmnist3d", f"data.root={tmp_path}", "data.download=false", "hydra.run.dir=run"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("scale: ")
    assert "Traceback" not in said
    assert "vesselmnist3d.npz" in said
    assert not (tmp_path / "run").exists(), "a start that failed leaves no folder"


@pytest.mark.slow
def test_two_processes_see_each_sample_once(tmp_path, phantom_root):
    samples = "data.samples={train: 48, val: 25, test: 33}"  # no multiples of two
    arguments = [
        *("data=phantom2d", f"data.root={phantom_root}", samples, "model=scale_tiny", "trainer=ddp_cpu"),
        *("trainer.max_epochs=1", "report=false", "hydra.run.dir=run"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "scale.train", *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("epoch   0 (1/1)") == 1
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["steps"] == 3  # of 16 samples in all
    arrays = runs.read_predictions(tmp_path / "run")
    assert arrays["val"]["index"].tolist() == list(range(25))
    assert arrays["test"]["index"].tolist() == list(range(33))
    assert evaluate_run(tmp_path / "run")["difference"] <= 1e-5
    assert [path.name for path in tmp_path.glob("run/*process*")] == ["preprocessing.json"]


@pytest.mark.parametrize("given", ["runs=[a,b]", "predictions='x.csv'"])
@pytest.mark.parametrize("option", ["evaluation.tta=true", "accelerator=cpu"])
def test_options_that_need_a_network_are_refused_without_one(given, option, monkeypatch, capsys):
    """They were silently ignored."""
    from scale import evaluate

    monkeypatch.setattr("sys.argv", ["evaluate", given, option])
    with pytest.raises(SystemExit) as ended:
        evaluate.main()
    assert ended.value.code == 1
    assert "is for run=... only" in capsys.readouterr().err


def test_without_a_callback_that_chooses_the_last_epoch_is_said_to_be_the_last(tmp_path, phantom_root, capsys):
    metrics = train(scale.compose(_small(phantom_root, "callbacks.checkpoint=null", "report=false")), tmp_path / "run")
    assert (metrics["best_epoch"], metrics["epochs"], metrics["selected_on"]) == (1, 2, "nothing")
    assert "of epoch 1, counted from 0, the last one" in capsys.readouterr().out


def test_weights_that_an_earlier_attempt_left_are_not_taken_for_these(finished, tmp_path, phantom_root):
    """Without a callback that chooses: an attempt that was killed while it was evaluated."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copy(finished[0] / "checkpoints" / "best.ckpt", tmp_path / "run" / "checkpoints" / "best.ckpt")
    more = ("callbacks.checkpoint=null", "report=false", "seed=5", "logger=none")
    metrics = train(scale.compose(_small(phantom_root, *more)), tmp_path / "run")
    assert (metrics["best_epoch"], metrics["selected_on"]) == (1, "nothing")
    old, new = (torch.load(f / "checkpoints" / "best.ckpt", weights_only=True) for f in (finished[0], tmp_path / "run"))
    name = "net.head.1.weight"
    assert not torch.equal(old["state_dict"][name], new["state_dict"][name])


def test_a_checkpoint_is_written_where_it_belongs(tmp_path, monkeypatch):
    """And not through the machine's temporary folder, which may be small."""
    from scale.training.trainer import build_trainer

    trainer = build_trainer(scale.compose(["data=phantom2d"]), tmp_path, samples=10, logger=False)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    trainer.strategy.checkpoint_io.save_checkpoint({"a": torch.ones(2)}, tmp_path / "x" / "a.ckpt")
    assert torch.load(tmp_path / "x" / "a.ckpt", weights_only=True)["a"].tolist() == [1, 1]
