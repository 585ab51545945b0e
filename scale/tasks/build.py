"""From a configuration to the data module and the network in its LightningModule."""

from collections.abc import Sequence

from omegaconf import DictConfig
from torch import Tensor

from scale.config import instantiate, plain
from scale.config.checks import wrong_dims
from scale.config.keys import without_own
from scale.data.catalog import DataSet
from scale.data.datamodule import ImageDataModule, MedMNISTDataModule
from scale.data.own import PhantomDataModule
from scale.tasks.classification import ClassificationTask
from scale.tasks.problem import Problem


def build_datamodule(config: DictConfig) -> ImageDataModule:
    """The data module, not yet set up."""
    augment = instantiate(config.augment) if config.augment else None
    datamodule: ImageDataModule = instantiate(config.data, augment=augment, seed=config.seed)
    return datamodule


def build_task(
    config: DictConfig,
    problem: Problem,
    *,
    image_shape: Sequence[int],
    class_weights: Tensor | None = None,
    logit_adjustment: Tensor | None = None,
) -> ClassificationTask:
    """The network in its LightningModule.

    Args:
        config: of a run.
        problem: what the labels ask.
        image_shape: (C, *S).
        class_weights: (K,), weights in the loss.
        logit_adjustment: (K,), added to the logits in the training loss.
    """
    channels, *size = image_shape
    wrong = wrong_dims(config.get("data_dims"), len(size))
    if wrong:
        raise ValueError(wrong)
    net = instantiate(config.model, spatial_dims=len(size), in_channels=channels, outputs=problem.outputs)
    task: ClassificationTask = instantiate(
        config.task,
        net=net,
        problem=problem,
        optimizer=instantiate(without_own("optimizer", plain(config.optimizer)), allow=config.get("allow") or ()),
        scheduler=instantiate(config.scheduler),
        class_weights=class_weights,
        logit_adjustment=logit_adjustment,
    )
    return task


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
    if not isinstance(module, MedMNISTDataModule | PhantomDataModule):
        raise ValueError(
            "only the catalog's data sets and phantoms are known before they are opened: give data=<one of them>"
        )
    info = module.described()
    shape = (info.channels, *(config.data.size,) * info.spatial_dims)
    return info, shape, Problem(info.problem, len(info.labels))
