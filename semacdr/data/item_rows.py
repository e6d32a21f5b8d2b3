"""The catalogue of a data set folder, read block by block: memory does not grow with the number of items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from semacdr.data import schema
from semacdr.errors import InputError
from semacdr.files import read_json

BLOCK_ROWS = 4096


class ItemRows:
    """Rows of ``items.parquet`` in catalogue order.

    Attributes:
        name: of the data set.
        domains: names, in the order of the data set.
        num_items: rows there are.

    Raises:
        InputError: not a data set folder, or its items cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        manifest_path = self.folder / schema.MANIFEST
        if not manifest_path.is_file():
            raise InputError(
                "not a data set folder (no dataset.json)",
                where=str(folder),
                fix="make one with: semacdr data convert --format F --input DIR --output DIR",
            )
        manifest = read_json(manifest_path)
        if manifest.get("format_version") != schema.FORMAT_VERSION:
            raise InputError(f"a data set of format {manifest.get('format_version')}", where=str(folder))
        self.name: str = manifest["name"]
        self.domains: list[str] = list(manifest["domains"])
        try:
            self._file = pq.ParquetFile(self.folder / schema.ITEMS)
        except (OSError, ValueError) as error:
            raise InputError(f"items.parquet cannot be read ({error})", where=str(folder)) from None
        self.num_items: int = self._file.metadata.num_rows

    def blocks(self, limit: int | None = None, rows: int = BLOCK_ROWS) -> Iterator[list[dict[str, Any]]]:
        """Lists of at most ``rows`` items as mappings, the first ``limit`` items of the catalogue in all."""
        left = self.num_items if limit is None else min(limit, self.num_items)
        for batch in self._file.iter_batches(batch_size=rows):
            if left <= 0:
                return
            yield batch.slice(0, left).to_pylist()
            left -= batch.num_rows
