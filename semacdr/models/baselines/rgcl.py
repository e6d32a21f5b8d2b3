"""RGCL: a graph of ratings whose edges carry their reviews, with two contrasts (Shuai et al., SIGIR 2022).

    message    m_{j->u} = c_j [h_j^r * sigmoid(w_r1' e) + (W_r2 e) * sigmoid(w_r3' e)]; r its rating, e its review
    node       h_u = FC(dropout(GELU(c_u sum_j m_{j->u}))),  c = degree^-1/2;  items likewise, by weights of their own
    rating     f_ui = W_2 relu(W_1 [h_u ; h_i]);  logits W_3 f_ui, one for each rating;  r^ = the expected rating
    ED         does a review belong to f_ui: bilinear, BCE against reviews of other pairs of the step
    ND         do two node vectors, from two views of the graph with edges dropped, belong to one node: likewise
    loss       (CE_1 + CE_2) / 2 + nd_weight ND + ed_weight ED, a cross-entropy for each view
               ED: BCE of right plus BCE of wrong answers, mean of both views; ND: likewise, mean of users and items

e: the sentence encoder's vector, whitened on the training reviews (Su et al. 2021); a missing review is the zero
vector, which is their mean. Code of the authors: JarenceSJ/ReviewGraph.

Where we differ, and why:
- The edge of the pair that is predicted carries its rating and its review. Published, it stays among the messages in
  training, so a training pair reads its own label, and a held-out pair has nothing like it. Here it is left out,
  exactly: a node's messages add up, so the edge's own is subtracted from both sums and both degrees go down by one,
  pair by pair. The pair's review then enters nothing but ED, as the answer. ``faithful: true`` leaves the edge in.
- A step is a batch of pairs over the whole graph, not all pairs at once; patience and the trainer's rate take the place
  of 400 iterations. Wrong answers of ED and ND are those of other users and items of the same step.
- A view lacks an edge in both directions; published, each direction drops its own.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue
from semacdr.errors import InputError
from semacdr.local_models import EMBEDDED
from semacdr.models.base import Loss
from semacdr.models.layers import init_weights
from semacdr.models.rating import RatingRecommender
from semacdr.models.rating_graph import RatingGraph, scatter_sum
from semacdr.models.rating_parts import full_precision
from semacdr.models.text_encoder import Backbone
from semacdr.models.whitening import whiten
from semacdr.progress import say

MOST_LEVELS = 20  # distinct ratings: each has weights of its own


class RGCLConfig(Settings):
    """Settings of RGCL; widths, dropout and weights of the losses as published for Digital Music."""

    encoder: str = EMBEDDED
    """The frozen sentence encoder: the embedded all-MiniLM-L6-v2, a local folder, or a hub name."""
    max_tokens: int = Field(128, gt=2)
    """Longer reviews are cut."""
    review_dim: int = Field(64, gt=0)
    """Width of a whitened review vector."""
    embedding_dim: int = Field(64, gt=0)
    """D."""
    dropout: float = Field(0.7, ge=0, lt=1)
    """On a node's summed messages."""
    edge_dropout: float = Field(0.7, ge=0, lt=1)
    """Share of the edges that a view of the graph lacks."""
    nd_weight: float = Field(0.3, ge=0)
    """Of node discrimination."""
    ed_weight: float = Field(1.0, ge=0)
    """Of edge discrimination."""
    faithful: bool = False
    """True: the edge of the pair that is predicted stays in the graph in training, and the label leaks."""


class Messages(nn.Module):
    """Messages along all edges in one direction.

    Args:
        nodes: nodes that send, and 0.
        slices: the edges of each rating, which stand together.
        config: widths.
    """

    def __init__(self, nodes: int, slices: list[slice], config: RGCLConfig) -> None:
        super().__init__()
        R, D, e = len(slices), config.embedding_dim, config.review_dim
        self.slices = slices
        self.ids = nn.Parameter(torch.empty(R, nodes, D))
        self.w1, self.w3 = nn.Parameter(torch.empty(R, e)), nn.Parameter(torch.empty(R, e))
        self.W2 = nn.Parameter(torch.empty(R, e, D))
        nn.init.normal_(self.ids, std=D**-0.5)
        for weight in (self.w1, self.w3, self.W2):
            nn.init.normal_(weight, std=e**-0.5)

    def forward(self, source: Tensor, review: Tensor, c: Tensor) -> Tensor:
        """(E,) senders, (E, e) reviews and (E,) their c -> (E, D)."""
        parts = []
        for r, rows in enumerate(self.slices):
            e = review[rows]
            from_id = F.embedding(source[rows], self.ids[r]) * torch.sigmoid(e @ self.w1[r]).unsqueeze(1)
            from_text = (e @ self.W2[r]) * torch.sigmoid(e @ self.w3[r]).unsqueeze(1)
            parts.append(c[rows].unsqueeze(1) * (from_id + from_text))
        return torch.cat(parts)


