"""C2DSR: item graphs, three encoders and a cross-domain infomax (Cao et al., CIKM 2022, arXiv 2304.03891).

    graph    A: row-normalised counts of what followed an item in training, over all events (mixed) or over the events
             of its own domain (single);  g = (E + A drop(E)) / 2, a layer deep, the mean of all depths if deeper
    threads  m: causal transformer over all events, input g + E of the mixed table;  h_d: one over the events of domain
             d, input of the single table
    score    s(u, i) = <m + h_d, w_i> + b_i, classifiers of their own for each domain's items
    loss     CE(m + h_d) + shared_loss_weight CE(m) + sequence_loss_weight sum_d infomax_d
    infomax  with r_d the mean of h_d, z_d the mean of m over the events of the other domains, and z'_d the same after
             the events of d were exchanged for random items of d:  BCE(<W_d r_d, z_d>, 1) + BCE(<W_d r_d, z'_d>, 0)

Published: Food mrr .0891 and ndcg@10 .0971, Kitchen .0465 and .0494, on the authors' own split (histories of at most 15
events, a time window, 999 sampled negatives that may hold the history). That split is another than
``food_kitchen_abxi``, so the numbers cannot be met here, only their order of magnitude be understood.

Where we differ, and why:
- The transformers are the ones that SASRec has here (pre-norm, positions from the newest event, normalised input), so
  that what separates the two rows of a table is what C2DSR adds. The tables of the two domains are one: their items are
  disjoint. The graph's bias is left out, which is the same vector for every item.
- Trained as it is scored: ``m`` is read at the newest event and ``h_d`` at the newest one of its domain. The released
  code reads both at the newest event of the domain while training, and as we do in scoring. Every position is a target
  (theirs: the last ten), and padding is no class.
- Any number of domains, with the other domains in place of the other one; with one domain there is no infomax.
- Items that training never saw score as if their classifier were zero with the least bias of all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.data.schema import Int8Array
from semacdr.data.splits import TrainSequences
from semacdr.models.base import Loss, SideData, TextTables, VectorRecommender
from semacdr.models.layers import ID_STD, CausalEncoder, Dropout, init_weights, positions_from_end
from semacdr.models.settings import AttentionSettings
from semacdr.models.softmax import CandidateSoftmax


class C2DSRConfig(AttentionSettings):
    """Settings of C2DSR; the defaults are the released ones, but for the longer histories."""

    embedding_dim: int = Field(256, gt=0)
    """D."""
    num_layers: int = Field(2, gt=0)
    """Transformer blocks of each encoder."""
    num_heads: int = Field(1, gt=0)
    """H, a divisor of D."""
    ffn_dim: int = Field(256, gt=0)
    """Inner width of a block."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """On the graphs' and the encoders' inputs and on the residual branches."""
    graph_layers: int = Field(1, ge=0)
    """Depth of the graph convolution; 0 leaves the graphs out."""
    shared_loss_weight: float = Field(1.0, ge=0)
    """Of the cross-entropy of the mixed thread alone."""
    sequence_loss_weight: float = Field(0.43, ge=0)
    """Of the infomax; released: .3 beside .7 for each cross-entropy."""


class C2DSR(VectorRecommender):
    """The model; see the module's text."""

    Config = C2DSRConfig
    reads_sequences = True
    trained: Tensor
    mixed_graph: Tensor
    single_graph: Tensor

    def __init__(
        self, config: C2DSRConfig, catalogue: Catalogue, text: TextTables | None = None, *, side: SideData
    ) -> None:
        super().__init__(config, catalogue, text)
        assert side.train is not None
        c = self.settings = config
        D, size = c.embedding_dim, catalogue.num_items + 1
        self.num_domains = len(catalogue.domains)

        def encoder() -> CausalEncoder:
            return CausalEncoder(D, c.num_layers, c.num_heads, c.ffn_dim, c.dropout, c.max_seq_len)

        self.mixed_id, self.single_id = nn.Embedding(size, D), nn.Embedding(size, D)
        self.mixed_encoder = encoder()
        self.single_encoders = nn.ModuleList(encoder() for _ in range(self.num_domains))
        self.classifier = nn.Embedding(size, D)
        self.bias = nn.Parameter(torch.zeros(size))
        self.softmax = CandidateSoftmax(catalogue, "domain", 0)
        if self._has_infomax:
            self.discriminators = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(self.num_domains))
        self.dropout = Dropout(c.dropout)
        self.apply(init_weights)
        for table in (self.mixed_id, self.single_id, self.classifier):
            nn.init.normal_(table.weight, std=ID_STD)
        self.register_buffer("trained", torch.from_numpy(catalogue.train_count > 0), persistent=False)
        for name, domain in (("mixed_graph", None), ("single_graph", catalogue.item_domain)):
            self.register_buffer(name, transition_graph(side.train, size, domain), persistent=False)
        self._inputs: tuple[Tensor, Tensor] | None = None

    @property
    def _has_infomax(self) -> bool:
        return self.settings.sequence_loss_weight > 0 and self.num_domains > 1

    def convolve(self, table: Tensor, graph: Tensor) -> Tensor:
        """(N+1, D) ids -> (N+1, D): the mean over the depths 0, 1, ... of the ids carried along the graph."""
        total = layer = table
        with torch.autocast(table.device.type, enabled=False):  # sparse products have no half precision of their own
            for _ in range(self.settings.graph_layers):
                layer = torch.sparse.mm(graph, self.dropout(layer))
                total = total + layer
        return total / (self.settings.graph_layers + 1)

    def inputs(self) -> tuple[Tensor, Tensor]:
        """(N+1, D) inputs of the mixed and of the single-domain encoders, normalised; zero for items never seen."""
        known, tables = self.trained.unsqueeze(1), []
        for ids, graph in ((self.mixed_id.weight, self.mixed_graph), (self.single_id.weight, self.single_graph)):
            x = F.layer_norm(self.convolve(ids, graph) + ids, (ids.shape[1],), eps=1e-12)
            tables.append(x * known)
        return tables[0], tables[1]

    def single_states(self, items: Tensor, domain: int, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One domain's thread.

        Args:
            items: (B, L).
            domain: d.
            table: (N+1, D) inputs.

        Returns:
            (B, W, D) states of the domain's events alone, moved together; (B,) how many there are; (B, L) the index
            among them of the newest one at or before each position, -1 if there is none.
        """
        member = self.item_domain[items] == domain
        count = member.sum(1)
        width = max(1, int(count.max()))
        order = member.int().argsort(dim=1, descending=True, stable=True)[:, :width]
        inside = torch.arange(width, device=items.device) < count[:, None]
        own = items.gather(1, order) * inside
        states: Tensor = self.single_encoders[domain](table[own], positions_from_end(count, width))
        return states * inside.unsqueeze(2), count, member.cumsum(1) - 1

    def threads(
        self, batch: Batch, row: Tensor, column: Tensor, target_domain: Tensor, tables: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Runs the encoders and reads them.

        Returns:
            (P, D) mixed and (P, D) single-domain states at the queries, zero where a thread is empty; the (B, L, D)
            mixed states; and each domain's states with their counts.
        """
        mixed = self.mixed_encoder(tables[0][batch.items], positions_from_end(batch.length, batch.items.shape[1]))
        before = mixed[row, column] * (batch.items[row, column] > 0).unsqueeze(1)
        own, single = torch.zeros_like(before), []
        for d in range(self.num_domains):
            states, count, newest = self.single_states(batch.items, d, tables[1])
            single.append((states, count))
            at = (target_domain == d).nonzero().squeeze(1)
            index = newest[row[at], column[at]]
            read = states[row[at], index.clamp(min=0)] * (index >= 0).unsqueeze(1)
            own = own.index_copy(0, at, read.to(own.dtype))
        return before, own, mixed, single

    def loss(self, batch: Batch) -> Loss:
        """Both cross-entropies and the infomax."""
        assert batch.targets is not None
        c, tables = self.settings, self.inputs()
        row, column = batch.targets.nonzero(as_tuple=True)
        target = batch.targets[row, column]
        before, own, mixed, single = self.threads(batch, row, column, self.item_domain[target], tables)
        drawn, vectors = self.softmax.draw(target), self.with_bias()
        every = torch.arange(self.num_items + 1, device=target.device)
        total = self.softmax(with_one(before + own), target, drawn, vectors, every)
        parts = {"rec": float(total.detach())}
        if c.shared_loss_weight:
            shared = self.softmax(with_one(before), target, drawn, vectors, every)
            total, parts["shared"] = total + c.shared_loss_weight * shared, float(shared.detach())
        if self._has_infomax:
            sequence = self.infomax(batch, mixed, single, tables[0])
            total, parts["sequence"] = total + c.sequence_loss_weight * sequence, float(sequence.detach())
        return Loss(total, parts)

    def infomax(self, batch: Batch, mixed: Tensor, single: list[tuple[Tensor, Tensor]], table: Tensor) -> Tensor:
        """The sum over domains of infomax_d, each a mean over the rows that have events both in d and outside it.

        Args:
            batch: B histories.
            mixed: (B, L, D) states of the mixed thread.
            single: states and counts of each domain's thread.
            table: (N+1, D) inputs of the mixed encoder.
        """
        domain, total = self.item_domain[batch.items], mixed.new_zeros((), dtype=torch.float32)
        for d, (states, count) in enumerate(single):
            outside = (domain != d) & (batch.items > 0)
            rows = ((count > 0) & outside.any(1)).nonzero().squeeze(1)
            members = self.softmax.members(d)
            if not len(rows) or not len(members):
                continue
            other = members[torch.randint(len(members), batch.items[rows].shape, device=members.device)]
            corrupted = torch.where(domain[rows] == d, other, batch.items[rows])
            position = positions_from_end(batch.length[rows], corrupted.shape[1])
            false = self.mixed_encoder(table[corrupted], position)
            share = outside[rows].float() / outside[rows].sum(1, keepdim=True)  # (b, L): weights of a mean
            own = states[rows].sum(1) / count[rows, None]
            seen, unseen = ((share.unsqueeze(2) * each).sum(1) for each in (mixed[rows], false))
            asked = self.discriminators[d](own)  # W_d r_d
            right, wrong = ((asked * each).sum(1).float() for each in (seen, unseen))
            total = total + F.softplus(-right).mean() + F.softplus(wrong).mean()
        return total

    def with_bias(self) -> Tensor:
        """(N+1, D+1) classifiers, the bias as the last coordinate."""
        return torch.cat([self.classifier.weight, self.bias.unsqueeze(1)], dim=1)

    def item_vectors(self) -> Tensor:
        """(N+1, D+1) classifiers; zero with the least bias for items that training never saw."""
        known = self.trained.unsqueeze(1)
        least = F.one_hot(torch.tensor(self.classifier.embedding_dim), self.classifier.embedding_dim + 1)
        return torch.where(known, self.with_bias(), least.to(self.bias) * self.bias[self.trained].min())

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, D+1) states of the newest event for the target domain of each row, and a one for the bias."""
        assert batch.target_domain is not None
        row = torch.arange(len(batch.items), device=batch.items.device)
        tables = self._inputs or self.inputs()
        before, own, *_ = self.threads(batch, row, (batch.length - 1).clamp(min=0), batch.target_domain, tables)
        return with_one(before + own)

    def prepare(self) -> None:
        """Keeps the item vectors and the encoders' inputs."""
        super().prepare()
        with torch.no_grad():
            self._inputs = self.inputs()

    def train(self, mode: bool = True) -> C2DSR:
        """Switches mode; going back to training drops what was kept."""
        if mode:
            self._inputs = None
        super().train(mode)
        return self

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights and drops what was kept of others."""
        self._inputs = None
        super().load_state(tensors)


def with_one(states: Tensor) -> Tensor:
    """(P, D) -> (P, D+1), the last coordinate one."""
    return F.pad(states, (0, 1), value=1.0)


def transition_graph(train: TrainSequences, size: int, item_domain: Int8Array | None) -> Tensor:
    """Row-normalised counts of what followed an item in the training sequences.

    Args:
        train: the sequences; a pair counts where its later event is a training target.
        size: N+1.
        item_domain: (N+1,) to follow each domain by itself; None to follow all events.

    Returns:
        (N+1, N+1) sparse matrix whose row i holds the share of each item among those that followed i.
    """
    sequence, place = train.events()
    items, target = train.items[place], train.is_target[place]
    if item_domain is not None:
        order = np.lexsort((item_domain[items], sequence))  # stable: a domain's events keep their order
        items, target, sequence = items[order], target[order], sequence[order]
    pair = (sequence[1:] == sequence[:-1]) & target[1:]
    if item_domain is not None:
        pair &= item_domain[items[1:]] == item_domain[items[:-1]]
    count = sp.coo_matrix((np.ones(int(pair.sum())), (items[:-1][pair], items[1:][pair])), shape=(size, size)).tocsr()
    share = sp.diags(1 / np.maximum(np.asarray(count.sum(axis=1)).ravel(), 1)) @ count
    share = share.tocoo()
    index = torch.from_numpy(np.stack([share.row, share.col]).astype(np.int64))
    values = torch.from_numpy(share.data).float()
    return torch.sparse_coo_tensor(index, values, (size, size), check_invariants=True).coalesce()
