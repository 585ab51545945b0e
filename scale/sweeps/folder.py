"""The folder of a sweep: names of its files, and their readers."""

import json
import time
from pathlib import Path
from typing import Any

from scale.runs import METRICS

PLAN, JOB, CONSOLE, STOP, GPUS = "sweep.json", "job.json", "console.log", ".stop", ".gpu"
REFUSED = "refused"  # in a job's record: its run is done, but not what the command asks for
POLL_SECONDS = 0.2


def read(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty where there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def result(folder: Path) -> str:
    """Test AUC and ACC of a finished run, in words."""
    test = read(folder / METRICS).get("test") or {}
    return ", ".join(f"{name.upper()} {test[name]:.3f}" for name in ("auc", "acc") if test.get(name) is not None)


def now() -> str:
    """Local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S")
