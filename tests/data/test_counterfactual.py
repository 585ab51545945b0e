"""The same scene with one thing changed: nothing but that thing changes."""

import numpy as np
import pytest

from scale.data import phantom
from scale.data.counterfactual import render_changed
from scale.data.own import PhantomDataModule

RECIPE = {"problem": "binary", "num_classes": 2, "size": 28, "channels": 1, "samples": {"val": 8}, "seed": 5}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("option", [{}, {"decoys": ["rod"]}, {"lesions": 2, "channels": 3}], ids=str)
def test_only_the_named_thing_changes(dims, option):
    recipe = {**RECIPE, "spatial_dims": dims, **option}
    arrays = phantom.generate(**recipe)
    rows = [6, 1, 2, 3]
    found = render_changed(recipe, "val", rows)
    images, masks, labels = (arrays[f"val_{kind}"][rows] for kind in ("images", "masks", "labels"))
    np.testing.assert_array_equal(found["same"], images)  # bit for bit what the network was tested on
    if images.ndim > masks.ndim:
        masks = np.broadcast_to(masks[..., None], images.shape)
    for row, label in enumerate(labels[:, 0]):
        changed = {name: found[name][row] != images[row] for name in found}
        if not label:
            assert not changed["without"].any()
            assert not changed["elsewhere"].any()
        else:
            near = np.zeros_like(changed["without"])
            for axis in range(dims):  # a lesion's border is a ramp of a voxel's width
                near |= sum(np.roll(masks[row] != 0, step, axis) for step in (-2, -1, 1, 2)) > 0
            near |= masks[row] != 0
            assert changed["without"][masks[row] != 0].mean() > 0.8
            assert changed["without"][~near].mean() < 0.02
            assert (changed["elsewhere"] & ~near).any()
            # where the lesion was, it is now as without it, but for what was moved there
            again = found["elsewhere"][row] == found["without"][row]
            assert again[masks[row] != 0].mean() > 0.8
        assert changed["background"].mean() > 0.9


def test_of_several_labels_only_the_asked_one_goes():
    recipe = {**RECIPE, "spatial_dims": 2, "problem": "multilabel", "num_classes": 4, "samples": {"val": 20}}
    arrays = phantom.generate(**recipe)
    rows = [n for n, label in enumerate(arrays["val_labels"]) if label[:2].all()][:2]
    assert rows
    first = render_changed(recipe, "val", rows, of=[0] * len(rows))["without"]
    second = render_changed(recipe, "val", rows, of=[1] * len(rows))["without"]
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        mask, image = arrays["val_masks"][rows[row]], arrays["val_images"][rows[row]]
        assert (a != image)[mask == 1].mean() > 0.6 > 0.2 > (a != image)[mask == 2].mean()
        assert (b != image)[mask == 2].mean() > 0.6 > 0.2 > (b != image)[mask == 1].mean()


def test_the_data_module_renders_its_own_samples(tmp_path):
    module = PhantomDataModule(
        spatial_dims=2, samples={"train": 8, "val": 8, "test": 8}, root=str(tmp_path), decoys=["cross"]
    )
    module.setup()
    rows = [3, 0]
    found = module.counterfactuals("test", rows, [0, 0])
    np.testing.assert_array_equal(found["same"], module.splits["test"].images.gather(rows))


def test_a_file_that_was_made_before_keeps_its_name(tmp_path):
    plain = PhantomDataModule(spatial_dims=2)
    assert set(plain.recipe) == {"spatial_dims", "problem", "num_classes", "size", "channels", "samples", "seed"}
    assert PhantomDataModule(lesions=2).recipe["lesions"] == 2
