"""Markov on transitions that can be counted by hand."""

from __future__ import annotations

import numpy as np
import torch

from semacdr.data.batches import history_batch
from semacdr.data.splits import TrainSequences
from semacdr.models.baselines.markov import Markov, MarkovConfig
from tests.models.baselines.small import catalogue, sequences


def scores(train: TrainSequences, history: list[int]) -> list[float]:
    """Of the items 1 to 4."""
    model = Markov(MarkovConfig(window=2, decay=0.5), catalogue([0, 0, 1, 1]))
    model.fit(train)
    batch = history_batch([np.array(history, np.int32)], [0], model.max_seq_len)
    return model.score(model.encode(batch), torch.arange(1, 5))[0].tolist()


def test_near_steps_count_more_and_so_do_new_events() -> None:
    train = sequences([[1, 2, 3], [2, 3], [4]])
    assert scores(train, [1]) == [0, 1, 0.5, 0]
    assert scores(train, [1, 2]) == [0, 0.5, 2.25, 0]


def test_a_step_to_an_event_that_only_gives_context_does_not_count() -> None:
    """Such events stand in several sequences of a user; the step from one to a target counts."""
    train = sequences([[1, 2, 3]], targets=[False, False, True])
    assert scores(train, [1]) == [0, 0, 0.5, 0]
    assert scores(train, [2]) == [0, 0, 1, 0]
