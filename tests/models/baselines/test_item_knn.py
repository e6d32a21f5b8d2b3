"""ItemKNN on counts that can be done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from semacdr.data.batches import history_batch
from semacdr.data.splits import TrainSequences
from semacdr.models.baselines import item_knn
from semacdr.models.baselines.item_knn import ItemKNN, ItemKNNConfig
from tests.models.baselines.small import catalogue, sequences

# Users of item 1: u0 u1; of 2: u0 u1 u2; of 3: u0 u2; of 4: u3. So 1 and 2 share two users, 2 and 3 two, 1 and 3 one.
TRAIN = sequences([[1, 2, 3], [1, 2, 2], [2, 3], [4]])
NEAR, FAR = 2 / 6**0.5, 1 / 2


def fitted(train: TrainSequences = TRAIN, **settings: Any) -> ItemKNN:
    model = ItemKNN(ItemKNNConfig(**settings), catalogue([0, 0, 1, 1]))
    model.fit(train)
    return model


def scores(model: ItemKNN, history: list[int]) -> list[float]:
    batch = history_batch([np.array(history, np.int32)], [0], model.max_seq_len)
    return model.score(model.encode(batch), torch.arange(1, 5))[0].tolist()


def test_cosines_by_hand() -> None:
    assert scores(fitted(), [1]) == pytest.approx([0, NEAR, FAR, 0])
    assert scores(fitted(), [2]) == pytest.approx([NEAR, 0, NEAR, 0])
    assert scores(fitted(), [4]) == [0, 0, 0, 0]
    assert scores(fitted(), []) == [0, 0, 0, 0]


def test_older_events_weigh_less() -> None:
    assert scores(fitted(decay=0.5), [1, 3]) == pytest.approx([FAR, 0.5 * NEAR + NEAR, 0.5 * FAR, 0])
    assert scores(fitted(decay=1), [1, 3]) == pytest.approx([FAR, 2 * NEAR, FAR, 0])
    assert scores(fitted(max_seq_len=1), [1, 3]) == scores(fitted(), [3])


def test_shrink_damps_small_counts_more() -> None:
    assert scores(fitted(shrink=1), [1]) == pytest.approx([0, 2 / (6**0.5 + 1), 1 / 3, 0])


def test_only_the_nearest_neighbours_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 2, 1_024):
        monkeypatch.setattr(item_knn, "BLOCK_ITEMS", size)
        model = fitted(neighbours=1)
        assert scores(model, [1]) == pytest.approx([0, NEAR, 0, 0])
        assert scores(model, [2]) == pytest.approx([NEAR, 0, 0, 0])  # 1 and 3 are as near: the first
        assert scores(model, [3]) == pytest.approx([0, NEAR, 0, 0])
        assert scores(fitted(neighbours=2), [1]) == scores(fitted(), [1])


def test_sequences_of_one_user_are_one_user_and_context_does_not_count() -> None:
    """u0 comes as two sequences, and what only gives context is left out."""
    train = sequences([[1, 2], [1, 3], [1, 2, 2], [2, 3], [4]], users=[0, 0, 1, 2, 3])
    assert scores(fitted(train), [1]) == pytest.approx([0, NEAR, FAR, 0])
    train = sequences([[1, 2], [4, 3]], targets=[True, True, False, True])
    assert scores(fitted(train), [3]) == [0, 0, 0, 0]
