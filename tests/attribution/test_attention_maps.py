"""The network's own attention on the input's grid: in the right place, along the right axis, with the right sum."""

import itertools

import pytest
import torch

from scale.attribution.methods import attention_maps
from scale.attribution.methods.attribute import attribute
from scale.attribution.methods.grid import InputGrid
from scale.models.lifting import shrink, shrink_factor
from scale.models.scale_net import Intermediates, ScaleNet
from scale.tasks.problem import Problem

BINARY = Problem("binary", 2)
SMALL = {"planar_widths": (4, 6, 8), "volumetric_widths": (4, 6, 8), "dim": 8, "heads": 2, "slabs": 2, "scales": 4}
WIDER = {"planar_widths": (16, 24, 32), "volumetric_widths": (16, 24, 32), "dim": 16}
SHAPES = [(28, 28), (64, 50), (28, 28, 28), (20, 36, 28), (64, 50, 40)]
# a place with another distance from the middle along each axis
PLACES = {(28, 28): (6, 24), (64, 50): (14, 40), (28, 28, 28): (6, 25, 19), (20, 36, 28): (15, 6, 21)}
PLACES |= {(64, 50, 40): (50, 10, 30)}


def small(shape, *, channels=1, seed=0, **changes):
    torch.manual_seed(seed)
    net = ScaleNet(spatial_dims=len(shape), in_channels=channels, outputs=2, **{**SMALL, **changes})
    return net.eval()


def blob(shape, place, *, width=3.0):
    """A bright ball at `place` in nothing: (1, 1, *S)."""
    axes = torch.meshgrid(*[torch.arange(n) - p for n, p in zip(shape, place, strict=True)], indexing="ij")
    return (3 * torch.exp(-sum(a.float() ** 2 for a in axes) / (2 * (width * max(shape) / 28) ** 2)))[None, None]


def peak(values):
    """values: (*S); returns the place of the maximum."""
    return torch.tensor(torch.unravel_index(values.argmax(), values.shape), dtype=torch.float32)


def distance(values, place):
    return (peak(values) - torch.tensor(place)).norm()


def maps_of(net, x, method, target=1):
    return attribute(net, x, problem=BINARY, method=method, target=target)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weights_sum_to_one_and_their_path_is_the_fast_one(shape):
    net = small(shape, fusion_layers=2)
    x = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = net.forward_intermediates(x)
        torch.testing.assert_close(net.forward_head(found.features), net(x), atol=1e-5, rtol=0)
        shares = attention_maps.rollout_weights(net, x)
    for weights in found.cross_attention.values():
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    torch.testing.assert_close(shares[0].sum(dim=1) + shares[1].sum(dim=1), torch.ones(2))
    torch.testing.assert_close(attention_maps.stream_gate(net, x).sum(dim=1), torch.ones(2))
    for stream in ("planar", "volumetric"):  # on the input's grid, too
        levels = [maps_of(net, x, f"scale_attention_{stream}_{level}") for level in ("fine", "middle", "coarse")]
        torch.testing.assert_close(sum(levels), torch.ones_like(x))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("method", ["gradcam_planar", "gradcam_volumetric", "occlusion", "input_x_gradient"])
