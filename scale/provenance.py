"""Where a result comes from: versions, commit, hardware, command."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = (
    *("torch", "lightning", "hydra-core", "omegaconf", "medmnist", "torchmetrics", "captum", "wandb"),
    *("numpy", "scikit-learn", "matplotlib"),
)


def environment(*, seed: int) -> dict[str, Any]:
    """What `environment.json` holds."""
    import torch

    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "seed": seed,
        "scale": importlib.metadata.version("scale-medvision"),
        "commit": _git("rev-parse", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
    }


def hardware(accelerator: str, devices: int) -> str:
    """What trained, in a few words."""
    import torch

    if accelerator == "cuda":
        return f"{devices} x {torch.cuda.get_device_name(0)}"
    processes = f"{devices} x " if devices > 1 else ""
    return f"{processes}{torch.get_num_threads()} CPU threads, {_processor()}"


def _git(*arguments: str) -> str | None:
    """What git says of the source tree, or None where the package was installed from a wheel."""
    tree = Path(__file__).resolve().parent.parent
    if not (tree / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
