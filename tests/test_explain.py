"""`python -m scale.explain` on a small run, from the command line's point of view."""

import csv
import json
import logging
import re
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch

import scale
from scale.attribution.checks import of_explain
from scale.attribution.metrics.quality import METRICS
from scale.attribution.report import files as record
from scale.attribution.report.job import prepare
from scale.config import ConfigError
from scale.data.datamodule import ImageDataModule
from scale.explain import explain
from scale.train import train

QUICK = [
    "attribution.steps=2",
    "attribution.view_steps=2",
    "attribution.noise_samples=2",
    "attribution.window=0.5",
    "attribution.quality.samples=4",
    "attribution.quality.steps=2",
    "attribution.quality.perturbed=2",
    "attribution.quality.perturbations=2",
]
TINY = "{train: 24, val: 12, test: 16}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, phantom_root):
    """A 2D and a 3D run of an epoch, and one of another network."""
    folder = tmp_path_factory.mktemp("runs")
    common = [
        f"data.root={phantom_root}",
        f"data.samples={TINY}",
        "trainer.max_epochs=1",
        "logger=none",
        "report=false",
    ]
    kinds = {
        "flat": ["data=phantom2d", "model=scale_tiny"],
        "solid": ["data=phantom3d", "data.size=16", "model=scale_tiny"],
        "resnet": ["data=phantom2d", "model=resnet18", "data.size=16"],
        "labels": ["data=phantom2d", "data.problem=multilabel", "data.num_classes=3", "model=scale_tiny"],
    }
    for name, overrides in kinds.items():
        train(scale.compose([*common, *overrides]), folder / name)
    shutil.copytree(folder / "flat", folder / "other")
    best = folder / "other" / "checkpoints" / "best.ckpt"
    state = torch.load(best, weights_only=True)
    for values in state["state_dict"].values():  # another seed
        if values.is_floating_point() and values.ndim > 1:
            values.copy_(values.flip(0))
    torch.save(state, best)
    return folder


