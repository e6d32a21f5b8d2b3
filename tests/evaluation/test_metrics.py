from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.errors import InputError
from semacdr.evaluation.metrics import metric_values

NAMES = ["hr@1", "hr@10", "recall@20", "ndcg@5", "ndcg@10", "mrr"]


def over_placements(greater: int, ties: int, name: str) -> float:
    """The mean over every place that the target may take."""

    def at(rank: int) -> float:
        if name == "mrr":
            return 1 / (rank + 1)
        metric, k = name.split("@")
        gain = 1 / math.log2(rank + 2) if metric == "ndcg" else 1.0
        return gain if rank < int(k) else 0.0

    return sum(at(greater + place) for place in range(ties + 1)) / (ties + 1)


def values(greater: int, ties: int, names: list[str]) -> dict[str, float]:
    found = metric_values(np.array([greater], np.int32), np.array([ties], np.int32), names)
    return {name: float(value[0]) for name, value in found.items()}


def test_hand_computed() -> None:
    assert values(0, 0, NAMES) == dict.fromkeys(NAMES, 1.0)
    assert values(2, 0, ["hr@1", "hr@3", "ndcg@3", "mrr"]) == pytest.approx(
        {"hr@1": 0, "hr@3": 1, "ndcg@3": 0.5, "mrr": 1 / 3}
    )
    assert values(0, 1, ["hr@1", "mrr"]) == pytest.approx({"hr@1": 0.5, "mrr": 0.75})
    assert values(8, 7, ["hr@10"]) == pytest.approx({"hr@10": 0.25})  # two of eight places are in the first ten


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_equals_the_mean_over_placements(greater: int, ties: int) -> None:
    expected = {name: over_placements(greater, ties, name) for name in NAMES}
    assert values(greater, ties, NAMES) == pytest.approx(expected, abs=1e-12)


def test_a_million_ties() -> None:
    expected = {name: over_placements(3, 999_999, name) for name in ("hr@10", "ndcg@10", "mrr")}
    assert values(3, 999_999, list(expected)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["hr", "hr@0", "ndcg@ten", "auc", "mrr@10"])
def test_unknown_metric(name: str) -> None:
    with pytest.raises(InputError, match="unknown metric"):
        values(0, 0, [name])
