import threading
import warnings
from functools import partial

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from scale.attribution.catalog import KINDS, METHODS, Method
from scale.attribution.methods import attention_maps, gradients
from scale.attribution.methods.attribute import Explained, applicable, attribute, obstacle
from scale.attribution.metrics.perturbation import removed
from scale.models.baselines import ResNet
from scale.models.scale_net import ScaleNet
from scale.tasks.problem import Problem

BINARY = Problem("binary", 2)
SMALL = {"planar_widths": (4, 6, 8), "volumetric_widths": (4, 6, 8), "dim": 8, "heads": 2, "slabs": 2, "scales": 4}
QUICK = {"integrated_gradients": {"steps": 3}, "gradient_shap": {"samples": 3}, "smoothgrad": {"samples": 3}}
QUICK |= {"occlusion": {"window": 0.5}, "scale_relevance": {"steps": 3}, "consensus": {"steps": 2}}


def small(shape=(28, 28, 28), *, channels=1, outputs=2, seed=0, **changes):
    torch.manual_seed(seed)
    return ScaleNet(spatial_dims=len(shape), in_channels=channels, outputs=outputs, **{**SMALL, **changes})


def images(count, *shape, seed=1):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """Logits that are linear in the voxels."""

    def __init__(self, *shape, outputs=2):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(torch.Size(shape).numel(), outputs)
        self.shape = shape

    def forward(self, x):
        return self.linear(x.flatten(1))

    def weight(self, target, other=None):
        weight = self.linear.weight[target] - (0 if other is None else self.linear.weight[other])
        return weight.detach().reshape(self.shape)


def explain(net, x, method, **options):
    options = {"problem": BINARY, "target": 1, **QUICK.get(method, {}), **options}
    return attribute(net, x, method=method, **options)


@pytest.mark.parametrize("shape", [(2, 6, 5), (1, 4, 5, 3)])
@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_a_linear_model_has_known_maps(shape, kind):
    net, x = Linear(*shape), images(3, *shape)
    baseline = images(1, *shape, seed=2)[0]
    target = torch.tensor([0, 1, 1])
    weight = torch.stack([net.weight(t, 1 - t if kind == "binary" else None) for t in target.tolist()])
    along = (x - baseline) * weight
    expected = {
        "saliency": weight.abs(),
        "input_x_gradient": x * weight,
        "integrated_gradients": along,
        "gradient_shap": along,
        "smoothgrad": weight.abs(),
        "guided_backprop": weight,
        "deeplift": along,
        "occlusion": along.mean(dim=1, keepdim=True).expand_as(along),  # channels are hidden together
    }
    elsewhere = {"scale_relevance", "consensus"}  # which have tests of their own
    assert set(expected) == {m for m in METHODS if METHODS[m].kind in ("gradient", "perturbation")} - elsewhere
    for method, known in expected.items():
        options = {"window": 0.01, "overlap": 0.0} if method == "occlusion" else {}
        found = explain(net, x, method, target=target, problem=Problem(kind, 2), baseline=baseline, **options)
        torch.testing.assert_close(found, known, atol=2e-4, rtol=1e-3, msg=lambda text, m=method: f"{m}: {text}")
        assert (found < 0).any() == METHODS[method].signed


def test_occlusion_of_windows_is_the_mean_over_the_windows_of_a_voxel():
    net, x = Linear(1, 8), images(1, 1, 8)
    effect = (x * net.weight(1, 0)).flatten()
    windows = [range(0, 4), range(2, 6), range(4, 8)]
    expected = [torch.stack([sum(effect[j] for j in w) for w in windows if i in w]).mean() for i in range(8)]
    found = explain(net, x, "occlusion", window=0.5, overlap=0.5)
    torch.testing.assert_close(found.flatten(), torch.stack(expected), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3), ("ordinal", 5)])
def test_scores_are_log_odds_of_the_probabilities(kind, classes):
    problem = Problem(kind, classes)
    x = images(6, problem.outputs).double() * 3
    scores = Explained(nn.Identity(), problem)(x)
    torch.testing.assert_close(scores.sigmoid(), problem.probabilities(x))
    assert torch.isfinite(Explained(nn.Identity(), problem)(x * 40)).all()  # where probabilities are 0 and 1


