"""What is shown of a user: clusters, profile, prompts as they would be asked now, and what has changed since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semacdr.cli import main
from semacdr.embedding.build import build_table
from semacdr.profiling.store import AnswerStore, ProfileRow
from semacdr.profiling.users import users_of
from tests.embedding.test_encoder import FakeEncoder
from tests.profiling.small import FakeEngine
from tests.profiling.test_users import CLUSTERS, USERS, write_users

Told = dict[str, dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wares with profiles of their users; about half of the questions took two answers."""
    monkeypatch.setattr("semacdr.profiling.engines.make_engine", lambda *_, **__: FakeEngine(bad=0.5))
    monkeypatch.setattr("semacdr.profiling.clusters.Clusters.of", lambda *_: np.array([*CLUSTERS.values()]))
    build_table(write_users(tmp_path / "data"), FakeEncoder(), tmp_path / "items")
    assert main(["profile", "users", *arguments(tmp_path), "--embeddings", str(tmp_path / "items"), "--quiet"]) == 0
    return tmp_path


def arguments(folder: Path, data: str = "data") -> list[str]:
    return ["--dataset", str(folder / data), "--store", str(folder / "s.sqlite")]


def shown(folder: Path, capsys: pytest.CaptureFixture[str], user: str, *more: str, data: str = "data") -> Told:
    capsys.readouterr()
    assert main(["profile", "show", "--user", user, *arguments(folder, data), "--json", *more]) == 0
    return {entry["item_id"]: entry for entry in json.loads(capsys.readouterr().out)}


def test_clusters_and_profile_with_their_prompts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = ["--embeddings", str(folder / "items")]
    told = shown(folder, capsys, "4", *table)
    assert list(told) == ["4#0", "4#1", "4#2", "4"]
    assert all(entry["prompt_unchanged"] and not entry["other_text"] for entry in told.values())
    assert all(entry["answer_key"] and entry["parse_key"] and entry["kind"] == "valid" for entry in told.values())
    jugs, overall = told["4#0"], told["4"]
    assert "- Jug in blue\n- Jug in green\n" in jugs["messages"][-1]["content"]
    summaries = "".join(f"- {told[name]['text']}\n" for name in ("4#0", "4#1", "4#2"))
    assert summaries in overall["messages"][-1]["content"] + "\n"
    for entry in told.values():
        assert [attempt["kind"] for attempt in entry["attempts"]] == ["unfinished"] * entry["attempt"] + ["valid"]
    assert any(entry["attempt"] for user in USERS if user != "3" for entry in shown(folder, capsys, user).values())
    assert main(["profile", "show", "--user", "4", *arguments(folder), *table]) == 0
    out, err = capsys.readouterr()
    assert "== user_cluster 4#1: valid  (user/cluster@v1, fake-model 1)" in out
    assert "== user_overall 4: valid" in out
    assert f"[keys] answer {overall['answer_key']}" in out
    assert "has changed" not in out
    assert "--embeddings" not in err


def test_without_the_table_answers_and_keys_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(folder, capsys, "1")
    assert list(told) == ["1#0", "1#1", "1"]
    assert not any("messages" in entry or entry["other_text"] for entry in told.values())
    assert main(["profile", "show", "--user", "1", *arguments(folder)]) == 0
    assert "the prompts are shown with --embeddings DIR" in capsys.readouterr().err


def test_what_changed_since_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Item 3, a jug, becomes known of user 1; the kites of user 4 are not known any more."""
    users = {**USERS, "1": [*USERS["1"], 8], "4": [9, 1, 2, 3, 4]}
    write_users(folder / "later", users)
    table = ["--embeddings", str(folder / "items")]
    told = shown(folder, capsys, "1", *table, data="later")
    assert [entry["prompt_unchanged"] for entry in told.values()] == [False, True, True]
    assert [entry["other_text"] for entry in told.values()] == [False, False, True]
    told = shown(folder, capsys, "4", *table, data="later")
    assert {name: entry["other_text"] for name, entry in told.items()} == {
        "4#0": False,
        "4#1": True,  # nothing would be asked about it now
        "4#2": False,
        "4": True,
    }
    assert main(["profile", "show", "--user", "4", *arguments(folder, "later")]) == 0
    assert "asked about another history than is known of the user now" in capsys.readouterr().out


def test_clusters_of_users_with_alike_ids_stay_apart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """User "1#2" has a cluster 0, which is none of user "1"; 10 comes after 2."""
    with AnswerStore(folder / "s.sqlite") as store:
        rows = [ProfileRow(name, "empty", None, None) for name in ("1#2#0", "1#10", "1#2", "10#1")]
        store.set_profiles(users_of("wares"), "user_cluster", "user/cluster@v1", "m", "1", rows)
    assert list(shown(folder, capsys, "1")) == ["1#0", "1#1", "1#2", "1#10", "1"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "one item or one user"),
        (["1", "--user", "1"], "one item or one user"),
        (["1", "--titles", "3"], "go with --user"),
        (["--user", "nobody"], "no user 'nobody'"),
        (["--user", "3"], "nothing about user '3'"),
        (["--user", "1", "--embeddings", "{items}", "--clusters", "7"], "no clusters of these items are kept here"),
    ],
)
def test_wrong_use(folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str) -> None:
    given = [argument.format(items=folder / "items") for argument in more]
    assert main(["profile", "show", *given, *arguments(folder)]) == 2
    assert says in capsys.readouterr().err
