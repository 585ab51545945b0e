"""What tests of commands in processes of their own share."""

import csv
import sys
import time
from pathlib import Path


def command(*arguments):
    return [sys.executable, "-m", "scale.train", *arguments]


def wait_for(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def statuses(folder):
    """Of a sweep's jobs, by number."""
    with (folder / "jobs.csv").open(newline="") as file:
        return {int(row["number"]): row["status"] for row in csv.DictReader(file)}


def left(folder):
    """Processes that work in a folder or were started for it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in text:
            found.append(text)
    return found
