"""How much of the machine there is, and each job's share of it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

GPU = ("gpu", "cuda", "auto")  # accelerators that may be one


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Names of the GPUs that CUDA_VISIBLE_DEVICES allows, found without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(found.iterdir())))] if found.is_dir() else []


def share(slot: int, *, slots: int, visible: Sequence[str], trainer: Mapping[str, Any]) -> dict[str, str]:
    """Environment variables of a run that is one of several at the same time: its part of the cores and GPUs.

    Args:
        slot: number of the run among those, from 0.
        slots: how many run at the same time.
        visible: all GPUs.
        trainer: the run's configuration of it.
    """
    if slots == 1:
        return {}
    variables = {"OMP_NUM_THREADS": str(max(1, cores() // slots))}
    if visible and trainer["accelerator"] in GPU:
        devices = trainer["devices"] if isinstance(trainer["devices"], int) else None
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpus_of(slot, slots=slots, visible=visible, devices=devices))
    return variables


def gpus_of(slot: int, *, slots: int, visible: Sequence[str], devices: int | None) -> list[str]:
    """The GPUs of one of several jobs that run at the same time.

    Args:
        slot: number of the job among those that run, from 0.
        slots: how many run at the same time.
        visible: all GPUs.
        devices: how many a job asks for; None: an equal share.

    Returns:
        As many as it asks for, shared with no other job while there are enough of them.
    """
    size = devices or max(1, len(visible) // slots)
    parts = len(visible) // size
    if not parts:
        return list(visible)  # the run says that there are too few
    first = slot % parts * size
    return list(visible[first : first + size])


def parallel(launcher: Mapping[str, Any], *, count: int, batch: int | None) -> int | None:
    """How many of a sweep's jobs run at the same time on this machine.

    Args:
        launcher: its configuration.
        count: of jobs.
        batch: the sweeper's `max_batch_size`.

    Returns:
        None where the launcher itself hands out cores and GPUs (SLURM, Ray).
    """
    most = min(count, batch or count)
    match str(launcher["_target_"]).rpartition(".")[2]:
        case "BasicLauncher":
            return 1
        case "JoblibLauncher":
            wanted = int(launcher["n_jobs"])
            return min(most, wanted if wanted > 0 else max(1, cores() + 1 + wanted))
        case "LocalLauncher":
            return most  # all at once
    return None
