# %% [markdown]
# # Data sets
#
# What the catalog knows of the 18 MedMNIST data sets, and what synthetic phantoms look like. Nothing is downloaded.

# %%
import pandas as pd

from scale.data import catalog

rows = [catalog.get(flag) for flag in catalog.FLAGS]
pd.DataFrame(
    {
        "flag": [row.flag for row in rows],
        "dimensions": [row.spatial_dims for row in rows],
        "problem": [row.problem for row in rows],
        "classes": [len(row.labels) for row in rows],
        "sizes": [", ".join(map(str, row.sizes)) for row in rows],
        "train": [row.samples["train"] for row in rows],
        "test": [row.samples["test"] for row in rows],
        "licence": [row.license for row in rows],
    }
).set_index("flag")

# %% [markdown]
# **Before believing a number**, read the caveats.

# %%
for flag in ("octmnist", "dermamnist", "chestmnist"):
    for caveat in catalog.get(flag).caveats:
        print(f"{flag}: {caveat}")

# %% [markdown]
# **Symmetries.** Augmentation and flip TTA use a flip or a rotation only where it keeps the label.

# %%
for flag in ("bloodmnist", "breastmnist", "pneumoniamnist"):
    symmetry = catalog.get(flag).symmetry
    print(
        f"{flag}: flips along axes {symmetry.flips}, rotation up to {symmetry.rotation:.0f} degrees: {symmetry.reason}"
    )

# %% [markdown]
# **Phantoms** are made from a seed; the mask of the lesions is kept as ground truth for explanations. Above negatives, below
# positives with their lesions outlined.

# %%
import matplotlib.pyplot as plt

from scale.data.phantom import generate

made = generate(spatial_dims=2, problem="binary", size=28, samples={"train": 12, "val": 2, "test": 2}, seed=0)
images, labels, masks = (made[f"train_{name}"] for name in ("images", "labels", "masks"))
figure, axes = plt.subplots(2, 6, figsize=(6.5, 2.4), dpi=80, layout="constrained")
for row, label in zip(axes, (0, 1), strict=True):
    chosen = [index for index in range(len(labels)) if labels[index, 0] == label]
    for axis, index in zip(row, chosen, strict=False):
        axis.imshow(images[index], cmap="gray", vmin=0, vmax=255)
        if masks[index].any():
            axis.contour(masks[index] > 0, levels=[0.5], colors="#d55e00", linewidths=1)
        axis.set_axis_off()

# %% [markdown]
# A volume is the same scene in 3D: three planes through the middle of a lesion.

# %%
import numpy as np

made = generate(spatial_dims=3, problem="binary", size=28, samples={"train": 4, "val": 2, "test": 2}, seed=0)
index = int(np.flatnonzero(made["train_labels"][:, 0])[0])
volume, mask = made["train_images"][index], made["train_masks"][index] > 0
centre = np.argwhere(mask).mean(axis=0).round().astype(int)
figure, axes = plt.subplots(1, 3, figsize=(4.8, 1.8), dpi=80, layout="constrained")
for axis, (plane, name) in enumerate(zip(axes, ("axial", "coronal", "sagittal"), strict=True)):
    plane.imshow(volume.take(centre[axis], axis), cmap="gray", vmin=0, vmax=255)
    plane.contour(mask.take(centre[axis], axis), levels=[0.5], colors="#d55e00", linewidths=1)
    plane.set_title(name, fontsize=8)
    plane.set_axis_off()
