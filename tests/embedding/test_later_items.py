"""Items that came after the ids were made: their ids are new, unique, and lead back to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from semacdr.embedding.build_ids import build_ids
from semacdr.embedding.id_settings import IdSettings, id_settings
from semacdr.embedding.semantic_ids import SemanticIds
from semacdr.errors import InputError
from tests.embedding.clustered import clustered, id_input


def test_new_items_take_free_ids(tmp_path: Path) -> None:
    vectors = clustered(200)
    build_ids(id_input(vectors[:150]), tmp_path / "ids", IdSettings(levels=2, codes=4))
    ids = SemanticIds.load(tmp_path / "ids")
    new = ids.encode(vectors[150:])
    assert ids.decode(new) == [None] * 50
    assert len(np.unique(np.concatenate([ids.codes, new]), axis=0)) == 200
    np.testing.assert_array_equal(new[:, :-1], ids.nearest(vectors[150:]))
    again = ids.encode(np.stack([vectors[150], vectors[150], vectors[3], vectors[3]]))
    assert len(np.unique(again, axis=0)) == 4
    assert ids.decode(again) == [None, None, "i3", None], "a second item with the text of i3 is not i3"
    assert ids.encode(vectors[150:151]).tolist() == new[:1].tolist()


@pytest.mark.parametrize("collisions", ["token", "sinkhorn"])
def test_items_of_later_days_join_the_ids(tmp_path: Path, collisions: str) -> None:
    vectors = clustered(200)
    build_ids(
        id_input(vectors[:150]), tmp_path / "ids", id_settings({"levels": 2, "codes": 8, "collisions": collisions})
    )
    ids = SemanticIds.load(tmp_path / "ids")
    moved = (ids.nearest(vectors[:150]) != ids.codes[:, :-1]).any(1)  # by re-assignment
    assert moved.any() == (collisions == "sinkhorn")
    like = int(moved.argmax()) if moved.any() else 3
    monday = ids.with_items([f"new{at}" for at in range(30)], vectors[150:180], ["food"] * 30)
    tuesday = monday.with_items(
        ["copy", "again", *(f"late{at}" for at in range(20))], vectors[[like, 150, *range(180, 200)]]
    )
    assert len(np.unique(tuesday.codes, axis=0)) == len(tuesday.item_ids) == 202
    assert tuesday.decode(tuesday.codes) == list(tuesday.item_ids)
    np.testing.assert_array_equal(tuesday.codes[:150], ids.codes, "no id changes")
    np.testing.assert_array_equal(tuesday.codes[150:180], monday.codes[150:])
    np.testing.assert_array_equal(monday.codes[150:, :-1], ids.nearest(vectors[150:180]))
    copy, again = tuesday.codes_of(["copy", "again"])
    assert copy[:-1].tolist() == ids.codes[like, :-1].tolist(), "the codes of its model, re-assigned or not"
    assert again[:-1].tolist() == monday.codes_of(["new0"])[0, :-1].tolist()
    assert "copy" in tuesday.with_prefix(ids.codes[like, :-1].tolist())
    assert tuesday.decode(tuesday.encode(vectors[150:151])) == ["new0"]
    assert list(tuesday.domains[150:]) == ["food"] * 30 + [None] * 22
    assert len({ids.fingerprint, monday.fingerprint, tuesday.fingerprint}) == 3
    assert "statistics" not in monday.manifest
    assert "statistics" in ids.manifest
    assert len(ids.item_ids) == 150, "the ids before stay as they are"
    for items in (["i3"], ["new31", "new31"]):
        with pytest.raises(InputError, match="have an id already or are given twice"):
            ids.with_items(items, vectors[: len(items)])
    assert ids.with_items([], np.zeros((0, 8), np.float32)) is ids
    numbered = ids.with_items([7], vectors[150:151], [np.nan])  # type: ignore[list-item]
    assert numbered.domains[150] is None
    np.testing.assert_array_equal(numbered.codes_of([7]), numbered.codes[150:])  # type: ignore[list-item]
    for several in (np.array(["tea", None], object), pd.Series(["tea", None])):
        known = ids.with_items(["a", "b"], vectors[150:152], several)  # type: ignore[arg-type]
        assert list(known.domains[150:]) == ["tea", None]
    for domains in ("fo", [1, 2]):
        with pytest.raises(InputError, match="a list of names"):
            ids.with_items(["a", "b"], vectors[150:152], domains)  # type: ignore[arg-type]
    assert ids.with_prefix([0] * 9) == []
    with pytest.raises(ValueError, match="2 items, 1 vectors"):
        ids.with_items(["a", "b"], vectors[:1])
