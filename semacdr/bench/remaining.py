"""What is left of a bench, in a sentence. It loads nothing, as a page of numbers wants it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def remaining(cells: Sequence[dict[str, Any]]) -> str | None:
    """What is left of a bench, in a sentence; None where nothing is.

    Args:
        cells: of bench.json.
    """
    left = [cell for cell in cells if cell["state"] == "left"]
    if not left:
        return None
    # without a run folder's name nobody knows whether a record holds it
    waiting = sum(cell["run"] is None for cell in left)
    unseen = f" ({waiting} of them after data, embeddings, ids or tuning)" if waiting else ""
    return f"{len(left)} of {len(cells)} cells are still to be run{unseen}."