def test_maps_of_what_is_learned_peak_where_the_only_thing_is(shape, method):
    """A network without biases answers nothing where there is nothing."""
    if method == "occlusion" and max(shape) > 36:
        pytest.skip("slow, and the smaller shapes say the same")
    place = PLACES[shape]
    net, x = small(shape, seed=1, **WIDER), blob(shape, place)
    x[x < 0.3] = 0
    found = sum(maps_of(net, x, method, target).abs() for target in (0, 1))[0, 0]
    assert distance(found, place) <= 10 * max(shape) / 28
    near = blob(shape, place)[0, 0] > 0.3
    assert found[near].sum() / found.sum() > 2 * near.float().mean()
    mirrors = itertools.product(*[(p, n - 1 - p) for p, n in zip(place, shape, strict=True)])
    candidates = [q for m in mirrors for q in itertools.permutations(m)] if len(set(shape)) == 1 else mirrors
    apart = [q for q in candidates if q == place or (torch.tensor(q) - torch.tensor(place)).float().norm() > 6]
    assert min(apart, key=lambda other: distance(found, other)) == place


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("stream", ["planar", "volumetric"])
def test_a_token_lies_where_the_network_says(shape, stream):
    """All weight on one token: the map's peak must be at the token's own position in the common frame."""
    net, x = small(shape), torch.zeros(1, 1, *shape)
    with torch.no_grad():
        positions = net.forward_intermediates(x).positions[stream]
    grid, cells = InputGrid(net, shape), attention_maps.token_grids(net, x)[stream]
    spread = grid.planar_tokens if stream == "planar" else grid.volumetric_tokens
    maps = spread(torch.eye(len(positions)), cells)  # (tokens, *S)
    frame = [(torch.arange(n) * 2 + 1 - n) / max(shape) for n in shape]
    places = torch.stack(torch.meshgrid(*frame, indexing="ij"), dim=-1)  # (*S, dims)
    cell = 2 * 7.0 / 28
    for token, position in zip(maps, positions, strict=True):
        where = position[-len(shape) :]  # of an image row and column
        if token.amax() < 1e-3:  # in the padding of the cube
            assert any(abs(where[a]) > shape[a] / max(shape) - cell for a in range(len(shape)))
            continue
        top = token > 0.999 * token.amax()
        if stream == "planar" and len(shape) == 3:
            centre = (places[top].amin(dim=0) + places[top].amax(dim=0)) / 2
        else:
            centre = places[top].mean(dim=0)
        inside = torch.tensor([abs(where[a]) < shape[a] / max(shape) - cell / 2 for a in range(len(shape))])
        assert ((centre - where).abs()[inside] < cell / 2 + 0.05).all(), (position, centre)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("stream", ["planar", "volumetric"])
def test_tokens_are_brought_back_to_what_made_them(shape, stream):
    """What changes in the tokens when a ball appears must, on the input's grid, lie at the ball."""
    place = PLACES[shape]
    net, x = small(shape), blob(shape, place)
    grid, cells = InputGrid(net, shape), attention_maps.token_grids(net, x)[stream]
    with torch.no_grad():
        tokens = net._run(x, need_weights=False)[1][stream] - net._run(x * 0, need_weights=False)[1][stream]
        view = getattr(net.lifting, stream)(shrink(x, shrink_factor(shape)))
        mixed, _ = net.scale_attention[stream](net.streams[stream](view.flatten(0, 1) if stream == "planar" else view))
    amount = tokens.norm(dim=-1)
    found = (grid.planar_tokens if stream == "planar" else grid.volumetric_tokens)(amount, cells)[0]
    assert (peak(found) - torch.tensor(place)).abs().max() <= 7 * max(shape) / 28
    middle = mixed.norm(dim=-1)
    found = (grid.planar(middle[None]) if stream == "planar" else grid.volumetric(middle))[0]
    assert (peak(found) - torch.tensor(place)).abs().max() <= 5 * max(shape) / 28


@pytest.mark.parametrize("reader", ["planar", "volumetric"])
@pytest.mark.parametrize("shape", [(28, 28), (20, 36, 28)], ids=str)
def test_cross_attention_lies_on_the_stream_that_is_read(reader, shape, monkeypatch):
    net, x = small(shape), torch.zeros(1, 1, *shape)
    place = {2: (10, 24), 3: PLACES[20, 36, 28]}[len(shape)]
    read = {"planar": "volumetric", "volumetric": "planar"}[reader]
    with torch.no_grad():
        true = net.forward_intermediates(x)
    wanted = torch.tensor([2 * p + 1 - n for p, n in zip(place, shape, strict=True)]) / max(shape)
    gap = (true.positions[read][:, -len(shape) :] - wanted).norm(dim=1)
    if read == "planar" and len(shape) == 3:  # the three slabs that cross there
        chosen = torch.cat([part.argmin()[None] + i * len(part) for i, part in enumerate(gap.chunk(3))])
    else:
        chosen = gap.argmin()[None]
    weights = torch.zeros_like(true.cross_attention[reader])
    weights[..., chosen] = 1 / len(chosen)
    fake = Intermediates(true.features, true.scale_attention, {reader: weights}, true.stream_gate, true.positions)
    monkeypatch.setattr(ScaleNet, "forward_intermediates", lambda *_: fake)
    other = {"planar": "volumetric", "volumetric": "planar"}[reader]
    found = maps_of(net, x, f"cross_attention_{reader}_reads_{other}")[0, 0]
    middle = found > 0.999 * found.max()
    centre = torch.argwhere(middle).float().mean(dim=0)
    assert (centre - torch.tensor(place)).abs().max() <= 5 * max(shape) / 28
    even = torch.full_like(weights, 1 / weights.shape[-1])
    fake = fake._replace(cross_attention={reader: even})
    torch.testing.assert_close(maps_of(net, x, f"cross_attention_{reader}_reads_{other}"), torch.ones_like(x))


