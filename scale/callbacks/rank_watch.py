"""Names the process that a distributed training waits for, instead of waiting for ever."""

import logging
import os
import signal
import socket
import threading
import time
from typing import Any

import lightning as L
from torch import Tensor
from torch.distributed import DistNetworkError, TCPStore
from torch.utils.hooks import RemovableHandle

log = logging.getLogger("scale")
PHASES = ("the start of training", "its forward pass", "its backward pass", "its end")
STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again


class RankWatch(L.Callback):
    """Ends a training of several processes in which one hangs, and says which; nothing for a single process.

    When a process hangs, all others wait for it in a collective operation. The one that has come least far is named:
    the fewest steps, the earliest phase of the step, the fewest layers of its forward pass.

    Args:
        minutes: without a step of this process, after which the run is ended.
    """

    def __init__(self, *, minutes: float = 30.0) -> None:
        if minutes <= 0:
            raise ValueError(f"callbacks.rank_watch.minutes={minutes}: give a number above 0")
        self.seconds = minutes * 60
        self._place, self._layers, self._moved = (0, 0), 0, 0.0
        self._hooks: list[RemovableHandle] = []
        self._ended = threading.Event()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts to watch."""
        if trainer.world_size == 1:
            return
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False) if trainer.is_global_zero else None
        port = trainer.strategy.broadcast(store.port if store else 0)
        self._store = store or TCPStore(host, port, is_master=False)
        self._move(trainer, 0)
        self._hooks = [module.register_forward_pre_hook(self._count) for module in pl_module.modules()]
        threading.Thread(target=self._watch, args=(trainer,), daemon=True, name="scale-ranks").start()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A batch has begun."""
        self._move(trainer, 1)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Its forward pass is over."""
        self._move(trainer, 2)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Its backward pass is over."""
        self._move(trainer, 3)

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Validation goes on."""
        self._moved = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops to watch."""
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stops to watch."""
        self._stop()

    def _move(self, trainer: L.Trainer, phase: int) -> None:
        self._place, self._layers, self._moved = (trainer.global_step, phase), 0, time.monotonic()

    def _count(self, *_: Any) -> None:
        self._layers += 1

    def _stop(self) -> None:
        self._ended.set()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _watch(self, trainer: L.Trainer) -> None:
        rank, pause = trainer.global_rank, min(1.0, self.seconds / 4)
        while not self._ended.wait(pause):
            step, phase = self._place
            try:
                self._store.set(f"rank{rank}", f"{step} {phase} {self._layers} {socket.gethostname()} {os.getpid()}")
            except DistNetworkError:  # the first process, which keeps the store, has ended
                return
            if trainer.is_global_zero and time.monotonic() - self._moved > self.seconds:
                self._end(trainer)

    def _end(self, trainer: L.Trainer) -> None:
        places = {}
        for rank in range(trainer.world_size):
            step, phase, layers, host, process = self._store.get(f"rank{rank}").decode().split()
            places[rank] = (int(step), int(phase), int(layers)), host, process
        furthest, least = (choose(place for place, _, _ in places.values()) for choose in (max, min))
        for rank, (place, host, process) in places.items():
            if place == least:
                log.error(
                    "rank %d (process %s on %s) hangs: it stands at %s, the furthest at %s, and for %.0f seconds "
                    "nothing has moved. The run is ended; go on with: python -m scale.train resume=%s",
                    *(rank, process, host, _text(place), _text(furthest), self.seconds, trainer.default_root_dir),
                )
        launcher: Any = trainer.strategy.launcher
        if hasattr(launcher, "kill"):
            launcher.kill(signal.SIGKILL)
        os._exit(STATUS)  # the main thread waits in a collective operation that cannot be interrupted


def _text(place: tuple[int, int, int]) -> str:
    step, phase, layers = place
    return f"step {step} in {PHASES[phase]}" + (f", layer {layers}" if phase == 1 else "")