def run(folder, *overrides):
    return explain(scale.compose([f"run={folder}", "accelerator=cpu", *QUICK, *overrides], name="explain"))


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Drawing takes most of the time; one test looks at the figures."""
    monkeypatch.setattr(record, "draw_sample", lambda *_, **__: None)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_written(runs, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(ImageDataModule, "orientation", "RAS")  # as if `scale.prepare` had written the data so
    chosen = ["attribution.methods=[saliency,scale_relevance,rollout]", "attribution.quality.metrics=[all]"]
    folder = run(runs / "solid", "indices=[1,6]", *chosen)
    assert folder == runs / "solid" / "explanations"
    rows = table(folder / "quality.csv")
    assert list(rows[0]) == ["method", "metric", "better", "mean", "low", "high", "n"]
    assert list(dict.fromkeys(row["method"] for row in rows)) == [
        "saliency",
        "scale_relevance",
        "rollout",
        "random",
        "edges",
    ]
    assert {row["metric"] for row in rows} == set(METRICS) - {"agreement"}  # there is no other seed
    causes = table(folder / "causal.csv")
    assert list(causes[0]) == ["index", "log_odds", "drop_without", "drop_elsewhere", "drop_background", "rests_on"]
    falls = sum(row["rests_on"] == "lesion" for row in causes)
    (hit,) = [row for row in rows if (row["method"], row["metric"]) == ("saliency", "pointing_game_causal")]
    assert (len(causes), int(hit["n"])) == (2, falls)  # two of the four are positive
    shown = table(folder / "samples.csv")
    for row in shown:
        assert -1 <= float(row["agreement_flips"]) <= 1
        assert "agreement_epochs" not in row  # one epoch: the best is the last, which says nothing
        assert 0 <= float(row["peak_shift_flips"]) < 28
        assert float(row["lesion_width"]) > 1
    assert {bool(row["drop_without"]) for row in shown} == {True, False}  # one has a lesion
    assert [row["index"] for row in shown] == ["1", "6"]
    found = scale.load_run(runs / "solid")
    found.datamodule.setup()
    page = (folder / "explanations.html").read_text()
    assert not re.search(r"(src=.?|@import .?|url\(.?)http", page)  # opens offline
    assert re.search(r'"first": ?"scale_relevance"', page)  # with the map that is recommended
    assert '"planes":["sagittal","coronal","axial"]' in page
    for row in shown:
        name = f"{int(row['index']):06d}_{row['chosen']}"
        arrays = np.load(folder / "samples" / f"{name}.npz")
        assert np.array_equal(arrays["image"], found.datamodule.splits["test"].images.gather([int(row["index"])])[0])
        assert arrays["map_rollout"].shape == (1, 16, 16, 16)
        assert float(row["gate_planar"]) + float(row["gate_volumetric"]) == pytest.approx(1, abs=1e-4)
        image = nibabel.load(folder / "nifti" / name / "scale_relevance.nii.gz")
        assert nibabel.aff2axcodes(image.affine) == ("S", "A", "R")  # column, row, depth
        volume = image.get_fdata()
        assert np.array_equal(volume.transpose(2, 1, 0).astype(np.float32), arrays["map_scale_relevance"][0])
        for figure in ("", "_montage", "_gradients", "_activations", "_attention"):
            assert (folder / "figures" / f"{name}{figure}.png").stat().st_size > 5000
    values = table(folder / "quality_values.csv")
    chosen = [float(v["value"]) for v in values if (v["method"], v["metric"]) == ("saliency", "sparseness")]
    (mean,) = [float(r["mean"]) for r in rows if (r["method"], r["metric"]) == ("saliency", "sparseness")]
    assert np.mean(chosen) == pytest.approx(mean, rel=1e-4)
    assert len(table(folder / "agreement.csv")) == 5
    assert {row["control"] for row in table(folder / "against_random.csv")} == {"random"}
    assert {row["quantity"] for row in table(folder / "groups.csv")} == {"scale_attention", "stream_gate", "cka"}
    assert (folder / "config.yaml").exists()


@pytest.mark.parametrize(
    ("kind", "few"),
    [
        ("solid", ["consensus", "integrated_gradients", "saliency", "gradcam_fusion"]),
        ("resnet", ["consensus", "integrated_gradients", "saliency", "gradcam"]),
    ],
)
def test_a_few_methods_by_default_and_all_if_asked(runs, kind, few):
    from scale.attribution.methods.attribute import applicable

    def chosen(*given):
        job = prepare(scale.compose([f"run={runs / kind}", "accelerator=cpu", *given], name="explain"))
        return job.methods, job.metrics

    methods, metrics = chosen()
    assert methods == [*few, "random", "edges"]
    assert set(METRICS) - set(metrics) == {"relevance_rank", "infidelity", "sensitivity_max", "sparseness"}
    methods, metrics = chosen("attribution=all")
    assert (set(methods), metrics) == (set(applicable(scale.load_run(runs / kind).model.net)), list(METRICS))


def test_the_page_can_be_used_before_the_metrics_and_a_cut_keeps_the_earlier_ones(runs, tmp_path, monkeypatch):
    from scale.attribution.metrics import measure as measuring

    folder = shutil.copytree(runs / "flat", tmp_path / "run")
    given = ["indices=[1]", "attribution.methods=[saliency]", "groups=false"]
    run(folder, *given)
    before = (folder / "explanations" / "quality.csv").read_text()
    assert "on 4 samples</span>" in (folder / "explanations" / "explanations.html").read_text()
    seen = []

    def cut(*_, **__):
        seen.append((folder / "explanations" / "explanations.html").read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "_repeated", cut)
    with pytest.raises(KeyboardInterrupt):
        run(folder, *given)
    assert "4 samples; more to come: reload" in seen[0]
    assert "insertion auc" in seen[0]
    assert "infidelity" not in seen[0]  # what repeats the map comes last
    assert (folder / "explanations-1" / "quality.csv").read_text() == before


def test_a_peak_that_moves_is_warned_of(runs, monkeypatch):
    from scale.attribution.metrics import stability
    from scale.attribution.metrics.stability import Agreement

    given = ["indices=[1]", "attribution.methods=[saliency]", "attribution.quality.samples=0", "groups=false"]
    page = (run(runs / "flat", *given) / "explanations.html").read_text()
    assert "saliency is not stable here" not in page
    monkeypatch.setattr(stability, "over_flips", lambda *_, **__: Agreement(np.array([0.2]), np.array([20.0])))
    folder = run(runs / "flat", *given)
    page = (folder / "explanations.html").read_text()
    assert "saliency is not stable here: its peak moves 20.0 cells when the sample is flipped, more than a" in page
    (row,) = table(folder / "samples.csv")
    assert (float(row["agreement_flips"]), float(row["peak_shift_flips"])) == (0.2, 20)


def test_the_other_epoch_is_compared(runs):
    given = ["indices=[1]", "attribution.methods=[saliency]", "attribution.quality.samples=0", "groups=false"]
    for checkpoint in ("best", "last"):  # the two have other weights in this run
        folder = run(runs / "other", *given, f"checkpoint={checkpoint}")
        (row,) = table(folder / "samples.csv")
        assert -1 <= float(row["agreement_epochs"]) < 0.999
        assert float(row["peak_shift_epochs"]) >= 0
    shutil.rmtree(folder)


def test_the_page_names_what_is_explained(runs):
    quick = ["attribution.methods=[edges]", "attribution.quality.samples=0", "groups=false", "indices=[2]"]
    page = (run(runs / "flat", *quick) / "explanations.html").read_text()
    assert "<b>explained</b> the predicted class" in page
    assert "<b>positive class</b> 1 (class 1)" in page
    assert "#2   truth" in page
    page = (run(runs / "flat", *quick, "target=1") / "explanations.html").read_text()
    assert "<b>explained</b> class 1 (class 1)" in page


def test_measures_are_not_lost_by_a_quick_look(runs, tmp_path):
    folder = shutil.copytree(runs / "flat", tmp_path / "run")
    measured = [
        "indices=[1]",
        "attribution.methods=[saliency]",
        "attribution.quality.metrics=[sparseness]",
        "groups=false",
    ]
    run(folder, *measured)
    before = (folder / "explanations" / "quality.csv").read_text()
    quick = ["indices=[2]", "attribution.methods=[edges]", "attribution.quality.samples=0", "groups=false"]
    run(folder, "indices=[3]", *measured[1:])  # the same metrics of the same samples, another picture
    assert not (folder / "explanations-1").exists()
    run(folder, *quick)
    assert table(folder / "explanations" / "quality.csv") == []
    assert (folder / "explanations-1" / "quality.csv").read_text() == before
    run(folder, "indices=[4]", *quick[1:])
    assert not (folder / "explanations-2").exists()
    assert (folder / "explanations-1" / "quality.csv").read_text() == before


def test_all_methods_run_and_a_second_call_replaces_the_first(runs, monkeypatch):
    folder = run(runs / "flat", "indices=[3,5]", "attribution=all", "attribution.quality.samples=0", "groups=false")
    arrays = np.load(folder / "samples" / "000003_chosen.npz")
    methods = {name.removeprefix("map_") for name in arrays if name.startswith("map_")}
    from scale.attribution.catalog import METHODS

    assert methods == set(METHODS) - {"gradcam"}
    assert table(folder / "quality.csv") == []
    assert not (folder / "groups.csv").exists()
    again = run(runs / "flat", "indices=[4]", "attribution=fast", "attribution.methods=[edges]", "target=truth")
    assert [path.name for path in (again / "samples").iterdir()] == ["000004_chosen.npz"]
    before = sorted(path.name for path in (runs / "flat").rglob("*"))
    monkeypatch.setattr(record, "write_nifti", None)
    monkeypatch.setattr(record, "draw_sample", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(runs / "flat", "indices=[4]", "attribution=fast")
    assert sorted(path.name for path in (runs / "flat").rglob("*")) == before  # the former folder, and nothing else


def test_a_folder_of_someone_else_is_kept(runs):
    mine = runs / "other" / "explanations"
    mine.mkdir()
    (mine / "notes.txt").write_text("x")
    with pytest.raises(FileExistsError, match="was not written by this command"):
        run(runs / "other")
    (mine / "notes.txt").unlink()
    mine.rmdir()


def test_seeds_are_compared(runs):
    folder = run(runs / "flat", "attribution.methods=[saliency]", f"compare=[{runs / 'other'}]", "samples.wrong=0")
    rows = {row["method"]: row for row in table(folder / "quality.csv") if row["metric"] == "agreement"}
    assert -1 <= float(rows["saliency"]["mean"]) < 0.999
    assert float(rows["random"]["mean"]) == pytest.approx(1)
    assert (folder / "figures" / "compare.png").is_file()
    assert not (run(runs / "other", "attribution.quality.samples=0") / "figures" / "compare.png").exists()


def test_a_run_that_sees_its_images_otherwise_is_not_compared(runs, tmp_path, phantom_root):
    """It was given the first run's, of another contrast."""
    given = [f"data.root={phantom_root}", f"data.samples={TINY}", "trainer.max_epochs=1", "logger=none", "report=false"]
    more = ["data=phantom2d", "model=scale_tiny", "data.normalisation=official"]
    train(scale.compose([*given, *more]), tmp_path / "run")
    with pytest.raises(ValueError, match="normalises its images otherwise than flat"):
        run(runs / "flat", f"compare=[{tmp_path / 'run'}]", "attribution.methods=[saliency]")


