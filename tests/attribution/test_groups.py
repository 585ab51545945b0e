"""The group analysis: closed forms of CKA, means of what a hand-made network looks at, figures."""

import csv

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scale.attribution.report import group_figures, groups
from scale.models.baselines import ResNet
from scale.models.scale_net import ScaleNet


def reference_cka(x, y):
    """Sums over quadruples of samples that differ, as the U-statistic is defined (Song et al. 2012, eq. 4)."""

    def hsic(k, m):
        n, total, count = len(k), 0.0, 0
        for i in range(n):
            for j in range(n):
                for q in range(n):
                    for r in range(n):
                        if len({i, j, q, r}) == 4:
                            total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
                            count += 1
        return total / count

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def biased_cka(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def test_cka_closed_forms():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 4)) + 3, rng.normal(size=(9, 6))
    y[:, :2] += x[:, :2]
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert groups.linear_cka(x, x) == pytest.approx(1)
    assert groups.linear_cka(x, 7e5 * x @ turn - 5) == pytest.approx(1)
    assert groups.linear_cka(x, y) == pytest.approx(groups.linear_cka(1e-6 * x @ turn + 1e-5, y))
    assert groups.linear_cka(x, y) == pytest.approx(groups.linear_cka(y, x))
    assert groups.linear_cka(x, y) == pytest.approx(reference_cka(x, y))
    assert groups.linear_cka(x, x @ rng.normal(size=(4, 4))) < 0.99  # not every linear map


def test_cka_of_unrelated_features_is_zero_however_wide_they_are():
    rng = np.random.default_rng(0)
    wide = [(rng.normal(size=(60, 200)), rng.normal(size=(60, 200))) for _ in range(10)]
    assert abs(np.mean([groups.linear_cka(x, y) for x, y in wide])) < 0.02
    assert np.mean([biased_cka(x, y) for x, y in wide]) > 0.5
    x = rng.normal(size=(1500, 3))
    y = x + rng.normal(size=(1500, 3))
    assert groups.linear_cka(x, y) == pytest.approx(biased_cka(x, y), abs=0.01)


def test_cka_that_does_not_exist():
    x = np.random.default_rng(0).normal(size=(8, 3))
    assert np.isnan(groups.linear_cka(x[:3], x[:3]))
    assert np.isnan(groups.linear_cka(x, np.full((8, 2), 1.1)))
    with pytest.raises(ValueError, match="got 8 and 7"):
        groups.linear_cka(x, x[:7])


@pytest.mark.parametrize("dims", [2, 3])
def test_observe_means_what_the_network_returns(dims):
    torch.manual_seed(0)
    net = ScaleNet(spatial_dims=dims, in_channels=1, outputs=2).eval()
    images = torch.randn(5, 1, *[20] * dims)
    found = groups.observe(net, images.split(2))
    with torch.no_grad():
        whole = net.forward_intermediates(images)
    planar, volumetric = whole.scale_attention["planar"], whole.scale_attention["volumetric"]
    np.testing.assert_allclose(found.scale_attention["planar"], planar.mean((1, 3, 4)), atol=1e-5)
    np.testing.assert_allclose(found.scale_attention["volumetric"], volumetric.mean((2, 3, 4)), atol=1e-5)
    for weights in found.scale_attention.values():
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(found.stream_gate, whole.stream_gate, atol=1e-5)
    np.testing.assert_allclose(found.features["fused"], whole.features, atol=1e-4)
    with torch.no_grad():  # the pyramid, made again one sample at a time
        one = net.streams["planar"](net.lifting.planar(images[3:4])[0])
        volume = net.streams["volumetric"](net.lifting.volumetric(images[3:4]))
    for level, x in zip(groups.LEVELS, one, strict=True):
        np.testing.assert_allclose(found.features[f"planar {level}"][3], x.mean((0, 2, 3)), atol=1e-4)
    for level, x in zip(groups.LEVELS, volume, strict=True):
        np.testing.assert_allclose(found.features[f"volumetric {level}"][3], x.mean((0, 2, 3, 4)), atol=1e-4)
    assert not any(module._forward_hooks for module in net.modules())
    with pytest.raises(ValueError, match="the network takes samples"):
        groups.observe(net, [images[:, :, 0]])
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("options", [{"streams": "planar"}, {"scale_attention": False}, {"fusion": "concat"}])
def test_networks_with_fewer_parts_have_fewer_rows(options):
    net = ScaleNet(spatial_dims=2, in_channels=1, outputs=2, **options).eval()
    rows = groups.group_rows(groups.observe(net, [torch.randn(6, 1, 28, 28)]), np.arange(6)[:, None] % 2, ["a", "b"])
    found = {row["quantity"] for row in rows}
    assert (
        found
        == {
            "planar": {"scale_attention", "cka"},
            False: {"stream_gate", "cka"},
            "concat": {"scale_attention", "cka"},
        }[next(iter(options.values()))]
    )
    assert set(group_figures.draw(rows)) == found


