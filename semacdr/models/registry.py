"""Model names and where their classes are; nothing is imported until a model is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from semacdr.errors import InputError, nearest

if TYPE_CHECKING:
    from semacdr.models.base import Recommender

MODELS = {
    "SemaCDR": "semacdr.models.semacdr",
    "LLM4CDSR": "semacdr.models.llm4cdsr",
    "DualLLM": "semacdr.models.dual_llm",
    "SASRec": "semacdr.models.baselines.sasrec",
    "SASRecSingle": "semacdr.models.baselines.sasrec_single",
    "UniSRec": "semacdr.models.baselines.unisrec",
    "TextKNN": "semacdr.models.baselines.text_knn",
    "ItemKNN": "semacdr.models.baselines.item_knn",
    "ABXI": "semacdr.models.baselines.abxi",
    "C2DSR": "semacdr.models.baselines.c2dsr",
    "Markov": "semacdr.models.baselines.markov",
    "Popularity": "semacdr.models.baselines.popularity",
}


def model_class(name: str) -> type[Recommender]:
    """The class of a model; an unknown name is an :class:`InputError`."""
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}", fix=nearest(name, MODELS))
    cls: type[Recommender] = getattr(import_module(MODELS[name]), name)
    return cls
