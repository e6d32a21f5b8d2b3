"""What semantic ids look like: how much of the codebooks is used, how often ids collide, which codes domains share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from semacdr.data.schema import BoolArray, Float64Array, FloatArray, Int32Array, Int64Array
from semacdr.embedding.collisions import colliding
from semacdr.embedding.id_input import BLOCK
from semacdr.embedding.quantiser import Quantiser

EXAMPLES = 5
TITLES = 3


def code_counts(codes: Int32Array, domain: Int64Array, sizes: Sequence[int], domains: int) -> Int64Array:
    """How many items of each domain have each code.

    Args:
        codes: (n, M).
        domain: (n,) index; -1 for an item of no known domain, which is not counted.
        sizes: entries of each level.
        domains: how many there are.

    Returns:
        (M, K, domains), K being the largest of the sizes.
    """
    counts = np.zeros((codes.shape[1], max(sizes), domains), np.int64)
    known = domain >= 0
    for level in range(codes.shape[1]):
        np.add.at(counts[level], (codes[known, level], domain[known]), 1)
    return counts


def entropy_bits(counts: Int64Array) -> Float64Array:
    """(..., K) counts -> (...,) entropy of their shares in bits; zero where nothing is counted."""
    share = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=-1) + 0.0


def reconstruction_error(quantiser: Quantiser, vectors: FloatArray, codes: Int32Array) -> list[float]:
    """``sum ||x - x^_m||^2 / sum ||x||^2`` of prepared vectors for the first m = 1..M levels; 0 where all x are.

    Rows of zeros, items without text, are left out.
    """
    whole, missing = 0.0, np.zeros(codes.shape[1])
    for start in range(0, len(vectors), BLOCK):
        rows = start + np.flatnonzero(vectors[start : start + BLOCK].any(axis=1))
        prepared = quantiser.prepare(vectors[rows])
        whole += float(np.square(prepared, dtype=np.float64).sum())
        for level in range(codes.shape[1]):
            rest = prepared - quantiser.decode(codes[rows, : level + 1])
            missing[level] += np.square(rest, dtype=np.float64).sum()
    return [float(part) / whole if whole else 0.0 for part in missing]


def id_statistics(
    quantiser: Quantiser,
    vectors: FloatArray,
    nearest_codes: Int32Array,
    codes: Int32Array,
    tokens: Int32Array,
    requested: int,
    domain: Int64Array,
    domains: Sequence[str],
    titles: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """The statistics of a finished assignment, over the items that have a vector.

    Args:
        quantiser: whose codes they are.
        vectors: (N, E) joined vectors; zero for an item without text.
        nearest_codes: (N, M) before items that collide were spread.
        codes: (N, M) afterwards.
        tokens: (N,) last token.
        requested: entries of a level that were asked for; a codebook has fewer where some would be of no use.
        domain: (N,) index into ``domains``, -1 for none.
        domains: names; empty if they are not known.
        titles: (N,) for a few codes to read.

    Returns:
        JSON-able; shares are of one, lists have one value a level. A domain's collision rate is the share of its items
        that have the codes of another item, of whatever domain.
    """
    full = vectors.any(axis=1)
    sizes = [len(book) for book in quantiser.codebooks]
    everything = code_counts(codes[full], np.zeros(int(full.sum()), np.int64), sizes, 1)[:, :, 0]
    before, after = colliding(nearest_codes[full]), colliding(codes[full])

    def rate(rows: BoolArray) -> dict[str, float]:
        return {"before": _share(before[rows]), "after": _share(after[rows])}

    found: dict[str, Any] = {
        "items": len(codes),
        "without_vector": int((~full).sum()),
        "codes": sizes,
        "used": [int((level > 0).sum()) for level in everything],
        "utilisation": {"all": _rounded((everything > 0).sum(axis=1) / requested)},
        "entropy_bits": {"all": _rounded(entropy_bits(everything))},
        "collision_rate": {"all": rate(np.ones(int(full.sum()), np.bool_))},
        "last_token_size": int(tokens.max()) + 1,
        "last_token_size_with_vector": int(tokens[full].max()) + 1,
        "reconstruction_error": _rounded(reconstruction_error(quantiser, vectors, codes)),
    }
    if not domains:
        return found
    counts = code_counts(codes[full], domain[full], sizes, len(domains))
    for at, name in enumerate(domains):
        found["utilisation"][name] = _rounded((counts[:, :, at] > 0).sum(axis=1) / requested)
        found["entropy_bits"][name] = _rounded(entropy_bits(counts[:, :, at]))
        found["collision_rate"][name] = rate(domain[full] == at)
    shared, used = ((counts > 0).sum(axis=2) > 1).sum(axis=1), (counts > 0).any(axis=2).sum(axis=1)
    found["shared_codes"] = _rounded(shared / np.maximum(used, 1))
    inside = code_mass_shared(counts)
    found["items_in_shared_codes"] = _rounded(inside)
    if titles is not None:
        found["examples"] = _examples(quantiser, vectors, codes, domain, domains, titles, counts[0])
    return found


def code_mass_shared(counts: Int64Array) -> Float64Array:
    """(M, K, domains) counts -> (M,) share of the items whose code more than one domain uses."""
    by_code = counts.sum(axis=2)
    shared = (counts > 0).sum(axis=2) > 1
    return (by_code * shared).sum(axis=1) / np.maximum(by_code.sum(axis=1), 1)


def _examples(
    quantiser: Quantiser,
    vectors: FloatArray,
    codes: Int32Array,
    domain: Int64Array,
    domains: Sequence[str],
    titles: Sequence[str | None],
    counts: Int64Array,
) -> list[dict[str, Any]]:
    """First-level codes with the most items in the domain that has the fewest of them; titles nearest to the entry."""
    order = np.lexsort((np.arange(len(counts)), -counts.sum(axis=1), -counts.min(axis=1)))
    known = np.array([isinstance(title, str) and bool(title) for title in titles]) & vectors.any(axis=1)
    found = []
    for code in order[:EXAMPLES].tolist():
        if not counts[code].any():
            break
        example: dict[str, Any] = {"level": 1, "code": code, "titles": {}}
        for at, name in enumerate(domains):
            rows = np.flatnonzero((codes[:, 0] == code) & (domain == at) & known)
            distance = np.square(quantiser.latent(vectors[rows]) - quantiser.codebooks[0][code]).sum(axis=1)
            example["titles"][name] = [str(titles[row]) for row in rows[np.argsort(distance, kind="stable")[:TITLES]]]
        example["items"] = dict(zip(domains, counts[code].tolist()))
        found.append(example)
    return found


def _share(rows: BoolArray) -> float:
    return round(float(rows.mean()), 6) if len(rows) else 0.0


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]
