"""Typed settings: YAML files and ``key=value`` pairs, checked as a whole before anything expensive starts.

Precedence, lowest first: a model's defaults, the ``--config`` file, ``key=value`` on the command line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from semacdr.errors import InputError, nearest


class Settings(BaseModel):
    """Base of all settings: frozen; an unknown key and a number that is not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a flat YAML mapping; anything else is an :class:`InputError`."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such config file", where=str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not valid YAML ({error})", where=str(path)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError("a config is a mapping of keys to values", where=str(path))
    return {str(key): entry for key, entry in value.items()}


def parse_pairs(pairs: Iterable[str]) -> dict[str, Any]:
    """``["epochs=3", "views=[content]"]`` to a dict; values are read as YAML, never evaluated."""
    parsed = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise InputError(f"{pair!r} is not key=value", fix="for example: epochs=3")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"the value of {key!r} is not valid YAML ({error})", where=pair) from None
        if isinstance(value, str):  # YAML reads 1e-3 as text
            with contextlib.suppress(ValueError):
                value = float(value)
        parsed[key] = value
    return parsed


def build(cls: type[S], values: Mapping[str, Any], where: str = "settings") -> S:
    """Checks values and makes the settings; all faults are reported together.

    Raises:
        InputError: an unknown key (with the nearest valid one) or a value of the wrong type or range.
    """
    try:
        return cls(**values)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            key = ".".join(str(part) for part in fault["loc"]) or "settings"
            if fault["type"] == "extra_forbidden":
                faults.append(f"unknown key {key!r}: {nearest(str(fault['loc'][-1]), _owner(cls, fault['loc']))}")
            else:
                faults.append(f"{key} = {fault['input']!r}: {fault['msg']}")
        raise InputError("\n  ".join([f"{len(faults)} wrong setting(s)", *faults]), where=where) from None


def _owner(cls: type[BaseModel], place: tuple[int | str, ...]) -> Iterable[str]:
    """The keys that are valid where a fault is, however deep inside other settings."""
    for part in place[:-1]:
        field = cls.model_fields.get(str(part))
        if field is not None:
            cls = next(iter(_settings_in(field.annotation)), cls)
    return cls.model_fields


def _settings_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes in a type such as ``list[X] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _settings_in(argument)]


def split_keys(values: Mapping[str, Any], *classes: type[Settings]) -> list[dict[str, Any]]:
    """Deals a flat mapping out to the settings classes that own the keys.

    Raises:
        InputError: a key that none of the classes has, with the nearest valid one.
    """
    owners = {key: index for index, cls in enumerate(classes) for key in cls.model_fields}
    unknown = [key for key in values if key not in owners]
    if unknown:
        hints = "\n  ".join(f"unknown key {key!r}: {nearest(key, owners)}" for key in unknown)
        raise InputError(hints, where="settings")
    dealt: list[dict[str, Any]] = [{} for _ in classes]
    for key, value in values.items():
        dealt[owners[key]][key] = value
    return dealt
