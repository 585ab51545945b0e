"""From a configuration to the data module and the network in its LightningModule."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from scale.config import instantiate, plain
from scale.config.checks import wrong_dims
from scale.config.keys import without_own
from scale.data import digest
from scale.data.catalog import DataSet
from scale.data.datamodule import ImageDataModule, MedMNISTDataModule
from scale.data.joint import JointDataModule
from scale.data.own import ControlledDataModule, PhantomDataModule
from scale.models.joint import JointNet
from scale.tasks.classification import ClassificationTask
from scale.tasks.joint import JointTask
from scale.tasks.problem import Problem


def build_datamodule(config: DictConfig) -> ImageDataModule:
    """The data module, not yet set up."""
    augment = instantiate(config.augment) if config.augment else None
    datamodule: ImageDataModule = instantiate(config.data, augment=augment, seed=config.seed)
    return datamodule


def content_of(config: DictConfig) -> str:
    """The hash of the images and labels that a configuration names, as `ImageDataModule.content`; opens them all.

    Raises:
        OSError: they are not there.
        ValueError: they are no data set, or not what the configuration says of them.
    """
    _, splits = build_datamodule(config).open()
    return digest.of_all(splits)


def build_task(
    config: DictConfig,
    problem: Problem,
    *,
    image_shape: Sequence[int],
    class_weights: Tensor | None = None,
    logit_adjustment: Tensor | None = None,
    flips: Sequence[int] | None = None,
) -> ClassificationTask:
    """The network in its LightningModule.

    Args:
        config: of a run.
        problem: what the labels ask.
        image_shape: (C, *S).
        class_weights: (K,), weights in the loss.
        logit_adjustment: (K,), added to the logits in the training loss.
        flips: spatial axes along which the mirror image keeps the label; None: it is not trained.
    """
    wrong = wrong_dims(config.get("data_dims"), len(image_shape) - 1)
    if wrong:
        raise ValueError(wrong)
    task: ClassificationTask = instantiate(
        config.task,
        net=build_net(config, problem, image_shape=image_shape),
        problem=problem,
        **_training(config),
        **({"flip_consistency": 0.0, "gate_entropy": 0.0} if flips is None else {"flips": tuple(flips)}),
        class_weights=class_weights,
        logit_adjustment=logit_adjustment,
    )
    return task


def build_net(config: DictConfig, problem: Problem, *, image_shape: Sequence[int]) -> nn.Module:
    """The network; where several data sets share its trunk, that of one of them."""
    net: nn.Module = instantiate(config.model, **net_arguments(config, problem, image_shape=image_shape))
    return net


def net_arguments(config: DictConfig, problem: Problem, *, image_shape: Sequence[int]) -> dict[str, Any]:
    """What a network takes beside its configuration.

    Where several data sets share its trunk, a planar stream that images and volumes share is as large for the latter as
    for the former, and images, which the volumetric stream is not made for, have that stream alone.
    """
    channels, *size = image_shape
    given: dict[str, Any] = {"spatial_dims": len(size), "in_channels": channels, "outputs": problem.outputs}
    if is_joint(config):
        given |= {"lifted_width": 1.0, "lifted_depths": list(config.model.planar_depths)}
        given |= {"streams": "planar", "modality_dropout": 0.0} if len(size) == 2 else {}
    return given


def build_training(config: DictConfig, datamodule: ImageDataModule) -> ClassificationTask:
    """The network that a run trains, on data that are set up."""
    problems = {name: _problem(module) for name, module in datamodule.members.items()}
    if not isinstance(datamodule, JointDataModule):
        problem = next(iter(problems.values()))
        return build_task(
            config,
            problem,
            image_shape=datamodule.image_shape,
            class_weights=problem.class_weights(datamodule.train_labels) if datamodule.balance == "weights" else None,
            logit_adjustment=datamodule.logit_adjustment,
            flips=datamodule.info.symmetry.flips,
        )
    nets: dict[str, Any] = {
        name: build_net(config, problems[name], image_shape=module.image_shape)
        for name, module in datamodule.members.items()
    }
    net = JointNet(nets, own_statistics=datamodule.statistics == "own")
    settings = {key: value for key, value in plain(config.task).items() if key != "_target_"}
    flips = {name: module.info.symmetry.flips for name, module in datamodule.members.items()}
    return JointTask(net, problems=problems, flips=flips, **settings, **_training(config))


def is_joint(config: DictConfig) -> bool:
    """Whether a run's network learns from several data sets."""
    return str(config.data.get("_target_")).endswith(".JointDataModule")


def _problem(datamodule: ImageDataModule) -> Problem:
    return Problem(datamodule.info.problem, len(datamodule.info.labels))


def _training(config: DictConfig) -> dict[str, Any]:
    node = without_own("optimizer", plain(config.optimizer))
    optimizer = instantiate(node, allow=config.get("allow") or ())
    return {"optimizer": optimizer, "scheduler": instantiate(config.scheduler)}


def check_model(config: DictConfig) -> None:
    """Raises what can be told of a network before the data are opened: a library or a name that does not exist."""
    if config.model._target_.endswith(".TimmNet"):
        from scale.models.timm_net import check_name

        check_name(config.model.name)


def model_name(config: DictConfig, *, choice: str, spatial_dims: int) -> str:
    """What a network is called in tables: the option's name, with what tells its networks apart.

    Args:
        config: of a run.
        choice: option of the group `model`.
        spatial_dims: 2 or 3.
    """
    if config.model._target_.endswith(".TimmNet"):
        return f"timm/{config.model.name}"
    return f"{choice}+{config.model.conv}" if spatial_dims == 3 and "conv" in config.model else choice


def announced(config: DictConfig) -> tuple[DataSet, tuple[int, ...], Problem]:
    """Description, image shape (C, *S) and problem of a configuration's data set, which need not be there.

    Raises:
        ValueError: a file of one's own must be opened to be known.
    """
    module = build_datamodule(config)
    if not isinstance(module, MedMNISTDataModule | PhantomDataModule | ControlledDataModule):
        raise ValueError(
            "only the catalog's data sets and phantoms are known before they are opened: give data=<one of them>"
        )
    info = module.described()
    shape = (info.channels, *(config.data.size,) * info.spatial_dims)
    return info, shape, Problem(info.problem, len(info.labels))
