"""ABXI: shared attention, low-rank branches and an invariant projector (Bian et al., WWW 2025, arXiv 2501.15118).

A user's history is read twice by one attention block: as it is, and as a sequence of the domain of the item to be
predicted (the paper's task-guided alignment: before each target stands the newest item of the target's own domain).

    x, c     LN(e + drop(MHA(e))),  e = drop(id + position), of the mixed and of the aligned sequence
    h_x      LN_x(x + drop(FFN(x)) + drop(dLoRA_x(x)))                 FFN: SwiGLU, shared by all sequences
    h_d      LN_d(c + drop(FFN(c)) + drop(dLoRA_d(c)))                 d: domain of the target
    u        LN(h_x + drop(SwiGLU_i(h_x)) + drop(iLoRA_d(h_x))) + LN(h_d + drop(SwiGLU_d(h_d)))
    loss     InfoNCE of <u, id> / tau against the target and ``num_negatives`` uniform items of each domain;
             mean over a user's targets in a domain, summed over domains, mean over users

Published for these settings on ``food_kitchen_abxi`` (authors' repository, five seeds, 999 sampled negatives): ndcg@10
.1971 in food and .1427 in kitchen. The released code is followed also where it is unusual: the empty places of a
sequence of ``max_seq_len`` are attended to as zero vectors, positions count from the newest event, there is neither
dropout on attention weights nor a padding mask, and decay falls on norms and biases too (``decay_all``).

Where we differ, and why:
- A sequence's targets share their negatives (``share_negatives``): 21 times fewer vectors to gather at the same
  distribution for each target. Draws are with replacement, and only the target itself is struck out, not all that the
  user has: those are under .1 % of a draw, and an earlier position must not depend on later events.
- Batches hold about equally many events, so a step averages over fewer users where they are long.
- Ties are counted as expectations by our evaluation; the authors count them for the model. The aligned sequence of a
  user without an event in the target's domain gives zero in scoring as in training; theirs differ by a norm's bias.
- Any number of domains; the authors' code has two. The first event of a user is not predicted, as in theirs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.models.base import Loss, TextTables, VectorRecommender
from semacdr.models.layers import Dropout, last_index, positions_from_end, positions_from_end_within
from semacdr.models.settings import AttentionSettings

INIT_STD = 0.02


class ABXIConfig(AttentionSettings):
    """Settings of ABXI; the defaults are those published for Food-Kitchen."""

    embedding_dim: int = Field(256, gt=0)
    """D."""
    ffn_dim: int = Field(680, gt=0)
    """Inner width of the SwiGLU networks."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """On the input and on each residual branch."""
    domain_rank: int = Field(16, gt=0)
    """Rank of the low-rank branch of each sequence (dLoRA)."""
    invariant_rank: int = Field(64, gt=0)
    """Rank of each domain's branch beside the invariant projector (iLoRA)."""
    num_negatives: int = Field(128, gt=0)
    """Negatives from each domain; all its items where it has no more."""
    temperature: float = Field(0.75, gt=0)
    """tau."""
    share_negatives: bool = True
    """The targets of a sequence share their negatives; false draws for each target, as published, at many times the
    cost."""
    attend_padding: bool = True
    """The empty places up to ``max_seq_len`` take part in the attention as zero vectors, as published."""


