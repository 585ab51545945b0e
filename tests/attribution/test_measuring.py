import numpy as np
import pytest
import torch

from scale.attribution.metrics import measure as measuring
from scale.attribution.metrics import quality
from scale.attribution.metrics.explainer import Explainer, Subjects
from scale.config.schemas import Attribution, Quality
from scale.models.scale_net import ScaleNet
from scale.tasks.problem import Problem

SMALL = {"planar_widths": (4, 6, 8), "volumetric_widths": (4, 6, 8), "dim": 8, "heads": 2, "slabs": 2, "scales": 4}
QUALITY = Quality(samples=4, steps=3, perturbed=2, perturbations=2)


def explainer(**settings):
    torch.manual_seed(0)
    net = ScaleNet(spatial_dims=2, in_channels=1, outputs=2, **SMALL).eval()
    return Explainer(
        net, Problem("binary", 2), Attribution(**{"steps": 2, "noise_samples": 2, "window": 0.5, **settings})
    )


def subjects(**changes):
    images = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(4, 12, 12, dtype=torch.bool)
    masks[1:, 3:6, 4:8] = True
    values = {"target": torch.tensor([0, 1, 0, 1]), "truth": torch.tensor([0, 1, 1, 1]), "masks": masks}
    return Subjects(images, **{**values, **changes})


def test_every_measure_has_its_samples():
    other = explainer().net.__class__(spatial_dims=2, in_channels=1, outputs=2, **SMALL).eval()
    own, passes = explainer(), []
    methods = ["input_x_gradient", "gradcam_planar", "random"]
    falls = np.array([False, True, False, False])
    names = list(quality.METRICS)
    stages = []
    for values, maps in measuring.measure(  # noqa: B007
        own,
        subjects(others={"seed1": other}, falls=falls),
        methods,
        names,
        QUALITY,
        step=lambda method, amount: passes.append((method, amount)),
    ):
        stages.append({name for measured in values.values() for name in measured})
    dear = {"infidelity", "sensitivity_max", "randomisation"}
    assert stages == [set(names) - dear - {"deletion_auc", "insertion_auc"}, set(names) - dear, set(names)]
    assert {name: len(found) for name, found in values.items()} == dict.fromkeys(methods, len(quality.METRICS))
    counts = {name: int((~np.isnan(numbers)).sum()) for name, numbers in values["input_x_gradient"].items()}
    dear = dict.fromkeys(dear, 2)
    placed = dict.fromkeys(("pointing_game", "relevance_mass", "relevance_rank"), 3)
    placed |= dict.fromkeys(("pointing_game_causal", "relevance_mass_causal"), 1)
    assert counts == dict.fromkeys(quality.METRICS, 4) | dear | placed
    assert {name for name, _ in passes} == set(methods)
    assert values["random"]["agreement"].tolist() == [pytest.approx(1.0)] * 4  # knows nothing of the network
    assert values["random"]["randomisation"][0] == pytest.approx(1.0)
    assert set(maps) == set(methods)
    expected = quality.deletion(
        own.probabilities, subjects().images, maps["gradcam_planar"], steps=3, target=subjects().target
    )
    np.testing.assert_allclose(values["gradcam_planar"]["deletion_auc"], expected.auc.numpy(), atol=1e-6)
    table = measuring.rows(values, seed=0)
    assert list(table[0]) == ["method", "metric", "better", "mean", "low", "high", "n"]
    assert {row["metric"] for row in table if row["method"] == "random"} == set(quality.METRICS)
    expected = own.cost("input_x_gradient") * (4 * 2 + 2 * (2 + 2)) + 2 * 4 * (3 + 1) + 2 * 2
    told = sum(amount for method, amount in passes if method == "input_x_gradient")
    assert told == pytest.approx(expected)
    assert expected == measuring.cost(own, ["input_x_gradient"], names, QUALITY, count=4, others=1, bytes_each=4 * 144)


def test_one_sample_may_be_perturbed():
    one = Quality(samples=4, steps=3, perturbed=1, perturbations=2 * measuring.SENSITIVITY_RUNS)
    names = ["infidelity", "sensitivity_max", "randomisation"]
    measured = measuring.measure(explainer(), subjects(), ["input_x_gradient"], names, one, step=lambda *_: None)
    *_, (values, _) = measured
    counts = {name: int(np.isfinite(found).sum()) for name, found in values["input_x_gradient"].items()}
    assert counts == dict.fromkeys(names, 1)