@pytest.mark.parametrize("shape", [(14, 12), (6, 9, 7)])
def test_integrated_gradients_are_complete_on_the_scale_network(shape):
    net, x = small(shape, seed=3).eval(), images(1, 1, *shape)
    maps = explain(net, x, "integrated_gradients", steps=1000, batch_size=250)
    score = Explained(net, BINARY)
    with torch.no_grad():
        difference = (score(x) - score(torch.zeros_like(x)))[:, 1]
    assert difference.abs().min() > 0.05
    torch.testing.assert_close(maps.flatten(1).sum(dim=1), difference, atol=5e-4, rtol=0)


def test_every_method_gives_a_map_of_the_inputs_shape():
    for shape, channels in [((14, 12), 3), ((64, 50), 1), ((9, 12, 8), 2), ((64, 12, 20), 1)]:
        net, x = small(shape, channels=channels), images(2, channels, *shape)
        names = applicable(net)
        assert set(names) == set(METHODS) - {"gradcam"}
        for method in names if max(shape) < 64 else ["gradcam_fusion", "rollout", "saliency", "guided_backprop"]:
            maps = explain(net, x, method)
            assert maps.shape == x.shape
            assert maps.dtype == torch.float32
            assert not maps.requires_grad
            if METHODS[method].kind != "activation":  # their positive part may be empty in a network that knows nothing
                assert maps.abs().sum() > 0, method
            if not METHODS[method].signed:
                assert maps.min() >= 0
            if METHODS[method].kind in ("perturbation", "activation", "attention") and method != "guided_gradcam":
                assert torch.equal(maps, maps[:, :1].expand_as(maps))


def state(net):
    hooks = [
        len(getattr(module, name))
        for module in net.modules()
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    ]
    values = [(p.requires_grad, p.grad, p.detach().clone()) for p in net.parameters()]
    attributes = [set(vars(module)) for module in net.modules()]
    modes = [module.training for module in net.modules()]
    return hooks, modes, attributes, [(flag, grad) for flag, grad, _ in values], [value for *_, value in values]


def unchanged(before, after):
    assert before[:4] == after[:4]
    assert all(torch.equal(a, b) for a, b in zip(before[4], after[4], strict=True))
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"gradcam"}))
def test_nothing_is_left_behind(method, monkeypatch):
    net, x = small((12, 14)), images(2, 1, 12, 14)
    next(net.parameters()).requires_grad_(False)
    net.streams["planar"].eval()
    kept, before, drawn = x.clone(), state(net), torch.get_rng_state()
    explain(net, x, method)
    unchanged(before, state(net))
    assert torch.equal(x, kept)
    assert x.grad is None
    assert not x.requires_grad
    assert torch.equal(drawn, torch.get_rng_state())  # a training goes on as if nothing had been drawn
    if METHODS[method].kind == "control":
        return

    def fail(*_, **__):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(type(net.head), "forward", fail)
    monkeypatch.setattr(ScaleNet, "forward_intermediates", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        explain(net, x, method)
    unchanged(before, state(net))
    assert torch.equal(drawn, torch.get_rng_state())


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"gradcam"}))
def test_inference_mode_autocast_and_training_mode_change_nothing(method):
    net, x = small((20, 12), dropout=0.5).eval(), images(3, 1, 20, 12)
    plain = explain(net, x, method, target=torch.tensor([0, 1, 1]))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        inside = explain(net, x * 1, method, target=torch.tensor([0, 1, 1]))
    net.train()
    with torch.no_grad():
        training = explain(net, x, method, target=torch.tensor([0, 1, 1]))
    assert torch.equal(plain, inside)
    assert torch.equal(plain, training)


