"""Counting the items above and level with a target, for scores that are inner products.

Nothing is sorted and no (users, items) array is held: blocks of float32 matrix products are compared with the target's
score and only counted. A BLAS rounds differently for each shape of block, so a float32 comparison is believed only
where the two scores differ by more than rounding can explain; the few closer pairs are settled by a float64 inner
product whose order of summation depends on nothing but D. So the counts are those of exact comparisons, whatever the
blocks, and items with equal vectors are exact ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from semacdr.data.schema import BoolArray, Float64Array, FloatArray, Int32Array, Int64Array

PAIRS_AT_ONCE = 1_024  # settled together: 1 MB at D = 128


def exact_dots(
    users: Float64Array, vectors: FloatArray, row: Int64Array, item: Int64Array | Int32Array
) -> Float64Array:
    """(P,) float64 inner products of ``users[row]`` and ``vectors[item]``, each summed in the same order."""
    dots = np.empty(len(row))
    for first in range(0, len(row), PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        products = users[row[part]]
        products *= vectors[item[part]]
        products.sum(axis=1, out=dots[part])
    return dots


@dataclass(frozen=True)
class Users:
    """Users of a batch, with the score of each one's target and the float32 scores that are too near to it to tell."""

    vectors: Tensor  # (B, D) float32
    exact: Float64Array  # (B, D) the same on the host
    threshold: Float64Array  # (B,) exact score of the target
    low: Tensor  # (B, 1) float32: below is surely less; NaN for a user whose vector is zero
    high: Tensor  # (B, 1) float32: above is surely greater
    zero: BoolArray  # (B,) the user's vector is zero, so every item ties

    @classmethod
    def of(cls, vectors: Tensor, items: FloatArray, target: Int32Array, largest_norm: float) -> Users:
        """Computes the thresholds.

        Args:
            vectors: (B, D) user vectors.
            items: (N+1, D) item vectors on the host.
            target: (B,) item indices.
            largest_norm: of the vectors that will be scored.
        """
        exact = vectors.cpu().numpy().astype(np.float64)
        threshold = exact_dots(exact, items, np.arange(len(exact)), target)
        norm = np.sqrt((exact**2).sum(axis=1))
        # A float32 inner product is off by at most D * 2^-24 * |u| |v| (Higham, Accuracy and Stability, 3.1), whatever
        # the order; twice that leaves room for the rounding of the threshold, the last term for denormals.
        band = vectors.shape[1] * 2.0**-23 * norm * largest_norm + 1e-37
        zero = norm == 0
        low = np.nextafter((threshold - band).astype(np.float32), np.float32(-np.inf))
        high = np.nextafter((threshold + band).astype(np.float32), np.float32(np.inf))
        low[zero] = high[zero] = np.nan

        def column(values: FloatArray) -> Tensor:
            return torch.from_numpy(values).to(vectors.device).unsqueeze(1)

        return cls(vectors, exact, threshold, column(low), column(high), zero)


