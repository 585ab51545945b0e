"""`experiment=official_resnet18_2d` and `_3d` do what https://github.com/MedMNIST/experiments does."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import scale
from scale.callbacks.checkpoint import BestAndLast
from scale.data import catalog, phantom
from scale.data.datamodule import MedMNISTDataModule
from scale.data.normalisation import official_statistics
from scale.data.sampling import TrainBatches
from scale.models.baselines import ResNet
from scale.tasks.build import build_datamodule, build_task
from scale.tasks.problem import Problem
from scale.train import train
from scale.training.trainer import build_trainer


@pytest.mark.parametrize(("dims", "batch_size"), [(2, 128), (3, 32)])
def test_configuration(dims, batch_size):
    config = scale.compose([f"experiment=official_resnet18_{dims}d"])
    assert config.model == {"_target_": "scale.models.baselines.ResNet", "depth": 18, "conv": "3d", "rgb": True}
    assert config.optimizer == {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.001, "trunk_scale": 1.0}
    assert (config.scheduler._target_, config.scheduler.factor) == ("scale.tasks.schedules.multistep", 0.1)
    assert list(config.scheduler.milestones) == [0.5, 0.75]
    assert (config.trainer.max_epochs, config.trainer.gradient_clip_val) == (100, None)
    assert (config.task.label_smoothing, config.task.auxiliary_weight) == (0, 0)
    assert not config.augment
    assert config.callbacks.averaging is None
    assert config.callbacks.checkpoint.first_of_equals
    data = {key: config.data[key] for key in ("batch_size", "drop_last", "normalisation", "grades", "balance", "size")}
    assert data == {
        "batch_size": batch_size,
        "drop_last": False,
        "normalisation": "official",
        "grades": "classes",
        "balance": "none",
        "size": 28,
    }
    assert config.variant == "official"


def test_a_data_set_of_other_dimensions_is_refused():
    with pytest.raises(scale.config.ConfigError, match="for images only"):
        scale.compose(["experiment=official_resnet18_2d", "data=vesselmnist3d"])
    with pytest.raises(scale.config.ConfigError, match="for volumes only"):
        scale.compose(["experiment=official_resnet18_3d", "data=breastmnist"])


def small_file(folder, dims, problem, classes, samples):
    """Images of 8 pixels a side, brighter in higher classes."""
    generator, arrays = np.random.default_rng(0), {}
    for split, count in (("train", samples), ("val", 8), ("test", 8)):
        labels = np.arange(count)[:, None] % classes
        noise = generator.integers(0, 128, (count, *(8,) * dims))
        arrays[f"{split}_images"] = (noise + 20 * labels.reshape(-1, *(1,) * dims)).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


@pytest.mark.parametrize(
    ("dims", "problem", "classes"), [(2, "ordinal", 4), pytest.param(3, "binary", 2, marks=pytest.mark.slow)]
)
def test_training_equals_the_plain_loop(dims, problem, classes, tmp_path, monkeypatch):
    """Four epochs of a whole batch and a ragged one, beside the protocol written down in plain PyTorch."""
    epochs, batch, samples = 4, 4, 6
    own = [f"data.path={small_file(tmp_path, dims, problem, classes, samples)}", f"data.problem={problem}"]
    settings = ["model.conv=acs", f"data.batch_size={batch}", f"trainer.max_epochs={epochs}", "logger=none"]
    config = scale.compose([f"experiment=official_resnet18_{dims}d", "data=npz", *own, *settings])
    monkeypatch.setattr(BestAndLast, "save", lambda *_, **__: None)  # a hundred megabytes an epoch
    torch.manual_seed(0)
    datamodule = build_datamodule(config)
    datamodule.setup()
    task = build_task(config, Problem(datamodule.info.problem, classes), image_shape=datamodule.image_shape)
    net, start = copy.deepcopy(task.net), copy.deepcopy(task.net.state_dict())
    trainer = build_trainer(config, tmp_path, samples=samples, logger=False)
    trainer.fit(task, datamodule=datamodule)

    arrays = np.load(tmp_path / "own.npz")
    inputs = torch.from_numpy(arrays["train_images"]).unsqueeze(1).float() / 255
    inputs = (inputs - 0.5) / 0.5 if dims == 2 else inputs
    labels = torch.from_numpy(arrays["train_labels"]).squeeze(1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
    milestones = [0.5 * epochs, 0.75 * epochs]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=milestones, gamma=0.1)
    order = TrainBatches(np.arange(samples), batch_size=batch, seed=config.seed, drop_last=False)
    for epoch in range(epochs):
        net.train()
        order.set_epoch(epoch)
        for rows, *_ in order:
            optimizer.zero_grad()
            F.cross_entropy(net(inputs[rows]), labels[rows]).backward()
            optimizer.step()
        scheduler.step()

    assert trainer.global_step == epochs * 2
    # Adam makes much of rounding where a gradient is nearly 0, so the way each tensor went is compared as a whole.
    for name, found in task.net.state_dict().items():
        if found.is_floating_point():
            went, expected = found - start[name], net.state_dict()[name] - start[name]
            assert (went - expected).norm() <= 0.02 * expected.norm(), name


@pytest.fixture(scope="module")
def vessels(tmp_path_factory):
    path = tmp_path_factory.mktemp("vessels") / "vesselmnist3d.npz"
    return phantom.write(path, problem="binary", samples={"train": 12, "val": 4, "test": 4}, size=28)


def prepared(path, *, training, **options):
    module = MedMNISTDataModule("vesselmnist3d", root=str(path.parent), verify=False, batch_size=6, **options)
    module.setup()
    batch = next(iter(module.train_dataloader()))
    return batch["image"].float() / 255, module.prepare(batch, training=training)["image"]


def test_shapes_are_halved_and_in_training_multiplied_by_a_number_of_their_own(vessels):
    raw, seen = prepared(vessels, training=False, normalisation="official")
    torch.testing.assert_close(seen, raw * 0.5)
    raw, seen = prepared(vessels, training=True, normalisation="official")
    factors = seen.flatten(1).sum(1) / raw.flatten(1).sum(1)
    torch.testing.assert_close(seen, raw * factors.view(-1, 1, 1, 1, 1))
    assert factors.min() >= 0
    assert factors.max() <= 1
    assert factors.std() > 0.1
    again = prepared(vessels, training=True, normalisation="official")[1]
    torch.testing.assert_close(again, seen, rtol=0, atol=0)


def test_other_volumes_stay_in_0_1():
    mean, std = official_statistics(catalog.get("organmnist3d"), 1)
    assert (mean.tolist(), std.tolist()) == ([0], [1])
    assert [flag for flag in catalog.FLAGS if catalog.get(flag).shapes] == ["adrenalmnist3d", "vesselmnist3d"]


def test_3d_kernels_start_as_2d_kernels_spread_over_the_depth():
    torch.manual_seed(0)
    net = ResNet(spatial_dims=3, in_channels=1, outputs=2, conv="3d")
    weight = net.blocks[0].convolutions[0].weight.detach()
    assert weight.shape == (64, 64, 3, 3, 3)
    assert (weight == weight[:, :, :1]).all()
    assert weight.abs().max().item() == pytest.approx(
        (64 * 9) ** -0.5 / 3, rel=0.01
    )  # bound of a 2D layer's uniform start


def test_grades_become_classes_and_the_run_says_so(tmp_path, phantom_root):
    data = ["data=phantom2d", f"data.root={phantom_root}", "data.problem=ordinal", "data.num_classes=4"]
    small = ["data.samples={train: 16, val: 8, test: 8}", "model=scale_tiny", "trainer=fast_dev_run", "logger=none"]
    for grades, expected in (("ordinal", "ordinal"), ("classes", "multiclass")):
        metrics = train(scale.compose([*data, *small, f"data.grades={grades}"]), tmp_path / grades)
        assert metrics["problem"] == scale.load_run(tmp_path / grades).model.problem.name == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.normalisation=offcial", "normalisation"),
        ("data.grades=class", "grades"),
        ("data.drop_last=1", "drop_last"),
    ],
)
def test_impossible_values(override, message):
    with pytest.raises(scale.config.ConfigError, match=message):
        scale.compose([override])