def test_a_network_of_half_precision_or_inference_tensors_is_explained_too():
    x = images(1, 1, 12, 12)
    with torch.inference_mode():
        net = small((12, 12))
    torch.testing.assert_close(explain(net, x, "guided_gradcam"), explain(small((12, 12)), x, "guided_gradcam"))
    half = small((12, 12)).bfloat16()
    torch.testing.assert_close(
        explain(half, x.bfloat16(), "saliency"), explain(half.float(), x, "saliency"), rtol=0.2, atol=0.01
    )


def test_hooks_of_others_neither_run_nor_hinder():
    net, x, calls = small((12, 12)).eval(), images(1, 1, 12, 12), []
    expected = explain(net, x, "guided_backprop")
    lock = threading.Lock()  # cannot be copied
    net.head[1].register_forward_hook(partial(lambda lock, *_: calls.append(lock), lock))
    net.head[1].register_forward_pre_hook(lambda *_, **__: calls.append(1), with_kwargs=True)
    assert torch.equal(explain(net, x, "guided_backprop"), expected)
    assert calls == []
    net(x)
    assert len(calls) == 2


def test_a_compiled_network_is_explained_by_its_plain_copy():
    net, x = small((12, 12)), images(1, 1, 12, 12)
    expected = explain(net, x, "deeplift")
    net._compiled_call_impl = lambda *_: pytest.fail(
        "Captum's hooks need the plain modules"
    )  # as net.compile() sets it
    assert torch.equal(explain(net, x, "deeplift"), expected)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"gradcam"}))
def test_batches_do_not_change_the_answer(method):
    net, x, target = small((9, 8, 7)), images(5, 1, 9, 8, 7), torch.tensor([0, 1, 0, 0, 1])
    whole = explain(net, x, method, target=target, batch_size=64)
    slack = 0.01 * whole.abs().amax()  # rounding may move a value across a kink
    found = explain(net, x, method, target=target, batch_size=2)
    torch.testing.assert_close(found, whole, atol=slack, rtol=0)
    torch.testing.assert_close(found.mean(), whole.mean(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(explain(net, x[3:4], method, target=0), whole[3:4], atol=slack, rtol=0)
    if METHODS[method].depends_on_target:
        other = explain(net, x, method, target=1 - target)
        assert not torch.allclose(other, whole) or not METHODS[method].signed


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "occlusion", "rollout"])
def test_a_memory_error_halves_the_batch_and_says_so(method, error, monkeypatch, caplog):
    net, x, seen = small((12, 12)), images(7, 1, 12, 12), []
    whole = explain(net, x, method)
    run = ScaleNet._run

    def limited(self, x, **options):
        seen.append(len(x))
        if len(x) > 3:
            raise error
        return run(self, x, **options)

    monkeypatch.setattr(ScaleNet, "_run", limited)
    done = []
    found = explain(net, x, method, batch_size=8, progress=done.append)
    torch.testing.assert_close(found, whole)
    assert sum(done) == 7
    said = [record.message for record in caplog.records]
    assert said == [
        f"{method}: memory is too small for batches of 8, continuing with 4",
        f"{method}: memory is too small for batches of 4, continuing with 2",
    ]
    monkeypatch.setattr(ScaleNet, "_run", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(MemoryError, match="too small for a single sample"):
        explain(net, x, method)


def test_another_runtime_error_is_not_taken_for_memory(monkeypatch):
    monkeypatch.setattr(ScaleNet, "_run", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        explain(small((12, 12)), images(2, 1, 12, 12), "saliency")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "salency"}, "unknown method 'salency'; did you mean 'saliency'"),
        ({"target": 2}, "target class 2 does not exist: the classes are 0 to 1"),
        ({"target": torch.tensor([0, -1])}, "target class -1 does not exist"),
        ({"target": torch.tensor([0, 1, 1])}, r"target has the shape \(3,\)"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"step": 3}, "saliency takes no option 'step'; it takes none"),
        (
            {"method": "integrated_gradients", "step": 3},
            r"takes no option 'step'; did you mean 'steps'\?; it takes smooth, steps",
        ),
        ({"method": "gradcam"}, "gradcam does not apply: ScaleNet is no ResNet"),
    ],
)
def test_bad_input_is_named(change, message):
    options = {"problem": BINARY, "method": "saliency", "target": 1, **change}
    with pytest.raises(ValueError, match=message):
        attribute(small((12, 12)), images(2, 1, 12, 12), **options)


