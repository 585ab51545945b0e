"""`python -m scale.describe`: what is in a data set; what a network does with its images."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from scale import config as configuration
from scale.config.help import show_help
from scale.utils.cli import USAGE, one_line_errors, refuse_flags

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn


HELP = """\
usage: python -m scale.describe data=FLAG|FILE.npz [data.size=...] [data.root=DIR] [output=FILE.html]
       python -m scale.describe [data=...] model=... [output=FILE.png]

Of data, prints splits, classes and their shares, labels that occur together, intensities, exact duplicates within and
across splits, and what to know before believing a number; output=FILE.html adds figures and examples of each class.
A file in MedMNIST's layout is described as it is; what its labels ask is said by data.problem=..., or told from them.

With model=... (or ablation=...), prints the shapes on a sample's way through a SCALE network, its parameters and
multiply-adds, and draws them.
"""
OF_A_NETWORK = ("model", "ablation")
INK, PALE = "#1b1b1b", "#f4f4f4"
COLOURS = {"planar": "#0072b2", "volumetric": "#d55e00", "fusion": "#009e73"}  # Okabe and Ito's colour-blind-safe set


@dataclass(frozen=True)
class Flow:
    """Shapes on a sample's way through a `ScaleNet`; no batch axis.

    Attributes:
        image: (C, *S).
        views: per stream the view's shape.
        pyramids: per stream the shapes of the levels, fine to coarse.
        tokens: per stream (tokens, width).
        native: the stream whose own head answers beside that of the fused features, if one does.
        features: width of what the heads read.
        outputs: width of the logits.
        parameters: trainable values.
        macs: multiply-adds of one sample.
    """

    image: tuple[int, ...]
    views: dict[str, tuple[int, ...]]
    pyramids: dict[str, list[tuple[int, ...]]]
    tokens: dict[str, tuple[int, int]]
    native: str | None
    features: int
    outputs: int
    parameters: int
    macs: int


def trace(net: "nn.Module", image_shape: Sequence[int]) -> Flow:
    """Runs one empty sample and writes down the shapes. No hook stays behind.

    Args:
        net: a `ScaleNet`.
        image_shape: (C, *S).
    """
    import torch

    from scale.models.layers import macs, parameters

    views: dict[str, tuple[int, ...]] = {}
    pyramids: dict[str, list[tuple[int, ...]]] = {}

    def note(name: str) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...], levels: Sequence[torch.Tensor]) -> None:
            images = len(inputs[0])  # the sample's planar images stand side by side in the batch
            views[name] = (*((images,) if images > 1 else ()), *inputs[0].shape[1:])
            pyramids[name] = [tuple(level.shape[1:]) for level in levels]

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, stream in net.streams.items():  # type: ignore[operator, union-attr]
            stack.callback(stream.register_forward_hook(note(name)).remove)
        found = net.eval().forward_intermediates(torch.zeros(1, *image_shape))  # type: ignore[operator]
        logits = net.forward_head(found.features)  # type: ignore[operator]
    width = net.scale_attention[next(iter(views))].project.out_features  # type: ignore[index, union-attr]
    return Flow(
        image=tuple(image_shape),
        views=views,
        pyramids=pyramids,
        tokens={name: (len(places), width) for name, places in found.positions.items()},
        native=net.native if net.auxiliary_heads else None,  # type: ignore[arg-type]
        features=found.features.shape[1],
        outputs=logits.shape[1],
        parameters=parameters(net),
        macs=macs(net, image_shape),
    )


def text(flow: Flow) -> str:
    """The flow as a table."""
    lines = [f"{'image':26}{_shape(flow.image)}"]
    for name in flow.views:
        lines.append(f"{name + ' view':26}{_shape(flow.views[name])}")
        lines += [f"  {level + ' level':24}{_shape(s)}" for level, s in zip(_LEVELS, flow.pyramids[name], strict=True)]
        lines.append(f"  {'tokens':24}{_shape(flow.tokens[name])}")
    lines += [f"{'features':26}{flow.features}", f"{'logits':26}{flow.outputs}"]
    return "\n".join([*lines, f"{flow.parameters:,} parameters, {flow.macs / 1e9:.3f} G multiply-adds"])


def draw(flow: Flow, *, title: str) -> "Figure":
    """The flow as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(-0.5, 115)
    axes.set_ylim(3, 40)
    axes.axis("off")
    axes.set_title(
        f"{title}: {flow.parameters / 1e6:.2f} M parameters, {flow.macs / 1e9:.3f} G multiply-adds", color=INK
    )
    _box(axes, (0, 16), 13, f"image\n{_shape(flow.image)}", INK)
    rows = {"planar": 26, "volumetric": 6} if len(flow.views) == 2 else {next(iter(flow.views)): 16}
    names = {"planar": "2D stream", "volumetric": "3D stream"}
    for name, y in rows.items():
        colour = COLOURS[name]
        _box(axes, (18, y), 15, f"{name} view\n{_shape(flow.views[name])}", colour)
        pyramid = "\n".join(f"{level} {_shape(s)}" for level, s in zip(_LEVELS, flow.pyramids[name], strict=True))
        _box(axes, (38, y), 20, f"{names[name]}\n{pyramid}", colour)
        _box(axes, (63, y), 15, f"scale attention\n{flow.tokens[name][0]} tokens × {flow.tokens[name][1]}", colour)
        _arrow(axes, (13, 21.5), (18, y + 5.5))
        _arrow(axes, (33, y + 5.5), (38, y + 5.5))
        _arrow(axes, (58, y + 5.5), (63, y + 5.5))
        _arrow(axes, (78, y + 5.5), (83, 21.5))
    fusion = "cross-modal\nattention,\ncalibration,\nstream gate" if len(rows) == 2 else "calibration"
    _box(axes, (83, 16), 14, fusion, COLOURS["fusion"])
    head = f"head\n{flow.features} → {flow.outputs}"
    if flow.native is not None:
        y = rows[flow.native]
        beside = y + (2.5 if y > 16 else -2.5)  # clear of the fusion
        _box(axes, (83, beside), 14, "calibration,\nown head", COLOURS[flow.native])
        _arrow(axes, (78, y + 5.5), (83, beside + 5.5))
        _arrow(axes, (97, beside + 5.5), (102, 21.5))
        head = f"head, mean\nof both\n{flow.features} → {flow.outputs}"
    _box(axes, (102, 16), 12, head, INK)
    _arrow(axes, (97, 21.5), (102, 21.5))
    axes.text(15.5, 31.5, "lifting", ha="center", color=INK, fontsize=9, style="italic")
    return figure


