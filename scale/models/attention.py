"""Scale attention over the levels of a pyramid, and cross-modal attention between the tokens of the streams."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scale.models.layers import DropPath, resample


class ScaleAttention(nn.Module):
    """Brings the levels of a pyramid to the middle level's grid and weighs them at each position.

    Args:
        widths: channels of the levels.
        dim: channels of the result.
        learned: weigh by a softmax over the levels; otherwise the levels are averaged, without any weights to learn.
    """

    def __init__(self, widths: Sequence[int], dim: int, *, learned: bool = True) -> None:
        super().__init__()
        self.levels = len(widths)
        self.score = nn.Linear(sum(widths), self.levels) if learned else None
        self.project = nn.Linear(sum(widths), dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        self.relu = nn.ReLU()

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Weighs the levels.

        Args:
            pyramid: the levels (B, widths[i], *S_i), fine first.

        Returns:
            Features (B, *S_1, dim), channels last, and the weights (B, *S_1, levels), which sum to 1 over the levels;
            None instead of weights that are not learned.
        """
        size = pyramid[1].shape[2:]
        aligned = [resample(x.movedim(1, -1), size) for x in pyramid]
        weights = None
        if self.score is None:
            weighted = torch.cat(aligned, dim=-1) / self.levels
        else:
            weights = self.score(torch.cat(aligned, dim=-1)).softmax(dim=-1)
            weighted = torch.cat([weights[..., i : i + 1] * x for i, x in enumerate(aligned)], dim=-1)
        # one map on the weighted levels side by side is the weighted sum of one map for each level
        mixed = self.project(weighted)
        return self.relu(self.norm(mixed.flatten(0, -2)).reshape(mixed.shape)), weights


class CrossAttention(nn.Module):
    """Multi-head attention in which the tokens of one stream read those of the other (arXiv:1706.03762).

    Args:
        dim: width of the tokens, a multiple of `heads`.
        heads: number of heads.
        drop_path: rate at which a sample skips a branch.
    """

    def __init__(self, dim: int, *, heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm_reader, self.norm_read = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.value, self.out = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim)
        self.norm_forward = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.drop_path = DropPath(drop_path)

    def forward(
        self, reader: Tensor, read: Tensor, *, reader_code: Tensor, read_code: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Lets `reader` read `read`.

        Args:
            reader: tokens (B, N, dim) that ask.
            read: tokens (B, M, dim) that answer.
            reader_code: codes (N, dim) of the positions of `reader`; they steer who reads whom, not what is read.
            read_code: codes (M, dim) of the positions of `read`.
            need_weights: also return the weights, on the slower path.

        Returns:
            New tokens (B, N, dim), and the weights (B, heads, N, M), whose rows sum to 1, or None.
        """
        asking, answering = self.norm_reader(reader), self.norm_read(read)
        query = self._split(self.query(asking + reader_code))  # (B, heads, N, dim / heads)
        key = self._split(self.key(answering + read_code))
        value = self._split(self.value(answering))
        weights = None
        if need_weights:
            weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)
            found = weights @ value
        else:
            found = F.scaled_dot_product_attention(query, key, value)
        x = reader + self.drop_path(self.out(found.transpose(1, 2).flatten(2)))
        return x + self.drop_path(self.feed_forward(self.norm_forward(x))), weights

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)