def test_values_that_are_not_finite_are_named():
    net, x = small((12, 12)), images(4, 1, 12, 12)
    x[2, 0, 3, 3] = torch.nan
    with pytest.raises(FloatingPointError, match="saliency gives values .* samples at 2, as the images do"):
        explain(net, x, "saliency")
    with torch.no_grad():
        net.head[1].weight.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="samples at 0, 1$"):
        explain(net, images(2, 1, 12, 12), "integrated_gradients")


SWITCHES = [
    ({}, {"gradcam"}),
    ({"streams": "planar"}, {"gradcam", "gradcam_fusion", "rollout", "volumetric"}),
    ({"streams": "volumetric"}, {"gradcam", "gradcam_fusion", "rollout", "planar"}),
    ({"scale_attention": False}, {"gradcam", "scale_attention"}),
    ({"fusion": "gate"}, {"gradcam", "rollout", "cross_attention"}),
    ({"fusion": "concat", "lifting": "naive"}, {"gradcam", "rollout", "cross_attention"}),
]


@pytest.mark.parametrize(("change", "missing"), SWITCHES, ids=lambda value: str(sorted(value)))
def test_what_does_not_fit_a_network_is_known_before_anything_runs(change, missing, monkeypatch):
    net, x = small((9, 8, 7), **change), images(1, 1, 9, 8, 7)
    names = applicable(net)
    gone = {m for m in METHODS if m in missing or any(part in m for part in missing - {"gradcam", "gradcam_fusion"})}
    if "streams" in change:
        gone |= {m for m in METHODS if m.startswith("cross_attention")}
    assert set(METHODS) - set(names) == gone
    for method in names:
        explain(net, x, method)
    monkeypatch.setattr(ScaleNet, "_run", lambda *_, **__: pytest.fail("ran"))
    for method in gone:
        with pytest.raises(ValueError, match=f"{method} does not apply: .*; what does: saliency, "):
            explain(net, x, method)


def test_a_baseline_has_no_attention():
    torch.manual_seed(0)
    net = ResNet(spatial_dims=2, in_channels=1, outputs=2)
    assert [m for m in METHODS if METHODS[m].kind == "attention" and obstacle(net, m) is None] == []
    assert {"gradcam", "guided_gradcam", "deeplift"} <= set(applicable(net))
    with pytest.raises(ValueError, match="rollout does not apply: ResNet has no streams and no attention"):
        explain(net, images(1, 1, 8, 8), "rollout")


def test_gradcam_of_a_resnet_is_captums_where_its_cells_look():
    torch.manual_seed(0)
    net, x = ResNet(spatial_dims=3, in_channels=1, outputs=2).eval(), images(2, 1, 9, 12, 10)
    layer = captum.attr.LayerGradCam(Explained(net, BINARY), net.blocks)
    with torch.no_grad():
        head = next(module for module in net.modules() if isinstance(module, nn.Linear))
        head.weight[1] = head.weight[1].abs()  # for the class, wherever there is a feature: a map that is not blank
        head.weight[0] = 0
    small_map = layer.attribute(x, target=1, relu_attributions=True)
    assert small_map.flatten(1).std(dim=1).min() > 0
    expected = small_map.detach().numpy()
    for axis, count in enumerate(x.shape[2:], start=2):  # cell i looks at voxel 8i
        expected = np.apply_along_axis(
            lambda line, n=count: np.interp(np.arange(n) / 8, range(len(line)), line), axis, expected
        )
    expected = torch.from_numpy(expected).float()
    torch.testing.assert_close(explain(net, x, "gradcam"), expected)
    guided = explain(net, x, "guided_backprop") * expected
    torch.testing.assert_close(explain(net, x, "guided_gradcam"), guided)


