# %% [markdown]
# # Your own images
#
# From a folder of image files to a tested model and predictions for new files. The "clinic" here is a folder of PNGs made on the spot: two
# kinds of blobs.

# %%
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

work = Path(tempfile.mkdtemp(prefix="scale_"))
rng = np.random.default_rng(0)
rows, columns = np.mgrid[:40, :40]


def blob(kind: str) -> np.ndarray:
    """An image (40, 40), uint8: a disc, or a ring."""
    y, x, radius = rng.uniform(14, 26), rng.uniform(14, 26), rng.uniform(6, 9)
    distance = np.hypot(rows - y, columns - x)
    shape = distance < radius if kind == "disc" else abs(distance - radius) < 2
    return np.clip(60 + 110 * shape + rng.normal(0, 25, shape.shape), 0, 255).astype("uint8")


for kind in ("disc", "ring"):
    (work / "clinic" / kind).mkdir(parents=True)
    for number in range(120):
        Image.fromarray(blob(kind)).save(work / "clinic" / kind / f"{number:03}.png")
(work / "clinic" / "ring" / "broken.png").write_bytes(b"not an image")
print(len(list((work / "clinic").rglob("*.png"))), "files")

# %% [markdown]
# **Prepare** once: what was inferred is printed, what cannot be used is named. In a shell:
# `python -m scale.prepare source=clinic output=blobs.npz`.

# %%
import subprocess
import sys


def shell(*words: str) -> None:
    """Runs a command of SCALE in the folder and prints what it says."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=work, capture_output=True, text=True, check=False)
    print((done.stdout + done.stderr).replace(str(work), "..."))


shell("scale.prepare", "source=clinic", "output=blobs.npz", "size=28", "symmetry=free", "workers=1")

# %% [markdown]
# A contact sheet for each class: look before you train.

# %%
from IPython.display import Image as Picture
from IPython.display import display

for sheet in sorted((work / "blobs.files" / "sheets").rglob("*.png")):
    display(Picture(sheet, width=300))

# %% [markdown]
# **Train**, as on any data set.

# %%
import scale
from scale.train import train

overrides = ["data=npz", f"data.path={work / 'blobs.npz'}", "model=scale_tiny", "trainer.max_epochs=6"]
metrics = train(scale.compose(overrides), work / "run", overrides=overrides)
print(f"test AUC {metrics['test']['auc']:.3f}, ACC {metrics['test']['acc']:.3f}")

# %% [markdown]
# **Predict** new files: calibrated probabilities, the conformal set, and whether a file looks unlike the training data. The last one is
# noise, which no clinic sent: the network gives it a class all the same, and only the warning tells. The warning also meets 5 % of files
# like val's (here val has 24 images), so it asks for a look and proves nothing.

# %%
new = [blob("disc"), blob("ring"), rng.integers(0, 255, (40, 40)).astype("uint8")]
for number, image in enumerate(new):
    Image.fromarray(image).save(work / f"new{number}.png")
run = scale.load_run(work / "run")
table = run.predict([work / f"new{number}.png" for number in range(3)])
table.drop(columns=[name for name in table.columns if name in ("id", "file", "path")]).round(3)

# %% [markdown]
# In a shell: `python -m scale.predict run=DIR input=FOLDER output=out`. With labels (class folders, a CSV's column) it is an external
# validation. Research only: no prediction here may guide the care of a patient.
