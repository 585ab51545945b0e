"""The methods by name, with what each one is; nothing heavy is imported."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

from scale.utils.choices import nearest

STREAMS = ("planar", "volumetric")
LEVELS = ("fine", "middle", "coarse")
KINDS = ("gradient", "perturbation", "activation", "attention", "control")


@dataclass(frozen=True)
class Method:
    """A way to make a map of the input.

    Attributes:
        name: as in configurations and tables.
        kind: one of `KINDS`; `control` maps know nothing of the network.
        signed: values below 0 speak against the explained class; otherwise all values are at least 0.
        source: DOI or URL.
        cost: passes through the network for one sample with the default options, about; a backward pass counts twice.
        depends_on_target: the map of another class is another map.
    """

    name: str
    kind: str
    signed: bool
    source: str
    cost: int = 1
    depends_on_target: bool = True

    @property
    def needs_attention(self) -> bool:
        """Whether the map is made of the SCALE network's own attention weights."""
        return self.kind == "attention"


GRADCAM = "doi:10.1109/ICCV.2017.74"
ROLLOUT = "doi:10.18653/v1/2020.acl-main.385"


def _methods() -> Iterable[Method]:
    yield Method("saliency", "gradient", False, "arXiv:1312.6034", 3)
    yield Method("input_x_gradient", "gradient", True, "arXiv:1605.01713", 3)
    yield Method("integrated_gradients", "gradient", True, "arXiv:1703.01365", 96)
    yield Method("gradient_shap", "gradient", True, "arXiv:1705.07874", 48)
    yield Method("smoothgrad", "gradient", False, "arXiv:1706.03825", 48)
    yield Method("guided_backprop", "gradient", True, "arXiv:1412.6806", 3)
    yield Method("deeplift", "gradient", True, "arXiv:1704.02685", 6)
    yield Method("occlusion", "perturbation", True, "doi:10.1007/978-3-319-10590-1_53", 216)
    yield Method("gradcam", "activation", False, GRADCAM, 3)  # of a network with one stack of layers
    for name in (*STREAMS, "fusion"):
        yield Method(f"gradcam_{name}", "activation", False, GRADCAM, 3)
    yield Method("guided_gradcam", "activation", True, GRADCAM, 6)
    yield Method("scale_relevance", "gradient", True, GRADCAM, 100)  # and arXiv:1703.01365
    for stream in STREAMS:
        for level in LEVELS:
            yield Method(f"scale_attention_{stream}_{level}", "attention", False, "arXiv:1511.03339", 1, False)
    yield Method("cross_attention_planar_reads_volumetric", "attention", False, "arXiv:1706.03762", 1, False)
    yield Method("cross_attention_volumetric_reads_planar", "attention", False, "arXiv:1706.03762", 1, False)
    yield Method("rollout", "attention", False, ROLLOUT, 1, False)
    yield Method("random", "control", False, "arXiv:1810.03292", 0, False)
    yield Method("edges", "control", False, "arXiv:1810.03292", 0, False)


METHODS = MappingProxyType({method.name: method for method in _methods()})
CONTROLS = tuple(name for name, method in METHODS.items() if method.kind == "control")


def check_name(name: str) -> None:
    """Raises ValueError, with the nearest and all allowed names, if there is no such method."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}{nearest(str(name), list(METHODS))}; allowed: {', '.join(METHODS)}")
