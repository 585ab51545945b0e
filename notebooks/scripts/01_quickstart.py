# %% [markdown]
# # Quickstart
#
# Trains a small SCALE network on synthetic images, reads the run folder back and looks at what it holds.
#
# On a fresh machine the first cell installs SCALE from the checkout that holds this notebook. On Colab make one first, and work in it:
# `!git clone ADDRESS-OF-THE-REPOSITORY scale`, then `%cd scale/notebooks` (no package of that name is on a registry yet).

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("scale") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", ".."], check=True)
    importlib.invalidate_caches()

# %%
import tempfile
from pathlib import Path

import scale
from scale.train import train

work = Path(tempfile.mkdtemp(prefix="scale_"))
overrides = [
    "data=phantom2d",  # data=breastmnist downloads a real data set
    f"data.root={work}",
    "data.samples={train: 200, val: 60, test: 100}",
    "model=scale_tiny",
    "trainer.max_epochs=5",
]
metrics = train(scale.compose(overrides), work / "run", overrides=overrides)

# %% [markdown]
# The run folder is the record: configuration, history, predictions in MedMNIST's official format, checkpoints, figures.

# %%
run = scale.load_run(work / "run")
sorted(str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file())

# %%
print(str(run).replace(str(work), "..."))

# %% [markdown]
# Every metric of the test split, from the saved predictions.

# %%
{name: round(value, 3) for name, value in run.metrics["test"].items() if isinstance(value, float)}

# %% [markdown]
# The network and its data, ready to use: probabilities of the first four test images, beside their labels.

# %%
import torch

run.datamodule.setup()
batch = run.datamodule.prepare(next(iter(run.datamodule.test_dataloader())))
with torch.no_grad():
    logits = run.model(batch["image"])
run.model.problem.probabilities(logits)[:4].round(decimals=3), batch["label"][:4, 0]

# %%
from IPython.display import Image

Image(run.folder / "figures" / "test_roc.png", width=420)

# %% [markdown]
# The same from a shell, on a real data set: `python -m scale.train data=breastmnist`, then
# `python -m scale.evaluate run=DIR` and `python -m scale.explain run=DIR`.
