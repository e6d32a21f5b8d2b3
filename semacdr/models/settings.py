"""The settings that the sequence models share, in one place and under one spelling."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from semacdr.config import Settings
from semacdr.models.softmax import Scope


class AttentionSettings(Settings):
    """Size of a model built on self-attention."""

    embedding_dim: int = Field(128, gt=0)
    """D."""
    num_heads: int = Field(2, gt=0)
    """H, a divisor of D."""
    ffn_dim: int = Field(512, gt=0)
    """Inner width of a block."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """On the input and the residual branches of the encoders."""
    max_seq_len: int = Field(50, gt=0)
    """L: events of a history that are read."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.embedding_dim % self.num_heads:
            raise ValueError(f"embedding_dim {self.embedding_dim} is not a multiple of num_heads {self.num_heads}")
        return self


class SequenceSettings(AttentionSettings):
    """Depth of the transformers and form of the recommendation loss."""

    num_layers: int = Field(2, gt=0)
    """Transformer blocks of each encoder."""
    scope: Scope = "domain"
    """Whose items a target competes with in training."""
    num_negatives: int = Field(0, ge=0)
    """0: full softmax; else shared negatives of a sampled softmax with logQ correction."""


class LossSettings(SequenceSettings):
    """Those of models that can also be trained with one wrong item for each right one."""

    loss: Literal["softmax", "bce"] = "softmax"
    """softmax over the trained items, or bce: binary cross-entropy of the item and of one drawn item of ``scope``."""

    @model_validator(mode="after")
    def _one_wrong_item(self) -> Self:
        if self.loss == "bce" and self.num_negatives:
            raise ValueError("num_negatives belongs to loss=softmax; loss=bce has one negative for each event")
        return self
