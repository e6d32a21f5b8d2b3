"""The settings of a top-k index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from semacdr.config import Settings, build
from semacdr.errors import InputError

Kind = Literal["exact", "flat", "ivf-pq", "hnsw"]


class IndexSettings(Settings):
    """How item vectors are searched; all kinds rank by inner product."""

    kind: Kind = "exact"
    """``exact`` needs no faiss and is the reference; ``flat`` is as exact; ``ivf-pq`` and ``hnsw`` approximate."""
    min_items: int = Field(1024, ge=256)
    """ivf-pq, hnsw: a domain with fewer items is searched flat, which is as fast there and exact."""
    lists: int | None = Field(None, ge=1)
    """ivf-pq: cells; null is four times the root of the number of items."""
    probes: int | None = Field(None, ge=1)
    """ivf-pq: cells looked into for a query; null is an eighth of them."""
    code_bytes: int | None = Field(None, ge=1)
    """ivf-pq: bytes of a coded vector, a divisor of D; null is the largest one up to D / 4."""
    refine: int = Field(8, ge=1)
    """ivf-pq: this many times k candidates are scored with their true vectors."""
    links: int = Field(32, ge=2)
    """hnsw: links of a node."""
    build_breadth: int = Field(120, ge=1)
    """hnsw: candidates kept while building (efConstruction)."""
    search_breadth: int = Field(128, ge=1)
    """hnsw: candidates kept while searching (efSearch); never fewer than the answer needs."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of the k-means in ivf-pq, and of the users on whom the recall is measured."""


OWN_SETTINGS: dict[str, tuple[str, ...]] = {
    "min_items": ("ivf-pq", "hnsw"),
    **dict.fromkeys(("lists", "probes", "code_bytes", "refine"), ("ivf-pq",)),
    **dict.fromkeys(("links", "build_breadth", "search_breadth"), ("hnsw",)),
}


def index_settings(values: Mapping[str, Any]) -> IndexSettings:
    """Checks values and makes the settings.

    Raises:
        InputError: an unknown key, a wrong value, or a setting of another kind.
    """
    settings = build(IndexSettings, values, where="settings of the index")
    for name, kinds in OWN_SETTINGS.items():
        if name in values and settings.kind not in kinds:
            fix = f"--kind {' or '.join(kinds)}, or leave it out"
            raise InputError(f"{name}: without effect in an index of kind {settings.kind}", fix=fix)
    return settings
