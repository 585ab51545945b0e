import numpy as np
import pytest
import torch

from scale.data import loading, phantom
from scale.data.augment import Augment
from scale.data.datamodule import MedMNISTDataModule
from scale.data.own import NpzDataModule, PhantomDataModule

SAMPLES = {"train": 40, "val": 16, "test": 20}


@pytest.fixture(scope="module")
def rgb(tmp_path_factory):
    path = tmp_path_factory.mktemp("rgb") / "bloodmnist.npz"
    return phantom.write(path, spatial_dims=2, problem="multiclass", num_classes=8, channels=3, samples=SAMPLES)


def official(rgb, **options):
    module = MedMNISTDataModule("bloodmnist", root=str(rgb.parent), verify=False, download=False, **options)
    module.setup()
    return module


def whole(loader, key="index"):
    return torch.cat([batch[key] for batch in loader])


def test_batches_are_the_files_arrays(rgb):
    module = official(rgb, batch_size=8, eval_batch_size=6)
    arrays = np.load(rgb)
    assert module.image_shape == (3, 28, 28)
    for batch in module.train_dataloader():
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].shape == (8, 3, 28, 28)
        index = batch["index"].numpy()
        np.testing.assert_array_equal(batch["image"].movedim(1, -1).numpy(), arrays["train_images"][index])
        np.testing.assert_array_equal(batch["label"].numpy(), arrays["train_labels"][index])
    for split in ("val", "test"):
        loader = module.eval_dataloader(split)
        assert whole(loader).tolist() == list(range(SAMPLES[split]))
        np.testing.assert_array_equal(whole(loader, "label").numpy(), arrays[f"{split}_labels"])


def test_volumes_get_a_channel_axis(phantom_root):
    module = PhantomDataModule(samples=SAMPLES, root=str(phantom_root), batch_size=4)
    module.setup()
    assert next(iter(module.train_dataloader()))["image"].shape == (4, 1, 28, 28, 28)


def test_normalisation_has_zero_mean_and_unit_variance_over_train(rgb):
    module = official(rgb, batch_size=40)
    images = module.prepare(next(iter(module.train_dataloader())))["image"]
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_statistics_travel_with_the_checkpoint(rgb):
    module, other = official(rgb), MedMNISTDataModule("bloodmnist", root=str(rgb.parent), verify=False)
    state = module.state_dict()
    state["mean"] = [0.1, 0.2, 0.3]
    other.load_state_dict(state)
    other.setup()
    assert other.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_only_training_batches_are_augmented(rgb):
    module = official(rgb, augment=Augment(), batch_size=8)
    batch = next(iter(module.train_dataloader()))
    plain, augmented = module.prepare(batch)["image"], module.prepare(batch, training=True)["image"]
    assert not torch.allclose(plain, augmented)
    torch.testing.assert_close(module.prepare(batch, training=True)["image"], augmented, rtol=0, atol=0)
    torch.testing.assert_close(plain, module.normalise(batch["image"].float() / 255))


def test_train_fraction(rgb):
    module = official(rgb, train_fraction=0.6, batch_size=4)
    assert len(module.train_labels) == 24  # 3 of the 5 samples of each class
    assert set(whole(module.train_dataloader()).tolist()) <= set(module.train_indices.tolist())
    assert len(whole(module.val_dataloader())) == SAMPLES["val"]


def test_train_samples_are_the_same_in_every_epoch(rgb):
    """`debug=overfit` promised three batches again and again, and drew nearly all samples."""
    module = official(rgb, train_samples=12, batch_size=4)
    loader = module.train_dataloader()
    epochs = [set(whole(loader).tolist()) for _ in range(3)]
    assert epochs == [set(module.train_indices.tolist())] * 3
    assert len(epochs[0]) == 12
    with pytest.raises(ValueError, match="data.train_fraction=0.5 and data.train_samples=12: give one"):
        official(rgb, train_samples=12, train_fraction=0.5)


