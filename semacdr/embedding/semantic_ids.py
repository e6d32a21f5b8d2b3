"""Semantic ids: short code sequences that items of like meaning share, in one space for all domains.

An id is M codes, coarse to fine, and a last token that tells items with equal codes apart. Ids are unique.

ids.parquet            item_id, domain (null if unknown), codes (M + 1 of them, the last token included), vector_hash
codebooks.safetensors  codebooks, preparation, and the autoencoder of RQ-VAE
manifest.json          fingerprint of inputs and settings, settings, statistics
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from semacdr.data.schema import DOMAIN, ITEM_ID, FloatArray, Int32Array, StrArray
from semacdr.embedding.collisions import running_index
from semacdr.embedding.id_settings import IdSettings
from semacdr.embedding.quantiser import Quantiser, quantiser_from
from semacdr.errors import InputError
from semacdr.files import fingerprint, read_json, staged_folder, write_json

KIND = "semantic-ids"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
IDS = "ids.parquet"
CODEBOOKS = "codebooks.safetensors"
CODES = "codes"
VECTOR_HASH = "vector_hash"


def vector_hashes(vectors: FloatArray) -> npt.NDArray[np.uint64]:
    """(n,) 64 bits of each row, by which a vector of the catalogue is known again."""
    plain = np.ascontiguousarray(vectors, np.float32) + np.float32(0)  # minus zero is zero
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in plain)
    return np.frombuffer(digests, "<u8")


class SemanticIds:
    """A finished folder of ids.

    Attributes:
        item_ids: (N,).
        domains: (N,) names; None where the data set does not know the item or none was given.
        codes: (N, M + 1) ids, the last token included.
        quantiser: encodes new items.
    """

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        item_ids: StrArray,
        domains: StrArray,
        codes: Int32Array,
        hashes: npt.NDArray[np.uint64],
        quantiser: Quantiser,
    ) -> None:
        self.path, self.manifest = path, manifest
        self.item_ids, self.domains, self.codes, self.quantiser = item_ids, domains, codes, quantiser
        self._hashes = hashes

    @classmethod
    def load(cls, path: str | Path) -> SemanticIds:
        """Opens a folder of ids.

        Raises:
            InputError: not such a folder, one of another version, or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(path)
        fix = "make them with: semacdr ids --embeddings DIR --out DIR"
        if not (path / MANIFEST).is_file():
            raise InputError("no semantic ids (no manifest.json)", where=str(path), fix=fix)
        manifest = read_json(path / MANIFEST)
        found = (manifest.get("kind"), manifest.get("format_version")) if isinstance(manifest, dict) else None
        if found != (KIND, FORMAT_VERSION):
            raise InputError("no semantic ids of this version", where=str(path), fix=fix)
        try:
            frame = pd.read_parquet(path / IDS)
            tensors = load_file(path / CODEBOOKS)
            widths = [int(width) for width in manifest["widths"].values()]
            quantiser = quantiser_from(tensors, widths, IdSettings(**manifest["settings"]))
            codes = np.array(frame[CODES].tolist(), np.int32).reshape(len(frame), -1)
            hashes = frame[VECTOR_HASH].to_numpy(np.uint64)
            item_ids = frame[ITEM_ID].to_numpy(dtype=object)
            domains = frame[DOMAIN].astype(object).where(frame[DOMAIN].notna(), None).to_numpy()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise InputError(f"damaged semantic ids ({error})", where=str(path), fix=fix) from None
        return cls(path, manifest, item_ids, domains, codes, hashes, quantiser)

    @property
    def fingerprint(self) -> str:
        """Hash of the vectors, the domains and the settings that the ids depend on."""
        return str(self.manifest["fingerprint"])

    @property
    def levels(self) -> int:
        """M, the last token not counted."""
        return self.codes.shape[1] - 1

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Row of each item id."""
        return {str(item): row for row, item in enumerate(self.item_ids)}

    @cached_property
    def _rows(self) -> dict[tuple[int, ...], int]:
        return {tuple(code): row for row, code in enumerate(self.codes.tolist())}

    @cached_property
    def _free(self) -> dict[tuple[int, ...], int]:
        """Codes -> the first last token that no item of the catalogue has."""
        free: dict[tuple[int, ...], int] = {}
        for *code, token in self.codes.tolist():
            free[tuple(code)] = max(free.get(tuple(code), 0), token + 1)
        return free

    @cached_property
    def _of_vector(self) -> dict[int, list[int]]:
        rows = defaultdict(list)
        for row, digest in enumerate(self._hashes.tolist()):
            rows[digest].append(row)
        return dict(rows)

    def codes_of(self, item_ids: Iterable[str]) -> Int32Array:
        """(n, M + 1) ids of items of the catalogue; an unknown item is an :class:`InputError`."""
        wanted = list(map(str, item_ids))
        missing = [item for item in wanted if item not in self.item_index]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(wanted)} items have no semantic id, for example {missing[0]!r}",
                where=str(self.path),
                fix="make ids of a table that has them: semacdr ids --embeddings DIR",
            )
        return self.codes[[self.item_index[item] for item in wanted]]

    def nearest(self, vectors: FloatArray) -> Int32Array:
        """(n, E) joined views -> (n, M) codes by the codebooks alone, without a last token."""
        return self.quantiser.codes(vectors)

    def encode(self, vectors: FloatArray) -> Int32Array:
        """Ids of vectors, those of the catalogue's items or new ones.

        A vector that an item of the catalogue has gets that item's id (of items with equal vectors, one after the
        other). Any other vector is a new item: its nearest codes, and the first last token that neither the catalogue
        nor a row above has. All rows of an answer differ; of two answers two new rows may be alike, unless the first
        one's items came in by :meth:`with_items`.

        Args:
            vectors: (n, E), the views side by side in the order of the manifest.

        Returns:
            (n, M + 1).

        Raises:
            InputError: vectors of another width, or not numbers.
        """
        codes = self.nearest(vectors)
        out = np.empty((len(codes), self.levels + 1), np.int32)
        given: defaultdict[int, int] = defaultdict(int)
        new = []
        for row, digest in enumerate(vector_hashes(vectors).tolist()):
            known = self._of_vector.get(digest, [])
            if given[digest] < len(known):
                out[row] = self.codes[known[given[digest]]]
                given[digest] += 1
            else:
                new.append(row)
        out[new, :-1] = codes[new]
        out[new, -1] = running_index(map(tuple, codes[new].tolist()), self._free)
        return out

    def with_items(
        self, item_ids: Sequence[str], vectors: FloatArray, domains: Sequence[str | None] | None = None
    ) -> SemanticIds:
        """These ids and those of new items, by the same codebooks: no id changes, all are unique and lead to an item.

        Nothing is written. The manifest keeps no statistics, since they were of the items before.

        Args:
            item_ids: n new ones.
            vectors: (n, E), the views side by side in the order of the manifest; one that an item has already gets that
                item's codes and a last token of its own.
            domains: a name, or what pandas calls missing, for each; none by default.

        Raises:
            InputError: an item that is there already or given twice, a domain that is no text, vectors of another
                width, or not numbers.
        """
        items = list(map(str, item_ids))
        if not items:
            return self
        twice = [item for item, count in Counter(items).items() if count > 1 or item in self.item_index]
        if twice:
            raise InputError(f"{len(twice)} items have an id already or are given twice: {', '.join(twice[:5])}")
        codes, hashes = self.nearest(vectors), vector_hashes(vectors)
        places = [None] * len(items) if domains is None else [None if pd.isna(name) else name for name in domains]
        if isinstance(domains, str) or not all(name is None or isinstance(name, str) for name in places):
            raise InputError("domains are a list of names, one an item", fix='for example ["food", "kitchen"]')
        if not len(items) == len(codes) == len(places):
            raise ValueError(f"{len(items)} items, {len(codes)} vectors, {len(places)} domains")
        for row, digest in enumerate(hashes.tolist()):
            if digest in self._of_vector:
                codes[row] = self.codes[self._of_vector[digest][0], :-1]
        token = running_index(map(tuple, codes.tolist()), self._free)
        grown = {key: value for key, value in self.manifest.items() if key != "statistics"}
        grown["fingerprint"] = fingerprint([self.fingerprint, items, hashes.tolist(), places])
        return SemanticIds(
            self.path,
            grown,
            np.concatenate([self.item_ids, np.array(items, object)]),
            np.concatenate([self.domains, np.array(places, object)]),
            np.concatenate([self.codes, np.column_stack([codes, token]).astype(np.int32)]),
            np.concatenate([self._hashes, hashes]),
            self.quantiser,
        )

    def decode(self, codes: Int32Array | Sequence[Sequence[int]]) -> list[str | None]:
        """(n, M + 1) ids -> the items; None for an id that no item has."""
        rows = [self._rows.get(tuple(int(part) for part in code)) for code in codes]
        return [None if row is None else str(self.item_ids[row]) for row in rows]

    def with_prefix(self, codes: Sequence[int]) -> list[str]:
        """The items whose ids begin with these codes, in the order of the catalogue."""
        if len(codes) > self.codes.shape[1]:
            return []
        begins = (self.codes[:, : len(codes)] == np.asarray(codes, np.int32)).all(axis=1)
        return [str(item) for item in self.item_ids[begins]]


def write_ids(
    path: Path,
    item_ids: StrArray,
    domains: StrArray,
    codes: Int32Array,
    vectors: FloatArray,
    quantiser: Quantiser,
    manifest: dict[str, Any],
) -> None:
    """Writes a folder of ids as a whole; what was there is replaced.

    Args:
        path: the folder.
        item_ids: (N,).
        domains: (N,) names or None.
        codes: (N, M + 1).
        vectors: (N, E) joined vectors.
        quantiser: whose codes they are.
        manifest: fingerprint, inputs, settings, widths, statistics; the kind is added here.
    """
    from safetensors.numpy import save_file

    frame = pd.DataFrame({ITEM_ID: item_ids.astype(object), DOMAIN: pd.array(domains, dtype="string")})
    frame[CODES] = list(codes)
    frame[VECTOR_HASH] = vector_hashes(vectors)
    with staged_folder(path) as staging:
        frame.to_parquet(staging / IDS, index=False)
        save_file(quantiser.tensors(), staging / CODEBOOKS)
        write_json(staging / MANIFEST, {"kind": KIND, "format_version": FORMAT_VERSION, **manifest})
