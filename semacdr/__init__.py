"""semacdr: cross-domain sequential recommendation from item meaning.

The names of the five-line API are loaded on first use, so that ``import semacdr`` stays light.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = ("convert", "load", "embed", "semantic_ids", "train", "evaluate", "index", "recommender")
_API = dict.fromkeys(_NAMES, "semacdr.api")

# Asks torch for tensors of 2 MiB and more in huge pages (Linux). A training allocates and frees hundreds of them a
# step: from small pages glibc's heap falls to pieces, so that memory grows for hours, and faulting pages in takes up to
# a third of the time (benchmarks/huge_pages.py). Torch reads this at its first tensor; a value that is there stays.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'semacdr' has no attribute {name!r}")
    return getattr(import_module(_API[name]), name)


def __dir__() -> list[str]:
    return sorted([*_API, "__version__"])