class SwiGLU(nn.Module):
    """``W3 (silu(W2 h) * W1 h)``, without biases."""

    def __init__(self, embedding_dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.value = nn.Linear(embedding_dim, ffn_dim, bias=False)
        self.gate = nn.Linear(embedding_dim, ffn_dim, bias=False)
        self.out = nn.Linear(ffn_dim, embedding_dim, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """(P, D) -> (P, D)."""
        projected: Tensor = self.out(F.silu(self.gate(h)) * self.value(h))
        return projected


class LowRank(nn.Sequential):
    """A linear map D -> rank -> D that starts as zero."""

    def __init__(self, embedding_dim: int, rank: int) -> None:
        down = nn.Linear(embedding_dim, rank, bias=False)
        up = nn.Linear(rank, embedding_dim, bias=False)
        super().__init__(down, up)
        nn.init.zeros_(down.weight)  # the authors zero this factor of the two
        nn.init.normal_(up.weight, std=INIT_STD)


class Attention(nn.Module):
    """Self-attention with a residual and a norm, in which empty places may take part.

    An empty place is a zero vector: its key and value are the projections' biases. A bias of the keys shifts all
    logits of a query alike, and one of the values is part of the output's, so neither is needed: the empty places of
    a query are one column of logit zero and value zero, as often as they are many.
    """

    def __init__(self, embedding_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(embedding_dim, embedding_dim)
        self.key_value = nn.Linear(embedding_dim, 2 * embedding_dim, bias=False)
        self.out = nn.Linear(embedding_dim, embedding_dim)
        self.norm = nn.LayerNorm(embedding_dim)
        self.dropout = Dropout(dropout)
        bound = (6 / (4 * embedding_dim)) ** 0.5  # Xavier's for the three projections as one matrix
        for linear in (self.query, self.key_value):
            nn.init.uniform_(linear.weight, -bound, bound)
        nn.init.normal_(self.out.weight, std=INIT_STD)
        for bias in (self.query.bias, self.out.bias):
            nn.init.zeros_(bias)

    def forward(self, e: Tensor, visible: Tensor, empty: Tensor) -> Tensor:
        """States of every position.

        Args:
            e: (B, L, D).
            visible: (B, L, L) True where a query may look; each row has at least one.
            empty: (B, L) number of empty places that each query sees.

        Returns:
            (B, L, D).
        """
        B, L, D = e.shape
        q = self.query(e).view(B, L, self.num_heads, -1).transpose(1, 2)  # (B, H, L, D/H)
        k, v = self.key_value(e).view(B, L, 2, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))  # (B, H, L+1, D/H): the empty places
        bias = torch.zeros_like(visible, dtype=q.dtype).masked_fill_(~visible, float("-inf"))
        bias = torch.cat([bias, empty.to(q.dtype).log().unsqueeze(2)], dim=2)  # (B, L, L+1)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.unsqueeze(1))
        branch = self.out(attended.transpose(1, 2).reshape(B, L, D))
        state: Tensor = self.norm(e + self.dropout(branch))
        return state


class ABXI(VectorRecommender):
    """The model; see the module's text."""

    Config = ABXIConfig

    def __init__(self, config: ABXIConfig, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        c = self.settings = config
        D, domains = c.embedding_dim, range(len(catalogue.domains))
        self.id = nn.Embedding(catalogue.num_items + 1, D)
        self.position = nn.Embedding(c.max_seq_len, D)
        self.attention = Attention(D, c.num_heads, c.dropout)
        self.ffn = SwiGLU(D, c.ffn_dim)
        self.mixed_branch = LowRank(D, c.domain_rank)
        self.mixed_norm = nn.LayerNorm(D)
        self.domain_branch = nn.ModuleList(LowRank(D, c.domain_rank) for _ in domains)
        self.domain_norm = nn.ModuleList(nn.LayerNorm(D) for _ in domains)
        self.invariant = SwiGLU(D, c.ffn_dim)
        self.invariant_branch = nn.ModuleList(LowRank(D, c.invariant_rank) for _ in domains)
        self.invariant_norm = nn.ModuleList(nn.LayerNorm(D) for _ in domains)
        self.specific = nn.ModuleList(SwiGLU(D, c.ffn_dim) for _ in domains)
        self.specific_norm = nn.ModuleList(nn.LayerNorm(D) for _ in domains)
        self.dropout = Dropout(c.dropout)
        for module in self.modules():
            if isinstance(module, SwiGLU):
                for weight in module.parameters():
                    nn.init.normal_(weight, std=INIT_STD)
            elif isinstance(module, nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
        for domain in domains:
            members = torch.from_numpy(catalogue.domain_items(domain))
            self.register_buffer(f"members_{domain}", members, persistent=False)

    def aligned(self, items: Tensor, next_domain: Tensor) -> Tensor:
        """The aligned sequence: at each position the newest item of the domain of what follows.

        Args:
            items: (B, L).
            next_domain: (B, L) domain of the event after each position, -1 where nothing follows.

        Returns:
            (B, L) item ids, 0 where the domain had no event yet.
        """
        domain, found = self.item_domain[items], torch.zeros_like(items)
        for d in range(len(self.catalogue.domains)):
            index = last_index(domain == d)
            here = (next_domain == d) & (index >= 0)
            found = torch.where(here, items.gather(1, index.clamp(min=0)), found)
        return found

    def attend(self, items: Tensor, length: Tensor, next_domain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the shared attention over both readings of the histories.

        Returns:
            (B, L, D) states of the mixed sequence, (B, L, D) of the aligned one, and the (B, L) items of the latter.
        """
        B, width = items.shape
        own = self.aligned(items, next_domain)
        causal = torch.ones(width, width, dtype=torch.bool, device=items.device).tril()
        same = (next_domain[:, :, None] == next_domain[:, None, :]) & ((own > 0)[:, :, None] & (own > 0)[:, None, :])
        visible = torch.cat([causal.expand(B, -1, -1), same & causal])  # padding is on the right: no query sees it
        position = torch.cat([positions_from_end(length, width), positions_from_end_within(same)])
        # With all sequences ended at place max_seq_len, a query sees all places up to its own but those that are taken.
        seen = torch.arange(1, width + 1, device=items.device) + (self.settings.max_seq_len - length)[:, None]
        empty = (seen.repeat(2, 1) - visible.sum(2)).clamp(min=0) * self.settings.attend_padding
        both = torch.cat([items, own])
        e = self.dropout(self.id(both) + self.position(position))  # where no event is, no query looks
        itself = torch.eye(width, dtype=torch.bool, device=items.device)  # no query without a key: softmax stays finite
        mixed, aligned = self.attention(e, visible | itself, empty).split(B)
        return mixed, aligned, own

    def user_states(
        self, mixed: Tensor, aligned: Tensor, present: tuple[Tensor, Tensor], target_domain: Tensor
    ) -> Tensor:
        """User vectors from the attention's states.

        Args:
            mixed: (P, D) states of the mixed sequence.
            aligned: (P, D) states of the aligned sequence.
            present: (P,) whether there is an event there, for both.
            target_domain: (P,) domain to be predicted.

        Returns:
            (P, D).
        """
        drop = self.dropout
        shared, own_shared = drop(self.ffn(torch.cat([mixed, aligned]))).chunk(2)
        mixed = self.mixed_norm(mixed + shared + drop(self.mixed_branch(mixed))) * present[0].unsqueeze(1)
        invariant = mixed + drop(self.invariant(mixed))
        out = torch.zeros_like(mixed)
        for d in range(len(self.catalogue.domains)):
            at = (target_domain == d).nonzero().squeeze(1)
            own = aligned[at]
            own = self.domain_norm[d](own + own_shared[at] + drop(self.domain_branch[d](own)))
            own = own * present[1][at].unsqueeze(1)
            vector = self.invariant_norm[d](invariant[at] + drop(self.invariant_branch[d](mixed[at])))
            vector = vector + self.specific_norm[d](own + drop(self.specific[d](own)))
            out = out.index_copy(0, at, vector.to(out.dtype))
        return out

    def draw(self, rows: int) -> Tensor:
        """(rows, n) negatives of each row, uniform over the items of every domain in turn."""
        drawn = []
        for d in range(len(self.catalogue.domains)):
            members = self.get_buffer(f"members_{d}")
            if self.settings.num_negatives < len(members):
                chosen = torch.randint(len(members), (rows, self.settings.num_negatives), device=members.device)
                drawn.append(members[chosen])
            else:
                drawn.append(members.expand(rows, -1))
        return torch.cat(drawn, dim=1)

    def loss(self, batch: Batch) -> Loss:
        """InfoNCE, averaged over each user's targets in a domain, summed over domains, averaged over users."""
        assert batch.targets is not None
        items, targets = batch.items, batch.targets
        row, column = targets.nonzero(as_tuple=True)
        target = targets[row, column]
        domain = self.item_domain[target]
        # Where nothing is predicted the next event still says whose turn it is: the aligned sequence has no holes.
        upcoming = torch.where(targets > 0, targets, F.pad(items[:, 1:], (0, 1)))
        mixed, aligned, own = self.attend(items, batch.length, self.item_domain[upcoming])
        present = items[row, column] > 0, own[row, column] > 0
        states = self.user_states(mixed[row, column], aligned[row, column], present, domain)

        negatives = self.draw(len(items) if self.settings.share_negatives else len(target))
        vectors = self.id(negatives).transpose(1, 2)  # (G, D, n)
        if self.settings.share_negatives:
            grid = states.new_zeros(*items.shape, states.shape[1]).index_put((row, column), states)
            missed, negatives = torch.bmm(grid, vectors)[row, column], negatives[row]  # (P, n)
        else:
            missed = torch.bmm(states.unsqueeze(1), vectors).squeeze(1)
        missed = missed.masked_fill(negatives == target[:, None], float("-inf"))
        hit = (states * self.id(target)).sum(1, keepdim=True)
        logits = torch.cat([hit, missed], dim=1).float() / self.settings.temperature
        surprise = logits.logsumexp(1) - logits[:, 0]

        group = row * len(self.catalogue.domains) + domain
        size = torch.bincount(group, minlength=len(items) * len(self.catalogue.domains))
        rec = (surprise / size[group]).sum() / len(items)
        return Loss(rec, {"rec": float(rec.detach())})

    def item_vectors(self) -> Tensor:
        """(N+1, D); items that training never saw have learned as negatives alone, as published."""
        return self.id.weight

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, D) for the target domain of each row."""
        assert batch.target_domain is not None
        row = torch.arange(len(batch.items), device=batch.items.device)
        newest = (batch.length - 1).clamp(min=0)
        upcoming = self.item_domain[F.pad(batch.items[:, 1:], (0, 1))]
        upcoming = upcoming.index_put((row, newest), batch.target_domain)
        mixed, aligned, own = self.attend(batch.items, batch.length, upcoming)
        present = batch.items[row, newest] > 0, own[row, newest] > 0
        return self.user_states(mixed[row, newest], aligned[row, newest], present, batch.target_domain)
