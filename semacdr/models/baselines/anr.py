"""ANR: what a user writes about each aspect meets what an item is written about (Chin et al., CIKM 2018).

    aspect     M_a = D W_a;  weight of word t = softmax_t(<[M_a,t-1 ; M_a,t ; M_a,t+1], v_a>);  p_a = sum_t weight M_a,t
    importance S = relu(U W_s I'),  U, I the (A, h1) aspect vectors of the two sides
               H_u = relu(W_x U' + (W_y I') S'),  beta_u = softmax(v_x' H_u)
               H_i = relu(W_y I' + (W_x U') S),   beta_i = softmax(v_y' H_i)
    rating     sum_a beta_u,a beta_i,a <u_a, i_a> + b_u + b_i + b_0
    loss       mean squared error + reg (b_u^2 + b_i^2)

Code of the authors: almightyGOSU/ANR. Where we differ, and why:
- The pair's own review is in neither document, in training and in scoring: the batches draw the historical reviews
  without it. ``faithful: true`` draws it like any other, and the label leaks.
- Words are those of :mod:`semacdr.models.words`, documents k reviews cut to ``max_words``.
- No pre-training with the simplified model: everything learns at once, at one rate.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue
from semacdr.models.base import Loss
from semacdr.models.rating import RatingRecommender
from semacdr.models.rating_parts import RatingBias, full_precision
from semacdr.models.text_encoder import load_trained
from semacdr.models.words import Words, WordSettings


class ANRConfig(WordSettings):
    """Settings of ANR; sizes as published, but for words: published, 500 a side, 300 wide, a vocabulary of 50,000."""

    aspects: int = Field(5, gt=0)
    """A."""
    aspect_dim: int = Field(10, gt=0)
    """h1: width of an aspect's vector."""
    importance_dim: int = Field(50, gt=0)
    """h2: width inside the co-attention."""
    window: int = Field(3, gt=0)
    """Words that an attention weight looks at."""
    reg: float = Field(1e-6, ge=0)
    """Weight of the squared biases."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """On the aspect vectors that are multiplied."""


class AspectAttention(nn.Module):
    """A document's vector for each aspect; one set of weights for users and items."""

    def __init__(self, config: ANRConfig) -> None:
        super().__init__()
        self.window = config.window
        self.project = nn.Parameter(torch.empty(config.aspects, config.word_dim, config.aspect_dim))
        self.query = nn.Parameter(torch.empty(config.aspects, config.window, config.aspect_dim))
        nn.init.normal_(self.project, std=0.1 * config.word_dim**-0.5)  # larger aspect vectors diverge: see S and H
        nn.init.normal_(self.query, std=(config.window * config.aspect_dim) ** -0.5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, M, W) word vectors and (B, M) mask -> (B, A, h1); zero for an empty document."""
        values = torch.einsum("bmw,awh->bamh", x, self.project)
        around = F.pad(values, (0, 0, (self.window - 1) // 2, self.window // 2))  # (B, A, M + window - 1, h1)
        seen = torch.einsum("bamh,aoh->baom", around, self.query)  # what each place says to each place of the window
        M = x.shape[1]
        scores = sum(
            (seen[:, :, at, at : at + M] for at in range(self.window)), start=torch.zeros_like(seen[:, :, 0, :M])
        )
        scores = full_precision(scores)
        scores = scores.masked_fill(~mask.unsqueeze(1), torch.finfo(scores.dtype).min)
        weight = torch.softmax(scores, dim=2) * mask.unsqueeze(1)
        return (weight.to(values.dtype).unsqueeze(2) @ values).squeeze(2)


class Importance(nn.Module):
    """How much each aspect counts, from both sides (the paper's aspect importance estimation)."""

    def __init__(self, config: ANRConfig) -> None:
        super().__init__()
        h1, h2 = config.aspect_dim, config.importance_dim
        self.affinity = nn.Parameter(torch.empty(h1, h1))
        self.W_x, self.W_y = nn.Parameter(torch.empty(h2, h1)), nn.Parameter(torch.empty(h2, h1))
        self.v_x, self.v_y = nn.Parameter(torch.empty(h2)), nn.Parameter(torch.empty(h2))
        for matrix in (self.affinity, self.W_x, self.W_y):
            nn.init.normal_(matrix, std=h1**-0.5)
        for vector in (self.v_x, self.v_y):
            nn.init.normal_(vector, std=h2**-0.5)

    def forward(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A, h1) of both sides -> (B, A) beta_u and beta_i, each with sum 1."""
        S = torch.relu(user @ self.affinity @ item.transpose(1, 2))  # (B, A, A)
        of_user, of_item = user @ self.W_x.T, item @ self.W_y.T  # (B, A, h2): H transposed
        H_u = torch.relu(of_user + S @ of_item)
        H_i = torch.relu(of_item + S.transpose(1, 2) @ of_user)
        return torch.softmax(H_u @ self.v_x, dim=1), torch.softmax(H_i @ self.v_y, dim=1)


class ANR(RatingRecommender):
    """The model; see the module's text."""

    Config = ANRConfig

    def __init__(self, config: ANRConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.reg = config.reg
        self.words = Words(config, catalogue)
        self.attention, self.importance = AspectAttention(config), Importance(config)
        self.dropout = nn.Dropout(config.dropout)
        self.bias = RatingBias(catalogue)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights; they must have been trained over the same words."""
        load_trained(self, tensors)

    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) ratings."""
        user, item = self.words.documents(batch.user_texts), self.words.documents(batch.item_texts)
        U, I = self.attention(self.words(user), user > 0), self.attention(self.words(item), item > 0)  # noqa: E741
        beta_u, beta_i = self.importance(U, I)
        taste = beta_u * beta_i * (self.dropout(U) * self.dropout(I)).sum(2)  # (B, A)
        rating: Tensor = taste.sum(1) + self.bias(batch.user, batch.item)
        return full_precision(rating)

    def loss(self, batch: RatingBatch) -> Loss:
        """Squared error plus the weighted squares of the biases."""
        assert batch.rating is not None
        rec = F.mse_loss(self.predict(batch), batch.rating)
        return Loss(rec + self.reg * self.bias.squares(batch.user, batch.item), {"rec": float(rec.detach())})
