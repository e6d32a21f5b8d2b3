"""The embedding table: one frozen float32 matrix of text vectors per view, memory-mapped, with provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from semacdr.data.schema import FloatArray, Int64Array, StrArray
from semacdr.errors import InputError, nearest
from semacdr.files import read_json, staged_folder, write_json
from semacdr.progress import say

MANIFEST = "manifest.json"
ITEM_IDS = "item_ids.npy"
KIND = "embedding-table"
FORMAT_VERSION = 1
ITEMS, USERS = "items", "users"
"""What the rows of a table are about."""


class EmbeddingTable:
    """A finished table folder: ``<view>.npy`` (N, E) for every view, ``item_ids.npy`` (N,) and ``manifest.json``.

    Row ``i`` of every matrix belongs to ``item_ids[i]``. An all-zero row means that the item has no text. In a table of
    users, which is opened as such, these are the users' ids.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], item_ids: StrArray) -> None:
        self.path, self.manifest, self.item_ids = path, manifest, item_ids

    @classmethod
    def load(cls, path: str | Path, subject: str = ITEMS) -> EmbeddingTable:
        """Opens a table; the matrices stay on disk until they are asked for.

        Args:
            path: the folder.
            subject: what the caller takes the rows for, items or users.

        Raises:
            InputError: not a table folder, one of another format version, or of another subject.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            raise InputError(
                "not an embedding table (no manifest.json)",
                where=str(path),
                fix="make one with: semacdr embed --dataset DIR --out DIR",
            )
        manifest = read_json(path / MANIFEST)
        if manifest.get("kind") != KIND or manifest.get("format_version") != FORMAT_VERSION:
            raise InputError("not an embedding table of this version", where=str(path), fix="run semacdr embed again")
        found = manifest.get("subject", ITEMS)
        if found != subject:
            raise InputError(f"a table of {found}, where one of {subject} is needed", where=str(path))
        return cls(path, manifest, np.load(path / ITEM_IDS, allow_pickle=False).astype(object))

    @property
    def views(self) -> tuple[str, ...]:
        """The view names, content first."""
        return tuple(self.manifest["views"])

    @property
    def text_dim(self) -> int:
        """E."""
        return int(self.manifest["text_dim"])

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the vectors depend on: encoder, texts, batch plan."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Row of each item id."""
        return {str(item): row for row, item in enumerate(self.item_ids)}

    def matrix(self, view: str) -> FloatArray:
        """The (N, E) vectors of one view, memory-mapped read-only.

        Raises:
            InputError: no such view, or a damaged file.
        """
        if view not in self.views:
            raise InputError(f"no view {view!r} in this table", where=str(self.path), fix=nearest(view, self.views))
        try:
            matrix: FloatArray = np.load(self.path / f"{view}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"damaged table ({error})", where=str(self.path), fix="run semacdr embed again") from None
        return matrix

    def aligned_users(self, user_ids: Iterable[str]) -> FloatArray:
        """The vectors of a table of users, its views side by side: (U, V*E), zero for a user without a profile.

        Raises:
            InputError: none of the users is in the table.
        """
        return np.concatenate(list(self.aligned(["", *user_ids]).values()), axis=1)[1:]

    def aligned(self, item_ids: Iterable[str], views: Iterable[str] | None = None) -> dict[str, FloatArray]:
        """The vectors in the order of a catalogue.

        Args:
            item_ids: (N+1,) ids as in :class:`~semacdr.data.dataset.Catalogue`; index 0 is padding.
            views: the views wanted; all by default.

        Returns:
            view -> (N+1, E). Row 0 and the rows of items without text, or unknown to the table, are zero.

        Raises:
            InputError: none of the items is in the table.
        """
        index = self.item_index
        rows: Int64Array = np.array([index.get(str(item), -1) for item in item_ids], dtype=np.int64)
        rows[0] = -1
        known = rows >= 0
        missing = len(rows) - 1 - int(known.sum())
        count, what = len(rows) - 1, self.manifest.get("subject", ITEMS)
        if missing == count and missing:
            raise InputError(f"the table has none of the data set's {what}", where=str(self.path))
        if missing:
            say(f"{missing} of {count} {what} are not in the table {self.path} and count as {what} without text")
        aligned = {}
        for view in self.views if views is None else views:
            matrix = np.zeros((len(rows), self.text_dim), np.float32)
            matrix[known] = self.matrix(view)[rows[known]]
            aligned[view] = matrix
        return aligned


def write_table(
    path: Path, item_ids: StrArray, vectors: FloatArray, rows: Mapping[str, Int64Array], manifest: Mapping[str, Any]
) -> None:
    """Writes a table folder as a whole.

    Args:
        path: the folder; an old table there is replaced.
        item_ids: (N,) ids.
        vectors: (M, E) distinct vectors.
        rows: view -> (N,) row of ``vectors`` for each item, or -1 where the item has no text.
        manifest: provenance; ``text_dim`` and the kind are added here.
    """
    dim = vectors.shape[1]
    with staged_folder(path) as staging:
        for view, index in rows.items():
            matrix = np.lib.format.open_memmap(
                staging / f"{view}.npy", mode="w+", dtype=np.float32, shape=(len(index), dim)
            )
            for start in range(0, len(index), 65_536):  # a few at a time: the matrix may be larger than memory
                part = index[start : start + 65_536]
                matrix[start : start + len(part)] = np.where((part >= 0)[:, None], vectors[np.maximum(part, 0)], 0)
            matrix.flush()
            del matrix
        np.save(staging / ITEM_IDS, item_ids.astype(str))
        write_json(
            staging / MANIFEST,
            {"kind": KIND, "format_version": FORMAT_VERSION, "text_dim": dim, **manifest},
        )
