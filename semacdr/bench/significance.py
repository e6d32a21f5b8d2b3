"""Who is really ahead: the best model of each domain against every other, paired over users, Holm-corrected.

A family is all tests of one data set, protocol and metric, over domains. Published rows have no users of ours and take
no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from semacdr.bench.systems import System
from semacdr.data.schema import Float64Array
from semacdr.errors import InputError
from semacdr.evaluation.evaluate import ALL
from semacdr.evaluation.metrics import lower_is_better
from semacdr.evaluation.paired import TARGET, frame_values, holm, paired_tests, target_frames

BOOTSTRAP = 2_000
LEVEL = 0.05


def best_against_others(systems: Sequence[System], protocol: str, metric: str) -> list[dict[str, Any]]:
    """Tests of one data set: in each domain, and over all, the best system against every other.

    Systems that are about one domain meet those of the same domain alone.

    Args:
        systems: of one data set, all evaluated under the protocol.
        protocol: which items competed.
        metric: of a target.

    Returns:
        a row a test: ``dataset, protocol, metric, domain, best, model, mean`` of the model, ``best_mean``,
        ``difference`` (model minus best), ``relative`` to the best, ``ci_low, ci_high`` of the difference,
        ``p_value, p_holm, effect_size, n_users, n_targets, family`` (how many tests).

    Raises:
        InputError: systems that were tested on different targets.
    """
    groups: dict[str | None, list[System]] = {}
    for system in systems:
        groups.setdefault(system.domain, []).append(system)
    rows = [row for group in groups.values() if len(group) > 1 for row in _tests(group, protocol, metric)]
    corrected = holm([row["p_value"] for row in rows])
    return [{**row, "p_holm": p, "family": len(rows)} for row, p in zip(rows, corrected)]


def _tests(systems: Sequence[System], protocol: str, metric: str) -> list[dict[str, Any]]:
    """Of systems on the same targets, not yet corrected."""
    targets, values = _values(systems, protocol, metric)
    user = pd.factorize(targets["user_id"])[0].astype(np.int64)
    domain = targets["domain"].to_numpy()
    names = list(dict.fromkeys(domain))
    rows: list[dict[str, Any]] = []
    for place in [*names, ALL] if len(names) > 1 else names:
        inside = (domain == place) | (place == ALL)
        means = values[inside].mean(axis=0)
        best = int(means.argmin() if lower_is_better(metric) else means.argmax())
        others = [at for at in range(len(systems)) if at != best]
        found = paired_tests(values[inside][:, others], values[inside, best], user[inside], BOOTSTRAP)
        rows += [
            {
                "dataset": systems[0].dataset,
                "protocol": protocol,
                "metric": metric,
                "domain": place,
                "best": systems[best].label,
                "model": systems[at].label,
                "mean": test.mean,
                "best_mean": test.other,
                "difference": test.difference,
                "relative": test.difference / test.other if test.other else None,
                "ci_low": test.ci_low,
                "ci_high": test.ci_high,
                "p_value": test.p_value,
                "effect_size": test.effect_size,
                "n_users": test.users,
                "n_targets": test.targets,
            }
            for at, test in zip(others, found)
        ]
    return rows


def _values(systems: Sequence[System], protocol: str, metric: str) -> tuple[pd.DataFrame, Float64Array]:
    """The targets that all systems share, and (T, M) values, seeds averaged."""
    columns = []
    targets: pd.DataFrame | None = None
    for system in systems:
        frames = target_frames(system.runs, protocol)
        mine = frames[0][list(TARGET)]
        if targets is not None and not targets.equals(mine):
            raise InputError(
                f"{system.label} was tested on other targets than {systems[0].label}",
                fix="compare runs on one data set and split",
            )
        targets = mine
        columns.append(np.mean([frame_values(frame, [metric])[:, 0] for frame in frames], axis=0))
    assert targets is not None
    return targets, np.stack(columns, axis=1)
