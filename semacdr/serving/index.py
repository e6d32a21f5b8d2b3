"""Top-k search over item vectors by inner product, domain by domain, whatever engine is behind it.

manifest.json     kind, settings, whose vectors these are, recall
items.parquet     item_id, domain, alive, title (null unless the item was added); row i is label i
vectors_0.npy     the vectors of the first domain, (R, D); engine_0.faiss beside it where the engine keeps anything
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from semacdr.data.schema import DOMAIN, ITEM_ID, FloatArray, Int64Array
from semacdr.errors import InputError, nearest
from semacdr.files import holds_finished, put_back, read_json, staged_folder, write_json
from semacdr.serving.index_engines import load_engine, new_engine
from semacdr.serving.index_settings import IndexSettings
from semacdr.serving.index_shard import Shard

KIND = "search-index"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ITEMS = "items.parquet"
ALIVE = "alive"
TITLE = "title"


@dataclass(frozen=True)
class Hit:
    """One item of an answer."""

    item_id: str
    domain: str
    score: float


class SearchIndex:
    """The vectors of all items, a shard for each domain.

    Attributes:
        settings: of the index.
        manifest: what is known of it: fingerprint, run, recall.
        domains: names, in order.
    """

    def __init__(
        self,
        settings: IndexSettings,
        item_ids: Sequence[str],
        item_domain: Int64Array,
        shards: Sequence[Shard],
        domains: Sequence[str],
        manifest: Mapping[str, Any],
        titles: Sequence[str | None] | None = None,
    ) -> None:
        self.settings, self.manifest, self.domains = settings, dict(manifest), tuple(domains)
        self.shards = list(shards)
        self._ids = [str(item) for item in item_ids]
        self._domain = item_domain.tolist()
        self._titles: list[str | None] = [None] * len(self._ids) if titles is None else list(titles)

    @classmethod
    def build(
        cls,
        item_ids: Sequence[str],
        item_domain: Int64Array,
        vectors: FloatArray,
        domains: Sequence[str],
        settings: IndexSettings,
        manifest: Mapping[str, Any] | None = None,
    ) -> SearchIndex:
        """Indexes vectors.

        Args:
            item_ids: (N,) different ids, kept as text; equal scores are answered in their order.
            item_domain: (N,) index into ``domains``.
            vectors: (N, D) float32.
            domains: names.
            settings: of the index.
            manifest: what is to be kept beside it.

        Raises:
            InputError: an id given twice, vectors that are not numbers, faiss is missing, or a setting does not fit.
        """
        vectors = _checked(vectors, len(item_ids), None)
        _new_ids(item_ids, ())
        shards = []
        for at in range(len(domains)):
            labels = np.flatnonzero(item_domain == at)
            own = np.ascontiguousarray(vectors[labels])
            shards.append(Shard(own, labels, new_engine(own, settings), settings.refine))
        return cls(settings, item_ids, item_domain, shards, domains, manifest or {})

    @property
    def dim(self) -> int:
        """D."""
        return int(self.shards[0].vectors.shape[1])

    @cached_property
    def _place(self) -> dict[str, tuple[int, int]]:
        """Item id -> its shard and row, for items that are alive."""
        return {
            self._ids[label]: (at, row)
            for at, shard in enumerate(self.shards)
            for row, label in enumerate(shard.labels.tolist())
            if shard.alive[row]
        }

    def __len__(self) -> int:
        return sum(int(shard.alive.sum()) for shard in self.shards)

    def __contains__(self, item_id: str) -> bool:
        return str(item_id) in self._place

    @property
    def engines(self) -> dict[str, str]:
        """Domain -> the kind of engine that it got; small domains are flat in every kind that approximates."""
        return {name: shard.engine.kind for name, shard in zip(self.domains, self.shards)}

    @property
    def rescued(self) -> int:
        """Answers so far for which an engine did not suffice and all items of the domain were scored."""
        return sum(shard.rescued for shard in self.shards)

    def search(
        self,
        queries: FloatArray,
        k: int,
        domain: str | None = None,
        exclude: Sequence[Iterable[str]] | None = None,
    ) -> list[list[Hit]]:
        """The k best items of each query, best first, equal scores in the order of the items.

        Args:
            queries: (Q, D) user vectors.
            k: how many; fewer come back only where there are no more.
            domain: to be searched; all by default.
            exclude: for each query the ids never to be in its answer, as text or not, unknown ones allowed.

        Raises:
            InputError: queries of another width or not numbers, a negative ``k``, or an unknown domain.
        """
        check_count(k)
        queries = _checked(queries, len(queries), self.dim)
        chosen = range(len(self.shards)) if domain is None else [self._domain_index(domain)]
        out = [self._rows(ids) for ids in exclude] if exclude is not None else [{}] * len(queries)
        if len(out) != len(queries):
            raise ValueError(f"{len(out)} lists to exclude for {len(queries)} queries")
        none = np.empty(0, np.int64)
        found = [self.shards[at].search(queries, k, [rows.get(at, none) for rows in out]) for at in chosen]
        return [self._merged([answers[query] for answers in found], chosen, k) for query in range(len(queries))]

    def _rows(self, ids: Iterable[str]) -> dict[int, Int64Array]:
        rows: dict[int, list[int]] = {}
        for item in ids:
            place = self._place.get(str(item))  # ids of numbers must not let seen items through
            if place is not None:
                rows.setdefault(place[0], []).append(place[1])
        return {at: np.array(some, np.int64) for at, some in rows.items()}

    def _merged(self, answers: Sequence[tuple[Int64Array, FloatArray]], chosen: Iterable[int], k: int) -> list[Hit]:
        labels = np.concatenate([self.shards[at].labels[rows] for at, (rows, _) in zip(chosen, answers)])
        scores = np.concatenate([score for _, score in answers])
        order = np.lexsort((labels, -scores))[:k]
        return [
            Hit(self._ids[label], self.domains[self._domain[label]], score)
            for label, score in zip(labels[order].tolist(), scores[order].tolist())
        ]

    def check_there(self, item_ids: Sequence[str]) -> None:
        """An id that is not in the index is an :class:`InputError`."""
        unknown = [item for item in item_ids if item not in self._place]
        if unknown:
            raise InputError(f"{len(unknown)} items are not in the index: {', '.join(unknown[:5])}")

    def vector(self, item_id: str, domain: str) -> FloatArray | None:
        """(D,) the vector of an item in a domain; None if it is not there."""
        at, row = self._place.get(str(item_id), (-1, -1))
        return self.shards[at].vectors[row] if at >= 0 and self.domains[at] == domain else None

    def was_removed(self, item_id: str) -> bool:
        """Whether an item was here before, and is no more."""
        return str(item_id) not in self._place and str(item_id) in self._known

    @cached_property
    def _known(self) -> set[str]:
        return set(self._ids)

    def added_title(self, item_id: str) -> str | None:
        """The title of an item that was added, empty if it has none; None for one that the index was built with."""
        at, row = self._place.get(str(item_id), (-1, -1))
        return self._titles[self.shards[at].labels[row]] if at >= 0 else None

    def add(
        self, item_ids: Sequence[str], vectors: FloatArray, domain: str, titles: Sequence[str] | None = None
    ) -> None:
        """Adds items of a domain without a rebuild.

        Args:
            item_ids: (n,) new ones, or such as were removed before.
            vectors: (n, D).
            domain: theirs.
            titles: (n,) to be shown with them.

        Raises:
            InputError: an id that is there already or given twice, vectors of another width or not numbers.
        """
        at, vectors = self._domain_index(domain), _checked(vectors, len(item_ids), self.dim)
        ids = _new_ids(item_ids, self._place)
        if titles is not None and len(titles) != len(ids):
            raise ValueError(f"{len(titles)} titles of {len(ids)} items")
        first, shard = len(self._ids), self.shards[at]
        row = len(shard.labels)
        shard.add(vectors, np.arange(first, first + len(ids), dtype=np.int64))
        self._place.update((item, (at, row + offset)) for offset, item in enumerate(ids))
        self._ids += ids
        self._domain += [at] * len(ids)
        self._titles += [""] * len(ids) if titles is None else list(titles)
        if "_known" in self.__dict__:
            self._known.update(ids)
        self._changed(ids)

    def remove(self, item_ids: Sequence[str]) -> None:
        """Removes items without a rebuild; an id that is not there is an :class:`InputError`, and nothing happens."""
        ids = list(dict.fromkeys(map(str, item_ids)))
        self.check_there(ids)
        for at, rows in self._rows(ids).items():
            self.shards[at].remove(rows)
        for item in ids:
            del self._place[item]
        self._changed(ids)

    def _changed(self, item_ids: Sequence[str]) -> None:
        """The fingerprint names a run's own items, and the recall was measured on them."""
        if item_ids:
            self.manifest.pop("fingerprint", None)
            self.manifest.pop("recall", None)

    def save(self, path: str | Path) -> None:
        """Writes the index as a whole; an older one there is replaced, anything else is an :class:`InputError`."""
        try:
            holds_finished(Path(path), KIND, "")
        except InputError as error:
            raise InputError(error.what, where=error.where, fix="another folder") from None
        alive = np.zeros(len(self._ids), np.bool_)
        for shard in self.shards:
            alive[shard.labels] = shard.alive
        frame = pd.DataFrame({ITEM_ID: self._ids, DOMAIN: [self.domains[at] for at in self._domain], ALIVE: alive})
        frame[TITLE] = pd.array(self._titles, dtype="string")
        with staged_folder(Path(path)) as staging:
            frame.to_parquet(staging / ITEMS, index=False)
            for at, shard in enumerate(self.shards):
                np.save(staging / f"vectors_{at}.npy", shard.vectors)
                shard.engine.save(staging / f"engine_{at}.faiss")
            manifest = {
                "kind": KIND,
                "format_version": FORMAT_VERSION,
                **self.manifest,
                "settings": self.settings.model_dump(mode="json"),
                "domains": list(self.domains),
                "engines": list(self.engines.values()),
                "items": len(self),
                "dim": self.dim,
            }
            write_json(staging / MANIFEST, manifest)

    @classmethod
    def load(cls, path: str | Path, run_fingerprint: str | None = None) -> SearchIndex:
        """Opens an index; the vectors stay on disk until they are read.

        Args:
            path: the folder.
            run_fingerprint: of the run whose vectors it must hold; None takes any.

        Raises:
            InputError: not an index, one of another version or another run, damaged, or faiss is missing.
        """
        path = Path(path)
        fix = "make one with: semacdr index RUN"
        put_back(path)
        if not (path / MANIFEST).is_file():
            raise InputError("not an index (no manifest.json)", where=str(path), fix=fix)
        manifest = read_json(path / MANIFEST)
        found = (manifest.get("kind"), manifest.get("format_version")) if isinstance(manifest, dict) else None
        if found != (KIND, FORMAT_VERSION):
            raise InputError("not an index of this version", where=str(path), fix=fix)
        source = manifest.get("run")  # an index that was built from vectors has none
        owner = source.get("fingerprint") if isinstance(source, dict) else None
        if run_fingerprint is not None and owner != run_fingerprint:
            raise InputError(
                "the index of another run, or of this one before it was trained again", where=str(path), fix=fix
            )
        try:
            settings, domains = IndexSettings(**manifest["settings"]), manifest["domains"]
            frame = pd.read_parquet(path / ITEMS)
            domain = pd.Categorical(frame[DOMAIN], categories=domains).codes.astype(np.int64)
            alive = frame[ALIVE].to_numpy(dtype=np.bool_)
            shards = []
            if len(manifest["engines"]) != len(domains):
                raise ValueError(f"{len(manifest['engines'])} engines of {len(domains)} domains")
            for at, kind in enumerate(manifest["engines"]):
                labels = np.flatnonzero(domain == at)
                vectors = np.load(path / f"vectors_{at}.npy", mmap_mode="r", allow_pickle=False)
                engine = load_engine(kind, path / f"engine_{at}.faiss", settings)
                shards.append(Shard(vectors, labels, engine, settings.refine, alive[labels].copy()))
                if len(vectors) != len(labels):
                    raise ValueError(f"{len(vectors)} vectors of {len(labels)} items")
            ids = frame[ITEM_ID].tolist()
            titles = None  # an older index has none
            if TITLE in frame:
                titles = frame[TITLE].astype(object).where(frame[TITLE].notna(), None).tolist()
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(f"damaged index ({error})", where=str(path), fix=fix) from None
        return cls(settings, ids, domain, shards, domains, manifest, titles)

    def _domain_index(self, name: str) -> int:
        if name not in self.domains:
            raise InputError(f"no domain {name!r} in this index", fix=nearest(name, self.domains))
        return self.domains.index(name)


def _new_ids(item_ids: Sequence[str], there: Container[str]) -> list[str]:
    """The ids as text; one that is there already or given twice is an :class:`InputError`."""
    ids = list(map(str, item_ids))
    twice = [item for item, count in Counter(ids).items() if count > 1 or item in there]
    if twice:
        raise InputError(f"{len(twice)} items are there already or given twice: {', '.join(twice[:5])}")
    return ids


def check_count(k: int) -> None:
    """A negative number of items to be answered is an :class:`InputError`."""
    if k < 0:
        raise InputError(f"k = {k}: a number of items cannot be negative")


def _checked(vectors: FloatArray, count: int, dim: int | None) -> FloatArray:
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or len(vectors) != count or dim not in (None, vectors.shape[1]):
        raise InputError(f"vectors of shape {vectors.shape}, where ({count}, {dim or 'D'}) is needed")
    if not np.isfinite(vectors).all():
        raise InputError("vectors that are not finite numbers")
    return vectors
