"""Item vectors from semantic ids: code embeddings, whose number does not grow with the catalogue.

Each level has a table of its own. The prefixes of an id, its first two codes and so on, have rows in one table of fixed
size that they are hashed into ("Better Generalization with Semantic IDs", arXiv 2306.08121, which embeds N-grams and
prefixes of semantic ids for ranking): a code means something else below another one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semacdr.models.base import ItemCodes
from semacdr.models.layers import ID_STD, Dropout

_PRIME = (1 << 31) - 1
_FACTOR = 1_000_003


def prefix_buckets(codes: Tensor, buckets: int) -> Tensor:
    """(n, M) codes -> (n, M) bucket of the first code, of the first two, and so on; equal prefixes, equal buckets.

    The same on every machine: a polynomial modulo a prime, which stays inside 64 bits.
    """
    state = torch.zeros_like(codes[:, 0])
    found = []
    for level in range(codes.shape[1]):
        state = (state * _FACTOR + codes[:, level] + 1) % _PRIME
        found.append(state * 2_654_435_761 % _PRIME % buckets)
    return torch.stack(found, dim=1)


class CodeEmbedding(nn.Module):
    """``z = LN(sum_m E_m[c_m] + sum_{m >= 2} P[h(c_1 .. c_m)])``: an id's codes, without its last token.

    Args:
        items: the catalogue's ids.
        embedding_dim: D.
        buckets: rows of P; 0 leaves prefixes out.
        dropout: before the normalisation.
    """

    codes: Tensor  # (N+1, M+1), the last token included

    def __init__(self, items: ItemCodes, embedding_dim: int, buckets: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("codes", items.codes, persistent=False)
        self.levels = nn.ModuleList(nn.Embedding(size, embedding_dim) for size in items.sizes)
        self.prefixes = nn.Embedding(buckets, embedding_dim) if buckets else None
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(embedding_dim)
        for table in self.children():
            for one in table if isinstance(table, nn.ModuleList) else [table]:
                if isinstance(one, nn.Embedding):
                    nn.init.normal_(one.weight, std=embedding_dim**-0.5)

    def forward(self, codes: Tensor) -> Tensor:
        """(n, M) codes, or (n, M+1) ids of which the last token is not read -> (n, D)."""
        codes = codes[:, : len(self.levels)]
        total = torch.stack([table(codes[:, level]) for level, table in enumerate(self.levels)]).sum(0)
        if self.prefixes is not None and codes.shape[1] > 1:
            total = total + self.prefixes(prefix_buckets(codes, self.prefixes.num_embeddings)[:, 1:]).sum(1)
        normed: Tensor = self.norm(self.dropout(total))
        return normed


class HashedResidual(nn.Module):
    """A row for each whole id, last token included, in a table of fixed size: what an id residual is among codes.

    Args:
        items: the catalogue's ids.
        embedding_dim: D.
        buckets: rows; two ids may share one.
    """

    bucket: Tensor  # (N+1,)

    def __init__(self, items: ItemCodes, embedding_dim: int, buckets: int) -> None:
        super().__init__()
        self.register_buffer("bucket", prefix_buckets(items.codes, buckets)[:, -1], persistent=False)
        self.rows = nn.Embedding(buckets, embedding_dim)
        nn.init.normal_(self.rows.weight, std=ID_STD)

    def forward(self, ids: Tensor) -> Tensor:
        """(n,) item ids -> (n, D)."""
        rows: Tensor = self.rows(self.bucket[ids])
        return rows


class PrefixVectors(nn.Module):
    """``v(c_1 .. c_m) = E_m[c_m] + P[h(c_1 .. c_m)]``: a code and the prefix that it ends, the last token included.

    Args:
        items: the catalogue's ids.
        embedding_dim: D.
        buckets: rows of P; 0 leaves prefixes out.
    """

    codes: Tensor  # (N+1, M+1)
    bucket: Tensor  # (N+1, M+1), of the first code, of the first two, and so on

    def __init__(self, items: ItemCodes, embedding_dim: int, buckets: int) -> None:
        super().__init__()
        self.register_buffer("codes", items.codes, persistent=False)
        sizes = (*items.sizes, int(items.codes[:, -1].max()) + 1)
        self.levels = nn.ModuleList(nn.Embedding(size, embedding_dim) for size in sizes)
        self.prefixes = nn.Embedding(buckets, embedding_dim) if buckets else None
        if buckets:
            self.register_buffer("bucket", prefix_buckets(items.codes, buckets), persistent=False)
        for table in (*self.levels, self.prefixes):
            if table is not None:
                nn.init.normal_(table.weight, std=ID_STD)

    def of_level(self, ids: Tensor, level: int) -> Tensor:
        """(n,) items -> (n, D) vectors of their first ``level + 1`` codes."""
        vectors: Tensor = self.levels[level](self.codes[ids, level])
        return vectors if self.prefixes is None else vectors + self.prefixes(self.bucket[ids, level])

    def forward(self, ids: Tensor) -> Tensor:
        """Items of any shape -> (..., D): the sum over the levels."""
        return torch.stack([self.of_level(ids, level) for level in range(len(self.levels))]).sum(0)
