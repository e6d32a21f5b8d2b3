"""From RecBole's ``Config`` to the settings of our models, with our defaults where the user has said nothing.

RecBole reads a model's default values only from its own package, so :func:`complete` puts ours in when RecBole asks for
the data set, which is before it makes batches or the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semacdr.config import Settings, build
from semacdr.errors import InputError, nearest
from semacdr.models.base import Recommender
from semacdr.models.registry import model_class
from semacdr.progress import say

DOMAIN_FIELD = "semacdr_domain_field"
"""Field of ``.item`` that names an item's domain; by default ``domain``, if the file has it."""
EMBEDDINGS = "semacdr_embeddings"
"""Folder of an embedding table, for models that read text."""
USER_EMBEDDINGS = "semacdr_user_embeddings"
"""Folder of an embedding table of users, for models that read their profiles."""
IDS = "semacdr_ids"
"""Folder of semantic ids, for models that know items by them."""
ITEM_TEXTS = "semacdr_item_texts"
"""Data set folder whose ``items.parquet`` has the items' texts, for models that read the texts themselves."""
DOMAIN_KNOWN = "semacdr_domain_known"
"""True (default): a full ranking is made for the domain of the row's item, as in our protocols; False: each item is
scored for its own domain, and nothing is read off the row's item."""
WHOLE_SEQUENCES = "semacdr_whole_sequences"
"""True: training rows are whole sequences, in which every event is a target, as our own trainer has them: an epoch is
many times cheaper, and ``train_batch_size`` counts sequences. False (default): RecBole's one row for each event."""
KEYS = (DOMAIN_FIELD, EMBEDDINGS, USER_EMBEDDINGS, IDS, ITEM_TEXTS, DOMAIN_KNOWN, WHOLE_SEQUENCES)

DEFAULT_DOMAIN_FIELD = "domain"
NO_NEGATIVES = {
    "distribution": "none",
    "sample_num": "none",
    "alpha": "none",
    "dynamic": False,
    "candidate_num": 0,
}
# Keys that RecBole reads without listing them anywhere.
_UNLISTED = {"loss_type", "encoding", "nproc", "world_size", "ip", "port", "offset", "local_rank", "model", "dataset"}


def plain_class(config: Any) -> type[Recommender]:
    """The class of ours behind the model of a RecBole ``Config``."""
    return model_class(config.model_class.plain)


def complete(config: Any) -> None:
    """Sets what our models need and the user has left open, then checks everything. Doing it twice changes nothing.

    Raises:
        InputError: as :func:`read_settings`.
    """
    given, cls = config.external_config_dict, plain_class(config)
    if "train_neg_sample_args" not in given:
        config["train_neg_sample_args"] = dict(NO_NEGATIVES)
    if "max_seq_len" in cls.Config.model_fields and "MAX_ITEM_LIST_LENGTH" not in given and config["max_seq_len"]:
        config["MAX_ITEM_LIST_LENGTH"] = config["max_seq_len"]
    if not cls.trained_by_gradient and "epochs" not in given:
        config["epochs"] = 1
    _add_columns(config)
    read_settings(config)
    _name_strangers(config, cls)


def read_settings(config: Any) -> Settings:
    """The settings of our model: the keys of a ``Config`` that have the names of its settings.

    Raises:
        InputError: an unknown ``semacdr_*`` key, a wrong value, or RecBole settings that the model cannot work with.
    """
    cls = plain_class(config)
    where = f"RecBole settings of {config['model']}"
    for key in config.final_config_dict:
        if key.startswith("semacdr_") and key not in KEYS:
            raise InputError(f"unknown key {key!r}", where=where, fix=nearest(key, KEYS))
    if config["train_neg_sample_args"]["distribution"] != "none":
        raise InputError(
            "RecBole would add sampled negatives to the training rows, but the loss is a softmax over the items",
            where=where,
            fix="set train_neg_sample_args: null, or make the data with recbole.data.create_dataset(config)",
        )
    if config["loss_type"] not in (None, "CE"):
        raise InputError(f"loss_type = {config['loss_type']!r}: the loss is CE", where=where, fix="leave it out")
    values = {key: config[key] for key in cls.Config.model_fields if key in config}
    if "max_seq_len" in cls.Config.model_fields:
        length = config["MAX_ITEM_LIST_LENGTH"]
        if values.setdefault("max_seq_len", length) != length:
            raise InputError(
                f"max_seq_len = {values['max_seq_len']}, but RecBole cuts histories at MAX_ITEM_LIST_LENGTH = {length}",
                where=where,
                fix="set one of them, or both alike",
            )
    return build(cls.Config, values, where)


def domain_field(config: Any) -> str:
    """Field that names an item's domain."""
    return str(config[DOMAIN_FIELD] or DEFAULT_DOMAIN_FIELD)


def _add_columns(config: Any) -> None:
    """Adds the columns that a model reads to ``load_col``, where that is a selection."""
    item, field, fields = config["ITEM_ID_FIELD"], domain_field(config), _item_fields(config)
    if config[DOMAIN_FIELD] and fields and field not in fields:
        raise InputError(f"no field {field!r}", where=f"{config['dataset']}.item", fix=nearest(field, fields))
    if config["load_col"] is None:
        return
    wanted = {"inter": [config["USER_ID_FIELD"], item, config["TIME_FIELD"]]}
    if config[DOMAIN_FIELD] or field in fields:
        wanted["item"] = [item, field]
    columns = dict(config["load_col"])
    for source, names in wanted.items():
        there = columns.get(source, [])
        if there is not None and "*" not in there:
            columns[source] = [*there, *(name for name in names if name not in there)]
    config["load_col"] = columns


def _item_fields(config: Any) -> list[str]:
    """Fields in the header of ``.item``; none where there is no such file (yet)."""
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    if not path.is_file():
        return []
    with open(path, encoding=config["encoding"] or "utf-8") as lines:
        header = lines.readline().rstrip("\n")
    return [field.rsplit(":", 1)[0] for field in header.split(config["field_separator"])]


def _name_strangers(config: Any, cls: type[Recommender]) -> None:
    """Says which keys of the user mean nothing to RecBole or to the model: mostly mistyped ones."""
    listed = {key for keys in config.parameters.values() for key in keys}
    known = {*config.internal_config_dict, *listed, *cls.Config.model_fields, *KEYS, *_UNLISTED}
    for key in config.external_config_dict:
        if key not in known:
            hint = nearest(key, cls.Config.model_fields)
            say(f"{config['model']}: {key!r} is a setting of neither RecBole nor the model and is ignored ({hint})")
