# %% [markdown]
# # Inside the network
#
# Shapes, stream gate and attention on a phantom volume whose lesion is known.

# %%
import numpy as np
import torch

from scale.data.phantom import generate
from scale.models.layers import macs, parameters
from scale.models.scale_net import ScaleNet

torch.manual_seed(0)
net = ScaleNet(spatial_dims=3, in_channels=1, outputs=2).eval()
print(f"{parameters(net):,} parameters, {macs(net, (1, 28, 28, 28)) / 1e9:.3f} G multiply-adds")

made = generate(spatial_dims=3, problem="binary", size=28, samples={"train": 4, "val": 2, "test": 2}, seed=0)
index = int(np.flatnonzero(made["train_labels"][:, 0])[0])
volume, mask = made["train_images"][index], made["train_masks"][index] > 0
x = torch.from_numpy(volume)[None, None].float() / 255
x = (x - x.mean()) / x.std()

# %% [markdown]
# **Lifting** makes both views: six slabs (two along each axis; mean and maximum as channels), and the volume itself.

# %%
planar, volumetric = net.lifting.planar(x), net.lifting.volumetric(x)
tuple(planar.shape), tuple(volumetric.shape)

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 6, figsize=(7.2, 1.5), dpi=80, layout="constrained")
names = [f"{axis} {part}" for axis in ("axial", "coronal", "sagittal") for part in (1, 2)]
for axis, name, slab in zip(axes, names, planar[0, :, 1], strict=True):
    axis.imshow(slab, cmap="gray")
    axis.set_title(name, fontsize=8)
    axis.set_axis_off()

# %% [markdown]
# **What the network looked at**: scale-attention weights per stream (softmax over fine, middle, coarse at each position), the
# cross-modal attention (tokens of one stream read those of the other), and the stream gate.

# %%
with torch.no_grad():
    seen = net.forward_intermediates(x)
print("scale attention", {name: tuple(weights.shape) for name, weights in seen.scale_attention.items()})
print("cross attention", {name: tuple(weights.shape) for name, weights in seen.cross_attention.items()})
print("stream gate    ", [round(float(share), 2) for share in seen.stream_gate[0]], "(planar, volumetric)")
assert torch.allclose(seen.scale_attention["volumetric"].sum(dim=1), torch.ones(()))

# %% [markdown]
# An untrained network's gate starts in favour of the native stream. After a short training, over a whole test split:

# %%
import tempfile
from pathlib import Path

import scale
from scale.train import train

work = Path(tempfile.mkdtemp(prefix="scale_"))
overrides = [
    "data=phantom2d",
    f"data.root={work}",
    "data.samples={train: 200, val: 40, test: 60}",
    "model=scale_tiny",
    "trainer.max_epochs=4",
]
train(scale.compose(overrides), work / "run", overrides=overrides)
run = scale.load_run(work / "run")
run.datamodule.setup()
batch = run.datamodule.prepare(next(iter(run.datamodule.test_dataloader())))
with torch.no_grad():
    seen = run.model.net.forward_intermediates(batch["image"])
positive = batch["label"][:, 0] == 1
for name, chosen in (("no lesion", ~positive), ("lesion", positive)):
    gate = seen.stream_gate[chosen, 0]
    print(f"{name}: planar share of the gate {gate.mean():.2f} (SD {gate.std():.2f})")

# %% [markdown]
# Which scale each position uses, on one positive: weights of the planar stream's fine, middle and coarse level.

# %%
test = run.datamodule.splits["test"]
row = int(torch.nonzero(positive)[0])
place = batch["index"][[row]].numpy()
image, mask = test.images.gather(place)[0], test.masks.gather(place)[0] > 0
figure, axes = plt.subplots(1, 4, figsize=(7.2, 1.9), dpi=80, layout="constrained")
axes[0].imshow(image, cmap="gray")
axes[0].contour(mask, levels=[0.5], colors="#d55e00", linewidths=1)
axes[0].set_title("image, lesion", fontsize=8)
for axis, name, weights in zip(
    axes[1:], ("fine", "middle", "coarse"), seen.scale_attention["planar"][row, 0], strict=True
):
    shown = axis.imshow(weights, vmin=0, vmax=1, cmap="viridis")
    axis.set_title(name, fontsize=8)
figure.colorbar(shown, ax=axes[1:], label="weight")
for axis in axes:
    axis.set_axis_off()

# %% [markdown]
# The weights say what the network weighed, not why it predicted a class: see *Explanations and trust* in the guide.
