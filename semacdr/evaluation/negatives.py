"""Negatives of the sampled protocols: drawn once, by a seed of each user's own, and kept so that all models share them.

A target's negatives are drawn uniformly without replacement from the items of its domain that the user never had: every
event of the user that the data set knows is left out, before and after the target, as are the user's other targets, so
that a validation list never calls an item negative that the test calls positive. A domain with fewer such items gives
all of them.

The draw of a target depends on the protocol's seed, the user's id and the target's position alone: neither the order of
the users nor the other users change it.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semacdr.data.dataset import Dataset
from semacdr.data.schema import BoolArray, Int32Array, Int64Array, SplitName
from semacdr.data.splits import Examples
from semacdr.errors import InputError
from semacdr.evaluation.pairs import ranges, unique_pairs
from semacdr.evaluation.protocols import Protocol, get_protocol
from semacdr.evaluation.ranker import NegativeLists
from semacdr.files import fingerprint, write_atomic
from semacdr.progress import say

FORMAT_VERSION = 1
DEFAULT_SEED = 0
NUMBERS_AT_ONCE = 500_000  # 4 MB an array, about a core's cache
FOLDER = "negatives"


def negative_lists(
    dataset: Dataset, examples: Examples, on: SplitName, protocol: str | Protocol, seed: int = DEFAULT_SEED
) -> NegativeLists:
    """The lists of a sampled protocol, read where an earlier evaluation kept them, else drawn and kept.

    They are kept in the data set's folder, under ``negatives/``, or beside it where that cannot be written.

    Args:
        dataset: the data.
        examples: all the targets of ``on``.
        on: ``valid`` or ``test``; part of the file's name.
        protocol: a sampled one.
        seed: of the protocol.
    """
    protocol = get_protocol(protocol)
    code = _code(dataset, examples, protocol, seed)
    name = f"{protocol.name}-{on}-{seed}-{code[:16]}.npz"
    folders = [dataset.path / FOLDER, dataset.path.with_name(f"{dataset.path.name}-{FOLDER}")]
    for folder in folders:
        lists = _read(folder / name, code)
        if lists is not None:
            return lists
    lists = draw_negatives(dataset, examples, protocol, seed)
    for folder in folders:
        try:
            _write(folder / name, code, lists)
        except OSError:
            continue
        return lists
    say(f"the negatives of {protocol.name} could not be kept in {folders[0]} or {folders[1]}; they are drawn each time")
    return lists


def draw_negatives(
    dataset: Dataset, examples: Examples, protocol: str | Protocol, seed: int = DEFAULT_SEED
) -> NegativeLists:
    """Draws the lists of a sampled protocol; each row ascends.

    Raises:
        InputError: a protocol that ranks all items.
    """
    protocol = get_protocol(protocol)
    wanted = protocol.num_negatives
    if wanted is None:
        raise InputError(f"protocol {protocol.name} has no negatives", fix="sampled-999 or sampled-100")
    row, item = _known_pairs(dataset, examples)
    target_domain = dataset.item_domain[examples.target]
    same = dataset.item_domain[item] == target_domain[row]
    row, item = row[same], item[same]
    known = np.bincount(row, minlength=len(examples))
    position_in_domain = np.zeros(dataset.num_items + 1, np.int64)
    keys = _keys(dataset.user_ids[examples.user].tolist(), (examples.stop - examples.start).tolist(), seed)
    lists = np.zeros((len(examples), wanted), np.int32)
    count = np.zeros(len(examples), np.int32)
    ends = np.cumsum(known)
    for domain in np.unique(target_domain):
        items = np.flatnonzero(dataset.item_domain == domain)
        position_in_domain[items] = np.arange(len(items))
        members = np.flatnonzero(target_domain == domain)
        members = members[np.argsort(known[members], kind="stable")]  # rows of like width together
        count[members] = np.minimum(wanted, len(items) - known[members])
        for rows in _parts(members, known[members], wanted):
            _, at = ranges(ends[rows] - known[rows], ends[rows])
            taken = _padded(position_in_domain[item[at]], known[rows], len(items))
            drawn = _draw(keys[rows], taken, count[rows], len(items))
            lists[rows, : drawn.shape[1]] = np.append(items, 0)[drawn]
    return NegativeLists(lists, count)


def _known_pairs(dataset: Dataset, examples: Examples) -> tuple[Int64Array, Int64Array]:
    """(row, item) of all that each example's user is known to have had, its targets included."""
    row, at = ranges(dataset.offsets[examples.user], dataset.offsets[examples.user + 1])
    rows, items = [row, np.arange(len(examples))], [dataset.items[at], examples.target]
    if dataset.targets is not None:
        by_user = np.argsort(dataset.targets.user, kind="stable")
        users = dataset.targets.user[by_user]
        first, last = np.searchsorted(users, examples.user), np.searchsorted(users, examples.user, side="right")
        row, at = ranges(first.astype(np.int64), last.astype(np.int64))
        rows.append(row)
        items.append(dataset.targets.item[by_user[at]])
    return unique_pairs(np.concatenate(rows), np.concatenate(items), dataset.num_items + 1)


