# %% [markdown]
# # Sweeps and statistics
#
# One seed is no result. A sweep runs each job in a process of its own; given again, the same command skips what is done.

# %%
import os
import subprocess
import sys
import tempfile
from pathlib import Path

work = Path(tempfile.mkdtemp(prefix="scale_"))
os.environ["SCALE_DATA_ROOT"] = str(work)
command = [
    sys.executable,
    "-m",
    "scale.train",
    "-m",
    "data=phantom2d",
    "seed=0,1",
    f"hydra.sweep.dir={work / 'sweep'}",
]
small = ["data.samples={train: 120, val: 60, test: 200}", "model=scale_tiny", "trainer.max_epochs=3", "report=false"]
done = subprocess.run([*command, *small], capture_output=True, text=True, check=True)
print("\n".join(line for line in done.stdout.splitlines() if line.startswith("|")))

# %% [markdown]
# Every job is a run folder. All that follows is computed from the saved predictions.

# %%
import pandas as pd

import scale

runs = [scale.load_run(work / "sweep" / str(number)) for number in range(2)]
pd.DataFrame(
    {run.config.seed: {name: run.metrics["test"][name] for name in ("auc", "acc", "ece")} for run in runs}
).T.round(3)

# %% [markdown]
# **How sure is one run's metric?** A stratified bootstrap over the test samples, and DeLong's interval for the AUC.

# %%
from scale.evaluation import bootstrap, delong

first = runs[0].predictions["test"]
labels, problem = first["labels"], runs[0].metrics["problem"]
found = bootstrap.bootstrap(labels, first["probabilities"], problem)
for name in ("auc", "acc", "balanced_acc"):
    low, high = found.metrics[name]
    print(f"{name}: {low:.3f} to {high:.3f}, bootstrap")
low, high = delong.auc_interval(labels, first["probabilities"], problem)
print(f"auc: {low:.3f} to {high:.3f}, DeLong")

# %% [markdown]
# **Two kinds of spread.** Over seeds (another training) and over test samples (other patients): a table that shows one hides the other.

# %%
from scale.evaluation import statistics

parts = [
    delong.auc_parts(run.predictions["test"]["labels"], run.predictions["test"]["probabilities"], problem)
    for run in runs
]
statistics.spread([auc for auc, _ in parts], [part for _, part in parts])

# %% [markdown]
# **Are two of them different on the same test samples?** A paired test; p-values near 1 say that the gap is noise.

# %%
second = runs[1].predictions["test"]
delong.auc_test(labels, first["probabilities"], second["probabilities"], problem)
