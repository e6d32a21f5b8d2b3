"""BiGI: a graph of users and items whose edges are to know the whole graph (Cao et al., WSDM 2021). Reads no reviews.

    layer      v~ = act(W_1 mean of the users of v);  u- = act(W_2 mean of the v~ of u);  u' = W_3 [u- ; u]
               items likewise, over the users of their users' items; two layers
    global     g = MLP(sigmoid([mean of the users ; mean of the items]))
    local      of an edge (u, v): [sigmoid(u + sum_j a_j v_j) ; sigmoid(v + sum_j b_j u_j)],
               a = softmax_j((W_a v_j) . (W_a' u) / sqrt(D)) over the items of u; b likewise over the users of v
    infomax    BCE of local' W g, g of the graph: the step's pairs, local in the graph, against as many edges of a
               graph whose item ends are shuffled, local in that one
    rating     <u, v> + b_u + b_i + b_0
    loss       infomax_weight L_infomax + (1 - infomax_weight) mean squared error + reg (b_u^2 + b_i^2)

From memory of the paper (code: cjx96/BiGI). Where we differ, and why:
- The published model ranks, with a margin loss: squared error of the product and biases takes its place.
- An edge says neither rating nor review, so no label leaks; but a training pair sees its own edge, and a held-out pair
  has none. In training, the edges of a step's pairs are left out of the graph, as if they were held out.
  So the right answers of infomax are pairs that are not in the graph they are judged over, while each wrong one is an
  edge of its own. ``own_edge: true`` leaves them in, as published.
- The published subgraph around an edge reaches h hops: here h = 1, the neighbours of both ends.
- The shuffled graph keeps all degrees; published, entries are flipped at random.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue
from semacdr.models.base import Loss
from semacdr.models.layers import init_weights
from semacdr.models.rating import RatingRecommender
from semacdr.models.rating_graph import RatingGraph, scatter_mean, scatter_softmax, scatter_sum
from semacdr.models.rating_parts import RatingBias, full_precision, id_vectors


class BiGIConfig(Settings):
    """Settings of BiGI."""

    embedding_dim: int = Field(32, gt=0)
    """D."""
    num_layers: int = Field(2, gt=0)
    """Of the graph network."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """On the vectors that a layer reads."""
    infomax_weight: float = Field(0.3, ge=0, le=1)
    """lambda."""
    reg: float = Field(0.02, ge=0)
    """Weight of the squared biases."""
    own_edge: bool = False
    """True: the edges of the pairs that are predicted stay in the graph in training, as published."""


class Layer(nn.Module):
    """One step of the graph network, for one side: ``from there and back``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.there, self.back = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.join = nn.Linear(2 * dim, dim, bias=False)
        self.apply(init_weights)

    def forward(self, own: Tensor, place: Tensor, other: Tensor, others: int) -> Tensor:
        """Vectors of one side over the other.

        Args:
            own: (N, D) vectors of the side.
            place: (E,) its end of each edge.
            other: (E,) the other end.
            others: nodes of the other side, and 0.
        """
        between = F.leaky_relu(self.there(scatter_mean(own[place], other, others)))
        seen = F.leaky_relu(self.back(scatter_mean(between[other], place, len(own))))
        joined: Tensor = self.join(torch.cat([seen, own], dim=1))
        return joined


