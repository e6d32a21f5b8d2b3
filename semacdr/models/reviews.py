"""Reviews as vectors: one pass of the language model for each distinct text of a step, none twice in an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.local_models import EMBEDDED
from semacdr.models.layers import init_weights
from semacdr.models.text_encoder import Backbone, Pooling

PluginPath = Annotated[str, AfterValidator(lambda path: str(Path(path).resolve()))]


class ReviewSettings(Settings):
    """The language model and what of it learns."""

    encoder: str = EMBEDDED
    """A BERT-type encoder: the embedded all-MiniLM-L6-v2, a local folder, or a hub name."""
    pooling: Pooling = "mean"
    """A review's vector: the mean over its tokens, as the embedded encoder was trained, or the first token's state."""
    rank: int = Field(8, ge=0)
    """r of the trained LoRA matrices; 0 trains none, and the encoder stays as it is."""
    max_tokens: int = Field(48, gt=2)
    """Longer reviews are cut."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Inside the rating head."""


class ReviewEncoder(nn.Module):
    """Vectors of numbered texts.

    Args:
        settings: the language model, and the rank of what learns.
        texts: all texts; index 0 is no text, and its vector means nothing.
        plugins: adapter folders, whose frozen products are added to the language model's weights.
    """

    def __init__(self, settings: ReviewSettings, texts: Sequence[str], plugins: Sequence[str] = ()) -> None:
        super().__init__()
        self.backbone = Backbone(settings.encoder, settings.pooling, settings.max_tokens)
        for plugin in plugins:
            self.backbone.add_frozen(Path(plugin))
        self.learns = settings.rank > 0
        if self.learns:
            self.backbone.add_lora(settings.rank)
        self.table = self.backbone.tokenise(texts)
        self._drop()

    @property
    def width(self) -> int:
        """D."""
        return self.backbone.width

    def train(self, mode: bool = True) -> ReviewEncoder:
        """Switches mode; a language model that does not learn stays as in evaluation, without dropout."""
        super().train(mode)
        self.backbone.train(mode and self.learns)
        if mode:
            self.forget()
        return self

    def forget(self) -> None:
        """Drops the kept vectors, if what they were made with can have learned."""
        if self.learns:
            self._drop()

    def _drop(self) -> None:
        self._kept: Tensor | None = None
        self._known = np.zeros(len(self.table), np.bool_)

    def forward(self, texts: Tensor) -> Tensor:
        """(...) text indices -> (..., d) vectors; each distinct text is encoded once."""
        distinct, place = texts.unique(return_inverse=True)
        rows = distinct.cpu().numpy()
        vectors = self.backbone(self.table, rows) if self.training and self.learns else self._cached(rows)
        return vectors[place]

    def _cached(self, rows: np.ndarray) -> Tensor:
        device = self.backbone.weights_hash.device
        if self._kept is None or self._kept.device != device:
            self._drop()
            self._kept = torch.zeros(len(self.table), self.width, device=device)
        new = rows[~self._known[rows]]
        if len(new):
            if not self.learns:  # kept for good: all at once, so that a resumed training reads the same numbers
                new = np.arange(len(self.table))
            half = self.learns and torch.is_autocast_enabled(device.type)  # what is kept for good is read in full
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
                self._kept[torch.from_numpy(new).to(device)] = self.backbone(self.table, new).float()
            self._known[new] = True
        return self._kept[torch.from_numpy(rows).to(device)]


class ReviewAttention(nn.Module):
    """One query looks at its reviews: ``v = p + softmax_j((W_q p) . (W_k c_j) / sqrt(d)) W_v c_j``.

    Single-head scaled dot products with learned projections and a residual to the query are our inference; the paper
    says "attention". Without a review the query is returned as it is.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.apply(init_weights)

    def forward(self, query: Tensor, reviews: Tensor, mask: Tensor) -> Tensor:
        """(B, d) queries, (B, k, d) review vectors and (B, k) mask, True where a review is -> (B, d)."""
        scores = (self.key(reviews) @ self.query(query).unsqueeze(2)).squeeze(2).float() / query.shape[1] ** 0.5
        weight = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=1) * mask
        return query + (weight.unsqueeze(1) @ self.value(reviews).float()).squeeze(1)


def rating_head(inputs: int, hidden: int, dropout: float, mean: float) -> nn.Sequential:
    """A two-layer network with one output, which starts around the mean rating."""
    last = nn.Linear(hidden, 1)
    head = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), last)
    head.apply(init_weights)
    nn.init.constant_(last.bias, mean)
    return head