def test_what_is_read_on_the_cpu_stays_there(rgb):
    """Seeds that travel to a GPU and back make every step wait for it."""
    module = official(rgb, batch_size=4)
    batch = next(iter(module.train_dataloader()))
    moved = module.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert {name: tensor.device.type for name, tensor in moved.items()} == {
        **dict.fromkeys(("image", "label", "index"), "meta"),
        "draw": "cpu",
    }
    module.normalise(torch.zeros(1, 3, 2, 2, device="meta"))
    assert module.mean.device.type == module.std.device.type == "meta"  # once, not in every batch


def test_balance_sampler(phantom_root, tmp_path):
    arrays = phantom.generate(spatial_dims=2, samples={"train": 120, "val": 10, "test": 10}, problem="binary")
    keep = np.concatenate(
        [np.flatnonzero(arrays["train_labels"][:, 0] == 0), np.flatnonzero(arrays["train_labels"][:, 0] == 1)[:6]]
    )
    arrays |= {"train_images": arrays["train_images"][keep], "train_labels": arrays["train_labels"][keep]}
    arrays = {key: value for key, value in arrays.items() if "masks" not in key}
    np.savez(tmp_path / "rare.npz", **arrays)
    rates = {}
    for balance in ("none", "sampler", "sqrt"):
        module = NpzDataModule(str(tmp_path / "rare.npz"), problem="binary", balance=balance, batch_size=60)
        module.setup()
        loader = module.train_dataloader()
        labels = []
        for epoch in range(8):
            loader.sampler.set_epoch(epoch)
            labels.append(whole(loader, "label"))
        rates[balance] = torch.cat(labels).float().mean().item()
    assert rates["none"] < 0.15
    assert 0.4 < rates["sampler"] < 0.6
    counts = np.bincount(arrays["train_labels"][:, 0])
    drawn = np.sqrt(counts) / np.sqrt(counts).sum()
    assert rates["sqrt"] == pytest.approx(drawn[1], abs=0.05)
    np.testing.assert_allclose(module.logit_adjustment, np.log(drawn * counts.sum() / counts), rtol=1e-5)


@pytest.mark.parametrize("problem", ["ordinal", "multilabel"])
def test_root_is_refused_where_a_sample_has_no_one_class(problem, tmp_path):
    recipe = {"spatial_dims": 2, "samples": {"train": 40, "val": 8, "test": 8}, "problem": problem, "num_classes": 3}
    np.savez(tmp_path / "own.npz", **phantom.generate(**recipe))
    module = NpzDataModule(str(tmp_path / "own.npz"), problem=problem, balance="sqrt", batch_size=8)
    with pytest.raises(ValueError, match=f"data.balance=sqrt is for .* own.npz is {problem}"):
        module.setup()


def test_an_own_file_is_not_taken_for_a_published_set(tmp_path):
    arrays = phantom.generate(spatial_dims=2, samples={"train": 40, "val": 8, "test": 8})
    for name, flag in {"breastmnist": "own-breastmnist", "My file": "myfile"}.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        module = NpzDataModule(str(tmp_path / f"{name}.npz"), problem="binary")
        module.setup()
        assert module.info.flag == flag


def test_other_data_than_a_checkpoint_was_made_with_are_refused_whenever_they_are_opened(tmp_path):
    arrays = phantom.generate(spatial_dims=2, samples={"train": 40, "val": 8, "test": 8})
    np.savez(tmp_path / "own.npz", **arrays)
    make = lambda: NpzDataModule(str(tmp_path / "own.npz"), problem="binary", batch_size=8)  # noqa: E731
    first = make()
    first.setup()
    state = first.state_dict()
    again = make()
    again.load_state_dict(state)
    again.setup()
    pixel = arrays["train_images"].copy()
    pixel[33, 5, 6] ^= 1  # of an image that is none of the 20 that earlier versions looked at
    for change in ({"test_labels": arrays["test_labels"][::-1]}, {"train_images": pixel}):
        np.savez(tmp_path / "own.npz", **{**arrays, **change})
        for order in (("load", "setup"), ("setup", "load")):
            other = make()
            steps = {"load": lambda other=other: other.load_state_dict(state), "setup": other.setup}
            steps[order[0]]()
            with pytest.raises(ValueError, match="images or labels are not those"):
                steps[order[1]]()
    older = make()
    older.load_state_dict({key: value for key, value in state.items() if key != "content"})  # of an earlier version
    older.setup()


