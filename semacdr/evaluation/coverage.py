"""Coverage: how much of a catalogue is ever recommended.

coverage@k of a domain is the share of its items that stand in the first k of at least one target's ranking under
protocol ``full``: the same candidates, seen items left out. Of all domains it is the share of all their items. (DGRec,
Yang et al., WSDM 2023, counts the categories of the items instead, which few data sets have.)

Unlike a rank this needs the top of every list, so it is a pass of its own, made where it is asked for. Of items with
one score those that come first in the data set stand first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from semacdr.data.batches import Batch, example_batches
from semacdr.data.schema import Int8Array, Int64Array
from semacdr.data.splits import Examples
from semacdr.errors import InputError, SemacdrError
from semacdr.evaluation.protocols import PROTOCOLS
from semacdr.evaluation.ranker import BATCH_USERS, BLOCK_ITEMS_CPU, candidate_sets, left_out, scoring
from semacdr.models.base import Recommender, VectorRecommender
from semacdr.progress import Progress

FULL = PROTOCOLS["full"]
SCORES_AT_ONCE = 1 << 23  # 32 MB, and less than three times that for what is compared with them


def metric_name(k: int) -> str:
    """``coverage@10``."""
    return f"coverage@{k}"


def is_coverage(metric: str) -> bool:
    """Whether a metric is about a catalogue, so that no target has a value of its own."""
    return metric.startswith("coverage@")


def parse_ks(text: str) -> list[int]:
    """``"10,100"`` to ``[10, 100]``.

    Raises:
        InputError: not whole numbers above zero.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"--coverage {text}: whole numbers above zero, with commas", fix="--coverage 10,100")
    return list(dict.fromkeys(int(part) for part in parts))


def covered_items(
    model: Recommender,
    examples: Examples,
    item_domain: Int8Array,
    ks: Sequence[int],
    scores_at_once: int = SCORES_AT_ONCE,
    progress: Progress | None = None,
) -> np.ndarray:
    """Which items stand in the first k of any example's ranking under protocol ``full``.

    Inner products are summed in float64 and compared in float32, so that neither the number of users nor that of items
    at once decides between near scores; those of other models are taken as they are.

    Args:
        model: put into evaluation mode for the call; prepared here.
        examples: T (history, target) pairs.
        item_domain: (N+1,) domain of each item.
        ks: lengths of the top.
        scores_at_once: held in memory.
        progress: told of the targets that are done.

    Returns:
        (len(ks), N+1) booleans.

    Raises:
        SemacdrError: the model gives scores that are not numbers.
    """
    device = next(model.buffers()).device  # item_domain, which every model has
    covered = torch.zeros(len(ks), len(item_domain), dtype=torch.bool, device=device)
    if not len(examples) or not ks:
        return covered.cpu().numpy()
    with scoring(model):
        for items, members in candidate_sets(examples, item_domain, FULL):
            group, width = examples.select(members), len(items)
            users = max(1, min(BATCH_USERS, scores_at_once // width))
            place = torch.from_numpy(items.astype(np.int64)).to(device)
            for rows, batch in example_batches(group, item_domain, users, model.max_seq_len):
                scores = _scores(model, batch.to(device), place)  # (B, width)
                row, item = left_out(group.select(rows), items, len(item_domain), FULL)
                scores[torch.from_numpy(row), torch.from_numpy(np.searchsorted(items, item))] = -torch.inf
                top = scores.topk(min(max(ks), width), dim=1).values
                for at, k in enumerate(ks):
                    covered[at, place] |= _first(scores, top[:, min(k, width) - 1, None], k).any(dim=0)
                if progress:
                    progress.update(len(rows))
    return covered.cpu().numpy()


def coverage(
    covered: np.ndarray, item_domain: Int8Array, domains: Sequence[str], tested: Int64Array | Int8Array
) -> dict[str, list[float]]:
    """Domain -> share of its items for each k, the domain ``all`` first.

    Args:
        covered: see :func:`covered_items`.
        item_domain: (N+1,) domain of each item.
        domains: names.
        tested: (T,) domain of each target; a domain without any has no lists and no row.
    """
    places = {"all": np.isin(item_domain, np.unique(tested))}
    places |= {domains[index]: item_domain == index for index in np.unique(tested)}
    return {name: (covered[:, inside].sum(axis=1) / inside.sum()).tolist() for name, inside in places.items()}


def _scores(model: Recommender, batch: Batch, items: Tensor) -> Tensor:
    """(B, n) float32 scores, an array of their own."""
    encoded = model.encode(batch)
    scores = torch.empty(len(batch.items), len(items), device=items.device)
    for first in range(0, len(items), BLOCK_ITEMS_CPU):
        part = items[first : first + BLOCK_ITEMS_CPU]
        if isinstance(model, VectorRecommender):
            found = encoded.double() @ model.prepared_items()[part].double().T
        else:
            found = model.score(encoded, part)
        scores[:, first : first + len(part)] = found
    if not torch.isfinite(scores).all():
        raise SemacdrError(f"{type(model).__name__} gives scores that are not finite numbers, so nothing has a top")
    return scores


def _first(scores: Tensor, last: Tensor, k: int) -> Tensor:
    """(B, n) the first k of each row, whose k-th score is ``last`` (B, 1); -inf is never among them."""
    above, level = scores > last, (scores == last) & (last > -torch.inf)
    return above | (level & (level.cumsum(dim=1, dtype=torch.int32) <= k - above.sum(dim=1, keepdim=True)))
