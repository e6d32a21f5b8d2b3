"""RecBole's own sequential models, as far as they can be known without importing RecBole: names and settings.

They are called ``recbole:GRU4Rec`` and so on. What trains and scores them is :mod:`semacdr.recbole.own`.
"""

from __future__ import annotations

import contextlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from semacdr.config import Settings, read_yaml
from semacdr.errors import InputError, MissingExtraError, nearest

PREFIX = "recbole:"
# These want what the exported files do not hold, item features or a knowledge graph, or rank no list of items.
WITHOUT_DATA = {"DIEN", "DIN", "FDSA", "GRU4RecF", "GRU4RecKG", "KSR", "S3Rec", "SASRecF"}
# Of RecBole's settings of a training those that leave the data, the split and the evaluation as they are.
TRAINING_KEYS = (
    "epochs",
    "train_batch_size",
    "learner",
    "learning_rate",
    "weight_decay",
    "clip_grad_norm",
    "eval_step",
    "stopping_step",
    "train_neg_sample_args",
    "enable_amp",
    "enable_scaler",
    "eval_batch_size",
    "shuffle",
    "require_pow",
)
LENGTH = "MAX_ITEM_LIST_LENGTH"
_RATES = ("_prob", "_ratio", "_factor")


class OwnTraining(Settings):
    """What is said in our words of the training of a model of RecBole's own; all else are RecBole's keys."""

    seed: int = Field(0, ge=0)
    """Seeds weights, batch order, dropout and masks."""
    device: str = "auto"
    """auto: a GPU if there is one, else the CPU; or cpu, cuda, cuda:1."""
    cap_cpu_s: float | None = Field(None, gt=0)
    """CPU seconds of training and validation after which no further epoch starts. None: no cap."""
    split: Literal["leave-one-out"] = "leave-one-out"
    """How the data are divided; RecBole's sequential models know no other way that we share."""


def is_own(name: str) -> bool:
    """Whether a model's name says that it is one of RecBole's own."""
    return name.startswith(PREFIX)


def own_models() -> list[str]:
    """RecBole's names of the sequential models that our data sets can feed.

    Raises:
        MissingExtraError: RecBole is not installed.
    """
    files = {path.stem for path in (_package() / "model" / "sequential_recommender").glob("*.py")}
    named = {path.stem for path in (_package() / "properties" / "model").glob("*.yaml")}
    return sorted(name for name in named - WITHOUT_DATA if name.lower() in files)


def own_name(name: str) -> str:
    """RecBole's name of ``recbole:NAME``.

    Raises:
        InputError: RecBole has no such sequential model, or one that cannot be fed; with the nearest that can.
        MissingExtraError: RecBole is not installed.
    """
    plain = name.removeprefix(PREFIX)
    if plain in WITHOUT_DATA:
        raise InputError(f"{name} needs data that the exported files do not hold", fix=nearest(plain, own_models()))
    if plain not in own_models():
        raise InputError(f"RecBole has no sequential model {plain!r}", fix=nearest(plain, own_models()))
    return plain


@cache
def own_settings(name: str) -> type[Settings]:
    """The settings of ``recbole:NAME``: the keys of RecBole's file about the model and :data:`TRAINING_KEYS`.

    The defaults are RecBole's. A null may become anything, the rest keeps its type; a number is whole where RecBole's
    is, but for rates, of which RecBole writes some as 0 or 1.
    A softmax (``loss_type: CE``) takes no sampled negatives, so there the default is none.

    Raises:
        InputError: see :func:`own_name`.
    """
    plain = own_name(name)
    properties = _package() / "properties"
    overall, of_data = read_yaml(properties / "overall.yaml"), read_yaml(properties / "dataset" / "sample.yaml")
    values = {key: overall[key] for key in TRAINING_KEYS} | {LENGTH: of_data[LENGTH]}
    values |= read_yaml(properties / "model" / f"{plain}.yaml")
    if values.get("loss_type") == "CE":
        values["train_neg_sample_args"] = None
    fields: dict[str, Any] = {key: _field(key, _number(value)) for key, value in values.items()}
    return create_model(plain, __base__=Settings, __doc__=f"RecBole's settings of {plain}.", **fields)


def _field(key: str, default: Any) -> tuple[Any, Any]:
    """Type and default of a setting."""
    if isinstance(default, bool | str) or (isinstance(default, int) and not key.endswith(_RATES)):
        return type(default), default
    if isinstance(default, int | float):
        return int | float, default
    return (list[Any] if isinstance(default, list) else Any), default


def _number(value: Any) -> Any:
    """The number that RecBole reads where YAML reads a text: 1e-12."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _package() -> Path:
    spec = find_spec("recbole")
    if spec is None or spec.origin is None:
        raise MissingExtraError("recbole", "recbole")
    return Path(spec.origin).parent
