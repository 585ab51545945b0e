import numpy as np
import pytest
import torch

from scale import config, describe
from scale.models.scale_net import ScaleNet


@pytest.mark.parametrize(("dims", "streams"), [(2, "both"), (3, "both"), (3, "volumetric"), (2, "planar")])
def test_flow_has_the_networks_own_shapes(dims, streams):
    net = ScaleNet(spatial_dims=dims, in_channels=1, outputs=3, streams=streams)
    flow = describe.trace(net, (1, *[28] * dims))
    found = net.forward_intermediates(torch.zeros(1, 1, *[28] * dims))
    assert flow.outputs == 3
    assert flow.features == found.features.shape[1]
    assert {name: places for name, (places, _) in flow.tokens.items()} == {
        name: len(places) for name, places in found.positions.items()
    }
    assert all(len(levels) == 3 for levels in flow.pyramids.values())
    assert not any(stream._forward_hooks for stream in net.streams.values())
    assert "G multiply-adds" in describe.text(flow)
    picture = describe.draw(flow, title="x")
    assert flow.native == (None if streams != "both" else {2: "planar", 3: "volumetric"}[dims])
    assert len(picture.axes[0].patches) == 3 + 3 * len(flow.views) + (flow.native is not None)


def test_the_command_prints_and_draws(monkeypatch, tmp_path, capsys):
    path = tmp_path / "flow.png"
    monkeypatch.setattr("sys.argv", ["describe", "data=pathmnist", "model=scale_tiny", f"output={path}"])
    describe.main()
    shown = capsys.readouterr().out
    assert "3×28×28" in shown
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--cfg", "--cfg: this command takes key=value"),
        ("output=/none/x.png", "No such file"),
        ("output=x.foo", "foo"),
        ("model.dim=30", "not a multiple of heads"),
    ],
)
def test_what_cannot_be_drawn(argument, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["describe", "data=breastmnist", "model=scale_tiny", argument])
    with pytest.raises(SystemExit) as stop:
        describe.main()
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_own_files_are_not_in_the_catalog(tmp_path, capsys):
    with pytest.raises(ValueError, match="data=<one of them>"):
        describe._describe(config.compose(["data=npz", "data.path=x.npz", "data.problem=binary"]), None)


def test_data_are_described(monkeypatch, tmp_path, capsys, phantom_root):
    path = tmp_path / "data.html"
    samples = "data.samples={train: 48, val: 24, test: 32}"
    arguments = ["data=phantom2d", f"data.root={phantom_root}", samples, f"output={path}"]
    monkeypatch.setattr("sys.argv", ["describe", *arguments])
    describe.main()
    shown = capsys.readouterr().out
    assert "exact duplicates: 0 inside train" in shown
    assert "48" in shown
    assert "Made with <code>python -m scale.describe data=phantom2d" in path.read_text()


@pytest.mark.parametrize(
    ("labels", "problem"),
    [(np.arange(6) % 2, "binary"), (np.arange(6) % 3, "multiclass"), (np.eye(6, dtype=int)[:, :4], "multilabel")],
)
def test_a_file_is_described_as_it_is(labels, problem, monkeypatch, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 9), dtype=np.uint8)
    found = {
        f"{split}_{kind}": of
        for split in ("train", "val", "test")
        for kind, of in (("images", images), ("labels", labels))
    }
    np.savez(tmp_path / "mine.npz", **found)
    monkeypatch.setattr("sys.argv", ["describe", f"data={tmp_path / 'mine.npz'}"])
    describe.main()
    shown = capsys.readouterr().out
    assert f"mine.npz: {problem}" in shown
    assert "6 in both train and val" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["data=none.npz"], "no such file"), (["data=phantom2d", "output=x.pdf"], "give a file that ends in .html")],
)
def test_data_that_cannot_be_described(arguments, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["describe", *arguments])
    with pytest.raises(SystemExit) as stop:
        describe.main()
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
