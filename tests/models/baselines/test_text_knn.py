"""TextKNN against cosines by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semacdr.data.batches import history_batch
from semacdr.errors import InputError
from semacdr.models.base import TextTables
from semacdr.models.baselines.text_knn import TextKNN, TextKNNConfig
from tests.models.baselines.small import catalogue

# Item 1 lies along x, item 2 along y, item 3 between; item 4 has no text.
ONE = {"content": torch.tensor([[0.0, 0], [2, 0], [0, 5], [3, 3], [0, 0]])}
TWO = {**ONE, "other": torch.tensor([[0.0], [1], [-1], [0], [0]])}
HALF = 0.5**0.5


def scores(text: TextTables, history: list[int], **settings: object) -> list[float]:
    model = TextKNN(TextKNNConfig(**settings), catalogue([0, 0, 1, 1], [1, 1, 0, 0]), text).eval()
    batch = history_batch([np.array(history, np.int32)], [0], model.max_seq_len)
    return model.score(model.encode(batch), torch.arange(1, 5))[0].tolist()


def test_cosines_by_hand() -> None:
    assert scores(ONE, [1]) == pytest.approx([1, 0, HALF, 0])
    assert scores(ONE, [1, 2], decay=0.5) == pytest.approx([0.5, 1, 1.5 * HALF, 0])
    assert scores(ONE, [1, 2], max_seq_len=1) == pytest.approx([0, 1, HALF, 0])
    assert scores(ONE, [4]) == scores(ONE, []) == [0, 0, 0, 0]


def test_views_count_alike_and_a_missing_one_counts_nothing() -> None:
    assert scores(TWO, [1]) == pytest.approx([1, -0.5, HALF / 2, 0])
    assert scores(TWO, [1], views=["content"]) == scores(ONE, [1])


def test_without_text_it_is_refused() -> None:
    with pytest.raises(InputError, match="--embeddings"):
        TextKNN(TextKNNConfig(), catalogue([0]))
    with pytest.raises(InputError, match="nonsense"):
        scores(ONE, [1], views=["nonsense"])
