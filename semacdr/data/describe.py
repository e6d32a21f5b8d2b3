"""The card of a data set: counts, overlap, lengths, titles, order, the split's targets, and what its order may leak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from semacdr.data import schema
from semacdr.data.dataset import Dataset
from semacdr.data.schema import Int32Array, Int64Array
from semacdr.data.splits import SECONDS_A_DAY, Examples, Split, make_split


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts and shares of a data set, as JSON-able values.

    ``events`` and the lengths include the targets of a published split, which stand beside the histories. A share of
    nothing is null.
    """
    user, item = _all_events(dataset)
    domain = dataset.item_domain[item].astype(np.int64)
    titled = np.r_[False, dataset.item_frame()[schema.TITLE].notna().to_numpy()]
    of_user = np.zeros((dataset.num_users, len(dataset.domains)), np.int64)
    np.add.at(of_user, (user, domain), 1)
    split = make_split(dataset)
    return {
        "name": dataset.name,
        "source_format": dataset.manifest["source_format"],
        "fingerprint": dataset.fingerprint,
        "order": dataset.order,
        "time_unit": dataset.time_unit,
        "period": _period(dataset),
        "users": dataset.num_users,
        "users_in_two_or_more_domains": int((np.count_nonzero(of_user, axis=1) >= 2).sum()),
        "users_in_every_domain": int((of_user > 0).all(axis=1).sum()),
        "items": dataset.num_items,
        "events": len(item),
        "published_targets": 0 if dataset.targets is None else len(dataset.targets.item),
        "length": _lengths(of_user.sum(axis=1)),
        "domains": {
            name: _domain_card(dataset, at, item, of_user[:, at], titled) for at, name in enumerate(dataset.domains)
        },
        "rated_events_share": _rated_share(dataset),
        "repeated_user_item_share": _share(
            len(item) - len(np.unique(user.astype(np.int64) * (dataset.num_items + 1) + item)), len(item)
        ),
        "split": _split_card(dataset, split),
        "leaks": _leaks(dataset, split),
    }


def _all_events(dataset: Dataset) -> tuple[Int64Array, Int32Array]:
    """User and item of every event, published targets included."""
    user = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
    if dataset.targets is None:
        return user, dataset.items
    return np.r_[user, dataset.targets.user], np.r_[dataset.items, dataset.targets.item]


def _share(part: int | float, whole: int) -> float | None:
    return round(float(part) / whole, 4) if whole else None


def _lengths(length: Int64Array) -> dict[str, float]:
    return {
        "min": int(length.min(initial=2**62)) if len(length) else 0,
        "median": float(np.median(length)) if len(length) else 0.0,
        "mean": round(float(length.mean()), 2) if len(length) else 0.0,
        "max": int(length.max(initial=0)),
    }


def _period(dataset: Dataset) -> list[str] | None:
    """First and last day of the events."""
    if dataset.timestamps is None:
        return None
    ends = [int(dataset.timestamps.min()), int(dataset.timestamps.max())]
    return [pd.Timestamp(end, unit="s").strftime("%Y-%m-%d") for end in ends]


def _domain_card(
    dataset: Dataset, domain: int, item: Int32Array, of_user: Int64Array, titled: schema.BoolArray
) -> dict[str, Any]:
    listed = dataset.catalogue().domain_items(domain)
    events = item[dataset.item_domain[item] == domain]
    return {
        "items": len(listed),
        "items_with_events": len(np.unique(events)),
        "users": int((of_user > 0).sum()),
        "events": len(events),
        "length": _lengths(of_user[of_user > 0]),
        "titled_items_share": _share(int(titled[listed].sum()), len(listed)),
        "titled_events_share": _share(int(titled[events].sum()), len(events)),
    }


def _rated_share(dataset: Dataset) -> float | None:
    """Share of the events that have a rating; None where the data have no such column."""
    path = dataset.path / schema.INTERACTIONS
    if schema.RATING not in pq.read_schema(path).names:
        return None
    rating = pq.read_table(path, columns=[schema.RATING]).column(0)
    return _share(len(rating) - rating.null_count, len(rating))