class BiGI(RatingRecommender):
    """The model; see the module's text."""

    Config = BiGIConfig
    user_known: Tensor
    item_known: Tensor

    def __init__(self, config: BiGIConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.settings = config
        D = config.embedding_dim
        self.graph = RatingGraph(catalogue)
        self.user = id_vectors(catalogue.user_count, D, 0.1)
        self.item = id_vectors(catalogue.item_count, D, 0.1)
        self.user_layers = nn.ModuleList([Layer(D) for _ in range(config.num_layers)])
        self.item_layers = nn.ModuleList([Layer(D) for _ in range(config.num_layers)])
        self.readout = nn.Sequential(nn.Linear(2 * D, D), nn.ReLU(), nn.Linear(D, 2 * D))
        self.user_query, self.user_key = nn.Linear(D, D, bias=False), nn.Linear(D, D, bias=False)
        self.item_query, self.item_key = nn.Linear(D, D, bias=False), nn.Linear(D, D, bias=False)
        self.agree = nn.Linear(2 * D, 2 * D, bias=False)
        for part in (self.readout, self.user_query, self.user_key, self.item_query, self.item_key, self.agree):
            part.apply(init_weights)
        self.bias = RatingBias(catalogue)
        known = [torch.from_numpy(count > 0).float() for count in (catalogue.user_count, catalogue.item_count)]
        self.register_buffer("user_known", known[0], persistent=False)
        self.register_buffer("item_known", known[1], persistent=False)
        self._kept: tuple[Tensor, Tensor] | None = None

    def prepare(self) -> None:
        """Drops the kept node vectors."""
        self._kept = None

    def train(self, mode: bool = True) -> BiGI:
        """Switches mode and drops the kept node vectors."""
        self.prepare()
        super().train(mode)
        return self

    def nodes(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """(E,) both ends of a graph's edges -> (U+1, D) and (I+1, D) vectors."""
        users, items = self.user.weight, self.item.weight
        for user_layer, item_layer in zip(self.user_layers, self.item_layers):
            users = F.dropout(users, self.settings.dropout, self.training)
            items = F.dropout(items, self.settings.dropout, self.training)
            users, items = user_layer(users, user, item, len(items)), item_layer(items, item, user, len(users))
        return users, items

    def whole(self, users: Tensor, items: Tensor) -> Tensor:
        """(2D,) g of a graph, from its nodes; those without a training rating have no part in it."""
        means = [
            known @ vectors / known.sum() for known, vectors in ((self.user_known, users), (self.item_known, items))
        ]
        g: Tensor = self.readout(torch.sigmoid(torch.cat(means)))
        return g

    def local(self, users: Tensor, items: Tensor, graph: tuple[Tensor, Tensor], pairs: tuple[Tensor, Tensor]) -> Tensor:
        """(B, 2D) vectors of edges.

        Args:
            users: (U+1, D).
            items: (I+1, D).
            graph: (E,) both ends of all edges: what the attention sees.
            pairs: (B,) both ends of the edges that are wanted.
        """
        user, item = graph
        scale = users.shape[1] ** -0.5
        a = (self.user_key(items)[item] * self.user_query(users)[user]).sum(1) * scale
        b = (self.item_key(users)[user] * self.item_query(items)[item]).sum(1) * scale
        a, b = scatter_softmax(a, user, len(users)), scatter_softmax(b, item, len(items))
        of_users = torch.sigmoid(users + scatter_sum(a.unsqueeze(1) * items[item], user, len(users)))
        of_items = torch.sigmoid(items + scatter_sum(b.unsqueeze(1) * users[user], item, len(items)))
        return torch.cat([of_users[pairs[0]], of_items[pairs[1]]], dim=1)

    def rate(self, users: Tensor, items: Tensor, batch: RatingBatch) -> Tensor:
        """(B,) ratings from the node vectors."""
        rating: Tensor = (users[batch.user] * items[batch.item]).sum(1) + self.bias(batch.user, batch.item)
        return full_precision(rating)

    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) ratings over the whole graph."""
        made = self._kept
        if made is None:
            made = self.nodes(self.graph.user, self.graph.item)
            if not self.training and not torch.is_grad_enabled():
                self._kept = made
        return self.rate(*made, batch)

    def loss(self, batch: RatingBatch) -> Loss:
        """Weighted sum of infomax and squared error."""
        assert batch.rating is not None
        kept = torch.ones(len(self.graph), dtype=torch.bool, device=batch.user.device)
        if not self.settings.own_edge:
            edge, exists = self.graph.find(batch.user, batch.item)
            kept[edge[exists]] = False
        user, item = self.graph.user[kept], self.graph.item[kept]
        users, items = self.nodes(user, item)
        rec = F.mse_loss(self.rate(users, items, batch), batch.rating)

        shuffled = item[torch.randperm(len(item)).to(item.device)]
        chosen = torch.randperm(len(item))[: len(batch.user)].to(item.device)
        wrong_users, wrong_items = self.nodes(user, shuffled)
        right = self.local(users, items, (user, item), (batch.user, batch.item))
        wrong = self.local(wrong_users, wrong_items, (user, shuffled), (user[chosen], shuffled[chosen]))
        g = self.agree(self.whole(users, items))
        infomax = torch.cat([F.softplus(-(right @ g)), F.softplus(wrong @ g)]).mean()
        share = self.settings.infomax_weight
        reg = self.bias.squares(batch.user, batch.item)
        total = share * infomax + (1 - share) * rec + self.settings.reg * reg
        return Loss(total, {"rec": float(rec.detach()), "infomax": float(infomax.detach())})
