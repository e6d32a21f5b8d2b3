"""The index of a trained run: its item vectors, and how often the index finds what exact search finds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semacdr.data.batches import history_batch
from semacdr.data.schema import FloatArray, Int32Array
from semacdr.errors import InputError
from semacdr.files import file_sha256, fingerprint, holds_finished, locked, read_json
from semacdr.models.base import VectorRecommender
from semacdr.progress import say
from semacdr.run import WEIGHTS, LoadedRun
from semacdr.serving.index import FORMAT_VERSION, KIND, MANIFEST, SearchIndex
from semacdr.serving.index_engines import ExactEngine
from semacdr.serving.index_settings import IndexSettings, index_settings
from semacdr.serving.index_shard import Shard

RECALL_USERS = 200
RECALL_AT = 10
_USERS_AT_ONCE = 256


def run_fingerprint(path: Path, manifest: Mapping[str, Any]) -> str:
    """Hash of what a run's item vectors depend on: model, settings, data and weights."""
    tables = ("embeddings_fingerprint", "user_embeddings_fingerprint", "ids_fingerprint")
    keys = ("model", "config", "dataset_fingerprint", *tables)
    return fingerprint({**{key: manifest.get(key) for key in keys}, "weights": file_sha256(path / WEIGHTS)})


def vectors_of(run: LoadedRun) -> FloatArray:
    """(N, D) item vectors of a run, without padding.

    Raises:
        InputError: a model whose score is no inner product, or vectors that are not numbers.
    """
    model = run.model
    if not isinstance(model, VectorRecommender) or type(model).score is not VectorRecommender.score:
        raise InputError(
            f"{run.manifest['model']} does not score by the inner product of two vectors, so it cannot be indexed",
            where=str(run.path),
            fix="semacdr recommend RUN without --index",
        )
    vectors: FloatArray = model.prepared_items()[1:].cpu().numpy()
    if not np.isfinite(vectors).all():
        raise InputError("the model gives vectors that are not numbers", where=str(run.path), fix="train again")
    return vectors


def user_vectors(run: LoadedRun, histories: list[Int32Array], users: list[int], domain: int) -> FloatArray:
    """(n, D) vectors of users for a target domain, index -1 for a user that is not in the data."""
    parts = []
    for start in range(0, len(users), _USERS_AT_ONCE):
        some, who = histories[start : start + _USERS_AT_ONCE], users[start : start + _USERS_AT_ONCE]
        batch = history_batch(some, [domain] * len(some), run.model.max_seq_len, who)
        parts.append(run.model.encode(batch).cpu().numpy())
    return np.concatenate(parts)


def build_index(run: LoadedRun, out: Path, settings: IndexSettings) -> dict[str, Any]:
    """Indexes a run's items into a folder, unless that very index is there already, and measures its recall.

    Returns:
        out, skipped, fingerprint, kind, items, dim, engines, recall@10 of each domain, seconds.

    Raises:
        InputError: see :func:`vectors_of`; or ``out`` holds something else, or faiss is missing.
    """
    started = time.monotonic()
    vectors = vectors_of(run)
    own = run_fingerprint(run.path, run.manifest)
    key = fingerprint({"version": FORMAT_VERSION, "run": own, "settings": settings.model_dump(mode="json")})
    with locked(out, lambda: say(f"{out}: waiting for a change of it")):
        found = _whole(out) if holds_finished(out, KIND, key) else None
        index = found if found is not None else _build(run, out, settings, vectors, {"run": own, "fingerprint": key})
    return {
        "out": str(out),
        "skipped": found is not None,
        "fingerprint": key,
        "kind": settings.kind,
        "items": len(index),
        "dim": index.dim,
        "engines": index.engines,
        "recall": index.manifest["recall"],
        "seconds": round(time.monotonic() - started, 3),
    }


def _build(
    run: LoadedRun, out: Path, settings: IndexSettings, vectors: FloatArray, hashes: Mapping[str, str]
) -> SearchIndex:
    if (out / MANIFEST).is_file() and "fingerprint" not in read_json(out / MANIFEST):
        say(f"{out}: items were added or removed since it was built; it is built anew, without these changes")
    data = run.dataset
    domain = data.item_domain[1:].astype(np.int64)
    source = {"model": run.manifest["model"], "dataset": data.name, "fingerprint": hashes["run"]}
    known = {"fingerprint": hashes["fingerprint"], "run": source}
    index = SearchIndex.build(data.item_ids[1:].tolist(), domain, vectors, data.domains, settings, known)
    say(f"{len(index)} vectors indexed; measuring recall@{RECALL_AT}")
    index.manifest["recall"] = measure_recall(run, index)
    index.save(out)
    return index


def _whole(out: Path) -> SearchIndex | None:
    try:
        found = SearchIndex.load(out)
        if "recall" not in found.manifest:
            raise InputError("damaged index (no recall)")
        return found
    except InputError as error:
        say(f"{error.what}: built anew")
        return None


def measure_recall(run: LoadedRun, index: SearchIndex) -> dict[str, Any]:
    """Which share of the exact top 10 an index finds, for a sample of users, without what they have seen.

    Each user is searched for alone, as ``semacdr recommend`` does: in a batch, an engine is asked for as many
    candidates as the longest history needs, and finds more.

    Returns:
        users, k, and domain -> mean recall; domains without an unseen item are left out.
    """
    data = run.dataset
    exact = SearchIndex(  # over the very arrays of the index
        index_settings({}),
        data.item_ids[1:].tolist(),
        data.item_domain[1:].astype(np.int64),
        [Shard(shard.vectors, shard.labels, ExactEngine(), 1) for shard in index.shards],
        data.domains,
        {},
    )
    random = np.random.default_rng(index.settings.seed)
    users = np.sort(random.choice(data.num_users, min(RECALL_USERS, data.num_users), replace=False)).tolist()
    histories = [data.user_items(user) for user in users]
    seen = [[str(data.item_ids[item]) for item in history] for history in histories]
    recall = {}
    for at, name in enumerate(data.domains):
        queries = user_vectors(run, histories, users, at)
        right = exact.search(queries, RECALL_AT, name, seen)
        if index.settings.kind == "exact":  # by definition; a second search would only cost time
            shares = [1.0 for best in right if best]
        else:
            found = (index.search(query[None], RECALL_AT, name, [items])[0] for query, items in zip(queries, seen))
            shares = [
                len({hit.item_id for hit in got} & {hit.item_id for hit in best}) / len(best)
                for got, best in zip(found, right)
                if best
            ]
        if shares:
            recall[name] = round(float(np.mean(shares)), 4)
    return {"users": len(users), "k": RECALL_AT, "domains": recall}


def query_of(run: LoadedRun, history: Int32Array, domain: int, user: int) -> FloatArray:
    """(1, D) the vector of one user; one that is not of numbers is an :class:`InputError`."""
    with torch.no_grad():
        query = user_vectors(run, [history], [user], domain)
    if not np.isfinite(query).all():
        raise InputError("the model gives scores that are not numbers", where=str(run.path), fix="train again")
    return query