def _split_card(dataset: Dataset, split: Split) -> dict[str, Any]:
    def card(examples: Examples) -> dict[str, Any]:
        domain = dataset.item_domain[examples.target]
        return {
            "targets": len(examples),
            "users": len(np.unique(examples.user)),
            "per_domain": {name: int((domain == at).sum()) for at, name in enumerate(dataset.domains)},
            "cold_share": _share(int((split.train_count[examples.target] == 0).sum()), len(examples)),
            "strict_share": _share(int(examples.strict.sum()), len(examples))
            if dataset.timestamps is not None
            else None,
        }

    return {
        "name": split.name,
        "train_sequences": len(split.train),
        "train_events": int(split.train_count.sum()),
        "valid": card(split.valid),
        "test": card(split.test),
    }


def _leaks(dataset: Dataset, split: Split) -> dict[str, Any]:
    """What the published order gives away, and targets that the history already holds.

    ``same_day_share``: neighbouring events of a user that share a day; ``ascending_inside_a_day_share``: of those, the
    ones in ascending item order (chance is about one half). A model that learns item order gains from the two.
    """
    length = split.test.stop - split.test.start
    rows = np.repeat(np.arange(len(split.test)), length)
    before = split.test.start[rows] + np.arange(len(rows)) - np.repeat(np.cumsum(length) - length, length)
    seen = np.zeros(len(split.test), np.bool_)
    seen[rows[split.test.items[before] == split.test.target[rows]]] = True
    report: dict[str, Any] = {"test_target_in_history_share": _share(int(seen.sum()), len(split.test))}
    if dataset.timestamps is None:
        return report
    user = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
    day = dataset.timestamps // SECONDS_A_DAY
    neighbours = user[1:] == user[:-1]
    same_day = neighbours & (day[1:] == day[:-1])
    ascending = same_day & (dataset.items[1:] > dataset.items[:-1])
    backwards = neighbours & (dataset.timestamps[1:] < dataset.timestamps[:-1])
    return {
        **report,
        "same_day_share": _share(int(same_day.sum()), int(neighbours.sum())),
        "ascending_inside_a_day_share": _share(int(ascending.sum()), int(same_day.sum())),
        "time_goes_back": int(backwards.sum()),
    }


def card_text(card: dict[str, Any]) -> str:
    """The card as a person reads it."""
    period = f", {card['period'][0]} to {card['period'][1]}" if card["period"] else ""
    head = [
        f"{card['name']} (from {card['source_format']}, fingerprint {card['fingerprint'][:12]})",
        f"  order {card['order']}, time unit {card['time_unit']}{period}",
        f"  {card['users']:,} users ({card['users_in_two_or_more_domains']:,} in 2+ domains), {card['items']:,} items, "
        f"{card['events']:,} events"
        + (f" ({card['published_targets']:,} of them published targets)" if card["published_targets"] else ""),
        f"  events a user: median {card['length']['median']:g}, mean {card['length']['mean']:g}, "
        f"{card['length']['min']} to {card['length']['max']}"
        + ("" if card["rated_events_share"] is None else f"; with a rating: {_percent(card['rated_events_share'])}"),
        "",
        f"  {'domain':<16}{'items':>9}{'with events':>13}{'users':>9}{'events':>10}{'median':>8}"
        f"{'titled items':>14}{'events':>8}",
    ]
    for name, domain in card["domains"].items():
        head.append(
            f"  {name:<16}{domain['items']:>9,}{domain['items_with_events']:>13,}{domain['users']:>9,}"
            f"{domain['events']:>10,}{domain['length']['median']:>8g}{_percent(domain['titled_items_share']):>14}"
            f"{_percent(domain['titled_events_share']):>8}"
        )
    split = card["split"]
    head += [
        "",
        f"  split {split['name']}: {split['train_events']:,} training events in {split['train_sequences']:,} sequences",
    ]
    for name in ("valid", "test"):
        part = split[name]
        per_domain = ", ".join(f"{domain} {count:,}" for domain, count in part["per_domain"].items())
        strict = "" if part["strict_share"] is None else f", on a later day {_percent(part['strict_share'])}"
        head.append(
            f"    {name}: {part['targets']:,} targets ({per_domain}), cold {_percent(part['cold_share'])}{strict}"
        )
    leaks = card["leaks"]
    head += ["", f"  leaks: test target already in the history {_percent(leaks['test_target_in_history_share'])}"]
    if "same_day_share" in leaks:
        head.append(
            f"    neighbouring events on one day {_percent(leaks['same_day_share'])}, of those in ascending item order "
            f"{_percent(leaks['ascending_inside_a_day_share'])}; time goes back {leaks['time_goes_back']:,} times"
        )
    return "\n".join(head)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
