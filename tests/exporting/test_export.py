"""A run as one file: the same probabilities, its metadata, its card, and reading it back."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

import scale
from scale.attribution.report.files import QUALITY
from scale.config import compose, instantiate
from scale.config.keys import plain
from scale.config.targets import TargetError
from scale.export import export
from scale.exporting import card, formats, network, pretrained
from scale.exporting.network import VERSION
from scale.exporting.pretrained import CONFIG, WEIGHTS
from scale.inference.predictor import Predictor
from scale.predict import predict
from scale.tasks.build import build_net, net_arguments
from scale.tasks.problem import Problem
from scale.train import train
from scale.utils.files import write_csv


def run_export(run, output, **options):
    overrides = [f"run={run}", f"output={output}", *(f"{key}={value}" for key, value in options.items())]
    return export(compose(overrides, name="export"))


@pytest.fixture(scope="session")
def exported(run2d, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    run_export(run2d, folder)
    return folder


def test_what_is_read_back_predicts_the_same(run2d, exported):
    run, found = scale.load_run(run2d), scale.load_pretrained(exported)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), np.uint8)
    own, other = run.predict(images), found.predict(images)
    assert list(own.columns) == list(other.columns)
    for column in own.columns:
        if own[column].dtype.kind == "f":
            assert np.allclose(own[column], other[column], atol=1e-6), column
        else:
            assert (own[column] == other[column]).all()


def test_the_test_split_gives_the_runs_own_scores(run2d, tmp_path, capsys):
    said = run_export(run2d, tmp_path / "m")
    metrics = json.loads((run2d / "metrics.json").read_text())["test"]
    assert f"AUC {metrics['auc']:.3f}  ACC {metrics['acc']:.3f} (n = 24)" in said[0]


def test_a_run_that_has_predicted_a_part_of_its_test_split(phantom_root, tmp_path):
    """As `trainer=fast_dev_run` does: the whole split is scored, the part is compared with the record."""
    given = [
        *("data=phantom2d", f"data.root={phantom_root}", "data.samples={train: 32, val: 16, test: 24}"),
        *("data.eval_batch_size=12", "model=scale_tiny", "trainer=fast_dev_run", "logger=none"),
    ]
    train(compose(given), tmp_path / "run", overrides=given)
    assert len(scale.load_run(tmp_path / "run").predictions["test"]["probabilities"]) == 12
    said = run_export(tmp_path / "run", tmp_path / "m")
    assert "(n = 24)" in said[0]
    assert float(said[0].rsplit(" ", 1)[1]) < 1e-5


def test_the_command_predicts_with_an_exported_folder(run2d, exported, tmp_path):
    """Also with how the training data look: the same table as the run's, without the run and its data."""
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)
    for number, image in enumerate(images):
        (tmp_path / "in" / "class 1").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "in" / "class 1" / f"{number}.png")
    tables = []
    for place in (run2d, exported):
        output = tmp_path / place.name
        given = [f"run={place}", f"input={tmp_path}/in", f"output={output}", "workers=1", "accelerator=cpu"]
        assert predict(compose(given, name="predict")) == 0
        tables.append(pd.read_csv(output / "predictions.csv"))
    numbers = tables[0].select_dtypes("number").columns
    assert "unlike_score" in numbers
    assert np.allclose(tables[0][numbers], tables[1][numbers], rtol=1e-4, atol=1e-6)
    assert (tables[0]["set"].fillna("") == tables[1]["set"].fillna("")).all()
    with pytest.raises(ValueError, match=r"exported with alpha=0\.1"):
        predict(compose([*given, "alpha=0.3"], name="predict"))


