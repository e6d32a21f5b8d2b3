"""The sequence encoder as LLM4CDSR's code has it, for the faithful mode: it looks ahead, and at padding.

``x_t = scale e_t + P[t]``, dropout, zero at padding; then blocks of ``Q = LN(x)``, ``x = Q + MHA(Q, x, x)``,
``x = LN(x)``, ``x = x + W2 drop(relu(W1 x))`` with padding set to zero behind each, and a last LN. There is neither a
causal mask nor one of padding: rows are padded on the left to L events, and every event attends to each of those
paddings.

Here rows are padded on the right as everywhere. The paddings of a row are zero before every block, so one key that
counts as often as there are paddings stands for them all: exact but for the dropout of attention weights, which would
draw for each padding alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semacdr.models.layers import Dropout

NORM_EPS = 1e-8


class PublishedBlock(nn.Module):
    """One block of the published encoder."""

    def __init__(self, embedding_dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm = nn.LayerNorm(embedding_dim, eps=NORM_EPS)
        self.query = nn.Linear(embedding_dim, embedding_dim)
        self.key_value = nn.Linear(embedding_dim, 2 * embedding_dim)
        self.attention_out = nn.Linear(embedding_dim, embedding_dim)
        self.ffn_norm = nn.LayerNorm(embedding_dim, eps=NORM_EPS)
        self.ffn = nn.Sequential(
            nn.Linear(embedding_dim, ffn_dim),
            Dropout(dropout),
            nn.ReLU(),
            nn.Linear(ffn_dim, embedding_dim),
            Dropout(dropout),
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """States of the real positions.

        Args:
            x: (B, L, D).
            mask: (B, 1, L, L+1) added to the attention logits; the last key is the padding, whose state is zero.
        """
        B, L, D = x.shape
        asked = self.attention_norm(x)
        q = self.query(asked).view(B, L, self.num_heads, -1).transpose(1, 2)
        key_value = self.key_value(F.pad(x, (0, 0, 0, 1))).view(B, L + 1, 2, self.num_heads, -1)
        k, v = key_value.permute(2, 0, 3, 1, 4)  # each (B, H, L+1, D/H)
        dropped = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropped)
        x = asked + self.attention_out(attended.transpose(1, 2).reshape(B, L, D))
        x = self.ffn_norm(x)
        return x + self.ffn(x)


class PublishedEncoder(nn.Module):
    """The stack of blocks, with positions counted from the oldest event, 1; 0, of padding, is held and never read.

    Args:
        embedding_dim: D.
        num_layers: blocks.
        num_heads: H, a divisor of D.
        ffn_dim: inner width; D in the published code.
        dropout: on the input, the attention weights and inside the inner network.
        max_seq_len: L, to which a row is thought to be padded.
    """

    def __init__(
        self, embedding_dim: int, num_layers: int, num_heads: int, ffn_dim: int, dropout: float, max_seq_len: int
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.position = nn.Embedding(max_seq_len + 1, embedding_dim)
        self.blocks = nn.ModuleList(
            PublishedBlock(embedding_dim, num_heads, ffn_dim, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embedding_dim, eps=NORM_EPS)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, length: Tensor, causal: bool) -> Tensor:
        """(B, L, D) scaled item vectors and (B,) lengths -> (B, L, D) states; what stands at padding means nothing."""
        B, L, _ = x.shape
        column = torch.arange(L, device=x.device)
        real = column < length.unsqueeze(1)
        x = self.dropout(x + self.position(column + 1)) * real.unsqueeze(2)
        visible = real.unsqueeze(1).expand(B, L, L)
        if causal:
            visible = visible & (column <= column.unsqueeze(1))
        paddings = (self.max_seq_len - length).clamp(min=0).to(x.dtype)  # log 0 = -inf: a full row has none
        mask = torch.where(visible, 0.0, float("-inf"))
        mask = torch.cat([mask, paddings.log().view(B, 1, 1).expand(B, L, 1)], dim=2).unsqueeze(1)
        for block in self.blocks:
            x = block(x, mask) * real.unsqueeze(2)
        return self.norm(x)

    def begin(self) -> None:
        """Draws the weights as published: Xavier's normal over each array as it is held there.

        There the projections of an attention are one array of (3D, D), and so they have one spread, that of D inputs
        and 3D outputs; the biases of an attention begin at zero and all others uniformly, as PyTorch has it.
        """
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)
        for block in self.blocks:
            assert isinstance(block, PublishedBlock)
            D = block.query.in_features
            for layer in (block.query, block.key_value):
                nn.init.normal_(layer.weight, std=(2 / (D + 3 * D)) ** 0.5)
                nn.init.zeros_(layer.bias)
            nn.init.zeros_(block.attention_out.bias)
