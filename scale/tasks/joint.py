"""The LightningModule around a network that learns from several data sets."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from scale.evaluation.metrics import official_scores
from scale.models.joint import JointNet
from scale.tasks.classification import ClassificationTask
from scale.tasks.outputs import Outputs
from scale.tasks.problem import Problem


class JointTask(ClassificationTask):
    """Trains a `JointNet`, each step on a batch of one data set with its own problem.

    Logs what `ClassificationTask` logs, of val the means over the sets, and `val/loss/<set>`, `val/auc/<set>` and
    `val/acc/<set>`. `outputs` has those of every set by name.

    Args:
        net: the network.
        problems: of each data set, in the order of their numbers in a batch.
        flips: of each data set the spatial axes along which the mirror image keeps the label.
        settings: further arguments of `ClassificationTask`.
    """

    outputs: dict[str, Outputs] | None  # type: ignore[assignment]

    def __init__(
        self,
        net: JointNet,
        *,
        problems: Mapping[str, Problem],
        flips: Mapping[str, tuple[int, ...]],
        **settings: Any,
    ) -> None:
        every = tuple(sorted({axis for axes in flips.values() for axis in axes}))
        super().__init__(net, problem=next(iter(problems.values())), flips=every, **settings)
        self.flips_of = flips
        self.problems, self.names = dict(problems), list(problems)
        self._seen_of: dict[str, list[dict[str, Tensor]]] = {}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch, of the head of its data set."""
        self._use(self.names[int(batch["set"])])
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collects logits and labels."""
        self._collect_of(self.names[dataloader_idx], batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collects logits and labels."""
        self._collect_of(self.names[dataloader_idx], batch)

    def on_validation_epoch_end(self) -> None:
        """Keeps the outputs of the splits in `outputs`; while training, logs their losses and official scores."""
        self.outputs = self._gather_all()
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        values: dict[str, float] = {}
        for name, found in self.outputs.items():
            problem = self.problems[name]
            loss = problem.loss(torch.from_numpy(found.logits), torch.from_numpy(found.labels))
            scores = official_scores(found.labels, found.probabilities, problem.name)
            own = {"val/loss": float(loss), "val/auc": scores["auc"], "val/acc": scores["acc"]}
            values |= {f"{key}/{name}": value for key, value in own.items()}
        for key in ("val/loss", "val/auc", "val/acc"):
            values[key] = sum(values[f"{key}/{name}"] for name in self.outputs) / len(self.outputs)
        self.log_dict(values | {"lr": self.trainer.optimizers[0].param_groups[0]["lr"]})

    def on_test_epoch_end(self) -> None:
        """Keeps the outputs of the splits in `outputs`."""
        self.outputs = self._gather_all()

    def _use(self, name: str) -> None:
        member = cast(JointNet, self.net).use(name)
        self.problem, self.flips = self.problems[name], self.flips_of[name]
        self._forward_auxiliary = getattr(member, self._training_pass)

    def _collect_of(self, name: str, batch: dict[str, Tensor]) -> None:
        self._use(name)
        self._seen = self._seen_of.setdefault(name, [])
        self._collect(batch)

    def _gather_all(self) -> dict[str, Outputs]:
        found = {}
        for name in self.names:
            self._use(name)
            self._seen = self._seen_of.pop(name, [])
            found[name] = self._gather()
        return found