def test_the_card(run2d, exported):
    text = (exported / "model_card.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    metrics = json.loads((run2d / "metrics.json").read_text())
    values = {one["type"]: one["value"] for one in head["model-index"][0]["results"][0]["metrics"]}
    assert values["roc_auc"] == pytest.approx(metrics["test"]["auc"], abs=1e-4)
    assert head["library_name"] == "scale-medvision"
    for part in (
        "Research only",
        "## Metrics",
        "| auc |",
        "## Calibration",
        "## Explanations",
        "parameters",
        "class 3",
    ):
        assert part in text
    assert (exported / "README.md").read_text() == text  # the name that the hub shows


def test_the_card_says_how_far_maps_can_be_trusted(run2d, tmp_path):
    """The rows that explain writes, with the columns that it writes."""
    run = tmp_path / "run"
    shutil.copytree(run2d, run)
    (run / "explanations").mkdir()
    row = {"metric": "deletion_auc", "better": "lower", "mean": 0.25, "low": 0.125, "high": 0.5, "n": 24}
    write_csv(run / "explanations" / "quality.csv", QUALITY, [{"method": "saliency", **row}])
    run_export(run, tmp_path / "m", format="safetensors")
    text = (tmp_path / "m" / "model_card.md").read_text()
    assert "| method | deletion_auc (lower, n = 24) |" in text
    assert "| `saliency` | 0.25 (0.12 to 0.50) |" in text


def test_a_strangers_files_are_not_believed(exported, tmp_path):
    def copy(name, **changes):
        folder = tmp_path / name
        folder.mkdir()
        (folder / WEIGHTS).write_bytes((exported / WEIGHTS).read_bytes())
        said = json.loads((exported / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**said, **changes}))
        return folder

    with pytest.raises(ValueError, match=r"names the network os\.system; allowed"):
        scale.load_pretrained(copy("a", network={"_target_": "os.system", "command": "true"}))
    with pytest.raises(ValueError, match="cannot be read"):
        scale.load_pretrained(copy("b", version=VERSION + 1))
    folder = copy("c")
    (folder / WEIGHTS).write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="does not fit"):
        scale.load_pretrained(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"scale\.export run=DIR"):
        scale.load_pretrained(folder)


def test_what_differs_is_not_kept(run2d, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "runner", lambda *_, **__: lambda images: np.full((len(images), 4), 0.25, "f"))
    with pytest.raises(ValueError, match="differs from torch"):
        run_export(run2d, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    with pytest.raises(ValueError, match="did you mean 'onnx'"):
        run_export(run2d, tmp_path / "m", format="onx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "torch_export"])
def test_other_runtimes_take_any_batch(run3d, tmp_path, name):
    """Two exporters, which take a minute; the file's own metadata says what it is."""
    run_export(run3d, tmp_path / "m", format=name)
    run = scale.load_run(run3d)
    deployed = network.of_predictor(Predictor.of_runs([run]))
    call = formats.runner(tmp_path / "m" / formats.FILES[name], name, deployed, {})
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(tmp_path / "m" / "model.onnx")
    for batch in (1, 5):
        images = np.random.default_rng(batch).integers(0, 256, (batch, 1, 28, 28, 28), np.uint8)
        assert np.allclose(call(images), deployed(torch.from_numpy(images))[0], atol=1e-5)
        if name == "onnx":
            (distance,) = session.run(["distance"], {"images": images})
            assert np.allclose(distance, deployed(torch.from_numpy(images))[2], rtol=1e-3)
    if name == "onnx":
        found = session.get_modelmeta().custom_metadata_map
        said = json.loads(found["scale"])
    else:
        extra = {"scale.json": ""}
        torch.export.load(tmp_path / "m" / "model.pt2", extra_files=extra)
        said = json.loads(extra["scale.json"])
    assert said["classes"] == list(Predictor.of_runs([run]).inputs.classes)


@pytest.mark.parametrize("place", ["network", "network.dropout", "network.planar_widths", "preprocessing", "classes"])
def test_code_that_a_strangers_model_names_does_not_run(place, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "m")
    said = json.loads((folder / CONFIG).read_text())
    *above, name = place.split(".")
    node = said[above[0]] if above else said
    evil = {"_target_": "torch.utils.collect_env.run", "command": f"touch {tmp_path / 'marker'}"}
    node[name] = [[evil]] if name == "planar_widths" else evil
    (folder / CONFIG).write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"config\.json"):
        scale.load_pretrained(folder, allow=["my_package"])
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_target_": "lightning.pytorch.Trainer"}, "names the network lightning"),
        ({"dropout": {"_target_": "lightning.pytorch.loggers.CSVLogger"}}, "has no place there"),
        ({"fusion_layers": 10**9}, "model.fusion_layers=1000000000: give"),
        ({"no_such_key": 1}, "no network is built from it"),
    ],
)
def test_a_model_that_cannot_be_is_one_line(change, said, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "m")
    content = json.loads((folder / CONFIG).read_text())
    content["network"] |= change
    (folder / CONFIG).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said) as caught:
        scale.load_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_a_card_of_an_undefined_auc():
    metrics = {"flag": "x", "problem": "binary", "model": {"name": "scale"}, "test": {"auc": None, "acc": 0.5}}
    assert "roc_auc" not in card._head(metrics, "X", None)
    assert "accuracy" in card._head(metrics, "X", None)


