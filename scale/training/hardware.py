"""What a run asks of the machine: checked before anything is made, then set."""

import os
import warnings

from omegaconf import DictConfig


def check(config: DictConfig) -> None:
    """Compares `trainer` and `data.batch_size` with the machine.

    Raises:
        ValueError: fewer devices are there than asked for, or a batch cannot be shared among them.
    """
    import torch

    wanted = config.trainer.get("devices", 1)
    processes = wanted * config.trainer.get("num_nodes", 1) if isinstance(wanted, int) else 1
    size = config.data.batch_size
    if size < 1 or size % processes:
        raise ValueError(
            f"data.batch_size={size} is the batch of all processes: give a positive multiple of {processes}"
        )
    if size == 1 or (size == processes and not config.trainer.get("sync_batchnorm")):
        raise ValueError(
            f"data.batch_size={size} on {processes} processes leaves a batch of one sample, which has no variance to "
            "normalise by: give at least two samples a process"
        )
    if config.trainer.accelerator == "cpu" and isinstance(wanted, int) and wanted > (os.cpu_count() or 1):
        raise ValueError(f"trainer.devices={wanted}, but there are {os.cpu_count()} CPU cores: give at most that many")
    if config.trainer.accelerator not in ("gpu", "cuda"):
        return
    present = torch.cuda.device_count()
    if not present:
        raise ValueError("trainer.accelerator=gpu, but no CUDA device is visible: use trainer=cpu or trainer=ddp_cpu")
    if isinstance(wanted, int) and wanted > present:
        raise ValueError(f"trainer.devices={wanted}, but {present} CUDA devices are visible: give at most that many")


def prepare(config: DictConfig) -> None:
    """Threads, precision of products, seeds; silences the libraries' warnings that do not apply here."""
    import lightning as L
    import torch

    if config.threads:
        torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision(config.matmul_precision)
    torch.backends.cudnn.allow_tf32 = config.matmul_precision != "highest"  # torch's default is TF32, whatever is asked
    L.seed_everything(config.seed, workers=True, verbose=False)
    _quiet()


def _quiet() -> None:
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # a batch is one indexing operation
    warnings.filterwarnings("ignore", message=".*fast_dev_run.*")
    warnings.filterwarnings("ignore", message=".*do not match bucket view strides.*")  # of 1x1 convolutions: a copy
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*AccumulateGrad node's stream.*")  # CUDA graphs have their own stream
    warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*")  # all processes log the same value
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # curves are by epoch
