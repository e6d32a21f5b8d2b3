"""Model names and where their classes are; nothing is imported until a model is asked for.

Ranking models (:mod:`semacdr.models.base`) say what comes next; rating models (:mod:`semacdr.models.rating`) how many
stars a user gives. LoID is both.
"""

from __future__ import annotations

from collections.abc import Container
from importlib import import_module
from typing import TYPE_CHECKING, Any

from semacdr.errors import InputError, nearest
from semacdr.models.recbole_own import is_own

if TYPE_CHECKING:
    from semacdr.models.base import Recommender
    from semacdr.models.rating import RatingRecommender

MODELS = {
    "SemaCDR": "semacdr.models.semacdr",
    "SemaCDRGen": "semacdr.models.semacdr_gen",
    "LLM4CDSR": "semacdr.models.llm4cdsr",
    "DualLLM": "semacdr.models.dual_llm",
    "LoID": "semacdr.models.loid_ranking",
    "SASRec": "semacdr.models.baselines.sasrec",
    "SASRecSingle": "semacdr.models.baselines.sasrec_single",
    "UniSRec": "semacdr.models.baselines.unisrec",
    "CoNet": "semacdr.models.baselines.conet",
    "SCoNet": "semacdr.models.baselines.sconet",
    "CDAN": "semacdr.models.baselines.cdan",
    "DGRec": "semacdr.models.baselines.dgrec",
    "TextKNN": "semacdr.models.baselines.text_knn",
    "ItemKNN": "semacdr.models.baselines.item_knn",
    "ABXI": "semacdr.models.baselines.abxi",
    "C2DSR": "semacdr.models.baselines.c2dsr",
    "Markov": "semacdr.models.baselines.markov",
    "Popularity": "semacdr.models.baselines.popularity",
}
RATING_MODELS = {
    "LoID": "semacdr.models.loid",
    "LoIDSource": "semacdr.models.loid_source",
    "GlobalMean": "semacdr.models.baselines.global_mean",
    "Biases": "semacdr.models.baselines.biases",
    "MF": "semacdr.models.baselines.mf",
    "DeepCoNN": "semacdr.models.baselines.deepconn",
    "DAttn": "semacdr.models.baselines.dattn",
    "ALFM": "semacdr.models.baselines.alfm",
    "ANR": "semacdr.models.baselines.anr",
    "RGCL": "semacdr.models.baselines.rgcl",
    "BiGI": "semacdr.models.baselines.bigi",
}


def model_class(name: str) -> type[Recommender]:
    """The class of a ranking model; an unknown name is an :class:`InputError`."""
    if is_own(name):
        raise InputError(f"{name} is RecBole's own: it can be trained, evaluated and compared, but nothing else")
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}", fix=nearest(name, {**MODELS, **RATING_MODELS}))
    cls: type[Recommender] = _load(MODELS[name], name)
    return cls


def rating_model_class(name: str) -> type[RatingRecommender]:
    """The class of a rating model; an unknown name is an :class:`InputError`."""
    if name not in RATING_MODELS:
        raise InputError(f"no rating model {name!r}", fix=nearest(name, RATING_MODELS))
    cls: type[RatingRecommender] = _load(RATING_MODELS[name], name)
    return cls


def _load(module: str, name: str) -> Any:
    loaded = import_module(module)
    if not hasattr(loaded, name):
        raise InputError(f"no class {name!r} in {module}", fix="a model's class has the name that it is registered by")
    return getattr(loaded, name)


def rates(name: str, settings: Container[str]) -> bool:
    """Whether a model of that name, with settings of these keys, is to predict ratings.

    Ratings are predicted in one domain, so a model that can do both does so where ``domain`` is set.
    """
    return name in RATING_MODELS and (name not in MODELS or "domain" in settings)
