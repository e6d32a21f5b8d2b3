"""Makes semantic ids: one set of codebooks for the items of all domains, unless those very ids are there already."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from semacdr.data.dataset import Dataset
from semacdr.data.schema import TITLE, Int64Array
from semacdr.embedding.collisions import last_tokens, spread_last_level
from semacdr.embedding.id_input import IdInput
from semacdr.embedding.id_settings import IdSettings
from semacdr.embedding.id_statistics import id_statistics
from semacdr.embedding.quantiser import fit_quantiser
from semacdr.embedding.residual import quantise
from semacdr.embedding.residual_kmeans import kmeans_engine
from semacdr.embedding.semantic_ids import FORMAT_VERSION, KIND, MANIFEST, SemanticIds, write_ids
from semacdr.errors import InputError
from semacdr.files import fingerprint, holds_finished, read_json
from semacdr.progress import say


def build_ids(given: IdInput, out: Path, settings: IdSettings, dataset: Dataset | None = None) -> dict[str, Any]:
    """Makes the ids and writes their folder.

    Args:
        given: items and vectors.
        out: the folder; ids of other inputs there are replaced.
        settings: how.
        dataset: gives domains and titles; without it the statistics know neither.

    Returns:
        The statistics, and ``out``, ``skipped``, ``fingerprint``, ``seconds``.

    Raises:
        InputError: ``out`` holds something else, no item has a vector, or the data set has none of the items.
    """
    started = time.monotonic()
    inputs = {
        "source": dict(given.source),
        "dataset": None if dataset is None else {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "kmeans": kmeans_engine(settings),
        "settings": settings.model_dump(mode="json", exclude={"views"}),  # the widths name them
        "widths": dict(given.widths),
    }
    key = fingerprint({"version": FORMAT_VERSION, "views": list(given.widths), **inputs})
    skipped = holds_finished(out, KIND, key) and _is_whole(out)
    if not skipped:
        _make(given, out, settings, dataset, {"fingerprint": key, "encoder": given.encoder, **inputs})
    return {
        "out": str(out),
        "skipped": skipped,
        "fingerprint": key,
        "seconds": round(time.monotonic() - started, 3),
        **read_json(out / MANIFEST)["statistics"],
    }


def _is_whole(out: Path) -> bool:
    try:
        if "statistics" not in SemanticIds.load(out).manifest:
            raise InputError("damaged semantic ids (no statistics)")
    except InputError as error:
        say(f"{error.what}: made anew")
        return False
    return True


def _make(given: IdInput, out: Path, settings: IdSettings, dataset: Dataset | None, manifest: dict[str, Any]) -> None:
    domain, titles = _known(given, dataset, settings.titles)
    quantiser = fit_quantiser(given.vectors, list(given.widths.values()), settings)
    latent = quantiser.latent(given.vectors)
    nearest_codes, _ = quantise(latent, quantiser.codebooks)
    codes, there = nearest_codes, given.vectors.any(axis=1)
    if settings.collisions == "sinkhorn":
        full = np.flatnonzero(there)  # items without text are all alike and cannot be spread
        codes = nearest_codes.copy()
        codes[full] = spread_last_level(
            nearest_codes[full],
            quantise(latent[full], quantiser.codebooks[:-1])[1],
            quantiser.codebooks[-1],
            settings.sinkhorn_epsilon,
            settings.sinkhorn_iterations,
            settings.sinkhorn_rounds,
        )
    first = np.argsort(~there, kind="stable")  # items without text come last and take what tokens are left
    tokens = np.empty(len(codes), np.int32)
    tokens[first] = last_tokens(codes[first])
    domains = () if dataset is None else dataset.domains
    statistics = id_statistics(
        quantiser, given.vectors, nearest_codes, codes, tokens, settings.codes, domain, domains, titles
    )
    names = np.array([domains[at] if at >= 0 else None for at in domain], dtype=object)
    ids = np.concatenate([codes, tokens[:, None]], axis=1)
    write_ids(out, given.item_ids, names, ids, given.vectors, quantiser, {**manifest, "statistics": statistics})


def _known(given: IdInput, dataset: Dataset | None, with_titles: bool) -> tuple[Int64Array, list[str | None] | None]:
    """(N,) domain of each item, -1 for none, and its title."""
    if dataset is None:
        return np.full(len(given.item_ids), -1, np.int64), None
    rows = np.array([dataset.item_index.get(str(item), 0) for item in given.item_ids], np.int64)
    if not rows.any():
        raise InputError("the data set has none of the items", where=str(dataset.path), fix="another --dataset")
    unknown = int((rows == 0).sum())
    if unknown:
        say(f"{unknown} of {len(rows)} items are not in data set {dataset.name}: their domain stays open")
    domain = dataset.item_domain[rows].astype(np.int64)  # index 0 is padding, of domain -1
    frame = dataset.item_frame()
    if not with_titles or TITLE not in frame:
        return domain, None
    titles = [None, *frame[TITLE]]
    return domain, [title if isinstance(title := titles[row], str) else None for row in rows]
