"""semacdr: cross-domain sequential recommendation from item meaning.

The names of the five-line API are loaded on first use, so that ``import semacdr`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = ("convert", "load", "embed", "semantic_ids", "train", "evaluate", "index", "recommender")
_API = dict.fromkeys(_NAMES, "semacdr.api")


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'semacdr' has no attribute {name!r}")
    return getattr(import_module(_API[name]), name)


def __dir__() -> list[str]:
    return sorted([*_API, "__version__"])