def _keys(user_ids: Sequence[str], positions: Sequence[int], seed: int) -> np.ndarray:
    """(T,) uint64: where each target's stream of random numbers starts."""
    digests = b"".join(
        hashlib.blake2b(f"{seed}\n{position}\n{user}".encode(), digest_size=8).digest()
        for user, position in zip(user_ids, positions, strict=True)
    )
    return np.frombuffer(digests, dtype="<u8")


def _parts(members: Int64Array, known: Int64Array, wanted: int) -> list[Int64Array]:
    """Cuts rows, sorted by width, into parts of about NUMBERS_AT_ONCE random numbers."""
    cumulated = np.cumsum(known + 2 * wanted) // NUMBERS_AT_ONCE
    return np.split(members, np.flatnonzero(np.diff(cumulated)) + 1)


def _padded(values: Int64Array, length: Int64Array, padding: int) -> Int64Array:
    inside = np.arange(length.max(initial=1)) < length[:, None]
    padded = np.full(inside.shape, padding, np.int64)
    padded[inside] = values
    return padded


def _draw(keys: np.ndarray, taken: Int64Array, count: Int32Array, size: int) -> Int64Array:
    """Draws ``count`` of ``range(size)`` without replacement, none of them ``taken``.

    The numbers of a row's stream are read in order and those taken or drawn before are passed over, so the result does
    not depend on how many are read at a time.

    Args:
        keys: (B,) where each row's stream starts.
        taken: (B, S) what a row may not draw, ``size`` as padding.
        count: (B,) how many are wanted, at most as many as are left.
        size: of the range.

    Returns:
        (B, max(count)) ascending, ``size`` behind each row's end.
    """
    most = int(count.max(initial=0))
    drawn = np.full((len(keys), most), size, np.int64)
    todo = np.arange(len(keys))
    # Expected numbers until the n-th new one, and a little more; capped, since the last few of all can take long.
    share = min(0.95, (most + taken.shape[1]) / max(size, 1))
    read = int(-np.log1p(-share) * size * 1.05) + 64
    while len(todo):
        values = _random_below(keys[todo], read, size)
        codes = np.concatenate([taken[todo] << 32, values << 32 | np.arange(1, read + 1)], axis=1)
        codes.sort(axis=1)  # by value, what is taken first, then in the order of drawing
        value, order = codes >> 32, codes & 0xFFFFFFFF
        new: BoolArray = order > 0
        new[:, 1:] &= value[:, 1:] != value[:, :-1]
        enough = new.sum(axis=1) >= count[todo]
        value, order, new = value[enough], order[enough], new[enough]
        ranked = np.where(new, order << 32 | value, np.iinfo(np.int64).max)
        ranked.sort(axis=1)
        first = ranked[:, :most] & 0xFFFFFFFF
        kept = np.arange(first.shape[1]) < count[todo[enough], None]
        drawn[todo[enough], : first.shape[1]] = np.where(kept, first, size)
        todo = todo[~enough]
        read *= 2
    drawn.sort(axis=1)
    return drawn


def _random_below(keys: np.ndarray, count: int, size: int) -> Int64Array:
    """(B, count) of ``range(size)``: SplitMix64 (Steele, Lea, Flood 2014) from each key, the top 53 bits scaled."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = keys[:, None] + steps
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return ((state >> np.uint64(11)) * (2.0**-53 * size)).astype(np.int64)


def _code(dataset: Dataset, examples: Examples, protocol: Protocol, seed: int) -> str:
    """Hash of all that the lists depend on."""
    targets = np.stack([examples.user, examples.target, examples.stop - examples.start]).astype("<i8")
    return fingerprint(
        {
            "format_version": FORMAT_VERSION,
            "dataset": dataset.fingerprint,
            "targets": hashlib.sha256(targets.tobytes()).hexdigest(),
            "protocol": protocol.name,
            "seed": seed,
        }
    )


def _digest(lists: NegativeLists) -> str:
    return hashlib.sha256(lists.items.tobytes() + lists.count.tobytes()).hexdigest()


def _write(path: Path, code: str, lists: NegativeLists) -> None:
    def write(temporary: Path) -> None:
        with open(temporary, "wb") as handle:
            np.savez(handle, items=lists.items, count=lists.count, code=np.array([code, _digest(lists)]))

    write_atomic(path, write)


def _read(path: Path, code: str) -> NegativeLists | None:
    """Kept lists, if they are there, whole and of this very question."""
    if not os.path.isfile(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            lists = NegativeLists(arrays["items"], arrays["count"])
            whole = arrays["code"].tolist() == [code, _digest(lists)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        whole = False
    if not whole:
        say(f"{path} is damaged; its negatives are drawn again")
        return None
    return lists