class VectorCounter:
    """Counts over one set of candidate items.

    Items with equal vectors are scored once and counted as often as they stand, so that a model without an opinion
    costs no more than any other.

    Args:
        vectors: (N+1, D) float32 item vectors.
        host: the same as a numpy array.
        items: (n,) candidate item indices.
        block_items: items scored at once.
    """

    def __init__(self, vectors: Tensor, host: FloatArray, items: Int64Array, block_items: int) -> None:
        self.host, self.total = host, len(items)
        kept, copies = fold_copies(vectors, items)
        self.items, self.copies = items[kept], copies
        self.singles = int((copies == 1).sum())  # fold_copies puts them first
        contiguous = len(kept) > 0 and (np.diff(self.items) == 1).all()
        if contiguous:
            self.vectors = vectors[int(self.items[0]) : int(self.items[-1]) + 1]
        else:
            self.vectors = vectors[torch.from_numpy(self.items).to(vectors.device)]
        self.weights = torch.from_numpy(copies).double().to(vectors.device)
        self.largest_norm = float(torch.linalg.vector_norm(self.vectors, dim=1).max()) * (1 + 1e-5)
        self.blocks = [
            (first, min(first + block_items, end))
            for begin, end in ((0, self.singles), (self.singles, len(kept)))
            for first in range(begin, end, block_items)
        ]

    def count(self, users: Users) -> Int64Array:
        """(2, B): the candidates above each user's target and those level with it, the target among the latter."""
        greater = torch.zeros(len(users.zero), dtype=torch.int64, device=users.vectors.device)
        settled = np.zeros((2, len(users.zero)), np.int64)
        settled[1, users.zero] = self.total
        # One set of arrays for all blocks: allocated anew, they would fragment the heap to many times their size.
        widest = max((end - begin for begin, end in self.blocks), default=0)
        buffers = [users.vectors.new_empty((len(users.zero), widest), dtype=kind) for kind in (None, *[torch.bool] * 2)]
        for begin, end in self.blocks:
            scores, surely, possibly = (buffer[:, : end - begin] for buffer in buffers)  # (B, n)
            torch.mm(users.vectors, self.vectors[begin:end].T, out=scores)
            torch.gt(scores, users.high, out=surely)
            torch.ge(scores, users.low, out=possibly)
            above = _count(surely)
            near = (_count(possibly) - above).nonzero().squeeze(1)
            if begin < self.singles:
                greater += above
            else:
                greater += (surely.double() @ self.weights[begin:end]).long()
            if len(near):
                among, place = (possibly[near] & ~surely[near]).nonzero(as_tuple=True)
                row, column = near[among].cpu().numpy(), place.cpu().numpy() + begin
                settled += compare(users, self.host, row, self.items[column], self.copies[column])
        settled[0] += greater.cpu().numpy()
        return settled


def compare(
    users: Users, host: FloatArray, row: Int64Array, item: Int64Array | Int32Array, copies: Int64Array | None = None
) -> Int64Array:
    """Compares pairs exactly: (2, B), of each user's pairs those above the target and those level with it."""
    score, threshold = exact_dots(users.exact, host, row, item), users.threshold[row]
    counts = [
        np.bincount(row[where], None if copies is None else copies[where], minlength=len(users.threshold))
        for where in (score > threshold, score == threshold)
    ]
    return np.stack(counts).astype(np.int64)


def fold_copies(vectors: Tensor, items: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Finds the items whose vectors are equal bit for bit.

    Returns:
        positions in ``items`` of one item of each distinct vector (M,), those without a copy first, each part
        ascending; and how many items have that vector (M,).
    """
    weights = np.random.default_rng(0).integers(-(2**63), 2**63, size=vectors.shape[1], dtype=np.int64) | 1
    device_weights = torch.from_numpy(weights).to(vectors.device)
    words = vectors.view(torch.int32)
    hashes = np.empty(len(items), np.int64)
    for first in range(0, len(items), PAIRS_AT_ONCE):
        rows = torch.from_numpy(items[first : first + PAIRS_AT_ONCE]).to(vectors.device)
        hashes[first : first + PAIRS_AT_ONCE] = (words[rows].long() * device_weights).sum(dim=1).cpu().numpy()
    _, first_of, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    kept = first_of[inverse]
    follower = np.flatnonzero(kept != np.arange(len(items)))
    for first in range(0, len(follower), PAIRS_AT_ONCE):
        some = follower[first : first + PAIRS_AT_ONCE]
        mine = torch.from_numpy(items[some]).to(vectors.device)
        other = torch.from_numpy(items[kept[some]]).to(vectors.device)
        differs = (words[mine] != words[other]).any(dim=1).cpu().numpy()  # equal hashes by chance
        kept[some[differs]] = some[differs]
    copies = np.bincount(kept, minlength=len(items))
    distinct = np.flatnonzero(copies)
    order = np.argsort(copies[distinct] > 1, kind="stable")
    return distinct[order], copies[distinct[order]]


def _count(mask: Tensor) -> Tensor:
    """(B,) number of true entries in each row; bytes add up several times faster than booleans."""
    return mask.view(torch.uint8).sum(dim=1, dtype=torch.int32)
