"""Maps while a network trains: the same samples, at the right epochs, in all places, and nothing else changes."""

import subprocess
import sys
import time

import lightning as L
import numpy as np
import pytest
import torch

import scale
from scale.attribution.metrics import explainer as making
from scale.callbacks.explain import LogExplanations
from scale.config import ConfigError
from scale.train import train

ONE = "callbacks.explanations.samples=1"
FAST = "callbacks.explanations.methods=[gradcam_fusion,cross_attention_planar_reads_volumetric]"


def pictures(folder):
    return sorted(path.name for path in (folder / "figures" / "explanations").iterdir())


@pytest.mark.slow
def test_the_same_samples_every_few_epochs_and_at_the_end(small, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    few = ["callbacks=explain", "callbacks.explanations.every_n_epochs=3", "callbacks.explanations.samples=2"]
    train(scale.compose([*small, *few, FAST, "trainer.max_epochs=5", "logger=tensorboard"]), tmp_path / "run")
    names = pictures(tmp_path / "run")
    samples = {name.partition("_epoch")[0] for name in names}
    assert len(samples) == 2
    assert names == sorted(f"{sample}_epoch_{epoch:03d}.png" for sample in samples for epoch in (0, 3, 4))
    assert all((tmp_path / "run" / "figures" / "explanations" / name).stat().st_size > 5000 for name in names)
    found = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0}).Reload()
    for sample in samples:
        assert len(found.Images(f"explanations/{sample}")) == 3


@pytest.mark.slow
def test_a_training_is_the_same_with_and_without_pictures(small, tmp_path):
    states = []
    for name, extra in (("with", ["callbacks=explain", FAST, ONE]), ("without", [])):
        metrics = train(scale.compose([*small, "logger=none", *extra]), tmp_path / name)
        state = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        states.append((metrics["test"], state["state_dict"]))
    assert states[0][0] == states[1][0]
    assert all(torch.equal(value, states[1][1][name]) for name, value in states[0][1].items())


def test_the_pictures_are_of_the_averaged_weights(small, tmp_path, monkeypatch):
    seen = []
    attribute = making.attribute

    def look(net, *arguments, **options):
        seen.append(next(net.parameters()).detach().clone())
        return attribute(net, *arguments, **options)

    monkeypatch.setattr(making, "attribute", look)
    slow = ["callbacks.averaging.decay=0.5", "callbacks.explanations.methods=[edges]", "trainer.max_epochs=1"]
    train(scale.compose([*small, "logger=none", "callbacks=explain", ONE, *slow]), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    name = next(iter(state["state_dict"]))
    assert len(seen) == 1  # the end of the only epoch is not drawn again
    assert torch.equal(seen[0], state["state_dict"][name])
    assert not torch.equal(seen[0], state["current_model_state"][name])


def test_a_map_that_fails_is_told_and_the_training_goes_on(small, tmp_path, monkeypatch, capsys):
    attribute = making.attribute

    def fail(*arguments, method, **options):
        if method == "gradcam_fusion":
            raise FloatingPointError("gradcam_fusion gives NaN")
        return attribute(*arguments, method=method, **options)

    monkeypatch.setattr(making, "attribute", fail)
    train(scale.compose([*small, "callbacks=explain", FAST, ONE, "trainer.max_epochs=1"]), tmp_path / "run")
    assert "explanations of epoch 0: gradcam_fusion gives NaN" in capsys.readouterr().out
    assert len(pictures(tmp_path / "run")) == 1


def test_defaults_are_what_fits_the_network(small, tmp_path):
    config = scale.compose([*small, "callbacks=explain", ONE, "model.streams=planar", "debug=default"])
    train(config, tmp_path / "run")
    assert pictures(tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ["salency"]}, "did you mean 'saliency'"),
        ({"every_n_epochs": 0}, "callbacks.explanations.every_n_epochs=0: give a number of at least 1"),
        ({"samples": 0}, "callbacks.explanations.samples=0"),
    ],
)
def test_impossible_values_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        LogExplanations(**settings)