def test_scale_attention_shows_the_level_of_each_place(monkeypatch):
    shape = (20, 36, 28)
    net, x = small(shape), torch.zeros(1, 1, *shape)
    with torch.no_grad():
        true = net.forward_intermediates(x)
    weights = {name: torch.zeros_like(value) for name, value in true.scale_attention.items()}
    weights["volumetric"][:, 2, 3, 1, 5] = 1.0  # (B, levels, D, H, W): cell i looks at voxel 4i
    weights["planar"][:, 0, 1, 3, 5] = 1.0  # (B, images, levels, H, W): the first slab along the depth
    monkeypatch.setattr(ScaleNet, "forward_intermediates", lambda *_: true._replace(scale_attention=weights))
    coarse = maps_of(net, x, "scale_attention_volumetric_coarse")[0, 0]
    assert coarse[12, 4, 20] == coarse.max() == 1
    assert coarse[12, 4, 22] == 0.5
    assert maps_of(net, x, "scale_attention_volumetric_fine").max() == 0
    middle = maps_of(net, x, "scale_attention_planar_middle")[0, 0]
    # the cube of 36 begins 8 voxels before the 20 slices and 4 before the 28 columns; one of three axes is seen
    torch.testing.assert_close(middle[:10, 12, 16], torch.full((10,), 1 / 3))
    assert middle[10:].max() == 0


@pytest.mark.parametrize("shape", [(28, 28), (64, 50), (13, 28, 20)], ids=str)
def test_cells_of_the_middle_level_look_at_every_fourth_voxel(shape):
    net = small(shape, streams="volumetric" if len(shape) == 3 else "planar")
    name = net.stream_names[0]
    seen = []
    net.streams[name].register_forward_hook(lambda _, inputs, levels: seen.append((inputs[0], levels[1])))
    x = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    net(x)
    view, middle = seen[0]
    cell = [n // 2 for n in middle.shape[2:]]
    (slope,) = torch.autograd.grad(middle[(0, slice(None), *cell)].square().sum(), view)
    amount = slope.abs().sum(dim=(0, 1))
    for axis, (index, n) in enumerate(zip(cell, amount.shape, strict=True)):
        line = amount.sum(dim=[a for a in range(amount.ndim) if a != axis])
        support = line.nonzero()[:, 0]
        low, high = int(support.min()), int(support.max())
        if low > 0 and high < n - 1:  # not cut off
            assert (low + high) / 2 == pytest.approx(4 * index, abs=1)
        read = InputGrid(net, shape).read_by[name]
        assert -(-read.shape[axis] // 4) == middle.shape[2 + axis]


@pytest.mark.parametrize("resolution", ["reduced", "full"])
@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (67, 50), (48, 64, 64)], ids=str)
def test_a_planar_cell_is_brought_to_the_pixels_that_it_reads(shape, resolution):
    """Whatever the stream's resolution: where the input changes a cell is where the map shows it."""
    net = small(shape, seed=2, planar_resolution=resolution, **WIDER)
    x = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    seen = []
    net.scale_attention["planar"].register_forward_hook(lambda _, __, found: seen.append(found[0]))
    net(x)
    (mixed,) = seen  # (images, h, w, dim)
    grid, (images, *cells, dim) = InputGrid(net, shape), mixed.shape
    for share in (0.3, 0.6):
        cell = [round(share * n) for n in cells]
        one = torch.zeros(1, images, *cells)
        one[(0, 0, *cell)] = 1
        features = mixed[(0, *cell)]
        slopes = [torch.autograd.grad(features[k], x, retain_graph=True)[0][0, 0] for k in range(dim)]
        read, shown = torch.stack(slopes).square().sum(dim=0), grid.planar(one)[0]
        for axis in range(len(shape) - 2, len(shape)):  # of a volume the slab along the depth
            place = torch.arange(shape[axis], dtype=torch.float32)
            others = tuple(other for other in range(len(shape)) if other != axis)
            where = [float((place * part.sum(dim=others)).sum() / part.sum()) for part in (read, shown)]
            assert where[0] == pytest.approx(where[1], abs=2.5 * max(shape) / 28), axis


