import pytest
from omegaconf import OmegaConf

from scale import config
from scale.config import experiment


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data=vesselmnist3d", "data.size=64", "hardware=amp", "model=resnet18", "model.conv=acs"],
        ["experiment=example", "callbacks.console=null", "logger=none", "model.planar_widths=[8, 16, 32]"],
        [
            "debug=overfit",
            "augment=none",
            "scheduler=constant",
            "compile=true",
            "seed=3",
            "threads=2",
            "optimizer.lr=0.00123456789012345",
        ],
        ["data=npz", "data.path=a.npz", "data.problem=binary"],
        ["data=folder", "data.path=images", "data.prepare.size=64"],
        ["data=joint", "data.sets=[phantom2d,phantom3d]"],
        ["data=breastmnist", "model=timm", "model.name=convnext_atto"],
    ],
)
def test_the_file_gives_the_same_configuration(tmp_path, overrides):
    path = experiment.write(tmp_path, "best", overrides, comment="one\ntwo")
    assert path == tmp_path / "experiment" / "best.yaml"
    assert path.read_text().startswith("# @package _global_\n# one\n# two\n")
    assert config.compose(["experiment=best"], config_dir=str(tmp_path)) == config.compose(overrides)


def test_it_says_only_what_differs(tmp_path):
    path = experiment.write(tmp_path, "best", ["model=scale_tiny", "optimizer.lr=0.01"])
    assert OmegaConf.load(path) == {"defaults": [{"override /model": "scale_tiny"}], "optimizer": {"lr": 0.01}}


def test_options_of_ones_own_are_written_beside_it(tmp_path):
    own, folder = tmp_path / "own", tmp_path / "study"
    (own / "optimizer").mkdir(parents=True)
    (own / "optimizer" / "mine.yaml").write_text("_target_: torch.optim.SGD\n_partial_: true\nlr: 0.5\n")
    experiment.write(folder, "best", ["optimizer=mine", "optimizer.lr=0.25"], config_dir=str(own))
    composed = config.compose(["experiment=best"], config_dir=str(folder))
    assert composed == config.compose(["optimizer=mine", "optimizer.lr=0.25"], config_dir=str(own))
    assert composed.optimizer.lr == 0.25


def test_a_file_cannot_remove_a_key(tmp_path):
    with pytest.raises(ValueError, match="cannot remove optimizer.weight_decay: set it to null"):
        experiment.write(tmp_path, "best", ["~optimizer.weight_decay"])


def test_long_is_the_default_recipe_for_twice_the_samples():
    found, default = (config.compose(["data=breastmnist", *more]) for more in (["experiment=long"], []))
    assert found.budget.samples == 2 * default.budget.samples
    assert found.variant == "twice as long"
    found.budget, found.variant = default.budget, default.variant
    assert found == default
