"""SemaCDRGen: the codes of the next item's semantic id, decoded in the target's domain (our own variant of SemaCDR).

Items of all domains are known by one set of semantic ids, so a code learned in one domain means as much in another.

    vectors  u, v (c_1 .. c_m) = E_m[c_m] + P[bucket(c_1 .. c_m)], one pair of tables to read and one to decode
                                                                                                    (code_embedding.py)
    history  h = causal transformer over LN(sum_m u(c_1 .. c_m)) + s_domain of the events, one position an event
    decoder  l_m(c) = <h + o_target, v(c_1 .. c_m-1 c)>
    score    log p(id | h, target) = sum_m log softmax l_m, over the codes that go on to a trained id    (code_trie.py)
    loss     - log p(id of the next event), at every event

TIGER (arXiv 2305.05065) flattens a history to (M+1) L tokens, learns one target a row by a transformer encoder and
decoder, and searches all codes with a beam. Here an event is one position, and each event of a row is a target in one
pass. The domain is the start token of the decoder. The decoder is log-bilinear (as in hierarchical models of language:
Mnih & Hinton, NIPS 2008): the codes so far enter through the vectors of the prefixes that may come next. These do not
depend on the user, so that the scores of a whole catalogue are M+1 matrix products; decoders that read the codes so far
into the user's state learned more slowly (docs/models/semacdr_gen.md). Codes that no id of the domain goes on with have
no probability, in training too: nothing is spent on learning what is valid, and scores are log probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.errors import InputError
from semacdr.models.base import Loss, Recommender, SideData, TextTables
from semacdr.models.code_embedding import PrefixVectors
from semacdr.models.code_trie import CodeTrie
from semacdr.models.layers import CausalEncoder, init_weights, positions_from_end
from semacdr.models.settings import AttentionSettings

BLOCK_USERS = 64
"""Users whose log probabilities are computed at once; while they are, they take six times what is kept of them."""


class SemaCDRGenConfig(AttentionSettings):
    """Settings of SemaCDRGen."""

    num_layers: int = Field(2, gt=0)
    """Transformer blocks over the history."""
    code_buckets: int = Field(8192, ge=0)
    """Rows that prefixes of ids are hashed into, whole ids among them; 0 leaves an item's codes alone."""


@dataclass
class Encoded:
    """(B, D) states of users, and the log probabilities that have been asked for: domain -> (B, n)."""

    states: Tensor
    tables: dict[int, Tensor] = field(default_factory=dict)


