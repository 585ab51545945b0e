"""Any image backbone of timm (https://github.com/huggingface/pytorch-image-models), with a linear head."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from scale.models.layers import Intermediates, resample
from scale.utils.choices import nearest

log = logging.getLogger("scale")


class TimmNet(nn.Module):
    """A timm backbone for images.

    A backbone that takes images of any size gets them as they are, or resampled to `image_size`. One that is built for
    one size (most transformers) is built for `image_size` where it can be, else gets images that are resampled to its
    own size.

    Args:
        spatial_dims: 2; there are no backbones for volumes.
        in_channels: channels of a sample.
        outputs: width of the logits.
        name: as `timm.list_models()` has it.
        pretrained: start from timm's weights, which are downloaded.
        image_size: pixels of a side that images are resampled to.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: for volumes, an unknown name, or a size that the backbone cannot have.
        OSError: the weights cannot be had.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        outputs: int,
        name: str,
        pretrained: bool = False,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(
                f"timm has backbones for images, not for volumes (spatial_dims={spatial_dims}): "
                "use model=scale or model=resnet18 for 3D data"
            )
        timm = check_name(name)
        self.name, self.in_channels, self.outputs = name, in_channels, outputs
        configuration = timm.get_pretrained_cfg(name)
        native = int((configuration.input_size if configuration else (3, 224, 224))[-1])
        fixed = bool(configuration and configuration.fixed_input_size)
        options: dict[str, Any] = {"num_classes": 0, "in_chans": in_channels}
        if fixed and image_size not in (None, native):
            options["img_size"] = image_size
        self.image_size, self.native = image_size or (native if fixed else None), native
        if pretrained and not timm.is_model_pretrained(name):
            raise ValueError(f"model.pretrained=true: timm has no weights for {name!r}; give model.pretrained=false")
        try:
            self.backbone: Any = timm.create_model(name, pretrained=pretrained, **options)
        except (TypeError, AssertionError, ValueError) as error:
            if "img_size" not in options:
                raise
            raise ValueError(
                f"model.image_size={image_size}: {name} takes images of {native} pixels only, to which they are "
                f"resampled without model.image_size ({_line(error)})"
            ) from error
        except (OSError, RuntimeError) as error:
            if not pretrained:
                raise
            raise OSError(
                f"model.pretrained=true, but the weights of {name} cannot be had ({_line(error)}): "
                "connect to huggingface.co, or give model.pretrained=false"
            ) from error
        self.num_features = int(self.backbone.head_hidden_size)
        self.head = nn.Linear(self.num_features, outputs)
        self._taken: set[tuple[int, ...]] = set()

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised images (B, C, H, W); returns logits (B, outputs)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W); returns the pooled features (B, num_features).

        Raises:
            ValueError: the backbone does not take images of this size.
        """
        given = tuple(x.shape[2:])
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"the network takes samples (batch, {self.in_channels}, H, W), but got {tuple(x.shape)}")
        if self.image_size is not None and given != (self.image_size,) * 2:
            x = resample(x.movedim(1, -1), (self.image_size,) * 2).movedim(-1, 1).contiguous()
        if given in self._taken:
            features: Tensor = self.backbone(x)
            return features
        try:
            features = self.backbone(x)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            pixels = " x ".join(map(str, x.shape[2:]))
            raise ValueError(
                f"the timm backbone {self.name} does not take images of {pixels} pixels ({_line(error)}): "
                f"give model.image_size={self.native}, its own size, or a smaller one that it takes"
            ) from error
        self._taken.add(given)
        if x.shape[2:] != given:
            log.info("%s gets the %s images as %s pixels", self.name, "x".join(map(str, given)), self.image_size)
        return features

    def forward_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, C, H, W); returns the pooled features, and none of a backbone's levels, whose layout is its own."""
        features = self.forward_features(x)
        return features, features[:, :0]

    def forward_head(self, features: Tensor) -> Tensor:
        """features: (B, num_features); returns logits (B, outputs)."""
        logits: Tensor = self.head(features)
        return logits

    def forward_intermediates(self, x: Tensor) -> Intermediates:
        """x: (B, C, H, W); returns the features; what a backbone attends to is not known here, so the rest is empty."""
        return Intermediates(self.forward_features(x), {}, {}, None, {})


def check_name(name: str) -> ModuleType:
    """timm, if it is installed and has a backbone of this name (`resnet18`, or with its weights `resnet18.a1_in1k`).

    Raises:
        ModuleNotFoundError: it is not installed.
        ValueError: it has none.
    """
    if importlib.util.find_spec("timm") is None:
        raise ModuleNotFoundError("model=timm needs the package timm: pip install 'scale-medvision[timm]'", name="timm")
    timm = importlib.import_module("timm")
    base, _, tag = str(name).partition(".")
    if not timm.is_model(base):
        close = nearest(base, timm.list_models())
        raise ValueError(
            f"model.name={name}: timm {timm.__version__} has no such backbone{close}; see timm.list_models()"
        )
    if tag and name not in (tags := timm.list_pretrained(f"{base}.*")):
        raise ValueError(
            f"model.name={name}: {base} has no such weights{nearest(name, tags)}; allowed: {', '.join(tags)}"
        )
    return timm


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:160] or type(error).__name__
