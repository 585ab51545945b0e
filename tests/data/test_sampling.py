import numpy as np
import pytest

from scale.data.layout import strata
from scale.data.sampling import EvalBatches, TrainBatches, draw_seed, stratified_sample, stratified_subset

LABELS = np.repeat([0, 1, 2], [90, 30, 6])[:, None]


def drawn(sampler):
    return [batch[0].tolist() for batch in sampler]


def test_an_epoch_draws_every_sample_at_most_once_and_epochs_differ():
    sampler = TrainBatches(np.arange(50), batch_size=8, seed=0)
    first = drawn(sampler)
    assert len(first) == len(sampler) == 6
    assert len({i for batch in first for i in batch}) == 48
    assert drawn(sampler) == first
    sampler.set_epoch(1)
    assert drawn(sampler) != first
    assert drawn(TrainBatches(np.arange(50), batch_size=8, seed=1)) != first


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batches_of_one(world_size):
    alone = drawn(TrainBatches(np.arange(100), batch_size=16, seed=3))
    shares = [
        list(TrainBatches(np.arange(100), batch_size=16, seed=3, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for number, batch in enumerate(alone):
        assert [i for share in shares for i in share[number][0].tolist()] == batch
        assert {share[number][1] for share in shares} == {draw_seed(3, 0, number)}
        assert [share[number][2] for share in shares] == [rank * 16 // world_size for rank in range(world_size)]
        assert {share[number][3] for share in shares} == {16}


def test_the_last_batch_can_be_kept():
    kept = list(TrainBatches(np.arange(50), batch_size=8, seed=0, drop_last=False))
    assert [len(batch[0]) for batch in kept] == [8] * 6 + [2]
    assert sorted(i for batch in kept for i in batch[0].tolist()) == list(range(50))
    assert [batch[3] for batch in kept] == [8] * 6 + [2]
    assert len(TrainBatches(np.arange(48), batch_size=8, seed=0, drop_last=False)) == 6
    assert drawn(TrainBatches(np.arange(50), batch_size=8, seed=0)) == [batch[0].tolist() for batch in kept[:6]]
    with pytest.raises(ValueError, match="drop_last=false needs one process"):
        TrainBatches(np.arange(50), batch_size=8, seed=0, drop_last=False, world_size=2)


def test_fewer_samples_than_a_batch_still_train():
    assert [len(batch) for batch in drawn(TrainBatches(np.arange(5), batch_size=32, seed=0))] == [5]


def test_batch_size_must_divide():
    with pytest.raises(ValueError, match=r"batch_size=10.*3 processes"):
        TrainBatches(np.arange(100), batch_size=10, seed=0, world_size=3)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 7, 64, 65])
def test_evaluation_sees_every_sample_exactly_once(world_size, count):
    seen = [
        i
        for rank in range(world_size)
        for batch in drawn(EvalBatches(count, batch_size=16, rank=rank, world_size=world_size))
        for i in batch
    ]
    assert sorted(seen) == list(range(count))


def test_weights_balance_the_draw():
    weights = 1 / np.array([90, 30, 6])[LABELS[:, 0]]
    sampler = TrainBatches(np.arange(126), batch_size=126, seed=0, weights=weights)
    counts = np.zeros(3)
    for epoch in range(40):
        sampler.set_epoch(epoch)
        counts += np.bincount(LABELS[np.concatenate(drawn(sampler)), 0], minlength=3)
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.03)


def test_subset_is_stratified():
    chosen = stratified_subset(LABELS, fraction=0.1, seed=0)
    assert np.bincount(LABELS[chosen, 0]).tolist() == [9, 3, 1]
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() != stratified_subset(LABELS, fraction=0.1, seed=1).tolist()
    assert stratified_subset(LABELS, fraction=1.0, seed=0).tolist() == list(range(126))


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5])
def test_impossible_fraction(fraction):
    with pytest.raises(ValueError, match="train_fraction"):
        stratified_subset(LABELS, fraction=fraction, seed=0)


def test_strata():
    assert strata(np.array([[2], [0], [1]])).tolist() == [2, 0, 1]
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0]])  # label 2 is the rarest
    assert strata(labels).tolist() == [0, 0, -1, 2, 1, 1]


@pytest.mark.parametrize("samples", [1, 7, 30])
def test_a_number_of_samples_keeps_each_class_share(samples):
    labels = np.repeat([0, 1], [20, 10])[:, None]
    chosen = stratified_sample(labels, samples=samples, seed=0)
    assert len(chosen) == len(set(chosen.tolist())) == samples
    assert abs((labels[chosen] == 1).sum() - samples / 3) <= 1
    assert (np.diff(chosen) > 0).all()
    assert samples in (1, 30) or (stratified_sample(labels, samples=samples, seed=1) != chosen).any()


def test_more_samples_than_there_are():
    with pytest.raises(ValueError, match="data.train_samples=4: give a number from 1 to 3"):
        stratified_sample(np.zeros((3, 1)), samples=4, seed=0)
