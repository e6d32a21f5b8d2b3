"""Ranks of held-out targets: how many candidates score above the target, and how many the same.

Leave-one-out metrics need nothing else, so nothing is sorted and memory does not grow with users times items.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from semacdr.data.batches import example_batches
from semacdr.data.schema import Int8Array, Int32Array, Int64Array
from semacdr.data.splits import Examples
from semacdr.evaluation.pairs import seen_pairs
from semacdr.evaluation.protocols import Protocol, check_targets, get_protocol
from semacdr.evaluation.scoring import scorer_of
from semacdr.models.base import Recommender
from semacdr.progress import Progress

BATCH_USERS = 512
# Scores of one block, 512 x 1024 x 4 bytes, stay in a core's cache; a GPU wants fewer, larger launches.
BLOCK_ITEMS_CPU = 1_024
BLOCK_ITEMS_GPU = 32_768


@dataclass(frozen=True)
class Ranks:
    """Where each target stands; row ``t`` belongs to example ``t``.

    greater: (T,) candidates that score above the target.
    ties: (T,) candidates other than the target with its very score.
    candidates: (T,) candidates other than the target.
    """

    greater: Int32Array
    ties: Int32Array
    candidates: Int32Array

    def __len__(self) -> int:
        return len(self.greater)


@dataclass(frozen=True)
class NegativeLists:
    """What the targets of a sampled protocol are ranked against; row ``t`` belongs to example ``t``.

    items: (T, K) item indices, 0 behind each row's end.
    count: (T,) negatives in each row: K, or fewer where the domain has no more unseen items.
    """

    items: Int32Array
    count: Int32Array


def rank(
    model: Recommender,
    examples: Examples,
    item_domain: Int8Array,
    protocol: str | Protocol = "full",
    negatives: NegativeLists | None = None,
    batch_users: int = BATCH_USERS,
    block_items: int | None = None,
    progress: Progress | None = None,
    train_count: Int64Array | None = None,
) -> Ranks:
    """Ranks every target among its candidates.

    The result depends on neither ``batch_users`` nor ``block_items``, as far as the model's user vectors do not.
    A ``VectorRecommender`` is compared exactly (see :mod:`semacdr.evaluation.counting`); the scores of any other model
    are taken as they are.

    Args:
        model: put into evaluation mode for the call; prepared here.
        examples: T (history, target) pairs.
        item_domain: (N+1,) domain of each item.
        protocol: which items compete.
        negatives: the lists of a sampled protocol, in the order of ``examples``.
        batch_users: users scored at once.
        block_items: items scored at once; chosen for the device by default.
        progress: told of the targets that are done.
        train_count: (N+1,) training events of each item, which a protocol of cold items needs.

    Raises:
        InputError: a target that a protocol of cold items cannot rank.
        SemacdrError: the model gives scores that are not numbers.
    """
    protocol = get_protocol(protocol)
    if protocol.only_cold:
        if train_count is None:
            raise ValueError(f"{protocol.name} needs the training events of the items")
        check_targets(protocol, train_count[examples.target])
    if (protocol.num_negatives is None) != (negatives is None):
        raise ValueError(f"negatives are for sampled protocols, and these need them: {protocol.name}")
    device = next(model.buffers()).device  # item_domain, which every model has
    block_items = block_items or (BLOCK_ITEMS_CPU if device.type == "cpu" else BLOCK_ITEMS_GPU)
    counts = np.zeros((3, len(examples)), np.int64)
    if not len(examples):
        return Ranks(*counts.astype(np.int32))
    with scoring(model):
        scorer = scorer_of(model)
        if negatives is not None:
            counts[2] = negatives.count
            for rows, batch in example_batches(examples, item_domain, batch_users, model.max_seq_len):
                counts[:2, rows] = scorer.count_lists(batch.to(device), examples.target[rows], negatives.items[rows])
                if progress:
                    progress.update(len(rows))
            return Ranks(*counts.astype(np.int32))
        for items, members in candidate_sets(examples, item_domain, protocol, train_count):
            scorer.candidates(items, block_items)
            group = examples.select(members)
            for rows, batch in example_batches(group, item_domain, batch_users, model.max_seq_len):
                row, item = left_out(group.select(rows), items, len(item_domain), protocol)
                counts[:2, members[rows]] = scorer.count_all(batch.to(device), group.target[rows], row, item)
                counts[2, members[rows]] = len(items) - 1 - np.bincount(row, minlength=len(rows))
                if progress:
                    progress.update(len(rows))
    return Ranks(*counts.astype(np.int32))


@contextlib.contextmanager
def scoring(model: Recommender) -> Iterator[None]:
    """Evaluation mode, no gradients, and float32 products that are float32 (no TF32 or bfloat16 inside)."""
    training, precision = model.training, torch.get_float32_matmul_precision()
    model.eval()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad():
            model.prepare()
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        model.train(training)


def candidate_sets(
    examples: Examples, item_domain: Int8Array, protocol: Protocol, train_count: Int64Array | None = None
) -> Iterator[tuple[Int64Array, Int64Array]]:
    """The items that compete, and the rows of the examples in whose ranking they do."""
    if protocol.all_domains:
        yield np.arange(1, len(item_domain)), np.arange(len(examples))
        return
    competes = train_count == 0 if protocol.only_cold and train_count is not None else item_domain >= 0
    target_domain = item_domain[examples.target]
    for domain in np.unique(target_domain):
        yield np.flatnonzero(competes & (item_domain == domain)), np.flatnonzero(target_domain == domain)


def left_out(examples: Examples, items: Int64Array, width: int, protocol: Protocol) -> tuple[Int64Array, Int64Array]:
    """(row, item) of the candidates that do not compete: what the user had before, the target excepted."""
    if not protocol.leaves_out_seen:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    row, item = seen_pairs(examples, width - 1)
    candidate = np.zeros(width, np.bool_)
    candidate[items] = True
    kept = candidate[item]
    return row[kept], item[kept]
