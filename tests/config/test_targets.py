"""What a `_target_` may be, whoever wrote it."""

import pytest
import torch
from omegaconf import OmegaConf

from scale import config
from scale.config import targets

EVIL = (
    "torch.utils.collect_env.run",
    "torch.load",
    "numpy.load",
    "joblib.load",
    "builtins.open",
    "builtins.exec",
    "os.system",
    "subprocess.Popen",
    "pathlib.Path.write_text",
    "hydra.utils.get_object",
    "lightning.pytorch.callbacks.LambdaCallback",
    "lightning.pytorch.callbacks.model_checkpoint.os.system",
    "scale.data.archive.write",
    "scale.utils.files.write_text",
    "scale.models.scale_net.torch.hub.load",
    "torch.optim.lr_scheduler.torch.hub.load",
    "torch.optim.torch.load",
    "torch.nn.Linear",
    "functools.partial",
)


@pytest.mark.parametrize("target", EVIL)
@pytest.mark.parametrize("place", ["outer", "nested", "in a list"])
def test_only_what_is_listed_is_built(target, place):
    evil = {"_target_": target, "_partial_": True}
    node = {
        "outer": evil,
        "nested": {"_target_": "torch.optim.Adam", "_partial_": True, "betas": {"x": evil}},
        "in a list": {"_target_": "torch.optim.Adam", "_partial_": True, "betas": [1, [evil]]},
    }[place]
    with pytest.raises(targets.TargetError, match=rf"_target_={target}.*allow=\["):
        config.instantiate(node)


@pytest.mark.parametrize(
    "target", ["torch.optim.swa_utils", "torch.optim.Tensor", "torch.optim.lr_scheduler.Counter", "torch.optim.cast"]
)
def test_a_listed_name_must_be_of_its_kind(target):
    with pytest.raises((targets.TargetError, ValueError), match=target):
        config.instantiate({"_target_": target, "_partial_": True})


def test_every_option_of_ours_is_listed():
    found = set()
    for path in config.directory().rglob("*.yaml"):
        content = OmegaConf.to_container(OmegaConf.load(path))
        content.pop("hydra", None)  # Hydra's own callbacks are built by Hydra
        found |= {target for _, target in targets.of(content)}
    assert len(found) > 15
    assert [target for target in sorted(found) if not targets.listed(target)] == []


def test_what_the_user_composes_is_allowed_and_what_a_file_says_is_not(tmp_path, monkeypatch):
    _package(tmp_path, monkeypatch)
    composed = config.compose(["model._target_=my_package.Net", "+model.width=3", *_NO_ARGUMENTS])
    assert composed.allow == ["my_package.Net"]
    assert config.instantiate(composed.model, spatial_dims=2, in_channels=1, outputs=2).width == 3
    with pytest.raises(targets.TargetError, match=r"my_package.Net.*allow=\[my_package\]"):
        config.instantiate(config.plain(composed.model), spatial_dims=2, in_channels=1, outputs=2)
    built = config.instantiate(
        config.plain(composed.model), allow=["my_package"], spatial_dims=2, in_channels=1, outputs=2
    )
    assert isinstance(built, torch.nn.Module)


@pytest.mark.parametrize("target", ["my_package.os.system", "my_package.system", "my_package_of_another.Net"])
def test_allow_reaches_what_is_defined_there_and_nothing_behind_it(target, tmp_path, monkeypatch):
    _package(tmp_path, monkeypatch)
    with pytest.raises((targets.TargetError, ValueError), match=target):
        config.instantiate({"_target_": target, "_partial_": True}, allow=["my_package"])


_NO_ARGUMENTS = [
    f"~model.{name}"
    for name in (
        *(
            "streams",
            "lifting",
            "scale_attention",
            "fusion",
            "auxiliary",
            "fusion_layers",
            "slabs",
            "scales",
            "planar_resolution",
        ),
        *(
            "lifted_width",
            "lifted_depths",
            "modality_dropout",
            "dropout",
            "drop_path",
            "planar_widths",
            "volumetric_widths",
        ),
        *("planar_depths", "volumetric_depths", "dim", "heads"),
    )
]


def _package(folder, monkeypatch):
    """A package of the user's own, with a network and with names of other modules in it."""
    (folder / "my_package.py").write_text(
        "import os\nfrom os import system\nfrom torch import nn\n\n\n"
        "class Net(nn.Module):\n    def __init__(self, *, spatial_dims, in_channels, outputs, width=1):\n"
        "        super().__init__()\n        self.width = width\n"
    )
    monkeypatch.syspath_prepend(folder)