def test_compared_runs_whose_folders_have_one_name_are_told_apart(runs, tmp_path):
    from scale.attribution.report import job

    twins = [shutil.copytree(runs / "other", tmp_path / place / "flat") for place in "ab"]
    given = [f"run={runs / 'flat'}", f"compare=[{twins[0]},{twins[1]}]", "attribution.methods=[saliency]", *QUICK]
    found = job.prepare(scale.compose(given, name="explain"))
    assert list(found.others) == [str(twin) for twin in twins]


def test_several_labels(runs):
    folder = run(runs / "labels", "attribution.methods=[gradcam_planar]", "attribution.quality.metrics=[pointing_game]")
    rows = table(folder / "samples.csv")
    assert {row["explained"] for row in rows} == {"0", "1", "2"}
    found = scale.load_run(runs / "labels")
    found.datamodule.setup()
    masks = found.datamodule.splits["test"].masks
    assert "the label that each sample was chosen for" in (folder / "explanations.html").read_text()
    for row in rows:
        arrays = np.load(folder / "samples" / f"{int(row['index']):06d}_{row['chosen']}.npz")
        label = int(row["explained"])
        assert row["truth"] == ("" if arrays["labels"][label] else "no ") + f"class {label}"
        said = arrays["probabilities"][label]
        assert row["prediction"].startswith("no ") == (said <= 0.5)
        assert float(row["probability"]) == pytest.approx(max(said, 1 - said), rel=1e-4)
        # the outline is of the explained label's lesion, which a sample without that label does not have
        known = masks.gather([int(row["index"])])[0]
        assert np.array_equal(arrays["mask"], known == label + 1)
        assert bool(row["log_odds"]) == bool(arrays["labels"][label])
    assert {row["metric"] for row in table(folder / "quality.csv")} == {"pointing_game"}


