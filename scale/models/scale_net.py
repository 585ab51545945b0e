"""The SCALE network: lifting, two streams, scale attention, cross-modal fusion, head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from scale.models.attention import ScaleAttention
from scale.models.fusion import Calibration, Fusion, HideStream, pool
from scale.models.layers import Dropout, FourierPosition, Intermediates, level_statistics, resample
from scale.models.lifting import Lifting, shrink, shrink_factor
from scale.models.streams import Stream
from scale.utils.choices import check_choice

STREAMS = ("planar", "volumetric")


class ScaleNet(nn.Module):
    """Classifies images or volumes of any size with a planar and a volumetric stream.

    A sample whose longest edge is about k times 28 is first reduced k times (means and ranges of blocks), so that the
    streams always see about 28 cells an edge and the compute does not grow with the resolution. With
    `planar_resolution=full` the planar stream reads images and slabs as they are: its compute grows with the square.

    The stream that sees the sample as it is (`native`: planar for images, volumetric for volumes) is the larger one;
    the other one sees a view that was made of it. Trained by one loss for both, two streams learn less than the better
    one alone (doi:10.1109/CVPR42600.2020.01271), so each learns from a head of its own, and the fusion from what they
    found.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: channels of a sample.
        outputs: width of the logits.
        planar_widths: channels of the planar stream's three levels, for images.
        volumetric_widths: channels of the volumetric stream's three levels, for volumes.
        planar_depths: residual blocks of the planar stream's levels, for images.
        volumetric_depths: residual blocks of the volumetric stream's levels, for volumes.
        lifted_width: share of its channels that the other stream has, whose view is lifted.
        lifted_depths: residual blocks of that stream's levels.
        dim: width of the tokens and of the features.
        heads: heads of the cross-modal attention; divides `dim`.
        fusion_layers: rounds in which the streams read each other.
        slabs: planar images along each axis of a volume.
        scales: depth of an image's scale space.
        planar_resolution: `reduced`, or `full`: what the planar stream reads is not reduced.
        streams: `both`, or only `planar` or `volumetric`; then there is nothing to fuse.
        lifting: `full`, or `naive`: middle slice of a volume, copies of an image.
        scale_attention: weigh the pyramid's levels at each position; otherwise average them.
        fusion: `attention`, `gate` or `concat`.
        auxiliary: each of two streams has a head of its own, for `forward_auxiliary`, and the answer is the mean of the
            native stream's own logits and those of the fused features; otherwise the latter alone.
        modality_dropout: rate at which a sample's tokens of one stream, either, are hidden from the fusion in training,
            so that it learns to use both (as in doi:10.1109/TPAMI.2015.2461544).
        dropout: rate before the heads.
        drop_path: rate at which the deepest residual branches are skipped.

    Raises:
        ValueError: for a value that does not exist; says which are allowed.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        outputs: int,
        planar_widths: Sequence[int] = (32, 64, 128),
        volumetric_widths: Sequence[int] = (16, 32, 64),
        planar_depths: Sequence[int] = (1, 1, 1),
        volumetric_depths: Sequence[int] = (0, 1, 1),
        lifted_width: float = 0.5,
        lifted_depths: Sequence[int] = (0, 1, 1),
        dim: int = 64,
        heads: int = 4,
        fusion_layers: int = 1,
        slabs: int = 2,
        scales: int = 8,
        planar_resolution: str = "reduced",
        streams: str = "both",
        lifting: str = "full",
        scale_attention: bool = True,
        fusion: str = "attention",
        auxiliary: bool = True,
        modality_dropout: float = 0.0,
        dropout: float = 0.1,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice("spatial_dims", spatial_dims, (2, 3))
        check_choice("streams", streams, ("both", *STREAMS))
        check_choice("lifting", lifting, ("full", "naive"))
        check_choice("planar_resolution", planar_resolution, ("reduced", "full"))
        check_choice("fusion", fusion, ("attention", "gate", "concat"))
        if dim % heads:
            raise ValueError(f"dim={dim} is not a multiple of heads={heads}")
        for name, values in (
            ("planar_widths", planar_widths),
            ("volumetric_widths", volumetric_widths),
            ("planar_depths", planar_depths),
            ("volumetric_depths", volumetric_depths),
            ("lifted_depths", lifted_depths),
        ):
            least = (1, 1, 1) if name.endswith("widths") else (0, 1, 1)  # the stem alone may be the fine level
            if len(values) != 3 or any(value < low for value, low in zip(values, least, strict=False)):
                raise ValueError(
                    f"{name}={list(values)}: three numbers of at least {least} are needed, fine level first"
                )
        if not 0 < lifted_width <= 1:
            raise ValueError(f"lifted_width={lifted_width}: give a share above 0, at most 1")
        if not 0 <= modality_dropout < 1:
            raise ValueError(f"modality_dropout={modality_dropout}: give a number from 0 to below 1")
        if modality_dropout and streams != "both":
            raise ValueError(f"modality_dropout={modality_dropout} hides one of two streams, but streams={streams}")
        self.spatial_dims, self.in_channels, self.outputs = spatial_dims, in_channels, outputs
        self.planar_resolution = planar_resolution
        self.hide = HideStream(modality_dropout)
        self.stream_names = STREAMS if streams == "both" else (streams,)
        self.native = "planar" if spatial_dims == 2 else "volumetric"  # the stream that sees the sample as it is
        self.lifting = Lifting(spatial_dims=spatial_dims, mode=lifting, slabs=slabs, scales=scales)
        self.streams, self.scale_attention = nn.ModuleDict(), nn.ModuleDict()
        for name in self.stream_names:
            dims = 2 if name == "planar" else 3
            channels = in_channels * (self.lifting.planar_multiple if name == "planar" else 1)
            widths = planar_widths if name == "planar" else volumetric_widths
            depths = planar_depths if name == "planar" else volumetric_depths
            if name != self.native:
                widths, depths = [max(1, round(width * lifted_width)) for width in widths], lifted_depths
            self.streams[name] = Stream(channels, spatial_dims=dims, widths=widths, depths=depths, drop_path=drop_path)
            self.scale_attention[name] = ScaleAttention(widths, dim, learned=scale_attention)
        self.position: FourierPosition | None = None
        if streams == "both":
            self.fusion: Fusion | Calibration = Fusion(
                dim, mode=fusion, heads=heads, layers=fusion_layers, native=self.native, drop_path=drop_path
            )
            self.position = FourierPosition(dim) if fusion == "attention" else None
            self.num_features = self.fusion.num_features
        else:
            self.fusion, self.num_features = Calibration(2 * dim), 2 * dim
        self.head = nn.Sequential(Dropout(dropout), nn.Linear(self.num_features, outputs))  # of the fused features
        self.auxiliary_heads = nn.ModuleDict()
        if auxiliary and streams == "both":
            for name in STREAMS:
                self.auxiliary_heads[name] = nn.Sequential(
                    Calibration(2 * dim), Dropout(dropout), nn.Linear(2 * dim, outputs)
                )
            self.num_features += 2 * dim

    @property
    def has_gate(self) -> bool:
        """Whether the streams are weighed by a gate."""
        return isinstance(self.fusion, Fusion) and self.fusion.gate is not None

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised samples (B, C, *S); returns logits (B, outputs)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """x: (B, C, *S); returns what the head reads (B, num_features)."""
        return self._run(x, need_weights=False)[0].features

    def forward_head(self, features: Tensor) -> Tensor:
        """features: (B, num_features), the native stream's own before the fused ones; returns logits (B, outputs)."""
        if not self.auxiliary_heads:
            return cast(Tensor, self.head(features))
        split = self.num_features - self.fusion.num_features
        native, fused = features[:, :split], features[:, split:]
        return cast(Tensor, (self.auxiliary_heads[self.native](native) + self.head(fused)) / 2)

    def forward_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, C, *S).

        Returns:
            What the head reads (B, num_features), and mean and spread of each channel of both streams' pyramids.
        """
        levels: list[Tensor] = []
        found, _ = self._run(x, need_weights=False, levels=levels)
        return found.features, level_statistics(levels, x.shape[0])

    def forward_intermediates(self, x: Tensor) -> Intermediates:
        """x: (B, C, *S); returns the features and what the attention looked at, on the path that keeps the weights."""
        return self._run(x, need_weights=True)[0]

    def forward_auxiliary(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """For training: the logits of each head, from one pass in which the streams learn from their own head alone.

        Args:
            x: (B, C, *S).

        Returns:
            The logits (B, outputs) of the fused features, and `planar` and `volumetric` logits (B, outputs) before
            fusion; without auxiliary heads the network's logits, whose gradient reaches the streams, and an empty dict.
        """
        logits, own, _ = self.forward_gated(x)
        return logits, own

    def forward_gated(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """The same and the stream gate (B, 2), planar first; None where the fusion has none."""
        found, tokens = self._run(x, need_weights=False, apart=bool(self.auxiliary_heads))
        own = {name: head(pool(tokens[name])) for name, head in self.auxiliary_heads.items()}
        return self.head(found.features[:, self.num_features - self.fusion.num_features :]), own, found.stream_gate

    def _run(
        self, x: Tensor, *, need_weights: bool, apart: bool = False, levels: list[Tensor] | None = None
    ) -> tuple[Intermediates, dict[str, Tensor]]:
        """The one pass behind all others: x (B, C, *S) to intermediates and the streams' tokens (B, N, dim).

        With `apart` no gradient of the fused features reaches the streams; `levels` gets the pyramids.
        """
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            wanted = f"(batch, {self.in_channels}, {', '.join('DHW'[-self.spatial_dims :])})"
            raise ValueError(f"the network takes samples {wanted}, but got {tuple(x.shape)}")
        reduced = shrink(x, shrink_factor(tuple(x.shape[2:])))
        tokens: dict[str, Tensor] = {}
        positions: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        for name in self.stream_names:
            planar = name == "planar"
            source = x if planar and self.planar_resolution == "full" else reduced
            view = self.lifting.planar(source) if planar else self.lifting.volumetric(source)
            images = view.shape[1] if planar else 1
            pyramid = self.streams[name](view.flatten(0, 1) if planar else view)
            if levels is not None:
                levels += pyramid
            mixed, level_weights = self.scale_attention[name](pyramid)
            grid = tuple(pyramid[-1].shape[2:])
            tokens[name] = resample(mixed, grid).reshape(x.shape[0], -1, mixed.shape[-1])
            locate = self.lifting.planar_positions if planar else self.lifting.volumetric_positions
            positions[name] = locate(tuple(source.shape[2:]), grid, device=x.device)
            if level_weights is not None:
                level_weights = level_weights.movedim(-1, 1)
                weights[name] = level_weights.unflatten(0, (-1, images)) if planar else level_weights
        if isinstance(self.fusion, Calibration):
            features = self.fusion(pool(tokens[self.stream_names[0]]))
            return Intermediates(features, weights, {}, None, positions), tokens
        codes = None
        if self.position is not None:
            codes = self.position(positions["planar"]), self.position(positions["volumetric"])
        read = tuple(tokens[name].detach() if apart else tokens[name] for name in STREAMS)
        read = self.hide(*read)
        features, attention, gate = self.fusion(*read, codes=codes, need_weights=need_weights)
        if self.auxiliary_heads:
            features = torch.cat([pool(tokens[self.native]), features], dim=1)
        return Intermediates(features, weights, attention, gate, positions), tokens
