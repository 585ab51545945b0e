import numpy as np
import pytest

from scale.config import ConfigError, compose
from scale.data.joint import JointBatches, JointDataModule, shares

SAMPLES = {
    "phantom2d": {"samples": {"train": 40, "val": 10, "test": 6}},
    "phantom3d": {"samples": {"train": 10, "val": 5, "test": 4}},
}


def test_shares_follow_the_stated_power():
    assert shares([100, 400], power=1.0, batches=50) == [10, 40]
    assert shares([100, 400], power=0.0, batches=50) == [25, 25]
    assert shares([100, 400], power=0.5, batches=60) == [20, 40]
    assert shares([1, 10_000], power=1.0, batches=10) == [1, 9]  # every set is seen
    assert sum(shares([546, 4708, 1335], power=0.5, batches=411)) == 411


def batches(epoch=0, first=0, **changes):
    sets = [np.arange(20), np.arange(100, 180)]
    sampler = JointBatches(sets, **{"power": 0.5, "batch_size": 10, "seed": 3, **changes})
    sampler.set_epoch(epoch)
    sampler.first = first
    return list(sampler)


def test_a_batch_is_of_one_set_and_a_set_is_drawn_through_before_a_sample_comes_again():
    found = batches(power=0.0)
    assert [number for number, _ in found].count(0) == len(found) // 2 == 5
    for number, (chosen, _, offset, total) in found:
        assert (len(chosen), offset, total) == (10, 0, 10)
        assert set(chosen) <= set((np.arange(20), np.arange(100, 180))[number])
    first = [chosen for number, (chosen, *_) in found if number == 0]
    assert sorted(np.concatenate(first[:2])) == list(range(20))
    assert len(np.unique(np.concatenate([chosen for number, (chosen, *_) in found if number == 1]))) == 50


def test_an_epoch_is_a_function_of_its_number_and_is_gone_on_with():
    def plain(found):
        return [(number, list(chosen), seed) for number, (chosen, seed, *_) in found]

    assert plain(batches()) == plain(batches())
    assert plain(batches(epoch=1)) != plain(batches())
    assert plain(batches(first=4)) == plain(batches())[4:]
    assert len({seed for _, _, seed in plain(batches())}) == len(batches())


@pytest.fixture
def module(phantom_root):
    module = JointDataModule(
        ["phantom2d", "phantom3d"], root=str(phantom_root), options=SAMPLES, batch_size=8, train_fraction=0.5
    )
    module.setup()
    return module


