"""A distributed run in which one process hangs."""

import re
import subprocess
import sys

import pytest

from scale.callbacks.rank_watch import STATUS, RankWatch

HANGING = """
import sys, time
from scale.tasks.classification import ClassificationTask

original = ClassificationTask.training_step

def training_step(self, batch, batch_idx):
    if self.global_rank == 1 and self.global_step == 2:
        time.sleep(1000)
    return original(self, batch, batch_idx)

ClassificationTask.training_step = training_step
from scale.train import main

main()
"""


@pytest.mark.slow
def test_the_process_that_hangs_is_named(tmp_path, small):
    program = tmp_path / "hanging.py"
    program.write_text(HANGING)
    folder = tmp_path / "run"
    more = ["trainer=ddp_cpu", "callbacks.rank_watch.minutes=0.08", "threads=1", f"hydra.run.dir={folder}"]
    command = [sys.executable, str(program), *small, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == STATUS, done.stdout + done.stderr
    assert "rank 1 (process" in done.stdout
    places = (
        r"stands at step 2 in its forward pass, layer (\d+), the furthest at step 2 in its forward pass, layer (\d+)"
    )
    layers = re.search(places, done.stdout)
    assert layers is not None, done.stdout
    assert int(layers[1]) < int(layers[2])
    assert f"resume={folder}" in done.stdout
    assert "rank 0 (process" not in done.stdout


def test_bad_time():
    with pytest.raises(ValueError, match="rank_watch.minutes=0"):
        RankWatch(minutes=0)
