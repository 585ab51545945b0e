"""Measures of maps: closed forms, slow references, and a perfect map before a random one."""

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from scale.attribution.metrics import quality
from scale.attribution.metrics.perturbation import removed

SHAPES = [(12, 12), (8, 9, 10)]


def planted(shape, channels=2, count=4):
    """A linear network that reads one box, images with a signal there, the network's weights and the box."""
    torch.manual_seed(0)
    weight = torch.zeros(1, channels, *shape)
    weight[(..., *(slice(2, 5) for _ in shape))] = 1 + torch.rand(1, channels, *[3] * len(shape))
    images = torch.randn(count, channels, *shape) * 0.5 + weight
    mask = (weight[:, 0] > 0).expand(count, *shape)

    def score(x):
        return (x * weight).flatten(1).sum(1)

    return score, images, weight, mask


@pytest.mark.parametrize("shape", SHAPES)
def test_perfect_map_is_ranked_before_a_random_one(shape):
    score, images, weight, mask = planted(shape)
    perfect = weight * (images - removed(images, "mean"))
    generator = torch.Generator().manual_seed(1)
    maps = {"perfect": perfect, "random": torch.rand(images.shape, generator=generator)}
    found = {}
    for name, given in maps.items():

        def explain(x, name=name):
            return weight.expand_as(x) if name == "perfect" else torch.rand(x.shape, generator=generator)

        found[name] = {
            "pointing_game": quality.pointing_game(given, mask),
            "relevance_mass": quality.relevance_mass(given, mask),
            "relevance_rank": quality.relevance_rank(given, mask),
            "deletion_auc": quality.deletion(score, images, given, baseline="mean").auc,
            "insertion_auc": quality.insertion(score, images, given, baseline="mean").auc,
            "infidelity": quality.infidelity(score, images, given),
            "sensitivity_max": quality.sensitivity_max(explain, images),
            "sparseness": quality.sparseness(given),
            "agreement": quality.rank_correlation(given, perfect + 0.1 * torch.randn(images.shape)),
        }
    for name, values in found["perfect"].items():
        sign = 1 if quality.METRICS[name].better == "higher" else -1
        assert (sign * (values - found["random"][name]) > 0).all(), name
    elsewhere = {"randomisation", "pointing_game_causal", "relevance_mass_causal"}  # have files of their own
    assert set(found["perfect"]) == set(quality.METRICS) - elsewhere


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("baseline", quality.BASELINES)
@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_curves_equal_a_slow_reference(shape, baseline, kind):
    _, images, weight, _ = planted(shape, count=3)

    def score(x):  # not linear, so that the order in which cells go matters
        return torch.tanh((x * weight).flatten(1).sum(1) / 20) + (x[:, 0].flatten(1) ** 2).mean(1)

    maps = torch.randn(images.shape)
    ends = {
        "zero": np.zeros_like,
        "mean": lambda x: np.broadcast_to(x.mean(axis=tuple(range(1, x.ndim)), keepdims=True), x.shape),
        # scipy's "reflect" is the mirror that repeats the edge
        "blur": lambda x: np.stack([gaussian_filter(c, max(shape) / 6, mode="reflect", truncate=4) for c in x]),
    }
    got = getattr(quality, kind)(score, images, maps, steps=7, baseline=baseline, batch_size=5)
    for b in range(3):
        image, other = images[b].numpy(), ends[baseline](images[b].numpy())
        start, end = (image, other) if kind == "deletion" else (other, image)
        order = np.argsort(-maps[b].sum(0).numpy().ravel())
        scores = []
        for step in range(8):
            changed = start.copy().reshape(2, -1)
            for cell in order[: round(step * order.size / 7)]:
                changed[:, cell] = end.reshape(2, -1)[:, cell]
            scores.append(float(score(torch.from_numpy(changed.reshape(image.shape))[None])))
        torch.testing.assert_close(got.scores[b], torch.tensor(scores), rtol=1e-4, atol=1e-4)
        shares = np.round(np.arange(8) * order.size / 7) / order.size
        assert float(got.auc[b]) == pytest.approx(trapezoid(scores, shares), rel=1e-4)


