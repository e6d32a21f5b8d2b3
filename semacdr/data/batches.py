"""Batches: rows of item indices, padded on the right, and the order in which training visits them.

With padding on the right a causal mask alone keeps every real position from seeing padding, and a row's content does
not depend on how far its batch is padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from semacdr.data.schema import BoolArray, Int32Array, Int64Array
from semacdr.data.splits import Examples, TrainSequences


@dataclass(frozen=True)
class Batch:
    """Rows of histories, with what is to be predicted.

    items: (B, L) item indices, oldest first, 0 after ``length``.
    length: (B,) events in each row, 0 for a user without history.
    targets: (B, L) for training: the item that follows position ``t``, 0 where nothing is predicted; else None.
    first_target: (B,) for training: the item that the empty history predicts, 0 for none; else None.
    target_domain: (B,) for scoring: index of the domain to rank; else None.
    user: (B,) index of each row's user, -1 where unknown; None where nobody says. Only models that read users look.
    """

    items: torch.Tensor
    length: torch.Tensor
    targets: torch.Tensor | None = None
    first_target: torch.Tensor | None = None
    target_domain: torch.Tensor | None = None
    user: torch.Tensor | None = None

    def events(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Everything that a training batch predicts, P events: those of ``targets``, then those of ``first_target``.

        Returns:
            (P,) row, (P,) column of the newest event before it, -1 for the empty history, and (P,) target.
        """
        assert self.targets is not None
        row, column = self.targets.nonzero(as_tuple=True)
        target = self.targets[row, column]
        if self.first_target is None:
            return row, column, target
        opening = self.first_target.nonzero().squeeze(1)  # what a user without history wants
        column = torch.cat([column, torch.full_like(opening, -1)])
        return torch.cat([row, opening]), column, torch.cat([target, self.first_target[opening]])

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(
            self.items.to(device),
            self.length.to(device),
            None if self.targets is None else self.targets.to(device),
            None if self.first_target is None else self.first_target.to(device),
            None if self.target_domain is None else self.target_domain.to(device),
            None if self.user is None else self.user.to(device),
        )


def _padded(items: Int32Array | BoolArray, start: Int64Array, length: Int64Array, width: int) -> Int64Array:
    """(B, width) rows gathered from a flat buffer, 0 behind each row's end."""
    column = np.arange(width)
    inside = column < length[:, None]
    at = np.where(inside, start[:, None] + column, 0)
    return np.where(inside, items[at] if len(items) else 0, 0).astype(np.int64)


def history_batch(
    histories: list[Int32Array],
    target_domain: list[int] | Int64Array,
    max_seq_len: int,
    user: list[int] | Int64Array | None = None,
) -> Batch:
    """A scoring batch from explicit histories; the newest ``max_seq_len`` events of each are kept.

    Args:
        histories: B arrays of item indices, oldest first.
        target_domain: (B,) domain to rank for each.
        max_seq_len: L.
        user: (B,) index of each one's user, -1 where unknown.
    """
    kept = [history[-max_seq_len:] for history in histories]
    length = np.array([len(history) for history in kept], np.int64)
    flat = np.concatenate([*kept, np.zeros(1, np.int32)]).astype(np.int32)
    start = np.cumsum(length) - length
    width = max(1, int(length.max(initial=0)))
    return Batch(
        items=torch.from_numpy(_padded(flat, start, length, width)),
        length=torch.from_numpy(length),
        target_domain=torch.as_tensor(np.asarray(target_domain, dtype=np.int64)),
        user=None if user is None else torch.as_tensor(np.asarray(user, dtype=np.int64)),
    )


def example_batches(
    examples: Examples, item_domain: np.ndarray, batch_size: int, max_seq_len: int
) -> Iterator[tuple[Int64Array, Batch]]:
    """Scoring batches over held-out pairs, sorted by length so that little is padded.

    Yields:
        the rows of ``examples`` in the batch (B,), and the batch, whose ``target_domain`` is that of the target.
    """
    length = np.minimum(examples.stop - examples.start, max_seq_len)
    order = np.argsort(length, kind="stable")
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        width = max(1, int(length[rows].max(initial=0)))
        begin = examples.stop[rows] - length[rows]
        yield (
            rows,
            Batch(
                items=torch.from_numpy(_padded(examples.items, begin, length[rows], width)),
                length=torch.from_numpy(length[rows]),
                target_domain=torch.from_numpy(item_domain[examples.target[rows]].astype(np.int64)),
                user=torch.from_numpy(examples.user[rows].astype(np.int64)),
            ),
        )