@pytest.mark.slow
def test_a_baseline_is_explained_without_attention(runs):
    folder = run(runs / "resnet", "indices=[0]", "attribution=all", "attribution.quality.metrics=[sparseness]")
    methods = {row["method"] for row in table(folder / "quality.csv")}
    assert {"gradcam", "scale_relevance", "edges"} <= methods
    assert not any("attention" in method for method in methods)
    assert not (folder / "groups.csv").exists()
    assert "gate_planar" not in table(folder / "samples.csv")[0]


@pytest.mark.parametrize(
    ("name", "overrides", "error", "message"),
    [
        (
            "resnet",
            ["attribution.methods=[rollout]"],
            ValueError,
            "rollout does not apply: ResNet has no streams and no a",
        ),
        ("flat", ["attribution.methods=[gradcam]"], ValueError, "gradcam does not apply: ScaleNet is no ResNet"),
        ("flat", ["indices=[0,16]"], ValueError, "no sample 16; the split has 16, 0 to 15"),
        ("flat", ["target=2"], ValueError, "target=2 does not exist: the classes are 0 to 1"),
        ("flat", ["samples={right: 0, wrong: 0, uncertain: 0}"], ValueError, "no sample is chosen"),
        ("flat", ["attribution.quality.metrics=[sparsness]"], ValueError, "did you mean 'sparseness'"),
        ("flat", ["accelerator=tpu"], ValueError, "give auto, cpu or gpu"),
        ("nowhere", [], FileNotFoundError, "is not a run folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_runs(runs, monkeypatch, name, overrides, error, message):
    from scale.attribution.metrics import measure as measuring

    monkeypatch.setattr(measuring.Explainer, "maps", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(error, match=message):
        run(runs / name, *overrides)
    assert not list((runs / name).glob(".explanations*"))


def test_another_data_set_cannot_be_compared(runs):
    with pytest.raises(ValueError, match="compare: solid is a run on other data than flat"):
        run(runs / "flat", f"compare=[{runs / 'solid'}]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("attribution.methods=[salency]", "did you mean 'saliency'"),
        ("attribution.metods=[saliency]", "did you mean 'attribution.methods'"),
        ("attribution.baseline=blurr", "did you mean 'blur'"),
        ("split=tets", "did you mean 'test'"),
        ("target=prediction", "did you mean 'predicted'"),
        ("attribution.steps=0", "attribution.steps=0: give a number of at least 1"),
        ("attribution.quality.samples=-1", "attribution.quality.samples=-1: give a number of at least 0"),
        ("attribution.window=2", "0 < window <= 1"),
        ("attribution=ful", "did you mean 'full'"),
        ("samples.rigth=2", "did you mean 'samples.right'"),
    ],
)
def test_a_wrong_configuration_is_one_line(override, message):
    with pytest.raises(ConfigError, match=message):
        scale.compose([override], name="explain", check=of_explain)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [(["--help"], 0, "guided_gradcam"), (["run=x", "attribution.methods=[salency]"], 2, "did you mean 'saliency'")],
)
def test_the_command_line_answers_without_torch(arguments, status, text, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', 'explain', *{arguments!r}]\n"
        "try:\n"
        "    runpy.run_module('scale', run_name='__main__')\n"
        "finally:\n"
        "    print('TORCH' if 'torch' in sys.modules else 'LIGHT')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert text in done.stdout + done.stderr
    assert "LIGHT" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["default", "fast", "full"])
def test_every_preset_composes(option):
    assert scale.compose([f"attribution={option}"], name="explain").attribution.batch_size == 16


def test_a_map_that_is_not_finite_is_named_by_its_sample(runs, monkeypatch):
    from scale.models.scale_net import ScaleNet

    forward = ScaleNet.forward
    monkeypatch.setattr(ScaleNet, "forward", lambda self, x: forward(self, x) * torch.tensor([1.0, torch.inf]))
    with pytest.raises(FloatingPointError, match="saliency gives values that are not finite .* of samples 7, 9"):
        run(runs / "flat", "indices=[7,9]", "attribution.methods=[saliency]")


def test_the_log_tells_how_far_it_is(runs, monkeypatch, capsys):
    from scale.utils import progress

    monkeypatch.setattr(progress, "SECONDS", 0.0)
    folder = run(runs / "flat", "indices=[1]", "attribution.methods=[saliency,edges]", "attribution.quality.samples=0")
    lines = [line for line in capsys.readouterr().out.splitlines() if " left " in line]
    assert lines[-1].startswith("100 %  00:00 left  groups: 16 samples")
    assert any("maps of 1 samples: saliency" in line for line in lines)
    assert "saliency" in (folder / "explain.log").read_text()
    logging.getLogger("scale").info("x")


def test_the_time_left_is_known_from_the_start(runs, capsys, monkeypatch):
    from scale.utils.progress import Progress

    assert Progress(1000, bar=False, pace=0.5).left() == "08:20"
    assert Progress(1000, bar=False).left() == "?"
    late = Progress(100, bar=False, pace=1.0)
    late._started -= 400  # each step took 8 seconds, not one
    late.done = 50
    assert late.left() in ("06:26", "06:27")  # 50 steps of (1 * 2 + 400) / (2 + 50) seconds
    run(runs / "flat", "indices=[1]", "attribution.methods=[edges]", "attribution.quality.samples=0", "groups=false")
    first = capsys.readouterr().out.splitlines()[0]
    assert re.fullmatch(r"  0 %  \d\d:\d\d left  maps of 1 samples: edges", first)


def test_a_terminal_gets_a_bar(capsys):
    from scale.utils.progress import Progress

    with Progress(10, bar=True) as bar:
        bar.begin("maps")
        bar.step(4)
        bar._bar.refresh()
        bar.step(100)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    for part in ("maps", " 40 % ", "100 %  00:00 left"):  # what is done, how much of all, time left
        assert part in shown


def test_the_stream_gate_of_the_page_is_the_networks(runs):
    folder = run(runs / "flat", "indices=[2]", "attribution.methods=[edges]", "attribution.quality.samples=0")
    found = scale.load_run(runs / "flat")
    found.datamodule.setup()
    raw = torch.from_numpy(found.datamodule.splits["test"].images.gather([2]))[:, None]
    with torch.no_grad():
        gate = found.model.net.forward_intermediates(found.datamodule.prepare({"image": raw})["image"]).stream_gate
    (row,) = table(folder / "samples.csv")
    assert float(row["gate_planar"]) == pytest.approx(float(gate[0, 0]), rel=1e-4)
    assert json.loads((runs / "flat" / "metrics.json").read_text())["seed"] == 0
