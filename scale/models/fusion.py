"""From the tokens of the streams to one feature vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scale.models.attention import CrossAttention
from scale.models.layers import shared_batch, shared_rand

GATE_START = 1.0  # logits 1 and -1: the native stream has .88 of the features before anything is learned


def pool(tokens: Tensor) -> Tensor:
    """tokens: (B, N, dim); returns their mean and their maximum side by side (B, 2 * dim).

    The mean says how much of something there is, the maximum whether there is any: a lesion may be a single token.
    """
    return torch.cat([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1)


class Calibration(nn.Module):
    """Makes the streams comparable before they are weighed against each other.

    Each feature is standardised over the samples (batch normalisation without weights of its own), so that a stream
    cannot win by being loud and means are as loud as maxima, and multiplied by one learned positive temperature, so
    that a stream that is worth more can speak louder for all samples.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim
        self.standardise = nn.BatchNorm1d(dim, affine=False)
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, dim); returns (B, dim) with mean 0 and standard deviation exp(log_temperature) in each column."""
        if self.training and len(x) == 1 and not shared_batch():  # one sample has no deviation of its own
            known = self.standardise
            x = F.batch_norm(x, known.running_mean, known.running_var, eps=known.eps)
        else:
            x = self.standardise(x)
        return x * self.log_temperature.exp()


class HideStream(nn.Module):
    """Hides all tokens of one stream from the fusion for a random part of the samples, in training.

    Args:
        rate: probability that a sample loses a stream, each of the two alike, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, planar: Tensor, volumetric: Tensor) -> tuple[Tensor, Tensor]:
        """planar: (B, N, dim), volumetric: (B, M, dim); returns both, with zeros in place of what is hidden."""
        if not self.training or self.rate == 0.0:
            return planar, volumetric
        drawn = shared_rand((len(planar), 1, 1), device=planar.device)
        keep_planar, keep_volumetric = drawn >= self.rate / 2, (drawn < self.rate / 2) | (drawn >= self.rate)
        return planar * keep_planar.to(planar.dtype), volumetric * keep_volumetric.to(volumetric.dtype)


class Fusion(nn.Module):
    """Joins two streams.

    Args:
        dim: width of the tokens of both streams.
        mode: `attention`: the streams read each other, then a gate weighs them; `gate`: the gate alone; `concat`:
            both vectors side by side.
        heads: heads of the attention.
        layers: rounds of mutual reading.
        native: the stream at which the gate starts, `planar` or `volumetric`: the one that sees the sample as it is.
        drop_path: rate at which a sample skips a branch.
    """

    def __init__(self, dim: int, *, mode: str, heads: int, layers: int, native: str, drop_path: float = 0.0) -> None:
        super().__init__()
        self.num_features = 4 * dim if mode == "concat" else 2 * dim
        count = layers if mode == "attention" else 0
        self.planar_reads, self.volumetric_reads = (
            nn.ModuleList(CrossAttention(dim, heads=heads, drop_path=drop_path) for _ in range(count)) for _ in range(2)
        )
        self.calibrate_planar, self.calibrate_volumetric = Calibration(2 * dim), Calibration(2 * dim)
        self.gate = None if mode == "concat" else nn.Linear(4 * dim, 2)
        if self.gate is not None:
            start = GATE_START if native == "planar" else -GATE_START
            with torch.no_grad():
                self.gate.bias.copy_(torch.tensor([start, -start]))

    def forward(
        self, planar: Tensor, volumetric: Tensor, *, codes: tuple[Tensor, Tensor] | None, need_weights: bool = False
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Joins the tokens.

        Args:
            planar: tokens (B, N, dim).
            volumetric: tokens (B, M, dim).
            codes: codes (N, dim) and (M, dim) of their positions; needed for `attention` only.
            need_weights: also return the attention of the last round.

        Returns:
            Features (B, num_features); the weights of the last round, `planar` (B, heads, N, M): planar tokens read
            volumetric ones, and `volumetric` (B, heads, M, N); the gate (B, 2), planar first, or None.
        """
        attention: dict[str, Tensor] = {}
        for planar_reads, volumetric_reads in zip(self.planar_reads, self.volumetric_reads, strict=True):
            assert codes is not None
            here, there = codes
            new_planar, of_planar = planar_reads(
                planar, volumetric, reader_code=here, read_code=there, need_weights=need_weights
            )
            volumetric, of_volumetric = volumetric_reads(
                volumetric, planar, reader_code=there, read_code=here, need_weights=need_weights
            )
            planar = new_planar
            if need_weights:
                attention = {"planar": of_planar, "volumetric": of_volumetric}
        first = self.calibrate_planar(pool(planar))
        second = self.calibrate_volumetric(pool(volumetric))
        both = torch.cat([first, second], dim=1)
        if self.gate is None:
            return both, attention, None
        gate = self.gate(both).softmax(dim=1)
        return gate[:, :1] * first + gate[:, 1:] * second, attention, gate