@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize("fusion_layers", [1, 3])
@pytest.mark.parametrize("shape", [(16, 12), (12, 16, 9)], ids=str)
def test_rollout_is_the_product_of_the_rounds(fusion_layers, shape, auxiliary):
    net = small(shape, fusion_layers=fusion_layers, auxiliary=auxiliary)
    x = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(3))
    captured = []
    for reads in zip(net.fusion.planar_reads, net.fusion.volumetric_reads, strict=True):
        for layer in reads:
            layer.register_forward_hook(lambda _, __, output: captured.append(output[1]))
    with torch.no_grad():
        gate = net.forward_intermediates(x).stream_gate
        rounds = list(captured)
        planar, volumetric = attention_maps.rollout_weights(net, x)
    for sample in range(2):  # slowly, on all tokens of both streams at once
        n, m = planar.shape[1], volumetric.shape[1]
        total = torch.eye(n + m)
        for here, there in zip(rounds[::2], rounds[1::2], strict=True):
            joint = torch.zeros(n + m, n + m)
            joint[:n, n:], joint[n:, :n] = here[sample].mean(dim=0), there[sample].mean(dim=0)
            total = (0.5 * torch.eye(n + m) + 0.5 * joint) @ total
        pooled = torch.cat([gate[sample, 0].expand(n) / n, gate[sample, 1].expand(m) / m])
        expected = pooled @ total
        if auxiliary:  # half of the answer is the native stream's, whose tokens are pooled as they are
            native = torch.cat([torch.full((n,), len(shape) == 2) / n, torch.full((m,), len(shape) == 3) / m])
            expected = (expected + native) / 2
        torch.testing.assert_close(torch.cat([planar[sample], volumetric[sample]]), expected)
    assert len(net.fusion.planar_reads[0]._forward_hooks) == 1  # only the test's own


def test_even_attention_gives_an_even_rollout(monkeypatch):
    for shape in [(28, 28), (20, 36, 28)]:
        net, x = small(shape), torch.randn(1, 1, *shape)
        with torch.no_grad():
            for layer in (*net.fusion.planar_reads, *net.fusion.volumetric_reads):
                layer.query.weight.zero_()
        torch.testing.assert_close(maps_of(net, x, "rollout"), torch.ones_like(x))


def test_a_single_slice_shows_what_was_seen_of_it():
    shape = (9, 28, 20)
    net, x = small(shape, lifting="naive"), torch.randn(1, 1, *shape)
    found = maps_of(net, x, "scale_attention_planar_fine")[0, 0]
    assert found[4].min() > 0
    assert found[:4].max() == found[5:].max() == 0


@pytest.mark.parametrize(("shape", "native"), [((12, 12), 0), ((12, 12, 12), 1)])
def test_shares_of_the_streams_in_the_answer(shape, native):
    net, x = small(shape), torch.randn(3, 1, *shape)
    gate, shares = attention_maps.stream_gate(net, x), attention_maps.stream_shares(net, x)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(shares[:, native], 0.5 + gate[:, native] / 2)
    alone = small(shape, auxiliary=False)
    torch.testing.assert_close(attention_maps.stream_shares(alone, x), attention_maps.stream_gate(alone, x))


def test_a_network_without_a_gate_has_none():
    x = torch.randn(2, 1, 12, 12)
    assert attention_maps.stream_gate(small((12, 12), fusion="concat"), x) is None
    assert attention_maps.stream_gate(torch.nn.Flatten(), x) is None
