"""The published encoder of LLM4CDSR against the left-padded form in PyTorch's own attention."""

from __future__ import annotations

import torch
from torch import nn

from semacdr.models.published_sasrec import PublishedEncoder


def test_the_published_encoder_is_the_left_padded_one() -> None:
    """Against PyTorch's attention over rows that are padded on the left to L, without any mask."""
    torch.manual_seed(0)
    encoder = PublishedEncoder(6, 2, 2, 5, 0.0, 7).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    x, lengths = torch.randn(3, 7, 6), [7, 4, 1]
    found = encoder(x, torch.tensor(lengths), causal=False)
    for row, length in enumerate(lengths):
        state = torch.zeros(1, 7, 6)
        state[0, 7 - length :] = x[row, :length]
        position = torch.tensor([0] * (7 - length) + list(range(1, length + 1)))
        real = (position > 0).float()[None, :, None]
        state = (state + encoder.position(position)) * real
        for block in encoder.blocks:
            attention = nn.MultiheadAttention(6, 2, batch_first=True)
            attention.in_proj_weight.data = torch.cat([block.query.weight, block.key_value.weight]).data
            attention.in_proj_bias.data = torch.cat([block.query.bias, block.key_value.bias]).data
            attention.out_proj = block.attention_out
            asked = block.attention_norm(state)
            state = block.ffn_norm(asked + attention(asked, state, state)[0])
            state = (state + block.ffn(state)) * real
        torch.testing.assert_close(found[row, :length], encoder.norm(state)[0, 7 - length :], rtol=1e-4, atol=1e-5)