def observed(n=40, seed=0):
    rng = np.random.default_rng(seed)
    weights = {name: rng.dirichlet((1, 2, 3), size=n) for name in ("planar", "volumetric")}
    features = {f"{s} {level}": rng.normal(size=(n, 5)) for s in weights for level in groups.LEVELS}
    return groups.Observed(weights, rng.dirichlet((2, 2), size=n), {**features, "fused": rng.normal(size=(n, 9))})


def test_rows_are_means_over_the_class_with_intervals(tmp_path):
    given, labels = observed(), (np.arange(40) % 4 == 0).astype(int)[:, None]
    rows = groups.group_rows(given, labels, ["a, long", "b", "absent"], data="set", seed=1)

    def one(**wanted):
        (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
        return row

    row = one(quantity="scale_attention", group="b", stream="volumetric", level="coarse")
    values = given.scale_attention["volumetric"][labels[:, 0] == 1, 2]
    assert row["mean"] == pytest.approx(values.mean())
    assert row["low"] < row["mean"] < row["high"]
    assert row["n"] == 10
    assert one(quantity="stream_gate", group="all", stream="planar")["n"] == 40
    assert one(quantity="cka", stream="fused", against="fused")["mean"] == pytest.approx(1)
    assert sum(row["quantity"] == "cka" for row in rows) == 7 * 8 // 2
    assert not any(row["group"] == "absent" for row in rows)
    groups.write_rows(tmp_path / "groups.csv", rows)
    with (tmp_path / "groups.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert tuple(read[0]) == groups.COLUMNS
    assert len(read) == len(rows)
    assert float(read[0]["mean"]) == pytest.approx(rows[0]["mean"], rel=1e-5)
    assert read[-1]["low"] == ""
    other = groups.group_rows(given, labels, ["a", "b"], seed=2)
    assert other[0]["mean"] == rows[0]["mean"]
    assert other[0]["low"] != rows[0]["low"]


def test_a_sample_with_several_labels_is_in_several_groups():
    labels = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
    rows = groups.group_rows(observed(4), labels, ["x", "y", "z"])
    counts = {row["group"]: row["n"] for row in rows if row["quantity"] == "stream_gate"}
    assert counts == {"all": 4, "x": 2, "y": 2}


def test_cka_of_many_samples_takes_an_even_part(monkeypatch):
    monkeypatch.setattr(groups, "CKA_SAMPLES", 10)
    rows = groups.group_rows(observed(), np.zeros((40, 1), int), ["a", "b"])
    assert {row["n"] for row in rows if row["quantity"] == "cka"} == {10}


def test_figures_show_the_rows_and_cut_nothing(monkeypatch):
    monkeypatch.setattr(group_figures, "DPI", 60)  # drawn sooner
    names = [f"immature granulocytes, group {i} with a long name" for i in range(8)]
    rows = groups.group_rows(observed(80), np.arange(80)[:, None] % 8, names, data="first")
    more = [{**row, "data": "second"} for row in rows]
    for given in (rows, rows + more):
        drawn = group_figures.draw(given)
        assert list(drawn) == ["scale_attention", "stream_gate", "cka"]
        for figure in drawn.values():
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
            assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.01
    axes = group_figures.stream_gate(rows).axes[0]
    points = axes.containers[0].lines[0]
    want = [row["mean"] for row in rows if row["quantity"] == "stream_gate" and row["stream"] == "planar"]
    assert points.get_xdata().tolist() == pytest.approx(want)
    assert points.get_ydata().tolist() == list(range(9))
    assert len(axes.get_yticklabels()) == 9
    matrix = group_figures.cka(rows).axes[0].images[0].get_array()
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1)


def test_a_baseline_has_no_groups():
    with pytest.raises(ValueError, match=r"ResNet has no scales.*model=scale"):
        groups.observe(ResNet(spatial_dims=2, in_channels=1, outputs=2), [])
    with pytest.raises(ValueError, match="got none"):
        groups.observe(ScaleNet(spatial_dims=2, in_channels=1, outputs=2).eval(), [])