@pytest.mark.parametrize("place", [(16, 40), (56, 8), (0, 24)])
def test_gradcam_of_a_resnet_lies_on_what_its_cells_see(place):
    """Convolutions that pass on their middle alone: each cell sees one pixel, and the map must have its peak there."""
    net = ResNet(spatial_dims=2, in_channels=1, outputs=2).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
            middle = module.kernel_size[0] // 2
            module.weight.data[:, 0, middle, middle] = 1
    head = next(module for module in net.modules() if isinstance(module, nn.Linear))
    head.weight.data.copy_(torch.tensor([[0.0], [1.0]]).expand_as(head.weight))
    x = torch.zeros(1, 1, 64, 64)
    x[(0, 0, *place)] = 1
    found = explain(net, x, "gradcam")[0, 0]
    assert found.max() > 0
    assert np.unravel_index(found.argmax(), found.shape) == place


def test_a_module_in_several_places_is_named():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.head = nn.ReLU(), nn.Linear(16, 2)

        def forward(self, x):
            return self.head(self.relu(self.relu(x.flatten(1)) - 0.5))

    for method in ("deeplift", "consensus"):
        with pytest.raises(ValueError, match="deeplift and consensus do not apply: Twice uses one ReLU"):
            explain(Twice(), images(2, 1, 4, 4), method)


@pytest.mark.parametrize("baseline", ["blur", "mean"])
@pytest.mark.parametrize("shape", [(28, 28), (12, 14, 16)])
def test_a_blank_image_has_a_blank_map(shape, baseline):
    """What blurring a constant changes is rounding, which the colours' limit would show as strong as any map."""
    net = small(shape)
    x = torch.full((2, 1, *shape), 0.7312)
    x[1, 0, 4, 4] = 3.0
    for method in ("integrated_gradients", "deeplift", "consensus", "scale_relevance"):
        found = explain(net, x, method, baseline=removed(x, baseline))
        assert found[0].abs().max() == 0
        assert method != "integrated_gradients" or found[1].abs().max() > 0


def test_scale_relevance_is_the_product_of_its_parts():
    resnet = ResNet(spatial_dims=2, in_channels=1, outputs=2)
    nets = [
        small((12, 10)),
        small((12, 10), auxiliary=False),
        small((12, 10), streams="volumetric"),
        small((12, 10), fusion="concat"),
        resnet,
    ]
    found = []
    for net in nets:
        x = images(2, 1, 12, 10)
        streams = getattr(net, "stream_names", ())
        cams = [explain(net, x, f"gradcam_{stream}") for stream in streams] or [explain(net, x, "gradcam")]
        means = [cam.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-30) for cam in cams]
        gate = attention_maps.stream_gate(net.eval(), x)
        shares = torch.full((2, len(cams)), 1 / len(cams)) if gate is None else gate
        if gate is not None and net.auxiliary_heads:  # half of the answer is the planar stream's own
            shares = torch.stack([0.5 + gate[:, 0] / 2, gate[:, 1] / 2], dim=1)
        cam = sum(
            cam / mean * share[:, None, None, None] for cam, mean, share in zip(cams, means, shares.T, strict=True)
        )
        smooth = explain(net, x, "integrated_gradients", smooth=1.5 / 28)
        found.append(explain(net, x, "scale_relevance"))
        torch.testing.assert_close(found[-1], smooth * cam)
    assert sum(bool(maps.abs().sum() > 0) for maps in found) >= 4  # one network finds nothing for the class


def test_smoothing_keeps_the_sum_and_is_a_gaussian():
    x = torch.zeros(1, 1, 41, 33)
    x[0, 0, 20, 16] = 2.0
    maps = gradients.smoothed(x, 3.0)[0, 0]
    rows, columns = torch.arange(41)[:, None] - 20.0, torch.arange(33) - 16.0
    known = 2 * torch.exp(-(rows**2 + columns**2) / 18) / (18 * torch.pi)
    torch.testing.assert_close(maps, known, atol=1e-5, rtol=0)
    corner = gradients.smoothed(torch.nn.functional.one_hot(torch.tensor([0]), 9).float().reshape(1, 1, 3, 3), 1.0)
    torch.testing.assert_close(corner.sum(), torch.tensor(1.0))


