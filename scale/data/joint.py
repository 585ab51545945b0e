"""Several data sets that one network learns from: batches of one set at a time."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scale.data.catalog import DataSet
from scale.data.datamodule import ImageDataModule, MedMNISTDataModule
from scale.data.loading import BatchDataset, TrainLoader, loader
from scale.data.own import PhantomDataModule
from scale.data.sampling import Batch, TrainBatches, draw_seed
from scale.data.sets import PHANTOMS, problems
from scale.data.store import Split


class JointDataModule(ImageDataModule):
    """Two or more data sets of the catalog, or phantoms, of any dimensions, channels and problems.

    An epoch has as many batches as all train splits together fill. Each is of one set; a set's share of them is that of
    its size to a power, and at least one. In an epoch every sample of a set is drawn once before any is drawn again.

    Args:
        sets: names.
        power: 1: sets are drawn as their sizes say; 0: all alike.
        statistics: of batch normalisation: each set has its `own` running means and variances, or all `shared` ones.
        options: further options of single sets by their names, such as a phantom's `samples`.
        size: pixels of a side, of all sets that do not have another in `options`.
        root: folder of the npz files; `$SCALE_DATA_ROOT`, else `~/.medmnist`, if None.
        cache: folder for memory-mapped copies of large files; next to the npz if None.
        download: fetch a file that is not there.
        verify: compare the files' md5 with the official one.
        shared: those of `ImageDataModule`, for all sets.

    Raises:
        ValueError: a set that does not exist, or an option that is for one set only.
    """

    def __init__(
        self,
        sets: list[str],
        *,
        power: float = 0.5,
        statistics: Literal["own", "shared"] = "own",
        options: Mapping[str, Mapping[str, Any]] | None = None,
        size: int = 28,
        root: str | None = None,
        cache: str | None = None,
        download: bool = True,
        verify: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        for text in problems(list(sets), options):
            raise ValueError(text)
        if not 0 <= power <= 1:
            raise ValueError(f"data.power={power}: give a number from 0 (all sets alike) to 1 (as large as they are)")
        if statistics not in ("own", "shared"):
            raise ValueError(f"data.statistics={statistics!r}: give own or shared")
        if self.train_samples is not None or self.balance != "none":
            raise ValueError("data.train_samples and data.balance are not for data=joint: leave them out")
        self.power, self.statistics = power, statistics
        source: dict[str, Any] = {"root": root, "cache": cache, "download": download, "verify": verify}
        self.parts: dict[str, ImageDataModule] = {}
        for name in sets:
            own = {"size": size, **shared, **(options or {}).get(name, {})}
            self.parts[name] = (
                PhantomDataModule(spatial_dims=PHANTOMS[name], root=root, **own)
                if name in PHANTOMS
                else MedMNISTDataModule(name, **source, **own)
            )

    def open(self) -> tuple[DataSet, dict[str, Split]]:
        """Raises ValueError: what asks for one data set is not given several."""
        raise ValueError(f"data=joint is several data sets: give one of {', '.join(self.parts)}")

    @property
    def members(self) -> dict[str, ImageDataModule]:
        """The data sets by name."""
        return self.parts

    def setup(self, stage: str | None = None) -> None:
        """Opens all sets."""
        for module in self.parts.values():
            module.foreign = self.foreign
            module.setup(stage)

    @property
    def train_count(self) -> int:
        """Number of samples that are trained on, over all sets."""
        return sum(module.train_count for module in self.parts.values())

    @property
    def content(self) -> str:
        """A hash of the images and labels of all sets."""
        return hashlib.sha256(" ".join(module.content for module in self.parts.values()).encode()).hexdigest()

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Shuffled training batches, each of one set."""
        modules = list(self.parts.values())
        sampler = JointBatches(
            [module.train_indices for module in modules],
            power=self.power,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        datasets = [BatchDataset(m.splits["train"], spatial_dims=m.info.spatial_dims) for m in modules]
        return loader(JointDataset(datasets), sampler, workers=self.num_workers, kind=TrainLoader)

    def val_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:  # type: ignore[override]
        """The val splits in order."""
        return [module.eval_dataloader("val") for module in self.parts.values()]

    def test_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:  # type: ignore[override]
        """The test splits in order."""
        return [module.eval_dataloader("test") for module in self.parts.values()]

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Called by Lightning once the batch is on the device; the images are prepared as those of their own set."""
        number = int(batch["set"]) if "set" in batch else dataloader_idx
        training = self.trainer is not None and bool(self.trainer.training)
        prepared = list(self.parts.values())[number].prepare(batch, training=training)
        if self.trainer is None:
            return prepared
        return cast(dict[str, Tensor], self.trainer.precision_plugin.convert_input(prepared))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of each set."""
        return {name: module.state_dict() for name, module in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it; raises ValueError where the data are not those that the checkpoint was made with."""
        for name, module in self.parts.items():
            module.load_state_dict(state_dict[name])


class JointDataset(Dataset[dict[str, Tensor]]):
    """Gathers a whole batch of one of several sets."""

    def __init__(self, datasets: Sequence[BatchDataset]) -> None:
        self.datasets = datasets

    def __getitem__(self, batch: tuple[int, Batch]) -> dict[str, Tensor]:
        number, inside = batch
        return {**self.datasets[number][inside], "set": torch.tensor(number)}


class JointBatches(TrainBatches):
    """Batches of one set at a time, in random order, as a function of seed and epoch.

    Args:
        sets: of each set the indices to draw from.
        power: of a set's size, to which its number of batches is proportional.
        batch_size: samples of a batch; of a smaller set all its samples.
        seed: of the whole run.
    """

    def __init__(self, sets: Sequence[np.ndarray], *, power: float, batch_size: int, seed: int) -> None:
        super().__init__(np.concatenate(list(sets)), batch_size=batch_size, seed=seed)
        self.sets = list(sets)
        self.counts = shares([len(indices) for indices in sets], power=power, batches=len(self.indices) // batch_size)

    def __len__(self) -> int:
        return sum(self.counts)

    def __iter__(self) -> Iterator[tuple[int, Batch]]:  # type: ignore[override]
        order = np.repeat(np.arange(len(self.sets)), self.counts)
        order = np.random.default_rng(draw_seed(self.seed, self.epoch)).permutation(order)
        drawn = [self._drawn(number) for number in range(len(self.sets))]
        first, self.first = self.first, 0
        for place in range(first, len(self)):
            number = int(order[place])
            chosen = drawn[number][int((order[:place] == number).sum())]
            yield number, Batch((chosen, draw_seed(self.seed, self.epoch, place), 0, len(chosen)))

    def _drawn(self, number: int) -> np.ndarray:
        """A set's batches (count, size): whole passes over its samples, one behind the other."""
        indices, count = self.sets[number], self.counts[number]
        size = min(self.batch_size, len(indices))
        generator = np.random.default_rng(draw_seed(self.seed, self.epoch, number, len(self.sets)))
        passes = [generator.permutation(indices) for _ in range(-(-count * size // len(indices)))]
        return np.concatenate(passes)[: count * size].reshape(count, size)


def shares(sizes: Sequence[int], *, power: float, batches: int) -> list[int]:
    """Numbers of batches, in proportion to the sizes to a power, each rounded down or up and at least 1.

    Args:
        sizes: of the sets.
        power: 0: all alike.
        batches: their sum, unless there are more sets.
    """
    exact = np.asarray(sizes, dtype=float) ** power
    exact *= max(batches, len(sizes)) / exact.sum()
    counts = np.maximum(np.floor(exact), 1).astype(int)
    for place in np.argsort(-(exact - counts), kind="stable")[: max(batches - int(counts.sum()), 0)]:
        counts[place] += 1
    return [int(count) for count in counts]
