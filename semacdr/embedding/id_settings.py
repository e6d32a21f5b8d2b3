"""The settings of semantic ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from semacdr.config import Settings, build
from semacdr.errors import InputError


class IdSettings(Settings):
    """How vectors become codes.

    Levels, entries, beta, the length of an entry and the widths of the autoencoder are by default those of TIGER (arXiv
    2305.05065); how it is trained, by AdamW in 3,000 steps, is a choice of this package.
    """

    method: Literal["rq-kmeans", "rq-vae"] = "rq-kmeans"
    """Residual k-means on the vectors themselves, or on the code of an autoencoder that learns with it."""
    levels: int = Field(3, ge=1, le=16)
    """Codes of an item, the last token not counted."""
    codes: int = Field(256, ge=1, le=65_536)
    """Entries of each level's codebook; there are fewer where there are fewer different vectors."""
    collisions: Literal["token", "sinkhorn"] = "token"
    """Items with equal codes are told apart by the last token; ``sinkhorn`` first spreads them over the last level."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of every random choice."""
    views: list[str] | None = None
    """Views of the table that are joined side by side; null takes all."""
    normalise: bool = True
    """Each view to length one before they are joined, so that every view weighs the same."""
    pca: int | None = Field(None, ge=1)
    """Principal components kept of the joined vectors; null keeps the vectors."""
    titles: bool = True
    """With a data set, titles of a few items in the statistics, by which codes can be read."""
    kmeans: Literal["auto", "faiss", "scikit-learn"] = "auto"
    """Whose k-means; auto is faiss where it is installed. The two give different, equally good ids."""
    kmeans_iterations: int = Field(25, ge=1)
    """Steps of Lloyd's algorithm a level."""
    rows_per_code: int = Field(1024, ge=1)
    """k-means sees this many vectors a code, evenly spaced; one last step sees all of them."""
    sinkhorn_epsilon: float = Field(0.003, ge=0.003)
    """LETTER's. Smaller ones leave the range of float64."""
    sinkhorn_iterations: int = Field(50, ge=1)
    """LETTER's."""
    sinkhorn_rounds: int = Field(20, ge=1)
    """LETTER's limit; fewer rounds are made where nothing moves any more."""
    hidden_dims: tuple[int, ...] = (512, 256, 128)
    """RQ-VAE: widths of the encoder; the decoder has them the other way round."""
    code_dim: int = Field(32, ge=1)
    """RQ-VAE: length of a codebook entry."""
    steps: int = Field(3000, ge=1)
    """RQ-VAE: training steps."""
    batch_size: int = Field(1024, ge=1)
    """RQ-VAE: vectors of a step."""
    learning_rate: float = Field(1e-3, gt=0)
    """RQ-VAE: of AdamW."""
    commitment: float = Field(0.25, ge=0)
    """RQ-VAE: beta."""
    revive_every: int = Field(100, ge=1)
    """RQ-VAE: after so many steps, codes that none of them used are put on residuals of the batch."""


OWN_SETTINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "method": {
        "rq-vae": ("hidden_dims", "code_dim", "steps", "batch_size", "learning_rate", "commitment", "revive_every")
    },
    "collisions": {"sinkhorn": ("sinkhorn_epsilon", "sinkhorn_iterations", "sinkhorn_rounds")},
}


def id_settings(values: Mapping[str, Any]) -> IdSettings:
    """Checks values and makes the settings.

    Raises:
        InputError: an unknown key, a wrong value, or a setting of a method that is not used.
    """
    settings = build(IdSettings, values, where="settings of ids")
    for key, owners in OWN_SETTINGS.items():
        for owner, names in owners.items():
            idle = [name for name in names if name in values]
            if idle and getattr(settings, key) != owner:
                raise InputError(
                    f"{', '.join(idle)}: without effect unless {key} is {owner}",
                    fix=f"--{key} {owner}, or leave it out",
                )
    if min(settings.hidden_dims, default=1) < 1:
        raise InputError(f"hidden_dims = {list(settings.hidden_dims)}: widths are at least 1")
    return settings