def test_curves_do_not_depend_on_the_batch_size_and_take_a_target_for_each_sample():
    score, images, _, _ = planted((12, 12))
    maps = torch.randn(images.shape)
    whole = quality.deletion(score, images, maps, batch_size=1000)
    torch.testing.assert_close(quality.deletion(score, images, maps, batch_size=3).scores, whole.scores)

    def two(x):
        return torch.stack([score(x), -2 * score(x)], dim=1)

    both = quality.deletion(two, images, maps, target=torch.tensor([0, 1, 0, 1]))
    factor = torch.tensor([1.0, -2.0, 1.0, -2.0])
    torch.testing.assert_close(both.auc, whole.auc * factor)
    torch.testing.assert_close(quality.deletion(two, images, maps, target=1).auc, whole.auc * -2)
    plain = quality.infidelity(score, images, maps, batch_size=16)
    for size in (1, 3, 7, 200):
        many = quality.infidelity(two, images, maps, target=torch.tensor([0, 1, 0, 1]), batch_size=size)
        torch.testing.assert_close(many, plain * factor**2, rtol=1e-3, atol=1e-3)
    seen = []
    quality.sensitivity_max(
        lambda x, target: seen.append(target) or x.clone(), images, target=torch.arange(4), perturbations=3
    )
    assert seen[0].tolist() == [0, 1, 2, 3]
    assert seen[1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_constant_map_deletes_in_no_particular_order():
    """A map that says nothing must not profit from the image's raster order."""
    images = torch.zeros(1, 1, 20, 20)
    images[..., :10, :] = 1
    curve = quality.deletion(lambda x: x.flatten(1).sum(1) / 200, images, torch.zeros_like(images), baseline="zero")
    assert float(curve.auc[0]) == pytest.approx(0.5, abs=0.03)
    other = quality.deletion(
        lambda x: x.flatten(1).sum(1) / 200, images, torch.zeros_like(images), baseline="zero", seed=1
    )
    assert not torch.equal(curve.scores, other.scores)


def test_options_change_what_they_name():
    score, images, _, _ = planted((12, 12))
    maps = torch.randn(images.shape)
    assert quality.deletion(score, images, maps, steps=5).shares.tolist() == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8, 1], abs=0.01
    )
    aucs = [quality.deletion(score, images, maps, baseline=b).auc.mean().item() for b in quality.BASELINES]
    assert len({round(a, 3) for a in aucs}) == 3
    few, many = (quality.infidelity(score, images, maps, perturbations=n, seed=3) for n in (2, 40))
    assert not torch.equal(few, many)
    assert not torch.equal(many, quality.infidelity(score, images, maps, perturbations=40, seed=4))
    torch.testing.assert_close(many, quality.infidelity(score, images, maps, perturbations=40, seed=3))
    blur, mean = (quality.infidelity(score, images, maps, baseline=b) for b in ("blur", "mean"))
    assert not torch.equal(blur, mean)
    small, large = (quality.sensitivity_max(lambda x: x, images, radius=r) for r in (0.01, 0.1))
    torch.testing.assert_close(small * 10, large, rtol=1e-3, atol=1e-4)
    # noise uniform in ±r has r / sqrt(3) for its standard deviation
    torch.testing.assert_close(large, 0.1 / 3**0.5 / images.flatten(1).pow(2).mean(1).sqrt(), rtol=0.1, atol=0)
    assert (quality.sensitivity_max(lambda x: x, images, perturbations=30) > large - 1e-4).all()


def test_infidelity_of_a_map_that_adds_up_is_zero_whatever_its_unit():
    score, images, weight, _ = planted((8, 9, 10))
    for baseline in quality.BASELINES:
        exact = weight * (images - removed(images, baseline))
        for factor in (1, 1000):
            assert quality.infidelity(score, images, factor * exact, baseline=baseline).max() < 1e-3
    assert quality.infidelity(score, images, torch.randn(images.shape)).min() > 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_localisation_closed_forms(shape):
    _, images, _, mask = planted(shape)
    share = float(mask[0].float().mean())
    inside = mask[:, None].float().expand_as(images)
    for measure in (quality.pointing_game, quality.relevance_mass, quality.relevance_rank):
        assert measure(inside, mask).tolist() == [1] * 4
        assert measure(1 - inside, mask).tolist() == [0] * 4
        # a map that says nothing scores at chance
        assert measure(torch.zeros_like(images), mask).tolist() == pytest.approx([share] * 4)
        assert measure(torch.full_like(images, 3.0), mask).tolist() == pytest.approx([share] * 4)
        nothing = measure(inside, torch.zeros_like(mask))
        assert torch.isnan(nothing).all()
        assert measure(inside, mask.long() * 3).tolist() == [1] * 4  # a mask may name the lesion's kind


def test_localisation_by_hand():
    values = torch.tensor([[5.0, 1.0, 1.0], [-2.0, 3.0, 0.0]])[None, None]
    mask = torch.tensor([[False, True, False], [True, True, False]])[None]
    assert quality.pointing_game(values, mask).item() == 0
    assert quality.relevance_mass(values, mask).item() == pytest.approx(4 / 10)  # negative relevance does not count
    # the three top cells are 5, 3 and one of the two ones, of which the first is inside
    assert quality.relevance_rank(values, mask).item() == pytest.approx((1 + 0.5) / 3)
    two = torch.cat([values, -values], dim=1) + torch.tensor([0.0, 1.0]).view(1, 2, 1, 1) * mask[:, None]
    assert quality.relevance_mass(two, mask).item() == pytest.approx(1)  # channels are summed first


