"""Beginning with another run's weights."""

import json
import shutil

import numpy as np
import pytest
import torch

import scale
from scale.config import ConfigError
from scale.models.baselines import ResNet
from scale.models.parts import frozen, parts, take_over
from scale.models.scale_net import ScaleNet
from scale.runs import checkpoints, resume
from scale.runs.verify import verify
from scale.tasks.classification import ClassificationTask
from scale.tasks.problem import Problem
from scale.train import train
from scale.training import transfer

TINY = {"planar_widths": (4, 6, 8), "volumetric_widths": (4, 6, 8), "dim": 8, "heads": 2, "slabs": 2, "scales": 4}


def net(dims=2, channels=1, outputs=2, **changes):
    torch.manual_seed(dims + channels + outputs)
    return ScaleNet(spatial_dims=dims, in_channels=channels, outputs=outputs, **{**TINY, **changes}).eval()


def taken(target, source, **same):
    return take_over(target, source.state_dict(), **{"same_dims": True, "same_labels": True, **same})


def test_a_network_that_fits_wholly_says_the_same():
    target, source = net(), net(outputs=2)
    torch.nn.init.normal_(source.head[1].weight)
    found = taken(target, source)
    x = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(target(x), source(x))
    assert not found.new
    assert sorted(found.loaded) == sorted(source.state_dict())


def test_heads_are_new_unless_the_labels_agree_and_fusions_unless_the_dimensions_do():
    target, source = net(), net(outputs=3)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    found = taken(target, source, same_labels=False)
    assert found.parts == ["planar", "volumetric", "fusion"]
    assert set(found.new) == {"head of planar", "head of volumetric", "head"}
    for name, value in target.state_dict().items():
        is_head = name.startswith(("head.", "auxiliary_heads."))
        torch.testing.assert_close(value, before[name] if is_head else source.state_dict()[name])
    assert "other dimensions" in taken(net(), net(), same_dims=False).new["fusion"]