def test_the_sum_of_a_mapped_file_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    from scale.data import images

    pixels = np.arange(6 * 9 * 9, dtype=np.uint8).reshape(6, 9, 9)
    path = tmp_path / "train_images.npy"
    np.save(path, pixels)
    expected = images.Images(pixels).sha256()
    assert images.Images.open(path, (9, 9)).sha256() == expected
    with monkeypatch.context() as patch:
        patch.setattr(images.hashlib, "file_digest", None)  # not read again
        assert images.Images.open(path, (9, 9)).sha256() == expected
    pixels[3, 2, 1] += 1
    np.save(path, pixels)
    assert images.Images.open(path, (9, 9)).sha256() == images.Images(pixels).sha256() != expected


def test_workers_load_the_same_batches(rgb):
    alone, helped = official(rgb, batch_size=8), official(rgb, batch_size=8, num_workers=1)
    for a, b in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["draw"], b["draw"])


@pytest.mark.parametrize(
    ("symmetry", "flips", "rotation"), [("upright", (), 15), ("mirrored", (1,), 15), ("free", (0, 1), 180)]
)
def test_own_file_says_what_it_is(rgb, symmetry, flips, rotation):
    module = NpzDataModule(str(rgb), problem="multiclass", symmetry=symmetry)
    module.setup()
    assert (module.info.spatial_dims, module.info.channels, len(module.info.labels)) == (2, 3, 8)
    assert (module.info.symmetry.flips, module.info.symmetry.rotation) == (flips, rotation)


def test_phantom_is_made_once_and_depends_on_its_recipe(tmp_path):
    options = {"samples": {"train": 8, "val": 4, "test": 4}, "root": str(tmp_path), "spatial_dims": 2}
    PhantomDataModule(**options).setup()
    (path,) = tmp_path.glob("*.npz")
    made = path.stat().st_mtime_ns
    PhantomDataModule(**options, seed=5).setup()
    assert path.stat().st_mtime_ns == made
    PhantomDataModule(**options, phantom_seed=1).setup()
    assert len(list(tmp_path.glob("*.npz"))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"balance": "weight"}, "data.balance"), ({"train_fraction": 0.0}, "data.train_fraction")],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        PhantomDataModule(**options)


def test_size_that_does_not_exist():
    with pytest.raises(ValueError, match=r"no size 224.*28, 64"):
        MedMNISTDataModule("vesselmnist3d", size=224)


@pytest.mark.parametrize("where", ["rgb", "grey volumes"])
def test_images_that_are_on_the_gpu_are_the_same(where, rgb, phantom_root, monkeypatch):
    """There is no GPU here: what is gathered behind the loader is gathered on the CPU."""

    def made():
        if where == "rgb":
            return official(rgb, batch_size=8)
        module = PhantomDataModule(samples=SAMPLES, root=str(phantom_root), batch_size=8)
        module.setup()
        return module

    plain, resident = made(), made()
    device = torch.device("cpu")
    monkeypatch.setattr(
        "scale.data.datamodule.resident", lambda split, _: torch.from_numpy(split.images.gather(np.arange(len(split))))
    )
    resident.trainer = type("Trainer", (), {"world_size": 1, "global_rank": 0, "training": False})()
    resident.trainer.strategy = type("Strategy", (), {"root_device": device})()
    expected, found = list(plain.train_dataloader()), list(resident.train_dataloader())
    assert not any("image" in batch for batch in found)
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        moved = resident.transfer_batch_to_device(other, device, 0)
        assert set(moved) == set(one)
        torch.testing.assert_close(moved["image"], one["image"], rtol=0, atol=0)


def test_nothing_is_put_on_a_gpu_that_is_not_used(rgb):
    module = official(rgb)
    assert loading.resident(module.splits["train"], torch.device("cpu")) is None
