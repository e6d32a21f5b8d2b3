"""The card of data worked out by hand."""

from __future__ import annotations

import json

from semacdr.data.describe import card_text, describe
from tests.data import raw_files
from tests.data.raw_files import converted


def test_card_of_two_domains(tmp_path):
    card = describe(converted(tmp_path / "d", "abxi", raw_files.abxi(tmp_path / "raw")))
    json.dumps(card, allow_nan=False)
    assert (card["users"], card["users_in_two_or_more_domains"], card["items"], card["events"]) == (2, 2, 4, 7)
    assert card["length"] == {"min": 3, "median": 3.5, "mean": 3.5, "max": 4}
    assert card["domains"]["tea"] == {
        "items": 2,
        "items_with_events": 2,
        "users": 2,
        "events": 3,
        "length": {"min": 1, "median": 1.5, "mean": 1.5, "max": 2},
        "titled_items_share": 0.5,
        "titled_events_share": 0.6667,
    }
    assert card["period"] == ["1970-01-02", "1970-01-04"]
    # A: 1 3 | 4 2 with two days, B: 3, 1, 3 on three days. Tests are A's 2 (same day, never trained) and B's 3.
    assert card["split"]["test"] == {
        "targets": 2,
        "users": 2,
        "per_domain": {"tea": 1, "pans": 1},
        "cold_share": 0.5,
        "strict_share": 0.5,
    }
    assert card["repeated_user_item_share"] == round(1 / 7, 4)
    assert card["leaks"] == {
        "test_target_in_history_share": 0.5,
        "same_day_share": 0.4,
        "ascending_inside_a_day_share": 0.5,
        "time_goes_back": 0,
    }
    assert "2 users (2 in 2+ domains), 4 items, 7 events" in card_text(card)


def test_published_targets_count_as_events(tmp_path):
    card = describe(converted(tmp_path / "d", "urllm", raw_files.urllm(tmp_path / "raw")))
    assert (card["events"], card["published_targets"], card["users"]) == (10, 4, 3)
    assert card["domains"]["art"]["items_with_events"] == 2
    assert card["split"]["name"] == "published"
    assert card["split"]["train_events"] == 4
    assert card["split"]["test"]["strict_share"] is None
    assert "of them published targets" in card_text(card)


def test_an_order_within_domains(tmp_path):
    card = describe(converted(tmp_path / "d", "s3rec", raw_files.s3rec(tmp_path / "raw")))
    assert (card["order"], card["time_unit"], card["users_in_two_or_more_domains"]) == ("within-domain", "none", 1)
    assert card["domains"]["rugs"]["titled_items_share"] == 0.5
    assert card["split"]["test"]["targets"] == 1
    assert "split leave-one-out per domain" in card_text(card)
