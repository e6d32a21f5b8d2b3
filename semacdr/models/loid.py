"""LoID: ratings from historical reviews, with LoRA plug-ins of other domains (arXiv 2404.00236; systems.md 3).

``W_target = W + sum_s B_s A_s + B_t A_t``: the language model's weights W and the plug-ins of the sources s are frozen,
the target's own matrices learn. An item's id vector attends to reviews that the user wrote, a user's id vector to
reviews that the item received; a head reads the rating off the two.

The pair's own review is left out of both histories. With ``faithful`` it may be drawn, as in the paper, where nothing
leaves it out: the model then learns to copy the label out of it.
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
from semacdr.models.layers import ID_STD
from semacdr.models.losses import triplet
from semacdr.models.rating import RatingRecommender
from semacdr.models.reviews import PluginPath, ReviewAttention, ReviewEncoder, ReviewSettings, rating_head
from semacdr.models.text_encoder import load_trained


class LoIDConfig(ReviewSettings):
    """Settings of LoID; the defaults suit the embedded encoder and a CPU, the paper's stand in configs/loid."""

    plugins: tuple[PluginPath, ...] = ()
    """Adapter folders of source domains, as ``semacdr loid pretrain`` writes them."""
    k: int = Field(3, gt=0)
    """Historical reviews a side."""
    triplet_weight: float = Field(0.2, ge=0)
    """lambda of L = L_rec + lambda L_cl."""
    margin: float = Field(1.0, ge=0)
    """Of the triplet loss; the paper does not give it."""
    faithful: bool = False
    """True: the pair's own review may be among its historical ones, and the label leaks."""


class LoID(RatingRecommender):
    """Rating prediction from the reviews of both sides."""

    Config = LoIDConfig
    user_known: Tensor
    item_known: Tensor

    def __init__(self, config: LoIDConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.settings = config
        self.reviews = ReviewEncoder(config, catalogue.texts, config.plugins)
        width = self.reviews.width
        self.user_id = nn.Embedding(catalogue.num_users + 1, width)
        self.item_id = nn.Embedding(catalogue.num_items + 1, width)
        self.user_attention, self.item_attention = ReviewAttention(width), ReviewAttention(width)
        self.head = rating_head(2 * width, width, config.dropout, float(catalogue.train.rating.mean()))
        for table in (self.user_id, self.item_id):
            nn.init.normal_(table.weight, std=ID_STD)
        # Vectors that no training pair moved are noise: such a user or item is known by its reviews alone.
        known = [torch.from_numpy(count > 0).float() for count in (catalogue.user_count, catalogue.item_count)]
        self.register_buffer("user_known", known[0], persistent=False)
        self.register_buffer("item_known", known[1], persistent=False)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights; the language model's and the plug-ins' are not among them."""
        load_trained(self, tensors)
        self.reviews.forget()

    def prepare(self) -> None:
        """Drops the kept review vectors."""
        self.reviews.forget()

    def id_vectors(self, batch: RatingBatch) -> tuple[Tensor, Tensor]:
        """(B, d) id vectors p_u and p_i; zero for what training never saw."""
        user = self.user_id(batch.user) * self.user_known[batch.user].unsqueeze(1)
        item = self.item_id(batch.item) * self.item_known[batch.item].unsqueeze(1)
        return user, item

    def represent(self, batch: RatingBatch) -> tuple[Tensor, Tensor]:
        """(B, d) v_u, from the item's reviews, and v_i, from the user's."""
        texts = torch.stack([batch.user_texts, batch.item_texts])  # (2, B, k): one call, so no text is encoded twice
        of_user, of_item = self.reviews(texts)
        user, item = self.id_vectors(batch)
        v_i = self.item_attention(item, of_user, batch.user_texts > 0)
        v_u = self.user_attention(user, of_item, batch.item_texts > 0)
        return v_u, v_i

    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) ratings."""
        return self.rate(*self.represent(batch))

    def rate(self, v_u: Tensor, v_i: Tensor) -> Tensor:
        """(B, d) both representations -> (B,) ratings."""
        rating: Tensor = self.head(torch.cat([v_u, v_i], dim=1)).squeeze(1).float()
        return rating

    def loss(self, batch: RatingBatch) -> Loss:
        """L_rec + lambda L_cl."""
        assert batch.rating is not None
        v_u, v_i = self.represent(batch)
        rec = F.mse_loss(self.rate(v_u, v_i), batch.rating)
        user, item = self.id_vectors(batch)
        contrast = self._contrast(v_i, user, batch.user) + self._contrast(v_u, item, batch.item)
        total = rec + self.settings.triplet_weight * contrast
        return Loss(total, {"rec": float(rec.detach()), "triplet": float(contrast.detach())})

    def _contrast(self, anchor: Tensor, positive: Tensor, ids: Tensor) -> Tensor:
        """Mean triplet loss; a row's negative is the vector of another id of the batch, if it has one."""
        other = ids[:, None] != ids[None, :]  # (B, B)
        chosen = (torch.rand(other.shape, device=ids.device) * other).argmax(1)
        losses = triplet(anchor, positive, positive[chosen], self.settings.margin)
        has_negative = other.any(1)
        return (losses * has_negative).sum() / has_negative.sum().clamp(min=1)