class TrainBatches:
    """Training batches of whole sequences, every position a target, rows of like length together.

    ``batch_size`` is the mean number of rows. Batches hold about equally many events rather than rows: with equal rows,
    a batch of short ones would be a step of few, overweighted targets, and a batch of long ones a costly one.
    An epoch's order depends on the seed and the epoch alone, so that a resumed run sees what an unbroken one would.
    Sequences with fewer than two events are left out, and so are windows that teach nothing. A longer sequence than
    ``max_seq_len + 1`` is cut into windows that overlap by nothing in their targets: the newest window is full, the
    oldest takes the rest.
    """

    def __init__(self, train: TrainSequences, batch_size: int, max_seq_len: int, seed: int) -> None:
        self.train, self.batch_size, self.max_seq_len, self.seed = train, batch_size, max_seq_len, seed
        start, stop, opens, sequence = _windows(train.start, train.stop, max_seq_len)
        targets_before = np.r_[0, np.cumsum(train.is_target)]
        teaches = targets_before[stop] > targets_before[np.where(opens, start, start + 1)]
        self.start, self.stop, self.opens = start[teaches], stop[teaches], opens[teaches]
        self.user = train.user[sequence[teaches]].astype(np.int64)

    def __len__(self) -> int:
        return -(-len(self.start) // self.batch_size)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from ``first_batch`` on."""
        random = np.random.default_rng([self.seed, epoch])
        length = self.stop - self.start - 1  # inputs: the last event is only a target
        # Sorting by length with a little noise keeps padding low and still mixes who meets whom.
        noisy = length + random.uniform(-1.5, 1.5, len(length))
        order = np.argsort(noisy, kind="stable")
        batches = np.split(order, _even_cuts(length[order] + 1, len(self)))
        for index in random.permutation(len(self))[first_batch:]:
            yield self._batch(batches[index], length)

    def _batch(self, rows: Int64Array, length: Int64Array) -> Batch:
        start, size = self.start[rows], length[rows]
        width = int(size.max())
        items = _padded(self.train.items, start, size, width)
        targets = _padded(self.train.items, start + 1, size, width)
        wanted = _padded(self.train.is_target, start + 1, size, width)
        first = np.where(self.opens[rows] & self.train.is_target[start], self.train.items[start], 0)
        return Batch(
            items=torch.from_numpy(items),
            length=torch.from_numpy(size),
            targets=torch.from_numpy(targets * wanted),
            first_target=torch.from_numpy(first.astype(np.int64)),
            user=torch.from_numpy(self.user[rows]),
        )


def _even_cuts(size: Int64Array, pieces: int) -> Int64Array:
    """Where to cut a list into as many non-empty pieces, of about equal sums of ``size``: (pieces - 1,) ascending."""
    piece = np.arange(1, pieces)
    total = np.cumsum(size)
    cuts = np.searchsorted(total, total[-1:] * piece / max(pieces, 1), side="right")
    cuts = np.maximum.accumulate(np.maximum(cuts - piece, 0)) + piece  # at least one before each cut
    return np.minimum(cuts, len(size) - pieces + piece)  # and one behind


def _windows(
    start: Int64Array, stop: Int64Array, max_seq_len: int
) -> tuple[Int64Array, Int64Array, BoolArray, Int64Array]:
    """Cuts [start, stop) into windows of at most ``max_seq_len`` inputs, each event a target at most once.

    Returns:
        start and stop of each window, whether it opens its sequence, and the index of that sequence.
    """
    keep = stop - start >= 2
    sequence = np.flatnonzero(keep)
    start, stop = start[keep], stop[keep]
    inputs = stop - start - 1
    pieces = -(-inputs // max_seq_len)
    row = np.repeat(np.arange(len(start)), pieces)
    back = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # 0 = the newest window
    window_stop = stop[row] - back * max_seq_len
    window_start = np.maximum(start[row], window_stop - max_seq_len - 1)
    return window_start, window_stop, window_start == start[row], sequence[row]