class Discriminator(nn.Module):
    """``a' W b`` says whether a and b belong together."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(left, right))
        nn.init.normal_(self.weight, std=(left * right) ** -0.25)

    def forward(self, left: Tensor, right: Tensor, ids: Tensor, usable: Tensor) -> Tensor:
        """Mean binary cross-entropy of matching rows, and of rows moved by a random number of places.

        Args:
            left: (B, D).
            right: (B, D').
            ids: (B,) whose rows they are: a moved row of the same id is no wrong answer.
            usable: (B,) False for rows of ``right`` that hold nothing.
        """
        B = len(left)
        moved = (torch.arange(B, device=left.device) + int(torch.randint(1, max(2, B), ()))) % B
        projected = left @ self.weight
        right_one = F.softplus(-(projected * right).sum(1))
        wrong_one = F.softplus((projected * right[moved]).sum(1))
        is_wrong = usable[moved] & (ids != ids[moved])
        kept, other = usable.to(left.dtype), is_wrong.to(left.dtype)
        return ((right_one * kept).sum() + (wrong_one * other).sum()) / (kept.sum() + other.sum()).clamp(min=1)


View = tuple[Tensor, Tensor, Tensor, Tensor]
"""Messages to users (E, D), their sums (U+1, D), messages to items (E, D), their sums (I+1, D)."""


class RGCL(RatingRecommender):
    """The model; see the module's text."""

    Config = RGCLConfig
    levels: Tensor
    reviews: Tensor
    encoded: Tensor
    user_degree: Tensor
    item_degree: Tensor
    has_review: Tensor

    def __init__(self, config: RGCLConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.settings = config
        train = catalogue.train
        levels, level, count = np.unique(train.rating, return_inverse=True, return_counts=True)
        if len(levels) > MOST_LEVELS:
            raise InputError(f"RGCL tells ratings apart as classes, and there are {len(levels)} different ones")
        order = np.argsort(level, kind="stable")
        ends = np.concatenate([[0], np.cumsum(count)])
        slices = [slice(int(first), int(last)) for first, last in pairwise(ends)]
        self.graph = RatingGraph(catalogue, order)
        self.text_of_edge = train.text[order]
        D, e = config.embedding_dim, config.review_dim
        self.to_users = Messages(catalogue.num_items + 1, slices, config)
        self.to_items = Messages(catalogue.num_users + 1, slices, config)
        self.user_out, self.item_out = nn.Linear(D, D), nn.Linear(D, D)
        self.pair = nn.Sequential(nn.Linear(2 * D, D, bias=False), nn.ReLU(), nn.Linear(D, D, bias=False))
        self.classify = nn.Linear(D, len(levels), bias=False)
        for layer in (self.user_out, self.item_out, self.pair, self.classify):
            layer.apply(init_weights)
        self.edges = Discriminator(D, e)
        self.users, self.items = Discriminator(D, D), Discriminator(D, D)
        self.register_buffer("levels", torch.from_numpy(levels.astype(np.float32)), persistent=False)
        self.register_buffer("user_degree", torch.from_numpy(catalogue.user_count).float(), persistent=False)
        self.register_buffer("item_degree", torch.from_numpy(catalogue.item_count).float(), persistent=False)
        self.register_buffer("has_review", torch.from_numpy(self.text_of_edge > 0), persistent=False)
        # Saved with the weights: a loaded run needs no encoder, and reads the very numbers that it was trained on.
        self.register_buffer("reviews", torch.zeros(len(train), e))
        self.register_buffer("encoded", torch.zeros((), dtype=torch.bool))
        self._kept: View | None = None

    def prepare(self) -> None:
        """Drops the kept messages."""
        self._kept = None

    def train(self, mode: bool = True) -> RGCL:
        """Switches mode and drops the kept messages."""
        self.prepare()
        super().train(mode)
        return self

    def _encode(self) -> None:
        """Puts whitened vectors of the training reviews on the edges, once."""
        distinct, place = np.unique(self.text_of_edge, return_inverse=True)
        device = self.reviews.device
        say(f"RGCL: encoding {len(distinct)} training reviews, once")
        backbone = Backbone(self.settings.encoder, max_tokens=self.settings.max_tokens).to(device)
        table = backbone.tokenise([self.catalogue.texts[text] for text in distinct])
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            vectors = backbone(table, np.arange(len(distinct)))
            written = torch.from_numpy(distinct > 0).to(device)
            white = torch.zeros(len(distinct), self.reviews.shape[1], device=device)
            if written.any():
                found = whiten(vectors[written], white.shape[1])
                white[written, : found.shape[1]] = found
            self.reviews.copy_(white[torch.from_numpy(place).to(device)])
        self.encoded.fill_(True)

    def view(self) -> View:
        """All messages and their sums; in training with edges dropped, which takes their messages out and scales the
        others up.
        """
        if self._kept is not None:
            return self._kept
        if not self.encoded:
            self._encode()
        graph = self.graph
        user_c, item_c = (degree.clamp(min=1) ** -0.5 for degree in (self.user_degree, self.item_degree))
        keep = F.dropout(torch.ones_like(self.reviews[:, 0]), self.settings.edge_dropout, self.training)
        to_users = self.to_users(graph.item, self.reviews, item_c[graph.item] * keep)
        to_items = self.to_items(graph.user, self.reviews, user_c[graph.user] * keep)
        user_sums = scatter_sum(to_users, graph.user, graph.num_users + 1)
        item_sums = scatter_sum(to_items, graph.item, graph.num_items + 1)
        made = to_users, user_sums, to_items, item_sums
        if not self.training and not torch.is_grad_enabled():
            self._kept = made
        return made

    def nodes(self, batch: RatingBatch, view: View) -> tuple[Tensor, Tensor]:
        """(B, D) h_u and h_i, without the message of the pair's own edge."""
        to_users, user_sums, to_items, item_sums = view
        edge, exists = self.graph.find(batch.user, batch.item)
        own = exists if not self.settings.faithful else torch.zeros_like(exists)
        own_share = own.to(to_users.dtype)
        out = []
        for sums, messages, degree, node, layer in (
            (user_sums, to_users, self.user_degree, batch.user, self.user_out),
            (item_sums, to_items, self.item_degree, batch.item, self.item_out),
        ):
            total = F.embedding(node, sums) - F.embedding(edge, messages) * own_share.unsqueeze(1)
            c = (degree[node] - own_share).clamp(min=1) ** -0.5
            out.append(layer(F.dropout(F.gelu(c.unsqueeze(1) * total), self.settings.dropout, self.training)))
        return out[0], out[1]

    def pair_vectors(self, user: Tensor, item: Tensor) -> Tensor:
        """(B, D) node vectors of both sides -> (B, D) f_ui."""
        f: Tensor = self.pair(torch.cat([user, item], dim=1))
        return f

    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) expected ratings."""
        logits = self.classify(self.pair_vectors(*self.nodes(batch, self.view())))
        chances = torch.softmax(full_precision(logits), dim=1)
        return (chances * self.levels).sum(1)  # autocast would round a matrix product

    def loss(self, batch: RatingBatch) -> Loss:
        """Cross-entropy of two views, node and edge discrimination."""
        assert batch.rating is not None
        target = torch.searchsorted(self.levels, batch.rating).clamp(max=len(self.levels) - 1)
        edge, exists = self.graph.find(batch.user, batch.item)
        usable = exists & self.has_review[edge]
        views = [self.nodes(batch, self.view()) for _ in range(2)]
        pairs = [self.pair_vectors(*nodes) for nodes in views]
        rec = sum(
            (F.cross_entropy(full_precision(self.classify(f)), target) / 2 for f in pairs), start=pairs[0].new_zeros(())
        )
        # A mean over right and wrong answers is half of the published sum of the two, so that a sum over the two views
        # is the published mean over them; for nodes likewise, over the two sides.
        ed = sum((self.edges(f, self.reviews[edge], edge, usable) for f in pairs), start=pairs[0].new_zeros(()))
        (user_1, item_1), (user_2, item_2) = views
        nd = self.users(user_1, user_2, batch.user, torch.ones_like(exists))
        nd = nd + self.items(item_1, item_2, batch.item, torch.ones_like(exists))
        total = rec + self.settings.nd_weight * nd + self.settings.ed_weight * ed
        return Loss(total, {"rec": float(rec.detach()), "nd": float(nd.detach()), "ed": float(ed.detach())})
