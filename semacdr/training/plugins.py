"""LoRA plug-ins of source domains: pre-trained on a domain's reviews, kept as peft adapter folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semacdr.errors import InputError
from semacdr.models.loid_source import LoIDSource
from semacdr.models.text_encoder import ADAPTER_CONFIG
from semacdr.rating_run import load_rating_run
from semacdr.training.rating import train_rating

MODEL = "LoIDSource"


def pretrain_plugin(dataset: str | Path, domain: str, out: str | Path, settings: dict[str, Any] | None = None) -> Path:
    """Trains LoRA matrices to read the rating off a review; the same call again resumes or finds it done.

    Args:
        dataset: data set folder, with ratings and reviews.
        domain: the source domain.
        out: the plug-in: a peft adapter folder that is a run folder too, which ``semacdr evaluate`` reads.
        settings: of the model and of the training.

    Raises:
        InputError: as :func:`semacdr.training.rating.train_rating`, or a rank of 0.
    """
    settings = {**(settings or {}), "domain": domain}
    if settings.get("rank") == 0:
        raise InputError("a plug-in of rank 0 is none", fix="rank=8, for example")
    out = train_rating(MODEL, dataset, out, settings)
    if not (out / ADAPTER_CONFIG).is_file():
        model = load_rating_run(out).model
        assert isinstance(model, LoIDSource)
        model.reviews.backbone.save_lora(out)
    return out