_LEVELS = ("fine", "middle", "coarse")


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _box(axes: Any, corner: tuple[float, float], width: float, label: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = corner
    box = FancyBboxPatch(corner, width, 11, boxstyle="round,pad=0,rounding_size=1")
    box.set(facecolor=PALE, edgecolor=colour, linewidth=1.8)
    axes.add_patch(box)
    axes.text(x + width / 2, y + 5.5, label, ha="center", va="center", color=INK, fontsize=9, linespacing=1.4)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    )


def main() -> None:
    """The command."""
    arguments = sys.argv[1:]
    if show_help(arguments, HELP):
        return
    output = [a.removeprefix("output=") for a in arguments if a.startswith("output=")]
    overrides = [a for a in arguments if not a.startswith("output=")]
    keys = [override.partition("=")[0] for override in overrides]
    of_data = "data" in keys and not any(key.partition(".")[0] in OF_A_NETWORK for key in keys)
    refuse_flags(overrides)
    with one_line_errors(status=USAGE):
        overrides = _named(overrides) if of_data else overrides
    configuration.check_command_line(overrides)
    with one_line_errors(status=USAGE):
        config, place = configuration.compose(overrides), Path(output[-1]) if output else None
        if of_data:
            _describe_data(config, place, command=" ".join(["python -m scale.describe", *map(shlex.quote, arguments)]))
        else:
            _describe(config, place)


def _named(overrides: Sequence[str]) -> list[str]:
    """`data=FILE.npz` as `data=npz data.path=FILE.npz`, with what its labels ask."""
    from scale.data import archive, companion, layout

    given = dict(override.partition("=")[::2] for override in overrides)
    path = Path(given["data"]).expanduser()
    if path.suffix != ".npz" and not path.exists():
        return list(overrides)
    others = [override for override in overrides if not override.startswith("data=")]
    if "data.problem" not in given and companion.read(path) is None:
        keys = sorted(key for key in archive.headers(path) if key.endswith("_labels"))
        labels = [layout.as_labels(key, archive.read_array(path, key)) for key in keys]
        if not labels:
            raise ValueError(f"data={path}: has no ..._labels; it is no file in MedMNIST's layout")
        others.append(f"data.problem={layout.likely_problem(labels)}")
    if "data.symmetry" not in given:
        others.append("data.symmetry=upright")  # of training only
    return ["data=npz", f"data.path={path.absolute()}", *others]


def _describe_data(config: DictConfig, output: Path | None, *, command: str) -> None:
    from scale.data.description import describe
    from scale.reporting import data_page
    from scale.tasks.build import build_datamodule
    from scale.utils.files import write_text

    if output is not None and (output.suffix != ".html" or not output.absolute().parent.is_dir()):
        raise ValueError(f"output={output}: give a file that ends in .html, in a folder that is there")
    found = describe(*build_datamodule(config).open())
    print(data_page.text(found))
    if output is not None:
        write_text(output, data_page.page(found, command=command))
        print(f"\nwritten to {output}")


def _describe(config: DictConfig, output: Path | None) -> None:
    from scale.tasks.build import announced

    info, shape, problem = announced(config)
    net = configuration.instantiate(
        config.model, spatial_dims=len(shape) - 1, in_channels=shape[0], outputs=problem.outputs
    )
    if not hasattr(net, "forward_intermediates") or not hasattr(net, "streams"):
        raise ValueError(f"{type(net).__name__} has no streams: describe draws the SCALE networks")
    flow = trace(net, shape)
    print(text(flow))
    if output is not None:
        try:
            draw(flow, title=f"{type(net).__name__} on {info.title}").savefig(output, dpi=150)
        except (OSError, ValueError) as error:  # no such folder, no such format
            raise ValueError(f"output={output}: {error}") from error
        print(f"drawn to {output}")


if __name__ == "__main__":
    main()