class SemaCDRGen(Recommender):
    """The generative variant; see the module's text."""

    Config = SemaCDRGenConfig
    reads_codes = True
    column: Tensor  # (N+1,) place of an item among those of its domain

    def __init__(
        self,
        config: SemaCDRGenConfig,
        catalogue: Catalogue,
        text: TextTables | None = None,
        *,
        side: SideData | None = None,
    ) -> None:
        super().__init__(config, catalogue, text)
        c = config
        if side is None or side.codes is None:
            raise InputError("SemaCDRGen decodes semantic ids, and none are given", fix="--ids IDS")
        trained = torch.from_numpy(catalogue.train_count > 0)
        num_domains = len(catalogue.domains)
        for domain, name in enumerate(catalogue.domains):
            if not (catalogue.item_domain[1:] == domain).any():
                raise InputError(f"domain {name!r} has no items to decode", fix="leave it out of the data set")
        self.trie = CodeTrie(side.codes.codes, self.item_domain, trained, num_domains)
        self.read = PrefixVectors(side.codes, c.embedding_dim, c.code_buckets)
        self.codes = PrefixVectors(side.codes, c.embedding_dim, c.code_buckets)
        self.source = nn.Embedding(num_domains, c.embedding_dim)
        self.encoder = CausalEncoder(c.embedding_dim, c.num_layers, c.num_heads, c.ffn_dim, c.dropout, c.max_seq_len)
        self.start = nn.Embedding(1, c.embedding_dim)
        self.target = nn.Embedding(num_domains, c.embedding_dim)
        column = torch.zeros(self.num_items + 1, dtype=torch.long)
        for domain in range(num_domains):
            items = self.trie.items_of(domain)
            column[items] = torch.arange(len(items))
        self.register_buffer("column", column, persistent=False)
        self.encoder.apply(init_weights)
        for table in (self.source, self.start, self.target):
            nn.init.normal_(table.weight, std=0.02)

    def histories(self, batch: Batch, row: Tensor, column: Tensor) -> Tensor:
        """States after given positions: (P,) rows and columns, -1 for the empty history -> (P, D)."""
        # Normalised, an item weighs as much beside the blocks' outputs as they do, however small the tables start.
        x = F.layer_norm(self.read(batch.items), (self.start.embedding_dim,), eps=1e-12)
        x = x + self.source(self.item_domain[batch.items].clamp(min=0))
        states = self.encoder(x, positions_from_end(batch.length, batch.items.shape[1]))
        return torch.where((column >= 0).unsqueeze(1), states[row, column.clamp(min=0)], self.start.weight)

    def code_vectors(self, nodes: Tensor, level: int) -> Tensor:
        """(k,) nodes of the trie -> (k, D)."""
        return self.codes.of_level(self.trie.item[nodes], level)

    def loss(self, batch: Batch) -> Loss:
        """- log p of every event's id, given the events before it and its domain."""
        row, column, target = batch.events()
        states = self.histories(batch, row, column) + self.target(self.item_domain[target])
        way = self.trie.node[target]
        parts = [
            self.trie.cross_entropy(states, level, way[:, level + 1], self.code_vectors)
            for level in range(self.trie.levels)
        ]
        rec = torch.stack(parts).sum() / max(1, len(target))
        return Loss(rec, {"rec": float(rec.detach())})

    def encode(self, batch: Batch) -> Encoded:
        """The users' states; the domain to rank for is that of the items that are scored."""
        with torch.no_grad():
            rows = torch.arange(len(batch.items), device=batch.items.device)
            return Encoded(self.histories(batch, rows, batch.length - 1).float())

    def score(self, encoded: Encoded, items: Tensor) -> Tensor:
        """Log p of items' ids, each in its own domain, since no other domain has its id.

        The first call for a domain computes all of it, 4 bytes an item and user, and keeps it in ``encoded``.
        """
        asked = items.expand(len(encoded.states), -1)  # (B, n)
        domain, column = self.item_domain[asked], self.column[asked]
        scores = encoded.states.new_zeros(asked.shape)
        for one in self.item_domain[items.unique()].unique().tolist():
            if one >= 0:
                table = self._table(encoded, one)
                found = table.gather(1, column.clamp(max=table.shape[1] - 1))
                scores = torch.where(domain == one, found, scores)
        return scores

    def _table(self, encoded: Encoded, domain: int) -> Tensor:
        if domain not in encoded.tables:
            with torch.no_grad():
                states = encoded.states + self.target.weight[domain]
                table = states.new_empty(len(states), len(self.trie.items_of(domain)))
                for some, rows in zip(states.split(BLOCK_USERS), table.split(BLOCK_USERS)):
                    rows.copy_(self.trie.log_probabilities(some, domain, self.code_vectors))
            encoded.tables[domain] = table
        return encoded.tables[domain]

    def beam(self, batch: Batch, k: int = 10, width: int = 32, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The best items of each user's ``target_domain``, found by a beam over its valid ids; nothing else is scored.

        Args:
            batch: B histories.
            k: items wanted.
            width: prefixes kept at every level.
            seen: (B, S) items to leave out, 0 for none; None leaves out those of the histories.

        Returns:
            (B, k) items, best first, and (B, k) scores; item 0 and -inf where the beam found no more.
        """
        assert batch.target_domain is not None
        barred = batch.items if seen is None else seen
        with torch.no_grad():
            states = self.encode(batch).states + self.target(batch.target_domain)
            return self.trie.beam(states, batch.target_domain, self.code_vectors, width, k, barred)