def test_a_missed_lesion_is_looked_for_in_the_map_of_its_class():
    own, given = explainer(), subjects()
    measured = measuring.measure(own, given, ["input_x_gradient"], ["relevance_mass"], QUALITY, step=lambda *_: None)
    ((values, _),) = measured
    truth = own.maps("input_x_gradient", given.images, given.truth)
    expected = quality.relevance_mass(truth, given.masks).numpy()
    np.testing.assert_allclose(values["input_x_gradient"]["relevance_mass"], expected, rtol=1e-5)
    target = own.maps("input_x_gradient", given.images, given.target)
    assert quality.relevance_mass(target, given.masks)[2] != pytest.approx(expected[2])


def test_a_gain_on_a_control_is_positive_whatever_the_direction():
    values = {
        "good": {"deletion_auc": np.array([0.1, 0.2, 0.3]), "insertion_auc": np.array([0.8, 0.9, np.nan])},
        "random": {"deletion_auc": np.array([0.4, 0.5, 0.6]), "insertion_auc": np.array([0.5, 0.6, 0.7])},
    }
    rows = measuring.against(values, "random", seed=0)
    assert [(row["method"], row["metric"], row["n"]) for row in rows] == [
        ("good", "deletion_auc", 3),
        ("good", "insertion_auc", 2),
    ]
    assert [row["mean"] for row in rows] == pytest.approx([0.3, 0.3])
    assert rows[0]["low"] > 0


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("integrated_gradients", {"steps": 5}),
        ("integrated_gradients", {"baseline": "zero"}),
        ("deeplift", {"baseline": "mean"}),
        ("scale_relevance", {"steps": 5}),
        ("consensus", {"view_steps": 2}),
        ("gradient_shap", {"noise_samples": 5}),
        ("gradient_shap", {"seed": 3}),
        ("smoothgrad", {"noise_samples": 5}),
        ("smoothgrad", {"noise": 0.5}),
        ("occlusion", {"window": 0.2}),
    ],
    ids=str,
)
def test_a_setting_changes_what_it_names(method, change):
    images, target = subjects().images + 0.3, subjects().target
    plain, changed = (explainer(**options).maps(method, images, target) for options in ({}, change))
    assert (plain - changed).abs().max() > 1e-4 * plain.abs().max() > 0


def test_maps_that_find_no_room_are_made_again(monkeypatch):
    own, found = explainer(), []
    for room in (measuring.KEPT, 0):
        monkeypatch.setattr(measuring, "KEPT", room)
        passes = []
        *_, (values, maps) = measuring.measure(
            own,
            subjects(),
            ["input_x_gradient"],
            ["sparseness", "deletion_auc"],
            QUALITY,
            step=lambda _, amount, passes=passes: passes.append(amount),
        )
        known = measuring.cost(
            own, ["input_x_gradient"], ["sparseness", "deletion_auc"], QUALITY, count=4, others=0, bytes_each=4 * 144
        )
        assert sum(passes) == known
        found.append((values["input_x_gradient"]["deletion_auc"].tolist(), len(maps)))
    assert found[0][0] == found[1][0]
    assert [kept for _, kept in found] == [1, 0]


def test_nearest_to_zero_is_a_gain_from_either_side():
    values = {"good": {"randomisation": np.array([-0.1, 0.1])}, "random": {"randomisation": np.array([-0.9, 1.0])}}
    (row,) = measuring.against(values, "random", seed=0)
    assert row["mean"] == pytest.approx(0.85)


def test_an_unknown_measure_is_named():
    assert measuring.check_metrics(["all"]) == list(quality.METRICS)
    expensive = {"infidelity", "sensitivity_max"}
    assert not expensive & set(measuring.check_metrics(None))
    assert {"pointing_game", "deletion_auc", "randomisation"} <= set(measuring.check_metrics(None))
    with pytest.raises(ValueError, match="unknown metric 'deletion'; did you mean 'deletion_auc'"):
        measuring.check_metrics(["deletion"])
