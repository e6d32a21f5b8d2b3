"""What is left of a bench, in a sentence. It imports nothing heavy: the report uses it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def left_note(cells: Sequence[dict[str, Any]]) -> str | None:
    """What is left of a bench, in a sentence; None where nothing is.

    Args:
        cells: of bench.json.
    """
    left = [cell for cell in cells if cell["state"] == "left"]
    if not left:
        return None
    # without a run folder's name nobody knows whether a record holds it
    waiting = sum(cell["run"] is None for cell in left)
    unseen = (
        f" ({waiting} of them cannot be looked up before their data, embeddings, ids or tuning are there)"
        if waiting
        else ""
    )
    return f"{len(left)} of {len(cells)} cells are still to be run{unseen}."
