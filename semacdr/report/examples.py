"""A few test users: what they did, what was held out, and what a model would have shown them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from semacdr.data.batches import history_batch
from semacdr.run import LoadedRun

USERS = 6
SHOWN = 12  # of a history, the newest
TOP = 10


def examples(run: LoadedRun) -> list[dict[str, Any]]:
    """Some test targets, the same for every run on the same data and split.

    Returns:
        a list of ``{user, domain, target, events, history, top}``: item ids, the history's oldest first; ``top`` are
        the best of what competes under protocol ``full``: the target, and the items of its domain that the history does
        not hold. Level ones stand in the order of their index.
    """
    data, held_out = run.dataset, run.split.test
    usable = np.flatnonzero(held_out.stop > held_out.start)
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(usable, min(USERS, len(usable)), replace=False))
    found = []
    for row in rows.tolist():
        history, target = held_out.history(row), int(held_out.target[row])
        domain = int(data.item_domain[target])
        members = np.flatnonzero(data.item_domain == domain)
        candidates = torch.from_numpy(members[~np.isin(members, history) | (members == target)])
        batch = history_batch([history], [domain], run.model.max_seq_len, [int(held_out.user[row])])
        with torch.no_grad():
            scores = run.model.score(run.model.encode(batch), candidates)[0]
        best = candidates[torch.sort(scores, descending=True, stable=True).indices[:TOP]].tolist()
        found.append(
            {
                "user": str(data.user_ids[held_out.user[row]]),
                "domain": data.domains[domain],
                "target": str(data.item_ids[target]),
                "events": len(history),
                "history": [str(data.item_ids[item]) for item in history[-SHOWN:]],
                "top": [str(data.item_ids[item]) for item in best],
            }
        )
    return found