def test_a_method_that_does_not_fit_ends_the_run_before_it_begins(small, tmp_path):
    config = scale.compose([*small, "callbacks=explain", "model=resnet18", "callbacks.explanations.methods=[rollout]"])
    with pytest.raises(ValueError, match=r"callbacks\.explanations\.methods: rollout does not apply: ResNet"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_misspelt_key_is_named():
    with pytest.raises(ConfigError, match=r"did you mean 'callbacks\.explanations\.samples'"):
        scale.compose(["callbacks=explain", "callbacks.explanations.sampels=2"])


@pytest.mark.slow
def test_pictures_cost_little(tmp_path, phantom_root, monkeypatch):
    """With the default interval, in a training as long as that of VesselMNIST3D: 30 epochs of 84 steps, 7 times."""
    spent = {"draw": [], "fit": []}
    for owner, name, kind in ((LogExplanations, "_draw", "draw"), (L.Trainer, "fit", "fit")):
        original = getattr(owner, name)

        def timed(*arguments, original=original, kind=kind, **options):
            started = time.process_time()
            original(*arguments, **options)
            spent[kind].append(time.process_time() - started)

        monkeypatch.setattr(owner, name, timed)
    size = ["data.samples={train: 320, val: 32, test: 32}", f"data.root={phantom_root}", "trainer.max_epochs=2"]
    config = scale.compose(["data=phantom3d", *size, "callbacks=explain", "logger=none"])
    train(config, tmp_path / "run")
    draw = spent["draw"][0]
    step = (spent["fit"][0] - sum(spent["draw"])) / 40
    assert 7 * draw < 0.05 * 30 * 84 * step


@pytest.mark.slow
def test_two_processes_do_not_wait_for_each_other(small, tmp_path):
    command = [*small, "callbacks=explain", FAST, "trainer=ddp_cpu", "threads=1", f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-m", "scale.train", *command], check=False, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "metrics.json").exists()
    assert len(pictures(tmp_path / "run")) == 8


def test_maps_of_a_training_are_made_as_scale_explain_makes_them(small, tmp_path, monkeypatch):
    asked = []
    attribute = making.attribute

    def look(net, images, **options):
        asked.append((options["baseline"], options["views"]))
        return attribute(net, images, **options)

    monkeypatch.setattr(making, "attribute", look)
    given = ["callbacks.explanations.methods=[consensus]", "trainer.max_epochs=1", "logger=none", "callbacks=explain"]
    train(scale.compose([*small, *given, ONE]), tmp_path / "run")
    ((baseline, views),) = asked
    assert baseline.abs().max() > 0  # the blurred samples, not the train mean
    assert list(views) == [(), (0,), (1,), (0, 1)]


def test_several_labels_are_named_by_the_one_that_is_explained(small, tmp_path, monkeypatch):
    """A sample without any label was called one of the first."""
    from scale.attribution.report import figures

    drawn, draw = [], figures.side_by_side

    def look(picture, maps, *, title, mask, **more):
        drawn.append((title, mask))
        return draw(picture, maps, title=title, mask=mask, **more)

    monkeypatch.setattr(figures, "side_by_side", look)
    labels = ["data.problem=multilabel", "data.num_classes=4"]
    given = [
        *labels,
        "callbacks=explain",
        "callbacks.explanations.samples=24",
        "callbacks.explanations.methods=[saliency]",
    ]
    train(scale.compose([*small, *given, "logger=none", "trainer.max_epochs=1"]), tmp_path / "run")
    run = scale.load_run(tmp_path / "run")
    run.datamodule.setup()
    split = run.datamodule.splits["val"]
    assert len(drawn) == len(split.labels) == 24
    for (title, mask), truth, known in zip(drawn, split.labels, split.masks.gather(np.arange(24)), strict=True):
        label = int(truth.argmax())
        assert ("truth: no class 0" in title) == (not truth.any())
        assert np.array_equal(mask, known == label + 1)
