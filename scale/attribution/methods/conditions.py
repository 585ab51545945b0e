"""Why a method does not fit a network: each function gives the reason, or None. The catalog names them."""

from torch import nn

from scale.models.baselines import ResNet
from scale.models.fusion import Fusion
from scale.models.scale_net import ScaleNet


def one_stack(net: nn.Module) -> str | None:
    """The network is one stack of layers."""
    return None if isinstance(net, ResNet) else f"{_kind(net)} is no ResNet: its streams have gradcam_* of their own"


def known_layers(net: nn.Module) -> str | None:
    """It is known after which layers Grad-CAM is taken."""
    return None if isinstance(net, ResNet | ScaleNet) else _no_streams(net)


def planar_stream(net: nn.Module) -> str | None:
    """There is a planar stream."""
    return _stream(net, "planar")


def volumetric_stream(net: nn.Module) -> str | None:
    """There is a volumetric stream."""
    return _stream(net, "volumetric")


def both_streams(net: nn.Module) -> str | None:
    """There are two streams to be fused."""
    if not isinstance(net, ScaleNet):
        return _no_streams(net)
    if len(net.stream_names) == 1:
        return f"the network has nothing to fuse (model.streams={net.stream_names[0]})"
    return None


def scale_attention(net: nn.Module) -> str | None:
    """The streams weigh the levels of their pyramids."""
    if not isinstance(net, ScaleNet):
        return f"{_no_streams(net)} and no attention"
    if net.scale_attention[net.stream_names[0]].score is None:
        return "the network has no scale attention (model.scale_attention=false)"
    return None


def cross_attention(net: nn.Module) -> str | None:
    """The streams read each other."""
    if not isinstance(net, ScaleNet):
        return f"{_no_streams(net)} and no attention"
    if not (isinstance(net.fusion, Fusion) and net.fusion.planar_reads):
        return "the network has no cross-modal attention (it takes both streams and model.fusion=attention)"
    return None


def _stream(net: nn.Module, stream: str) -> str | None:
    if not isinstance(net, ScaleNet):
        return _no_streams(net)
    if stream not in net.stream_names:
        return f"the network has no {stream} stream (model.streams={net.stream_names[0]})"
    return None


def _no_streams(net: nn.Module) -> str:
    return f"{_kind(net)} has no streams"


def _kind(net: nn.Module) -> str:
    return type(net).__name__
