"""Interventions tell a network that uses the lesion from one that looks elsewhere."""

import numpy as np
import torch

from scale.attribution.metrics.causal import Effects, effects
from scale.data.own import PhantomDataModule


def module(tmp_path):
    found = PhantomDataModule(spatial_dims=2, samples={"train": 8, "val": 8, "test": 12}, root=str(tmp_path))
    found.setup()
    return found


def measured(data, score):
    """`score` maps grey images (b, *S) to the log odds of a lesion (b,)."""
    rows = np.arange(12)
    labels = data.splits["test"].labels[rows, 0].astype(int)
    masks = data.splits["test"].masks.gather(rows) > 0
    images = {
        name: torch.from_numpy(one).float()[:, None] for name, one in data.counterfactuals("test", rows, labels).items()
    }

    def scores(x):
        value = score(x[:, 0])
        return torch.stack([-value, value], dim=1)

    has = masks.any(axis=(1, 2))
    return effects(scores, images, torch.from_numpy(labels), has, batch_size=5), images, masks, has


def test_a_network_that_reads_the_lesion_falls_with_it_wherever_it_is(tmp_path):
    data = module(tmp_path)
    known = {}

    def oracle(x):  # says yes where the image differs from the one without lesions
        return torch.tensor([known[image.numpy().tobytes()] for image in x])

    rows = np.arange(12)
    labels = data.splits["test"].labels[:, 0]
    for name, images in data.counterfactuals("test", rows, labels).items():
        for image, label in zip(images, labels, strict=True):
            known[torch.from_numpy(image).float().numpy().tobytes()] = 2.0 if label and name != "without" else -3.0
    found, _, _, has = measured(data, oracle)
    assert found.falls.tolist() == has.tolist()
    assert found.drop()[has].tolist() == [5.0] * has.sum()
    assert (found.drop("elsewhere")[has] == 0).all()
    assert (found.drop("background")[has] == 0).all()
    assert np.isnan(found.drop()[~has]).all()
    assert set(found.rests_on) == {"lesion", ""}
    assert found.summary() == "6 of 6 predictions fall with the lesion"


def test_a_network_that_reads_a_corner_rests_on_something_else(tmp_path):
    found, *_, has = measured(module(tmp_path), lambda x: x[:, 0, 0] - 60)
    assert has.sum() == 6
    assert not found.falls.any()
    assert np.abs(found.drop("without")[has]).max() == 0
    assert np.abs(found.drop("background")[has]).max() > 0


def test_what_each_prediction_rests_on():
    found = Effects(
        np.array([2.0, 2.0, -1.0, 3.0]),
        {"without": np.array([-1.0, 1.0, -2.0, 3.0])},
        np.array([True, True, True, False]),
    )
    assert found.rests_on == ["lesion", "other", "missed", ""]
    assert found.summary() == "1 of 3 predictions fall with the lesion, 1 stay without it, 1 lesions are missed"
