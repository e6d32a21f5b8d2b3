"""(Row, item) pairs as flat arrays: what each of many users has had, without a Python loop."""

from __future__ import annotations

import numpy as np

from semacdr.data.schema import Int32Array, Int64Array
from semacdr.data.splits import Examples


def ranges(start: Int64Array, stop: Int64Array) -> tuple[Int64Array, Int64Array]:
    """All indices of many ranges.

    Returns:
        the range each index belongs to, and the index: ``(0, start[0]), (0, start[0] + 1), ..., (1, start[1]), ...``.
    """
    length = stop - start
    row = np.repeat(np.arange(len(start)), length)
    ends = np.cumsum(length)
    return row, np.arange(len(row)) + np.repeat(start - (ends - length), length)


def unique_pairs(row: Int64Array, item: Int32Array | Int64Array, width: int) -> tuple[Int64Array, Int64Array]:
    """The distinct (row, item) pairs, by row and then item; items are below ``width``."""
    code = np.unique(row.astype(np.int64) * width + item)
    return code // width, code % width


def seen_pairs(examples: Examples, num_items: int) -> tuple[Int64Array, Int64Array]:
    """What each example's user had before the target, each item once, the target itself left out."""
    row, at = ranges(examples.start, examples.stop)
    row, item = unique_pairs(row, examples.items[at], num_items + 1)
    other = item != examples.target[row]
    return row[other], item[other]