def test_batches_come_as_their_own_set_prepares_them(module):
    # half of 40, and 2 of each class of 10
    assert module.train_count == sum(len(own.train_labels) for own in module.members.values()) == 24
    seen = {}
    for batch in module.train_dataloader():
        seen.setdefault(int(batch["set"]), module.on_after_batch_transfer(batch, 0))
    assert {number: tuple(batch["image"].shape[1:]) for number, batch in seen.items()} == {
        0: (1, 28, 28),
        1: (1, 28, 28, 28),
    }
    for number, own in enumerate(module.members.values()):
        loader = module.val_dataloader()[number]
        batch = next(iter(loader))
        prepared = module.on_after_batch_transfer(dict(batch), number)["image"]
        np.testing.assert_array_equal(prepared.numpy(), own.prepare(batch)["image"].numpy())
    assert module.members["phantom2d"].mean != module.members["phantom3d"].mean


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["data.sets=[breastmnist]"], "give at least two data sets, each once"),
        (["data.sets=[breastmnist,breastmnist]"], "give at least two data sets, each once"),
        (["data.sets=[breastmnist,vesselmnist]"], "there is no data set 'vesselmnist'; did you mean 'vesselmnist3d'?"),
        (
            ["data.sets=[breastmnist,vesselmnist3d]", "data.size=128"],
            "vesselmnist3d has no size 128; published sizes are 28, 64",
        ),
        (["data.sets=[breastmnist,bloodmnist]", "model=resnet18"], "give model=scale or scale_tiny"),
        (["data.sets=[breastmnist,bloodmnist]", "model.streams=volumetric"], "images have the planar stream alone"),
        (["data.sets=[breastmnist,bloodmnist]", "evaluation.tta=true"], "evaluation.tta is not for data=joint"),
        (["data.sets=[breastmnist,bloodmnist]", "init_from=x"], "init_from is not for data=joint"),
        (["data.sets=[breastmnist,bloodmnist]", "hardware=compile"], "compile=true is not for data=joint"),
        (["data.sets=[breastmnist,bloodmnist]", "task.compile=true"], "compile=true is not for data=joint"),
        (
            ["data.sets=[breastmnist,vesselmnist3d]", "model.lifted_width=0.25"],
            "lifted_width=0.25 is not for data=joint",
        ),
        (
            ["data.sets=[breastmnist,vesselmnist3d]", "model.lifted_depths=[2,2,2]"],
            "lifted_depths=[2, 2, 2] is not for data=joint",
        ),
        *(
            (
                ["data.sets=[breastmnist,bloodmnist]", option],
                "changes nothing where data=joint has images alone",
            )
            for option in (
                "model.fusion=gate",
                "model.auxiliary=false",
                "model.lifting=naive",
                "model.modality_dropout=0.3",
            )
        ),
        (["data.sets=[breastmnist,bloodmnist]", "data.drop_last=false"], "data.drop_last=false is not for data=joint"),
        (
            ["data.sets=[breastmnist,bloodmnist]", "callbacks=explain"],
            "draws one data set, so it is not for data=joint",
        ),
        *(
            (
                ["data.sets=[breastmnist,bloodmnist]", f"data.options={{bloodmnist: {{{option}}}}}"],
                rf"data.options.bloodmnist.{option.split(':')[0]} is not for data=joint",
            )
            for option in ("balance: weights", "batch_size: 8", "drop_last: false", "seed: 1", "on_gpu: false")
        ),
        (["data.sets=[breastmnist,bloodmnist]", "trainer=ddp_cpu"], "data=joint trains on one device"),
        (["data.sets=[breastmnist,bloodmnist]", "data.power=2"], "data.power=2: give a number from 0 to 1"),
        (["data.sets=[phantom2d,bloodmnist]", "data.options={phantom2d: 3}"], "give options by the set's name"),
        (["data.sets=[phantom2d,bloodmnist]", "data.options={phantom3d: {}}"], "data.options names phantom3d"),
        (
            ["data.sets=[phantom2d,bloodmnist]", "data.options={phantom2d: {sampels: 3}}"],
            "data.options.phantom2d.sampels: PhantomDataModule takes no 'sampels'; did you mean 'samples'?",
        ),
        ([], "data.sets must be given"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(given, line):
    with pytest.raises(ConfigError) as caught:
        compose(["data=joint", *given])
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"balance": "sqrt"}, "not for data=joint"),
        ({"train_samples": 5}, "not for data=joint"),
        ({"options": {"breastmnist": {}}}, "data.options names breastmnist"),
        ({"statistics": "none"}, "give own or shared"),
    ],
)
def test_options_of_one_set_alone_are_refused(options, line):
    with pytest.raises(ValueError, match=line):
        JointDataModule(["phantom2d", "phantom3d"], **options)


@pytest.mark.parametrize("model", ["scale", "scale_tiny"])
def test_a_joint_network_of_volumes_may_lack_its_parts(model):
    from scale.config import checks

    sets = "data.sets=[breastmnist,vesselmnist3d]"
    for more in ([], ["model.fusion=gate"], ["model.lifted_width=1.0"], ["ablation=naive_lifting"]):
        compose(["data=joint", sets, f"model={model}", *more])
    network = compose([f"model={model}"]).model
    assert {key: network[key] for key in checks.JOINT_DEFAULTS} == checks.JOINT_DEFAULTS
    assert {key: network[key] for key in checks.ONE_STREAM} == checks.ONE_STREAM
