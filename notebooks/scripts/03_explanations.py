# %% [markdown]
# # Explanations, in 2D and 3D
#
# A map that looks right and is not is worse than none. On phantoms the lesion is known, so a map can be checked.

# %%
import tempfile
from pathlib import Path

import scale
from scale.train import train

work = Path(tempfile.mkdtemp(prefix="scale_"))
overrides = [
    "data=phantom2d",
    f"data.root={work}",
    "data.samples={train: 300, val: 60, test: 60}",
    "model=scale_tiny",
    "trainer.max_epochs=8",
    "report=false",
]
metrics = train(scale.compose(overrides), work / "run", overrides=overrides)
print(f"test AUC {metrics['test']['auc']:.3f}")

# %% [markdown]
# One positive that the network gets right, with its lesion outlined, explained by a gradient method, by raw attention and by two
# controls that know nothing of the network. All code below is also what `python -m scale.explain run=DIR` runs.

# %%
import warnings

import numpy as np
import torch

from scale.attribution.methods.attribute import attribute
from scale.attribution.report.figures import overlay_2d

get_ipython().run_line_magic("matplotlib", "inline")  # noqa: F821 figures are shown as pictures
warnings.filterwarnings("ignore", message=".*IProgress.*")  # captum's bar asks for a widget
run = scale.load_run(work / "run")
run.datamodule.setup()
test, found = run.datamodule.splits["test"], run.predictions["test"]
row = int(np.argmax(np.where(found["labels"][:, 0] == 1, found["probabilities"][:, 1], -1)))
place = found["index"][[row]]
image, mask = test.images.gather(place)[0], test.masks.gather(place)[0] > 0
x = run.datamodule.prepare({"image": torch.from_numpy(image)[None, None]})["image"]


def explain(method: str) -> np.ndarray:
    """The map (H, W) of one method for the class `lesion`."""
    return attribute(run.model.net, x, problem=run.model.problem, method=method, target=1)[0, 0].numpy()


for method in ("integrated_gradients", "rollout", "random", "edges"):
    values = explain(method)
    figure = overlay_2d(image, values, mask=mask, title=method)
    figure.set_dpi(60)
    display(figure)  # noqa: F821 a notebook has it
    inside = np.abs(values)[mask].sum() / np.abs(values).sum()
    print(f"{method}: {inside:.0%} of the map lies in the lesion, which covers {mask.mean():.0%} of the image")

# %% [markdown]
# **Does the map depend on what was learned?** Re-initialise all weights: a map that stays the same shows the image, not the network.

# %%
from scipy.stats import spearmanr

from scale.tasks.build import build_task

torch.manual_seed(0)
fresh = build_task(run.config, run.model.problem, image_shape=run.metrics["image_shape"]).eval()
for method in ("integrated_gradients", "edges"):
    before = explain(method)
    after = attribute(fresh.net, x, problem=run.model.problem, method=method, target=1)[0, 0].numpy()
    print(
        f"{method}: rank correlation {spearmanr(before.ravel(), after.ravel()).statistic:.2f} after re-initialisation"
    )

# %% [markdown]
# **Volumes** are explained by the same call; a map has the volume's own shape. (Two epochs teach this network nothing: what it shows
# is how, not what.)

# %%
from scale.attribution.report.figures import planes

overrides = [
    "data=phantom3d",
    f"data.root={work}",
    "data.samples={train: 32, val: 16, test: 16}",
    "model=scale_tiny",
    "trainer.max_epochs=2",
]
train(scale.compose(overrides), work / "volume", overrides=overrides)
run = scale.load_run(work / "volume")
run.datamodule.setup()
volume = run.datamodule.splits["test"].images.gather(np.array([1]))[0]
mask = run.datamodule.splits["test"].masks.gather(np.array([1]))[0] > 0
x = run.datamodule.prepare({"image": torch.from_numpy(volume)[None, None]})["image"]
values = attribute(run.model.net, x, problem=run.model.problem, method="integrated_gradients", target=1)[0, 0].numpy()
figure = planes(volume, values, mask=mask, title=f"integrated gradients, {values.shape}")
figure.set_dpi(60)
display(figure)  # noqa: F821

# %% [markdown]
# Which map to trust, measured on real data too, is on the guide's page *Explanations and trust*.