def test_noise_methods_agree_with_captums_own_on_the_average():
    net, x = small((8, 8)).eval(), images(1, 1, 8, 8)
    score, width = Explained(net, BINARY), float(x.max() - x.min())
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(score))
        smooth = tunnel.attribute(x, nt_samples=100, stdevs=0.15 * width, target=1)
        shap = captum.attr.GradientShap(score).attribute(x, torch.zeros_like(x), n_samples=200, target=1)
    pairs = [("smoothgrad", {"samples": 100}, smooth), ("gradient_shap", {"samples": 25}, shap)]
    for method, options, expected in pairs:
        found = explain(net, x, method, **options)
        assert (found - expected).abs().mean() < 0.15 * expected.abs().mean(), method


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("integrated_gradients", {"steps": 9}),
        ("integrated_gradients", {"smooth": 0.1}),
        ("integrated_gradients", {"baseline": 1.0}),
        ("scale_relevance", {"steps": 9}),
        ("scale_relevance", {"smooth": 0.0}),
        ("scale_relevance", {"baseline": 1.0}),
        ("gradient_shap", {"samples": 9}),
        ("gradient_shap", {"seed": 1}),
        ("gradient_shap", {"baseline": 1.0}),
        ("smoothgrad", {"samples": 9}),
        ("smoothgrad", {"stdev": 0.3}),
        ("smoothgrad", {"seed": 1}),
        ("deeplift", {"baseline": 1.0}),
        ("occlusion", {"window": 0.3}),
        ("occlusion", {"overlap": 0.2}),
        ("occlusion", {"baseline": 1.0}),
        ("random", {"seed": 1}),
        ("saliency", {"problem": Problem("multilabel", 2)}),
    ],
    ids=str,
)
def test_an_option_changes_what_it_names(method, change):
    net, x = small((12, 12)), images(1, 1, 12, 12)
    assert (explain(net, x, method) - explain(net, x, method, **change)).abs().max() > 1e-6


def test_edges_are_the_length_of_the_gradient():
    x = torch.zeros(1, 1, 5, 4, 6)
    x[0, 0] = torch.arange(5)[:, None, None] * 3.0 + torch.arange(6) * 4.0
    maps = explain(Linear(1, 5, 4, 6), x, "edges")
    torch.testing.assert_close(maps, torch.full_like(x, 5.0))
    assert explain(Linear(1, 1, 1), torch.ones(1, 1, 1, 1), "edges").item() == 0


def test_random_maps_are_even_and_of_the_sample_alone():
    x = images(2, 1, 40, 40)
    maps = explain(Linear(1, 40, 40), x, "random")
    assert abs(maps.mean() - 0.5) < 0.02
    assert not torch.equal(maps[0], maps[1])
    assert torch.equal(maps[1:], explain(Linear(1, 40, 40), x[1:], "random"))


def test_the_catalogue_says_what_each_method_is():
    for name, method in METHODS.items():
        assert method.name == name
        assert method.kind in KINDS
        assert method.source.startswith(("doi:10.", "arXiv:"))
        assert method.cost >= (method.kind != "control")
        assert method.depends_on_target == (method.kind not in ("attention", "control"))


def test_a_new_method_is_one_entry_and_its_function(monkeypatch):
    """The catalog names the function and the condition: nothing else knows of a method."""
    from scale.attribution.methods import gradients as module

    entry = Method("doubled", "gradient", True, "arXiv:0000", "gradients.doubled", needs=("planar_stream",))
    for place in ("scale.attribution.catalog.METHODS", "scale.attribution.methods.attribute.METHODS"):
        monkeypatch.setattr(place, {**METHODS, "doubled": entry})
    monkeypatch.setattr(module, "doubled", lambda images, target: images * 2 + target.max(), raising=False)
    x = images(2, 1, 12, 12)
    torch.testing.assert_close(explain(small((12, 12)), x, "doubled"), x * 2 + 1)
    with pytest.raises(ValueError, match="doubled does not apply: the network has no planar stream"):
        explain(small((12, 12), streams="volumetric"), x, "doubled")
