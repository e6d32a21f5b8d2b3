"""Building blocks of the sequence models.

Shapes: B batch, L length, D embedding dim, H heads. Rows are padded on the right, so that under a causal mask no real
position ever sees padding, and no padding mask is needed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ID_STD = 0.01
"""Spread of fresh id vectors. Small on purpose: Adam moves a coordinate by about the learning rate in a step, so with
a wide start the items of few events would keep a vector that is mostly chance."""


class Dropout(nn.Module):
    """Dropout that draws one random byte an element on a CPU, where PyTorch's draws are a tenth of a training step.

    The rate is rounded to 1/256, and survivors are scaled by the rounded rate, so the expectation is exact.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Zeroes elements at random while training; any shape."""
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        threshold = min(255, round(self.rate * 256))
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
        return x * keep.to(x.dtype).mul_(256 / (256 - threshold))


class CausalBlock(nn.Module):
    """One pre-norm transformer block: self-attention, then a two-layer GELU network.

    Pre-norm (Xiong et al. 2020) rather than SASRec's mixed order: it trains without a careful warm-up.
    """

    def __init__(self, embedding_dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(embedding_dim)
        self.qkv = nn.Linear(embedding_dim, 3 * embedding_dim)
        self.attention_out = nn.Linear(embedding_dim, embedding_dim)
        self.ffn_norm = nn.LayerNorm(embedding_dim)
        self.ffn = nn.Sequential(
            nn.Linear(embedding_dim, ffn_dim), nn.GELU(), Dropout(dropout), nn.Linear(ffn_dim, embedding_dim)
        )
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, D) -> (B, L, D); ``mask`` (B, 1, L, L) is True where a query may look, None means causal."""
        B, L, D = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(B, L, 3, self.num_heads, D // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, L, D/H)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        attended = attended.transpose(1, 2).reshape(B, L, D)
        x = x + self.dropout(self.attention_out(attended))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class CausalEncoder(nn.Module):
    """A stack of causal blocks with learned positions.

    Args:
        embedding_dim: D.
        num_layers: blocks.
        num_heads: H, a divisor of D.
        ffn_dim: width of the inner network.
        dropout: on the input and on each residual branch.
        max_seq_len: L, the number of positions.
    """

    def __init__(
        self, embedding_dim: int, num_layers: int, num_heads: int, ffn_dim: int, dropout: float, max_seq_len: int
    ) -> None:
        super().__init__()
        self.position = nn.Embedding(max_seq_len, embedding_dim)
        self.blocks = nn.ModuleList(CausalBlock(embedding_dim, num_heads, ffn_dim, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embedding_dim)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """States of every position.

        Args:
            x: (B, L, D) item vectors.
            positions: (B, L) index of each event's position vector.
            mask: (B, 1, L, L) True where a query may look; None for plain causal.

        Returns:
            (B, L, D).
        """
        x = self.dropout(x + self.position(positions))
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


def positions_from_end(length: Tensor, width: int) -> Tensor:
    """(B,) lengths -> (B, width) distance of each event from the newest one, which is 0; padding gets 0.

    Counting from the end beats counting from the start on every set we tried: the newest events, which matter most,
    always meet the same position vectors.
    """
    column = torch.arange(width, device=length.device)
    return (length[:, None] - 1 - column).clamp_(min=0)


def positions_from_end_within(visible: Tensor) -> Tensor:
    """(B, L, L) symmetric "same thread" relation -> (B, L) number of later events in each event's thread."""
    return visible.triu(1).sum(2)


def last_index(member: Tensor) -> Tensor:
    """(B, L) membership -> (B, L) index of the newest member at or before each position, -1 if there is none."""
    column = torch.arange(member.shape[1], device=member.device)
    return torch.where(member, column, -1).cummax(1).values


def prefix_mean(x: Tensor, member: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Mean of the vectors of a row's members up to a position.

    Args:
        x: (B, L, D).
        member: (B, L) bool.
        row: (P,) rows.
        column: (P,) newest position that counts, -1 for none.

    Returns:
        (P, D), zero where there is no member.
    """
    weight = member.to(x.dtype)
    total, count = (x * weight.unsqueeze(2)).cumsum(1), weight.cumsum(1)
    at = column.clamp(min=0)
    mean = total[row, at] / count[row, at].clamp(min=1).unsqueeze(1)
    return mean * (column >= 0).unsqueeze(1)


def pack(member: Tensor) -> tuple[Tensor, Tensor]:
    """Moves the members of each row to its front, in order.

    Args:
        member: (B, L) bool.

    Returns:
        (B, W) columns of the members, anything behind a row's last, and (B,) members of each row. W is the most that a
        row has, at least 1. Member ``t`` of a row stands at ``member.cumsum(1)[row, column] - 1``.
    """
    length = member.sum(1)
    width = max(1, int(length.max()))
    return torch.argsort(~member, dim=1, stable=True)[:, :width], length


def init_weights(module: nn.Module) -> None:
    """Truncated-normal linear weights, zero biases: for ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
