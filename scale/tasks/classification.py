"""The LightningModule around a network."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Self

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from scale.evaluation.metrics import official_scores
from scale.tasks.graphs import GraphedPass
from scale.tasks.losses import ON_A_GPU, EpochLosses
from scale.tasks.outputs import Outputs
from scale.tasks.problem import Problem


class ClassificationTask(L.LightningModule):
    """Trains a network on one `Problem` and collects what it says of whole splits.

    Logs `train/loss`, `val/loss`, `val/auc`, `val/acc` and `lr`, one value an epoch.

    Args:
        net: maps images (B, C, *S) to logits (B, outputs). If it has `forward_auxiliary(images)`, that returns the
            logits and a dict of further logits that are trained beside them.
        problem: what the labels ask.
        optimizer: makes an optimizer of parameter groups.
        scheduler: makes a schedule of an optimizer, with `total_steps`; stepped once a step.
        label_smoothing: in [0, 1).
        auxiliary_weight: weight of the auxiliary losses' mean.
        gate_entropy: weight of 1 - H / log 2 in the loss, the mean over the samples, with H the entropy of the stream
            gate: against a gate that is all for one stream. Needs a network with `forward_gated`.
        flip_consistency: with a number above 0 each sample is trained on together with its mirror image along a random
            axis of `flips`, in one pass, and this is the weight in the loss of the squared distance between the
            probabilities of the two, the mean over heads and samples.
        flips: spatial axes along which the mirror image keeps the label.
        class_weights: (K,), weights in the loss.
        logit_adjustment: (K,), added to the logits in the training loss alone, for classes that are drawn more or less
            often than they are (arXiv:2007.07314).
        compile: run the network through `torch.compile`, in training from `on_fit_start` on.
        cuda_graphs: on a GPU, replay the training pass as CUDA graphs from the first step on.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        problem: Problem,
        optimizer: Callable[..., Optimizer] | None = None,
        scheduler: Callable[..., LRScheduler] | None = None,
        label_smoothing: float = 0.0,
        auxiliary_weight: float = 2.0,
        gate_entropy: float = 0.0,
        flip_consistency: float = 0.0,
        flips: tuple[int, ...] = (),
        class_weights: Tensor | None = None,
        logit_adjustment: Tensor | None = None,
        compile: bool = False,
        cuda_graphs: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"task.label_smoothing={label_smoothing}: give a number from 0 to below 1")
        if auxiliary_weight < 0:
            raise ValueError(f"task.auxiliary_weight={auxiliary_weight}: give a number of at least 0")
        if gate_entropy and not getattr(net, "has_gate", False):
            raise ValueError(f"task.gate_entropy={gate_entropy}, but this {type(net).__name__} has no stream gate")
        if gate_entropy and not auxiliary_weight:
            raise ValueError("task.gate_entropy needs task.auxiliary_weight above 0, from which the streams learn")
        if flip_consistency and not flips:
            raise ValueError(f"task.flip_consistency={flip_consistency}, but no flip keeps the labels of these data")
        self.gate_entropy, self.flip_consistency, self.flips = gate_entropy, flip_consistency, tuple(flips)
        self.net, self.problem = net, problem
        self._optimizer, self._scheduler = optimizer, scheduler
        self.label_smoothing, self.auxiliary_weight = label_smoothing, auxiliary_weight
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.logit_adjustment: Tensor | None
        self.register_buffer("logit_adjustment", logit_adjustment, persistent=False)
        self._seen: list[dict[str, Tensor]] = []
        self._losses = EpochLosses()
        self.outputs: Outputs | None = None
        self._loaded: frozenset[str] = frozenset()
        self._frozen: tuple[str, ...] = ()
        self._trunk_scale = 1.0
        self.compile_net, self.cuda_graphs = compile, cuda_graphs
        self._forward_auxiliary: Callable[[Tensor], Any] | None = getattr(net, self._training_pass, None)
        self._graphed: GraphedPass | None = None
        if compile:
            self.net.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, outputs) of normalised images (B, C, *S)."""
        return self.net(images)

    def begin_with(self, loaded: Iterable[str], *, trunk_scale: float = 1.0, frozen: Iterable[str] = ()) -> None:
        """Says what of the network was loaded and what of it stays as it is.

        Args:
            loaded: names of parameters in the network.
            trunk_scale: factor of the learning rate of what was loaded.
            frozen: names of modules in the network: their parameters get no gradient, and they stay in evaluation
                mode, so that their batch normalisation keeps its statistics and nothing in them is dropped.
        """
        self._loaded, self._trunk_scale = frozenset(loaded), trunk_scale
        self._frozen = tuple(name for name, _ in self.net.named_modules() if name in set(frozen))
        for name in self._frozen:
            self.net.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switches to training or evaluation mode; frozen parts stay in the latter."""
        super().train(mode)
        for name in self._frozen:
            self.net.get_submodule(name).eval()
        return self

    def on_fit_start(self) -> None:
        """Compiles or records the forward pass of the training steps; `Module.compile` reaches `__call__` alone."""
        if self.cuda_graphs:
            has_auxiliary = self._forward_auxiliary is not None and (self.auxiliary_weight or self.gate_entropy)
            self._graphed = GraphedPass(self.net, self._training_pass if has_auxiliary else "forward")
        elif self.compile_net and self._forward_auxiliary is not None:
            self._forward_auxiliary = torch.compile(self._forward_auxiliary)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Seeds dropout with the batch's draw, so that a resumed run repeats an uninterrupted one."""
        torch.manual_seed(int(batch["draw"][0]))
        if batch_idx == 0:
            self._losses = EpochLosses(every=1 if self.device.type == "cpu" else ON_A_GPU)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        images, labels = batch["image"], batch["label"]
        in_pairs = bool(self.flip_consistency and self.flips)
        if in_pairs:
            axis = self.flips[int(torch.randint(len(self.flips), ()))]
            images, labels = _alternating(images, images.flip(2 + axis)), _alternating(labels, labels)
        logits, auxiliary, gate = self._heads(images)
        loss = main = self._loss(logits, labels)
        if auxiliary:
            losses = torch.stack([self._loss(other, labels) for other in auxiliary.values()])
            loss = loss + self.auxiliary_weight * losses.mean()
        if gate is not None:
            loss = loss + self.gate_entropy * one_sidedness(gate)
        if in_pairs:
            loss = loss + self.flip_consistency * self._distance_in_pairs([logits, *auxiliary.values()])
        place = f"at step {self.global_step} (epoch {self.current_epoch}, batch {batch_idx}"
        self._losses.add(torch.stack([loss.detach(), main.detach()]), index=batch["index"], place=place)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Logs the epoch's mean loss behind its last batch, and that without auxiliary terms, as val's is."""
        if self.trainer.is_last_batch:
            for name, total in zip(("train/loss", "train/main_loss"), self._mean_loss_sums(), strict=True):
                self.log(name, total / self._losses.count, on_step=False, on_epoch=True, batch_size=1)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collects logits and labels."""
        self._collect(batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collects logits and labels."""
        self._collect(batch)

    def on_validation_epoch_end(self) -> None:
        """Keeps the outputs of the split in `outputs`; while training, logs its loss and official scores."""
        self.outputs = outputs = self._gather()
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        loss = self.problem.loss(torch.from_numpy(outputs.logits), torch.from_numpy(outputs.labels))
        scores = official_scores(outputs.labels, outputs.probabilities, self.problem.name)
        values = {"val/loss": float(loss), "val/auc": scores["auc"], "val/acc": scores["acc"]}
        self.log_dict(values | {"lr": self.trainer.optimizers[0].param_groups[0]["lr"]})

    def on_test_epoch_end(self) -> None:
        """Keeps the outputs of the split in `outputs`."""
        self.outputs = self._gather()

    def configure_optimizers(self) -> Any:
        """One group with and one without weight decay (norms, biases, gates); the same again for what was loaded."""
        if self._optimizer is None or self._scheduler is None:
            raise ValueError("this task was made without optimizer and scheduler: it can predict, but not train")
        trained = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        slow = self._loaded if self._trunk_scale != 1 else frozenset()
        groups: list[dict[str, Any]] = []
        factors: list[float] = []
        for factor, chosen in (
            (1.0, [p for name, p in trained if name not in slow]),
            (self._trunk_scale, [p for name, p in trained if name in slow]),
        ):
            decayed, kept = [p for p in chosen if p.ndim > 1], [p for p in chosen if p.ndim <= 1]
            both: list[dict[str, Any]] = [{"params": decayed}, {"params": kept, "weight_decay": 0.0}]
            added = [group for group in both if group["params"]]
            groups, factors = groups + added, factors + [factor] * len(added)
        optimizer = self._optimizer(groups)
        for group, factor in zip(optimizer.param_groups, factors, strict=True):
            group["lr"] *= factor
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = {"scheduler": self._scheduler(optimizer, total_steps=steps), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the losses of an epoch that has not ended; all processes call it."""
        sums = self._mean_loss_sums()
        checkpoint["epoch_loss"] = {"sums": sums, "count": self._losses.count}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continues those losses; an earlier version kept one sum, and its epoch's mean is over the batches to come."""
        kept = checkpoint["epoch_loss"]
        if "sums" in kept:
            self._losses.sums, self._losses.count = kept["sums"], kept["count"]

    def _mean_loss_sums(self) -> list[float]:
        return _mean_of_processes(torch.tensor(self._losses.read(), dtype=torch.float64, device=self.device)).tolist()

    @property
    def _training_pass(self) -> str:
        return "forward_gated" if self.gate_entropy else "forward_auxiliary"

    def _heads(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """The logits that are trained, those that are trained beside them, and the gate where its entropy counts."""
        if self._forward_auxiliary is None or not (self.auxiliary_weight or self.gate_entropy):
            return self(images) if self._graphed is None else self._graphed(images), {}, None
        logits, auxiliary, *rest = (self._graphed or self._forward_auxiliary)(images)
        return logits, auxiliary if self.auxiliary_weight else {}, rest[0] if rest else None

    def _distance_in_pairs(self, heads: list[Tensor]) -> Tensor:
        probabilities = [self.problem.probabilities(logits).unflatten(0, (-1, 2)) for logits in heads]
        return torch.stack([(pair[:, 0] - pair[:, 1]).square().sum(dim=1) for pair in probabilities]).mean()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.problem.loss(
            logits if self.logit_adjustment is None else logits + self.logit_adjustment,
            labels,
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
            share_amount=_mean_of_processes,
        )

    def _collect(self, batch: dict[str, Tensor]) -> None:
        # not in mixed precision: rounded scores tie, and ties count half in the AUC
        with torch.autocast(self.device.type, enabled=False):
            logits = self(batch["image"]).float()
        self._seen.append({"index": batch["index"], "logits": logits, "labels": batch["label"]})

    def _gather(self) -> Outputs:
        """Outputs of all processes in the split's order; each sample was seen by one process, once."""
        width, labels = self.problem.outputs, self._seen[0]["labels"].shape[1] if self._seen else 1
        mine = (
            {key: torch.cat([seen[key] for seen in self._seen]).cpu() for key in ("index", "logits", "labels")}
            if self._seen
            else {"index": torch.empty(0), "logits": torch.empty(0, width), "labels": torch.empty(0, labels)}
        )
        self._seen.clear()
        parts: list[dict[str, Tensor]] = [mine]
        if self.trainer.world_size > 1:
            parts = [{} for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(parts, mine)
            parts = [part for part in parts if len(part["index"])]
        joined = {key: torch.cat([part[key] for part in parts]) for key in mine}
        order = torch.argsort(joined["index"])
        logits = joined["logits"][order]
        return Outputs(
            index=joined["index"][order].long().numpy(),
            logits=logits.numpy(),
            probabilities=self.problem.probabilities(logits.double()).numpy(),
            labels=joined["labels"][order].numpy(),
        )


def _alternating(one: Tensor, other: Tensor) -> Tensor:
    """(B, ...) and (B, ...) to (2B, ...): in this order a process has a contiguous part of the batch of all."""
    return torch.stack([one, other], dim=1).flatten(0, 1)


def one_sidedness(gate: Tensor) -> Tensor:
    """gate: (B, 2), rows sum to 1; returns the mean of 1 - H / log 2: 0 where both streams weigh alike, at most 1."""
    entropy = -torch.xlogy(gate, gate.clamp(min=1e-12)).sum(dim=1)
    return (1 - entropy / math.log(2)).mean()


def _mean_of_processes(value: Tensor) -> Tensor:
    """The mean of each process' value, which gets no gradient."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return value
    mean = value.detach() / torch.distributed.get_world_size()
    torch.distributed.all_reduce(mean)
    return mean
