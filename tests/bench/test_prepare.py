"""Data sets of a bench: made once, made again when their input changes, kept when it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from semacdr.bench.config import DatasetEntry
from semacdr.bench.prepare import DataRoot, prepare, prepared
from semacdr.errors import InputError

ENTRY = DatasetEntry.model_validate({"name": "shop", "format": "table", "input": "in.csv"})


def here(folder: Path) -> DataRoot:
    return DataRoot(folder, folder / "config")


def write_input(path: Path, users: int) -> None:
    lines = [f"u{user},{domain}{at},{domain},{at}" for user in range(users) for at, domain in enumerate("xyxy")]
    path.write_text("user_id,item_id,domain,timestamp\n" + "\n".join(lines) + "\n")


def test_made_once_and_again_when_something_changes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_input(tmp_path / "in.csv", 5)
    assert prepared(ENTRY, out, here(tmp_path)) is None
    first = prepare(ENTRY, out, here(tmp_path))
    made = (first.folder / "dataset.json").stat().st_mtime_ns
    assert prepare(ENTRY, out, here(tmp_path)) == first == prepared(ENTRY, out, here(tmp_path))
    assert (first.folder / "dataset.json").stat().st_mtime_ns == made
    write_input(tmp_path / "in.csv", 6)
    assert prepared(ENTRY, out, here(tmp_path)) is None
    second = prepare(ENTRY, out, here(tmp_path))
    assert second.fingerprint != first.fingerprint
    (tmp_path / "in.csv").unlink()
    assert prepare(ENTRY, out, here(tmp_path)) == second
    changed = DatasetEntry.model_validate({**ENTRY.model_dump(exclude_defaults=True), "convert": {"keep_last": 2}})
    with pytest.raises(InputError, match="no such file"):
        prepare(changed, out, here(tmp_path))


def test_a_half_made_data_set_is_made_again(tmp_path: Path) -> None:
    write_input(tmp_path / "in.csv", 5)
    first = prepare(ENTRY, tmp_path / "out", here(tmp_path))
    (tmp_path / "out" / "data" / "shop.made.json").unlink()  # as if a kill came before it
    assert prepared(ENTRY, tmp_path / "out", here(tmp_path)) is None
    assert prepare(ENTRY, tmp_path / "out", here(tmp_path)).fingerprint == first.fingerprint


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    write_input(tmp_path / "in.csv", 5)
    made = prepare(ENTRY, tmp_path / "out", here(tmp_path))
    entry = DatasetEntry.model_validate({"name": "again", "folder": "data/shop"})
    assert prepare(entry, tmp_path / "other", here(tmp_path / "out")).fingerprint == made.fingerprint
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match="--data-root"):
        prepare(entry, tmp_path / "other", here(tmp_path))


def test_what_is_not_below_the_data_root_is_looked_for_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    write_input(tmp_path / "config" / "in.csv", 5)
    assert prepare(ENTRY, tmp_path / "out", here(tmp_path)).manifest["counts"]["users"] == 5
    write_input(tmp_path / "in.csv", 6)
    assert prepare(ENTRY, tmp_path / "out", here(tmp_path)).manifest["counts"]["users"] == 6


def test_a_table_that_nothing_reads_is_not_made(tmp_path: Path) -> None:
    write_input(tmp_path / "in.csv", 5)
    entry = DatasetEntry.model_validate({**ENTRY.model_dump(exclude_defaults=True), "embeddings": {}})
    found = prepare(entry, tmp_path / "out", here(tmp_path), subjects=())
    assert (found.tables, found.missing) == ({}, ("items",))
    assert not (tmp_path / "out" / "embeddings").exists()


def test_a_table_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from semacdr.bench import prepare as module
    from tests.planted import write_planted, write_vectors

    data = write_planted(tmp_path / "data", users=10)
    entry = DatasetEntry.model_validate({"name": "planted", "folder": "data", "embeddings": {}})
    made = []

    def embed(words: list[str]) -> None:
        made.append(words[:-1])
        write_vectors(tmp_path / "out" / "embeddings" / "planted", data)

    monkeypatch.setattr(module, "command", embed)
    first = prepare(entry, tmp_path / "out", here(tmp_path))
    assert prepare(entry, tmp_path / "out", here(tmp_path)) == first
    assert first.missing == ()
    assert first.table_fingerprints["items"].startswith("planted")
    assert len(made) == 1
    given = DatasetEntry.model_validate(
        {"name": "planted", "folder": "data", "embeddings": {"folder": "out/embeddings/planted"}}
    )
    assert prepare(given, tmp_path / "other", here(tmp_path)).table_fingerprints == first.table_fingerprints


def test_semantic_ids_are_made_once_and_again_when_their_settings_change(tmp_path: Path) -> None:
    from tests.planted import write_planted, write_vectors

    data = write_planted(tmp_path / "data", users=10)
    write_vectors(tmp_path / "table", data)
    plain = {"name": "planted", "folder": "data", "embeddings": {"folder": "table"}}
    assert prepare(DatasetEntry.model_validate(plain), tmp_path / "out", here(tmp_path)).tables.keys() == {"items"}
    entry = DatasetEntry.model_validate({**plain, "ids": {"levels": 2, "codes": 4}})
    unread = prepare(entry, tmp_path / "out", here(tmp_path), subjects=("items",))
    assert unread.missing == ("ids",)
    first = prepare(entry, tmp_path / "out", here(tmp_path))
    made = (first.tables["ids"] / "manifest.json").stat().st_mtime_ns
    assert (
        prepare(entry, tmp_path / "out", here(tmp_path)) == first == prepared(entry, tmp_path / "out", here(tmp_path))
    )
    assert (first.tables["ids"] / "manifest.json").stat().st_mtime_ns == made
    other = DatasetEntry.model_validate({**plain, "ids": {"levels": 2, "codes": 5}})
    assert prepare(other, tmp_path / "out", here(tmp_path)).table_fingerprints["ids"] != first.table_fingerprints["ids"]


def test_ids_of_a_table_that_is_to_be_made_again_are_missing_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a line that reads ids alone counts as done by those of the old table."""
    from semacdr.bench import prepare as module
    from tests.planted import write_planted, write_vectors

    data = write_planted(tmp_path / "data", users=10)
    run = module.command

    def command(words: list[str]) -> None:
        if words[0] == "embed":
            write_vectors(tmp_path / "out" / "embeddings" / "planted", data, seed=int(words[-1]))
        else:
            run(words)

    def entry(encoder: str) -> DatasetEntry:
        ids = {"levels": 1, "codes": 4}
        own = {"name": "planted", "folder": "data", "embeddings": {"encoder": encoder}, "ids": ids}
        return DatasetEntry.model_validate(own)

    monkeypatch.setattr(module, "command", command)
    first = prepare(entry("1"), tmp_path / "out", here(tmp_path), subjects=("ids",))
    assert first.missing == ()
    there = prepared(entry("2"), tmp_path / "out", here(tmp_path))
    assert there is not None
    assert (there.tables, there.missing) == ({}, ("items", "ids"))
    second = prepare(entry("2"), tmp_path / "out", here(tmp_path), subjects=("ids",))
    assert second.missing == ()
    assert second.table_fingerprints["ids"] != first.table_fingerprints["ids"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"ids": {"levls": 2}, "embeddings": {}}, "levels"), ({"ids": {}}, "made of its embeddings")],
)
def test_ids_that_cannot_be_made(changes: dict[str, object], said: str) -> None:
    with pytest.raises((InputError, ValueError), match=said):
        DatasetEntry.model_validate({"name": "planted", "folder": "data", **changes})