def test_random_map_scores_at_chance():
    shape = (200, 1, 10, 10, 10)
    mask = torch.zeros(200, 10, 10, 10, dtype=torch.bool)
    mask[:, 2:6, 2:6, 2:6] = True
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert quality.pointing_game(maps, mask).mean().item() == pytest.approx(0.064, abs=0.05)
    assert quality.relevance_mass(maps, mask).mean().item() == pytest.approx(0.064, abs=0.002)
    assert quality.relevance_rank(maps, mask).mean().item() == pytest.approx(0.064, abs=0.01)


def test_sparseness_closed_forms():
    maps = torch.zeros(4, 1, 4, 5)
    maps[1] = -2.0
    maps[2, 0, 1, 1] = 7.0
    maps[3, 0, 0] = 1.0
    even = quality.sparseness(maps)
    assert even.tolist() == pytest.approx([0, 0, 1 - 1 / 20, 1 - 5 / 20], abs=1e-6)
    values = torch.rand(1, 1, 4, 5)
    x = values.flatten().numpy()
    gini = np.abs(x[:, None] - x).sum() / (2 * x.size**2 * x.mean())  # half the relative mean difference
    assert quality.sparseness(values).item() == pytest.approx(gini, rel=1e-5)


def test_rank_correlation_is_scipys_and_agreement_its_mean():
    a, b = torch.randn(3, 2, 4, 5, 6), torch.randint(-2, 3, (3, 2, 4, 5, 6)).float()  # b has ties
    for absolute in (False, True):
        change = np.abs if absolute else np.asarray
        want = [
            spearmanr(change(x.sum(0)).ravel(), change(y.sum(0)).ravel()).statistic for x, y in zip(a, b, strict=True)
        ]
        torch.testing.assert_close(
            quality.rank_correlation(a, b, absolute=absolute), torch.tensor(want, dtype=torch.float32)
        )
        matrix = quality.agreement({"a": a, "b": b, "c": -a}, absolute=absolute)
        np.testing.assert_allclose(matrix, matrix.T)
        assert matrix[0, 1] == pytest.approx(np.mean(want), abs=1e-6)
        assert matrix[0, 2] == pytest.approx(1 if absolute else -1)
    b[0] = 1  # a constant map has no ranks
    assert torch.isnan(quality.rank_correlation(a, b)).tolist() == [True, False, False]
    assert np.isfinite(quality.agreement({"a": a, "b": b})).all()


def test_summarise():
    values = np.random.default_rng(0).normal(2, 1, 400)
    found = quality.summarise([*values, np.nan], seed=1)
    assert found.n == 400
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    narrow = quality.summarise(torch.from_numpy(values), level=0.5)
    assert found.low < narrow.low < narrow.mean < narrow.high < found.high
    assert quality.summarise(values, seed=1) == quality.summarise(values, seed=1) != quality.summarise(values, seed=2)
    one, none = quality.summarise([3.0]), quality.summarise([np.nan])
    assert (one.mean, one.n) == (3, 1)
    assert np.isnan([one.low, one.high, none.mean, none.low]).all()
    assert none.n == 0


def test_bad_input_is_refused():
    score, images, _, mask = planted((12, 12))
    broken = torch.randn(images.shape)
    broken[2, 0, 3, 3] = torch.nan
    calls = [
        lambda: quality.deletion(score, images, broken),
        lambda: quality.infidelity(score, images, broken),
        lambda: quality.sensitivity_max(lambda _: broken, images),
        lambda: quality.relevance_mass(broken, mask),
        lambda: quality.sparseness(broken),
        lambda: quality.agreement({"a": images, "b": broken}),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"1 of 4 maps hold NaN or infinity \(rows 2\)"):
            call()
    with pytest.raises(ValueError, match="did you mean 'blur'"):
        quality.insertion(score, images, images, baseline="blurr")
    with pytest.raises(ValueError, match="do not fit maps"):
        quality.relevance_mass(images, mask[:, :5])
    with pytest.raises(ValueError, match="do not fit images"):
        quality.deletion(score, images, images[:, :1])
    with pytest.raises(ValueError, match="scores are not finite"):
        quality.deletion(lambda x: x.flatten(1).sum(1) * torch.nan, images, images)
    with pytest.raises(ValueError, match=r"gave \(4, 2\).*without a target"):
        quality.deletion(lambda x: x[:, :, 0, 0], images, images, steps=1, batch_size=4)


def test_measuring_works_under_inference_mode_and_leaves_the_random_state_alone():
    score, images, _, _ = planted((12, 12))
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        quality.deletion(score, images, images)
        quality.infidelity(score, images, images)
        quality.sensitivity_max(lambda x: x, images)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_measure_says_which_way_is_better():
    assert {m.better for m in quality.METRICS.values()} == {"higher", "lower", "zero"}
    assert all(name == m.name and m.source.startswith("http") for name, m in quality.METRICS.items())
