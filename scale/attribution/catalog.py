"""The methods by name, with what each one is, its function and its condition; nothing heavy is imported."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from scale.utils.choices import nearest

STREAMS = ("planar", "volumetric")
LEVELS = ("fine", "middle", "coarse")
KINDS = ("gradient", "perturbation", "activation", "attention", "control")


@dataclass(frozen=True)
class Method:
    """A way to make a map of the input. A new one is an entry here and the function that it names.

    Attributes:
        name: as in configurations and tables.
        kind: one of `KINDS`; `control` maps know nothing of the network.
        signed: values below 0 speak against the explained class; otherwise all values are at least 0.
        source: DOI or URL.
        function: `module.function` in `scale.attribution.methods`; it gets what its parameters ask for by name:
            `model` (scores), `net` (logits), `images`, `target`, `rows`, `baseline`, `seed`, `views`.
        given: arguments that are fixed for this entry.
        settings: the other arguments, each with the key of `conf/attribution` that it follows.
        needs: functions of `scale.attribution.methods.conditions` that say why it does not fit a network, or None.
        cost: passes through the network for one sample, about; a backward pass counts twice.
        per: keys of `conf/attribution`, or `views`, whose values multiply the cost.
        depends_on_target: the map of another class is another map.
    """

    name: str
    kind: str
    signed: bool
    source: str
    function: str
    cost: int = 3
    per: tuple[str, ...] = ()
    depends_on_target: bool = True
    needs: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


GRADCAM = "doi:10.1109/ICCV.2017.74"
ROLLOUT = "doi:10.18653/v1/2020.acl-main.385"
PATH = "arXiv:1703.01365"
SANITY = "arXiv:1810.03292"
STEPS, NOISE = ("steps",), ("noise_samples",)


def _gradients() -> Iterable[Method]:
    def gradient(name: str, signed: bool, source: str, cost: int = 3, **more: Any) -> Method:
        return Method(name, "gradient", signed, source, f"gradients.{name}", cost, **more)

    yield gradient("saliency", False, "arXiv:1312.6034")
    yield gradient("input_x_gradient", True, "arXiv:1605.01713")
    yield gradient("integrated_gradients", True, PATH, per=STEPS, settings={"steps": "steps"})
    yield gradient("gradient_shap", True, "arXiv:1705.07874", per=NOISE, settings={"samples": "noise_samples"})
    noise = {"samples": "noise_samples", "stdev": "noise"}
    yield gradient("smoothgrad", False, "arXiv:1706.03825", per=NOISE, settings=noise)
    yield gradient("guided_backprop", True, "arXiv:1412.6806")
    yield gradient("deeplift", True, "arXiv:1704.02685", 6)
    steps = {"steps": "view_steps"}
    yield Method("consensus", "gradient", False, PATH, "averaged.consensus", 4, ("view_steps", "views"), settings=steps)
    source, window = "doi:10.1007/978-3-319-10590-1_53", {"window": "window"}
    yield Method("occlusion", "perturbation", True, source, "gradients.occlusion", 216, settings=window)


def _activations() -> Iterable[Method]:
    def cam(name: str, function: str, need: str, **given: str) -> Method:
        return Method(name, "activation", False, GRADCAM, f"activation.{function}", needs=(need,), given=given)

    yield cam("gradcam", "gradcam_stack", "one_stack")
    for stream in STREAMS:
        yield cam(f"gradcam_{stream}", "gradcam_stream", f"{stream}_stream", stream=stream)
    yield cam("gradcam_fusion", "gradcam_fusion", "both_streams")
    known = ("known_layers",)
    yield Method("guided_gradcam", "activation", True, GRADCAM, "combined.guided_gradcam", 6, needs=known)
    relevance = ("combined.scale_relevance", 3, STEPS)  # Grad-CAM and integrated gradients
    steps = {"steps": "steps"}
    yield Method("scale_relevance", "gradient", True, GRADCAM, *relevance, needs=known, settings=steps)


def _attention() -> Iterable[Method]:
    def attention(name: str, source: str, function: str, *needs: str, **given: str) -> Method:
        place = f"attention_maps.{function}"
        return Method(name, "attention", False, source, place, 1, depends_on_target=False, needs=needs, given=given)

    for stream in STREAMS:
        needs = ("scale_attention", f"{stream}_stream")
        for level in LEVELS:
            name = f"scale_attention_{stream}_{level}"
            yield attention(name, "arXiv:1511.03339", "scale_attention", *needs, stream=stream, level=level)
    for reader, read in (STREAMS, STREAMS[::-1]):
        name = f"cross_attention_{reader}_reads_{read}"
        yield attention(name, "arXiv:1706.03762", "cross_attention", "cross_attention", reader=reader)
    yield attention("rollout", ROLLOUT, "rollout", "cross_attention")


def _methods() -> Iterable[Method]:
    yield from _gradients()
    yield from _activations()
    yield from _attention()
    for name in ("random", "edges"):
        yield Method(name, "control", False, SANITY, f"controls.{name}", 0, depends_on_target=False)


METHODS = MappingProxyType({method.name: method for method in _methods()})
# Shown first where they fit, in this order: chosen on the val splits of phantoms, over several trainings.
RECOMMENDED = ("consensus", "integrated_gradients", "scale_relevance")
# What is drawn where nothing else is asked for, as far as it fits: minutes of a CPU, where all take ten.
DEFAULT = ("consensus", "integrated_gradients", "saliency", "gradcam", "gradcam_fusion")
ALL = "all"  # in the place of names: every method that fits, every metric
CONTROLS = tuple(name for name, method in METHODS.items() if method.kind == "control")


def check_name(name: str) -> None:
    """Raises ValueError, with the nearest and all allowed names, if there is no such method."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}{nearest(str(name), list(METHODS))}; allowed: {', '.join(METHODS)}")