def test_what_a_card_promises_is_what_was_asked_for(run2d):
    run = scale.load_run(run2d)
    predictor = Predictor.of_runs([run], alpha=0.125)
    assert "hold the true class in 87.5 % of cases" in card._calibration(run, predictor)


def test_nothing_that_the_command_did_not_write_is_deleted(run2d, tmp_path):
    """`output=` took the place of a whole folder of runs."""
    shutil.copytree(run2d, tmp_path / "results" / "run")
    for output in (tmp_path / "results", tmp_path / "results" / "run"):
        with pytest.raises(FileExistsError, match="which this command did not write: give another output=DIR"):
            run_export(tmp_path / "results" / "run", output)
    assert (tmp_path / "results" / "run" / "metrics.json").is_file()


def test_weights_of_another_export_are_not_kept_beside_this_one(run2d, tmp_path):
    run_export(run2d, tmp_path / "m")
    (tmp_path / "m" / "model.onnx").write_bytes(b"of the same network")
    run_export(run2d, tmp_path / "m")
    assert (tmp_path / "m" / "model.onnx").is_file()
    run_export(run2d, tmp_path / "m", alpha=0.2)
    assert not (tmp_path / "m" / "model.onnx").exists()


@pytest.mark.parametrize("dims", [2, 3])
def test_a_set_of_a_joint_run_is_built_from_its_record(dims):
    """Its network has arguments that the configuration does not have, and could not be read back."""
    problem = Problem("binary", 2)
    joint = scale.compose(["data=joint", "data.sets=[breastmnist,vesselmnist3d]", "model=scale_tiny"])
    shape = (1, *(28,) * dims)
    net = build_net(joint, problem, image_shape=shape)
    said = {**plain(joint.model), **net_arguments(joint, problem, image_shape=shape)}
    again = pretrained.network_of(Path("config.json"), said, ())
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }


def test_weights_are_read_into_the_network_of_the_record(run2d, exported):
    """A record of another network passed the check, which read the weights into the network that it had written."""
    run = scale.load_run(run2d)
    predictor = Predictor.of_runs([run])
    deployed, said = network.of_predictor(predictor), network.record(run, predictor)
    said["network"]["planar_widths"] = [4, 8, 16]
    with pytest.raises(ValueError, match="does not fit the network of its record"):
        formats.runner(exported / "model.safetensors", "safetensors", deployed, said)


@pytest.mark.parametrize("place", ["x", "dropout", "planar_widths"])
def test_text_that_hydra_would_make_a_target_of_is_none(place, exported, tmp_path):
    """An interpolation was resolved behind the check of the targets, and what it named was called."""
    with (tmp_path / "p.pkl").open("wb") as file:
        pickle.dump(Evil(tmp_path / "marker"), file)
    folder = shutil.copytree(exported, tmp_path / "m")
    said = json.loads((folder / CONFIG).read_text())
    text = f"${{oc.create:{{_target_:pandas.read_pickle,filepath_or_buffer:{tmp_path / 'p.pkl'}}}}}"
    said["network"][place] = [text] if place == "planar_widths" else text
    (folder / CONFIG).write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"config\.json holds an interpolation"):
        scale.load_pretrained(folder)
    with pytest.raises(TargetError, match="an argument holds an interpolation"):
        instantiate({"_target_": "scale.models.baselines.ResNet", "x": text})
    assert not (tmp_path / "marker").exists()


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("key", ["outputs", "in_channels"])
def test_a_network_that_would_fill_memory_is_not_built(key, exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "m")
    said = json.loads((folder / CONFIG).read_text())
    said["network"][key] = 10**8
    (folder / CONFIG).write_text(json.dumps(said))
    with pytest.raises(ValueError, match=f"model.{key}=100000000: give"):
        scale.load_pretrained(folder)