@pytest.mark.parametrize(("here", "there"), [(3, 1), (1, 3)])
def test_a_stem_for_other_channels_says_the_same_of_channels_that_are_alike(here, there):
    target, source = net(channels=here), net(channels=there)
    taken(target, source)
    for edge in (28, 56):  # the latter is reduced, and has twice the channels
        x = torch.randn(2, 1, edge, edge)
        say = [n.forward_features(x.expand(-1, c, -1, -1)) for n, c in ((target, here), (source, there))]
        torch.testing.assert_close(*say, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_what_rested_in_the_source_begins_at_zero(dims):
    """Half of a stem's weights is for samples that are reduced; it was taken over as it had been drawn."""
    source = net(dims)
    state = transfer._without_what_rested(source.state_dict(), reduced=False, resolution="reduced")
    target = net(dims)
    take_over(target, state, same_dims=True, same_labels=True)
    x = torch.randn(2, 1, *(28,) * dims)
    enlarged = x
    for axis in range(2, 2 + dims):
        enlarged = enlarged.repeat_interleave(2, dim=axis)  # its blocks have no range, and the small one as their mean
    torch.testing.assert_close(target(enlarged), source(x), atol=1e-5, rtol=1e-4)
    stems = [f"streams.{stream}.stem.weight" for stream in ("planar", "volumetric")]
    for reduced, resolution, rested in ((True, "reduced", [False] * 2), (True, "full", [True, False])):
        state = transfer._without_what_rested(source.state_dict(), reduced=reduced, resolution=resolution)
        found = [bool((state[stem].chunk(2, dim=1)[1] == 0).all()) for stem in stems]
        assert found == rested


def test_a_run_is_read_without_what_rested(source):
    found = transfer.read(source)
    stem = found.state["streams.planar.stem.weight"]
    assert (stem[:, stem.shape[1] // 2 :] == 0).all()
    assert (stem[:, : stem.shape[1] // 2] != 0).any()


def test_a_stream_is_taken_over_whole_or_not_at_all():
    target, source = net(), net(planar_widths=(4, 6, 10))
    before = {name: value.clone() for name, value in target.streams["planar"].state_dict().items()}
    found = taken(target, source)
    assert found.parts == ["volumetric", "head of volumetric"]
    assert "there" in found.new["planar"]
    assert found.new["fusion"] == "planar is new"
    for name, value in target.streams["planar"].state_dict().items():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize("both_first", [True, False])
def test_the_head_of_a_single_stream_is_that_streams_own_head(both_first):
    both, single = net(), net(streams="planar")
    target, source = (single, both) if both_first else (both, single)
    torch.nn.init.normal_(source.get_submodule("auxiliary_heads.planar.2" if both_first else "head.1").weight)
    taken(target, source)
    x = torch.randn(4, 1, 28, 28)
    torch.testing.assert_close(both.forward_auxiliary(x)[1]["planar"], single(x))


def test_planar_kernels_go_between_dimensions():
    source, target = net(streams="planar"), net(dims=3, lifted_width=1.0, lifted_depths=(1, 1, 1))
    found = taken(target, source, same_dims=False, same_labels=False)
    assert found.parts == ["planar"]
    weight, there = target.streams["planar"].stem.weight, source.streams["planar"].stem.weight
    torch.testing.assert_close(weight[:, :2].sum(dim=1), there[:, 0])  # mean and maximum of a slab


def test_the_parts_are_the_whole_network():
    for network in (net(), net(streams="volumetric"), net(fusion="concat", auxiliary=False), resnet()):
        names = [name for name in network.state_dict() for part in parts(network).values() if part.has(name)]
        assert names == list(network.state_dict()) or sorted(names) == sorted(network.state_dict())


def resnet(**changes):
    return ResNet(spatial_dims=2, in_channels=1, outputs=2, **changes)


def test_what_freeze_names():
    assert frozen(net(), "none") == ()
    assert frozen(net(), "trunk") == ("planar", "volumetric")
    assert frozen(net(), "planar") == ("planar",)
    assert frozen(net(), "all_but_head") == ("planar", "volumetric", "fusion")
    assert frozen(resnet(), "all_but_head") == ("trunk",)
    for network, choice in ((resnet(), "planar"), (net(streams="planar"), "volumetric")):
        with pytest.raises(ValueError, match=f"freeze={choice}: this .* has no {choice} stream; its parts: "):
            frozen(network, choice)


def test_what_was_loaded_learns_at_its_own_rate():
    task = ClassificationTask(
        net(),
        problem=Problem("binary", 2),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0, weight_decay=0.1),
        scheduler=lambda optimizer, total_steps: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5),
    )
    task._trainer = type("Trainer", (), {"estimated_stepping_batches": 4})()
    loaded = [name for name in task.net.state_dict() if name.startswith("streams.")]
    task.begin_with(loaded, trunk_scale=0.1)
    groups = task.configure_optimizers()["optimizer"].param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in task.net.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.05 if name in loaded else 0.5), name
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}


@pytest.fixture(scope="module")
def source(tmp_path_factory, a_run):
    return shutil.copytree(a_run, tmp_path_factory.mktemp("source") / "run")


@pytest.fixture
def arguments(small, source):
    return [*small, "threads=1", "logger=none", f"init_from={source}"]


def weights(folder, name="best"):
    return checkpoints.read(folder / "checkpoints" / f"{name}.ckpt")["state_dict"]


@pytest.mark.parametrize(
    ("choice", "still"),
    [
        ("planar", ("streams.planar.", "scale_attention.planar.")),
        pytest.param(
            "all_but_head",
            ("streams.", "scale_attention.", "fusion.", "position."),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_is_frozen_stays_with_its_statistics_and_the_rest_learns(
    arguments, source, tmp_path, choice, still, capsys
):
    metrics = train(scale.compose([*arguments, f"freeze={choice}"]), tmp_path / "run")
    said = capsys.readouterr().out
    assert f"init_from {source}: loaded planar, volumetric, fusion, head" in said
    before, after = weights(source), weights(tmp_path / "run")
    for name, value in after.items():
        if name.endswith("stem.weight"):  # its second half rested in the source, and begins at zero
            assert (value.chunk(2, dim=1)[1] == 0).all() or not name.removeprefix("net.").startswith(still)
            before[name].chunk(2, dim=1)[1].zero_()
        same = torch.equal(value, before[name])
        assert same or not name.removeprefix("net.").startswith(still), name
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert "net.head.1.weight" in changed
    assert ("net.streams.volumetric.stem.norm1.running_mean" in changed) == (choice == "planar")
    assert metrics["init_from"]["freeze"] == choice
    assert (
        metrics["init_from"]["sha256"]
        == json.loads((source / "metrics.json").read_text())["sha256"]["checkpoints/best.ckpt"]
    )
    assert not verify(tmp_path / "run")
    assert scale.load_run(tmp_path / "run").metrics["init_from"] == metrics["init_from"]


@pytest.mark.slow
def test_resume_and_rerun_begin_as_the_run_did(arguments, source, tmp_path, monkeypatch):
    arguments = [*arguments, "optimizer.trunk_scale=0.1", "freeze=volumetric"]
    whole = train(scale.compose(arguments), tmp_path / "whole", overrides=arguments)
    step = ClassificationTask.training_step

    def fails(self, batch, batch_idx):
        if self.global_step == 4:
            raise RuntimeError("the machine is gone")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", fails)
        with pytest.raises(RuntimeError, match="gone"):
            train(scale.compose(arguments), tmp_path / "cut", overrides=arguments)
    moved = source.rename(tmp_path / "moved")  # a run that is resumed from its checkpoint needs the source no more
    resumed = train(scale.compose([*arguments, f"resume={tmp_path / 'cut'}"]), tmp_path / "cut")
    moved.rename(source)
    assert resumed["test"] == whole["test"]
    repeated = scale.compose([*arguments, f"rerun={tmp_path / 'whole'}"])
    assert not resume.differing(train(repeated, tmp_path / "again"), tmp_path / "whole")

    other = shutil.copytree(source, tmp_path / "other")
    state = torch.load(source / "checkpoints" / "best.ckpt", weights_only=True)
    torch.save({**state, "epoch": state["epoch"] + 1}, source / "checkpoints" / "best.ckpt")
    with pytest.raises(ValueError, match="is not the file that .* was begun with"):
        train(repeated, tmp_path / "third")
    shutil.rmtree(source)
    other.rename(source)


def test_a_path_of_another_folder_is_kept_whole(arguments, source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.parent)
    given = [*arguments[:-1], "init_from=run", "trainer=fast_dev_run"]
    train(scale.compose(given), tmp_path / "run", overrides=given)
    assert f"init_from={source}" in [text.replace("'", "") for text in resume.expand([f"rerun={tmp_path / 'run'}"])]


@pytest.mark.slow
def test_an_export_is_as_good_as_its_run(arguments, source, tmp_path):
    pytest.importorskip("safetensors")
    from scale.config import compose
    from scale.export import export

    export(compose([f"run={source}", f"output={tmp_path / 'export'}"], name="export"))
    one = transfer.read(source)
    for place in (tmp_path / "export", tmp_path / "export" / "model.safetensors"):
        other = transfer.read(place)
        assert (other.flag, other.problem, other.classes) == (one.flag, one.problem, one.classes)
        for name, value in one.state.items():
            torch.testing.assert_close(other.state[name], value)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["freeze=planar"], "freeze=planar keeps what was learned before: give init_from"),
        (["optimizer.trunk_scale=0.1"], "optimizer.trunk_scale is for what init_from loads"),
        (["init_from=x", "freeze=head"], "freeze=head: there is no such choice"),
        (["init_from=x", "optimizer.trunk_scale=0"], "optimizer.trunk_scale=0: give a number above 0 and of at most 1"),
    ],
)
def test_choices_that_say_nothing_are_refused(given, line):
    with pytest.raises(ConfigError) as caught:
        scale.compose(given)
    assert line in str(caught.value)


def test_a_source_that_is_none_is_refused_before_anything_is_made(small, tmp_path, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.onnx").write_text("")
    for place, line in (
        ("nowhere", "there is no such folder or file"),
        ("empty", "give the folder of a finished run"),
        ("model.onnx", "give a run folder, or what scale.export format=safetensors wrote"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=line):
            train(scale.compose([*small, f"init_from={tmp_path / place}"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="nothing of it fits this network: planar .*; volumetric"):
        train(
            scale.compose([*small, "model.dim=8", "model.planar_widths=[4,4,4]", f"init_from={source}"]),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_runs_of_earlier_versions_have_the_same_recipe(a_run, tmp_path):
    from omegaconf import OmegaConf

    from scale.published import recipe

    old = shutil.copytree(a_run, tmp_path / "old")
    config = OmegaConf.load(old / "config.yaml")
    for key in ("init_from", "freeze"):
        del config[key]
    del config.optimizer["trunk_scale"]
    OmegaConf.save(config, old / "config.yaml")
    assert recipe.values(old) == recipe.values(a_run)
    assert np.all(
        [
            key not in str(recipe.differences(old, json.loads((old / "metrics.json").read_text())))
            for key in ("freeze", "trunk_scale")
        ]
    )
