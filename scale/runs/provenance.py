"""Where a result comes from: versions, commit, hardware, command."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = (
    *("torch", "lightning", "hydra-core", "omegaconf", "medmnist", "torchmetrics", "captum", "wandb"),
    *("numpy", "scikit-learn", "matplotlib"),
)


PACKAGE = Path(__file__).resolve().parents[1]


def environment(*, seed: int) -> dict[str, Any]:
    """What `environment.json` holds."""
    import torch

    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "folder": str(Path.cwd()),
        "seed": seed,
        "scale": importlib.metadata.version("scale-medvision"),
        "commit": _git("rev-parse", "HEAD"),
        "modified": bool(diff := _diff()),
        "diff": diff,
        "source": source(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
    }


def source() -> str:
    """A hash of the package's own code: tells whether two runs were made by the same, from git or from a wheel."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def hardware(accelerator: str, devices: int) -> str:
    """What trained, in a few words."""
    import torch

    if accelerator == "cuda":
        return f"{devices} x {torch.cuda.get_device_name(0)}"
    processes = f"{devices} x " if devices > 1 else ""
    return f"{processes}{torch.get_num_threads()} CPU threads, {_processor()}"


def _diff() -> str | None:
    """A hash of what differs from the commit in tracked files; empty where nothing does, None without git."""
    text = _git("diff", "HEAD")
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else text


def _git(*arguments: str) -> str | None:
    """What git says of the source tree, or None where the package was installed from a wheel."""
    tree = PACKAGE.parent
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
