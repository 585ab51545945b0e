"""LightningDataModules: what all share, and the official sets."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from scale.data import catalog, digest, orientation, sampling, store
from scale.data.augment import Augment, mirror
from scale.data.catalog import DataSet
from scale.data.loading import BatchDataset, TrainLoader, channels_first, loader, resident
from scale.data.normalisation import fade, statistics
from scale.data.sampling import EvalBatches, TrainBatches
from scale.data.store import Split

READ_ON_CPU = ("draw", "set")  # of a batch: its seed, and which of several data sets it is of


class ImageDataModule(L.LightningDataModule):
    """Batches of uint8 images; augmentation and normalisation run batched on the device.

    A batch holds `image` (B, C, *S), `label` (B, L), `index` (B,) and `draw` (3,): seed, offset and size of the global
    batch's random draw. A subclass says where the splits come from.

    Args:
        batch_size: samples of a training batch over all processes.
        eval_batch_size: the same in validation and test.
        num_workers: loading processes; not needed, as a batch is one indexing operation.
        train_fraction: stratified share of the train split to train on, in (0, 1].
        train_samples: the same as a number of samples; all if None.
        balance: against unequal classes: `none`, `weights` in the loss, a balanced `sampler`, or `sqrt`, square-root
            sampling: binary and multi-class samples are drawn so that a class' share is that of the square root of its
            size, which `logit_adjustment` makes up for.
        drop_last: leave out what does not fill the last training batch of an epoch.
        normalisation: `standard`: zero mean and unit variance over the train split, per channel; `official`, as the
            published baselines: images to [-1, 1], volumes stay in [0, 1], and volumes that are mere shapes are
            multiplied by 0.5, in training by a random factor in [0, 1] (doi:10.1038/s41597-022-01721-8).
        grades: of ordinal labels: `ordinal`, or plain `classes`, as the published baselines.
        augment: what to do to training images; nothing if None.
        seed: of shuffling, subsets and augmentation.
        on_gpu: where the training runs on a GPU, keep the train images there if they fill less than a quarter of it.
    """

    def __init__(
        self,
        *,
        batch_size: int = 32,
        eval_batch_size: int = 128,
        num_workers: int = 0,
        train_fraction: float = 1.0,
        train_samples: int | None = None,
        balance: Literal["none", "weights", "sampler", "sqrt"] = "none",
        drop_last: bool = True,
        normalisation: Literal["standard", "official"] = "standard",
        grades: Literal["ordinal", "classes"] = "ordinal",
        augment: Augment | None = None,
        seed: int = 0,
        on_gpu: bool = True,
    ) -> None:
        super().__init__()
        sampling.check_part(train_fraction, train_samples)
        sampling.check_options(balance=balance, normalisation=normalisation, grades=grades)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.train_fraction, self.train_samples = train_fraction, train_samples
        self.balance, self.augment, self.seed = balance, augment, seed
        self.drop_last, self.normalisation, self.grades = drop_last, normalisation, grades
        self.on_gpu = on_gpu
        self._resident: Tensor | None = None  # the train images on a GPU
        self.splits: dict[str, Split] = {}
        self.foreign: list[str] = []  # folders that a record names and that are not here, as key=value
        self.preprocessing: dict[str, Any] | None = None  # of the files that the images were made of, where it is known
        self._mirrored: tuple[int, ...] = ()
        self.mean: Tensor | None = None
        self.std: Tensor | None = None
        self._expected: tuple[str, str | None] | None = None  # digests of the data that a checkpoint was made with
        self._known_content: str | None = None

    def open(self) -> tuple[DataSet, dict[str, Split]]:
        """What the data set is, and its splits."""
        raise NotImplementedError

    @property
    def orientation(self) -> str:
        """Where the axes of volumes point to: of prepared files what their companion says, else `SPL`."""
        return orientation.of(self.preprocessing)

    def setup(self, stage: str | None = None) -> None:
        """Opens the files once; the statistics of the train split are kept in checkpoints.

        Raises:
            ValueError: the data are not those of the checkpoint that was loaded, or an option does not fit them.
        """
        store.refuse_foreign(self.foreign)
        if not self.splits:
            self.info, self.splits = self.open()
            if self.info.problem == "ordinal" and self.grades == "classes":
                self.info = replace(self.info, problem="multiclass")
            if self.balance == "sqrt" and self.info.problem not in ("binary", "multiclass"):
                raise ValueError(
                    f"data.balance=sqrt is for binary and multi-class problems, but {self.info.title} is "
                    f"{self.info.problem}: give weights, sampler or none"
                )
            self.train_indices = sampling.stratified_part(
                self.splits["train"].labels, fraction=self.train_fraction, samples=self.train_samples, seed=self.seed
            )
        if self.mean is None or self.std is None:
            images, channels = self.splits["train"].images, self.image_shape[0]
            self.mean, self.std = statistics(self.normalisation, self.info, images, channels)
        self._check()

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape (C, *S) of an image."""
        shape = self.splits["train"].images.shape[1:]
        dims = self.info.spatial_dims
        return (shape[dims] if len(shape) > dims else 1, *shape[:dims])

    @property
    def members(self) -> Mapping[str, "ImageDataModule"]:
        """The data sets that it is made of, by name: itself."""
        return {self.info.flag: self}

    @property
    def train_count(self) -> int:
        """Number of samples that are trained on."""
        return len(self.train_indices)

    @property
    def train_labels(self) -> np.ndarray:
        """Labels (N, L) of the samples that are trained on."""
        return self.splits["train"].labels[self.train_indices]

    @property
    def logit_adjustment(self) -> Tensor | None:
        """What square-root sampling adds to the logits (K,); None where there is nothing to make up for."""
        if self.balance != "sqrt":
            return None
        return torch.from_numpy(sampling.of_square_roots(self.train_labels[:, 0], classes=len(self.info.labels)))

    @property
    def content(self) -> str:
        """A hash of all images and labels, by which other data are told whatever they are called."""
        if self._known_content is None:
            self._known_content = digest.of_all(self.splits)
        return self._known_content

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Shuffled training batches."""
        power = {"sampler": 1.0, "sqrt": 0.5}.get(self.balance, 0.0)
        sampler = TrainBatches(
            self.train_indices,
            batch_size=self.batch_size,
            seed=self.seed,
            weights=sampling.balancing(self.train_labels, power=power) if power else None,
            drop_last=self.drop_last,
            **self._processes(),
        )
        split, dims = self.splits["train"], self.info.spatial_dims
        if self.on_gpu and self.trainer is not None:
            self._resident = resident(split, self.trainer.strategy.root_device)
        dataset = BatchDataset(split, spatial_dims=dims, with_images=self._resident is None)
        return loader(dataset, sampler, workers=self.num_workers, kind=TrainLoader)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The val split in order."""
        return self.eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The test split in order."""
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> DataLoader[dict[str, Tensor]]:
        """A whole split in order, each sample once over all processes."""
        dataset = BatchDataset(self.splits[split], spatial_dims=self.info.spatial_dims)
        sampler = EvalBatches(len(dataset.split.labels), batch_size=self.eval_batch_size, **self._processes())
        return loader(dataset, sampler, workers=self.num_workers)

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        """Moves a batch, but for what is read on the CPU, as fetching it back would wait for the GPU.

        The images of a split that is on the GPU are gathered there.
        """
        rest = {key: value for key, value in batch.items() if key not in READ_ON_CPU}
        moved = super().transfer_batch_to_device(rest, device, dataloader_idx)
        if "image" not in moved and self._resident is not None:
            moved["image"] = channels_first(self._resident[moved["index"]], spatial_dims=self.info.spatial_dims)
        return {**moved, **{key: batch[key] for key in READ_ON_CPU if key in batch}}

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Called by Lightning once the batch is on the device; the images get the precision of the network."""
        if self.trainer is None:
            return self.prepare(batch)
        prepared = self.prepare(batch, training=bool(self.trainer.training))
        return cast(dict[str, Tensor], self.trainer.precision_plugin.convert_input(prepared))

    def prepare(self, batch: dict[str, Tensor], *, training: bool = False) -> dict[str, Tensor]:
        """Turns uint8 images into normalised float images, augmented where `training`."""
        images = batch["image"].float() / 255
        if training:
            seed, offset, total = batch["draw"].tolist()
            if self.augment is not None:
                images = self.augment(images, symmetry=self.info.symmetry, seed=seed, offset=offset, total=total)
            if self.normalisation == "official" and self.info.shapes:
                images = fade(images, seed=seed, offset=offset, total=total)
        else:
            images = mirror(images, self._mirrored)
        return {**batch, "image": self.normalise(images)}

    def normalise(self, images: Tensor) -> Tensor:
        """Maps images (B, C, *S) in [0, 1] to what `normalisation` says."""
        assert self.mean is not None
        assert self.std is not None
        if self.mean.device != images.device:  # once, not in every batch
            self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)
        shape = (1, -1) + (1,) * (images.ndim - 2)
        return (images - self.mean.view(shape)) / self.std.view(shape)

    @contextmanager
    def mirrored(self, axes: tuple[int, ...]) -> Iterator[None]:
        """Within this context images that are evaluated are mirrored along these spatial axes."""
        before, self._mirrored = self._mirrored, axes
        try:
            yield
        finally:
            self._mirrored = before

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the statistics, so that a saved model needs no train split."""
        assert self.mean is not None
        assert self.std is not None
        return {
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "digest": digest.of_some(self.splits),
            "content": self.content,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the statistics.

        Raises:
            ValueError: the data are opened and are not those that the checkpoint was made with.
        """
        self._expected = state_dict["digest"], state_dict.get("content")  # the second is new
        self._check()
        self.mean, self.std = torch.tensor(state_dict["mean"]), torch.tensor(state_dict["std"])

    def _check(self) -> None:
        if self.splits and self._expected is not None:
            digest.refuse_others(self.splits, self._expected, self.content)

    def _processes(self) -> dict[str, int]:
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}


class MedMNISTDataModule(ImageDataModule):
    """One of the 18 official data sets.

    Args:
        flag: the data set's name, such as `vesselmnist3d`.
        size: pixels of a side: 28, 64, 128 or 224 in 2D, 28 or 64 in 3D.
        root: folder of the npz files; `$SCALE_DATA_ROOT`, else `~/.medmnist`, if None.
        cache: folder for memory-mapped copies of large files; next to the npz if None.
        download: fetch a file that is not there.
        verify: compare the file's md5 with the official one.
        options: those of `ImageDataModule`.
    """

    def __init__(
        self,
        flag: str,
        *,
        size: int = 28,
        root: str | None = None,
        cache: str | None = None,
        download: bool = True,
        verify: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        catalog.get(flag).check_size(size)
        self.flag, self.size = flag, size
        self.source: Mapping[str, Any] = {"root": root, "cache": cache, "download": download, "verify": verify}

    def open(self) -> tuple[DataSet, dict[str, Split]]:
        """Finds or downloads the file."""
        return self.described(), store.load(self.flag, size=self.size, **self.source)

    def described(self) -> DataSet:
        """What is known before it is opened."""
        return catalog.get(self.flag)
