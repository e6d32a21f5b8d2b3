"""User profiles: the questions, the cost, what is asked again when a history grows, and a run that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from semacdr.cli import main
from semacdr.data.dataset import Dataset
from semacdr.data.item_rows import ItemRows
from semacdr.embedding.build import build_table
from semacdr.embedding.table import EmbeddingTable
from semacdr.files import fingerprint, write_json
from semacdr.profiling import users as users_module
from semacdr.profiling.distributed import DistributedEngine
from semacdr.profiling.engines.base import Answer
from semacdr.profiling.export import export_profiles, export_users
from semacdr.profiling.run import RunOptions
from semacdr.profiling.store import AnswerStore
from semacdr.profiling.user_run import profile_users
from semacdr.profiling.users import Histories, UserPrompts, item_line, users_of
from semacdr.resources import prompts_folder
from tests.embedding.test_encoder import FakeEncoder
from tests.profiling.pools import InProcessPool, SteadyEngine
from tests.profiling.small import FakeEngine

ROOT = Path(__file__).parents[2]
COLOURS = ["red", "blue", "green", "white"]
CLUSTERS = {1: 0, 2: 0, 3: 0, 4: 0, 5: 1, 6: 1, 7: 1, 8: 1, 9: 2, 10: -1}
"""Cluster of each item: four jugs, four kites, one thing known by its brand, one without text."""

USERS = {
    "1": [1, 5, 2, 6, 3, 7],  # known: 1 5 2 6
    "2": [4, 8, 1],  # known: 4
    "3": [10, 10, 1, 2],  # known: no text
    "4": [9, 5, 1, 2, 5, 3, 4],  # known: 9 5 1 2 5
}


def write_users(folder: Path, users: dict[str, list[int]] = USERS) -> Dataset:
    """Ten items in two domains, with the ids "1" to "10", as users have."""
    rows = [
        {
            "item_id": str(item),
            "domain": "jugs" if item < 5 else "kites",
            "title": f"{'Jug' if item < 5 else 'Kite'} in {COLOURS[item % 4]}" if item < 9 else None,
            "brand": "Fenwick" if item == 9 else None,
            "price": 3.0,
        }
        for item in range(1, 11)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(folder / "items.parquet")
    events = [
        {"user_id": user, "item_id": str(item), "domain": rows[item - 1]["domain"], "timestamp": at, "position": at}
        for user, items in users.items()
        for at, item in enumerate(items)
    ]
    pd.DataFrame(events).to_parquet(folder / "interactions.parquet")
    manifest = {"format_version": 1, "name": "wares", "domains": ["jugs", "kites"], "order": "total"}
    more = {"time_unit": "second", "counts": {}, "settings": {}, "fingerprint": fingerprint([rows, events])}
    write_json(folder / "dataset.json", {**manifest, **more})
    return Dataset.load(folder)


def histories(dataset: Dataset, titles: int = 15) -> Histories:
    return Histories(dataset, np.array([-1, *CLUSTERS.values()]), titles)


def run(dataset: Dataset, store: AnswerStore, engine: FakeEngine, **options: Any) -> dict[str, Any]:
    return profile_users(histories(dataset), engine, store, UserPrompts.load(), RunOptions(**options))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_users(tmp_path / "data")


def test_histories_by_hand(dataset: Dataset) -> None:
    """Titles by cluster, the larger first; the same title once, at its latest place; nothing held out."""
    [block] = histories(dataset).blocks()
    assert {user.user_id: user.clusters for user in block} == {
        "1": ((0, ("Jug in blue", "Jug in green")), (1, ("Kite in blue", "Kite in green"))),
        "2": ((0, ("Jug in red",)),),
        "3": (),
        "4": ((0, ("Jug in blue", "Jug in green")), (1, ("Kite in blue",)), (2, ("Fenwick",))),
    }
    [block] = histories(dataset, titles=1).blocks(1)
    assert [user.clusters for user in block] == [((0, ("Jug in green",)), (1, ("Kite in green",)))]


def test_line_of_an_item() -> None:
    assert item_line({"title": "Tin Moon", "genres": "Drama"}) == "Tin Moon"
    assert item_line({"title": None, "brand": "Acme", "categories": ["Tools", "Saws"], "price": 3.5}) == (
        "Acme; Tools, Saws"
    )
    assert item_line({"title": None, "year": 1990.0}) == ""
    assert len(item_line({"title": "word " * 100})) <= 100


def test_questions_hold_the_titles_and_then_the_summaries(dataset: Dataset) -> None:
    engine = FakeEngine(bad=0)
    with AnswerStore(None) as store:
        run(dataset, store, engine)
        texts = store.valid_texts(users_of("wares"), "user_cluster", ["1#0", "1#1", "4#0"])
        last = [request.messages[-1].content for request in engine.asked]
        assert any("- Jug in blue\n- Jug in green\n" in content for content in last)
        assert any(f"- {texts['1#0']}\n- {texts['1#1']}\n" in content for content in last)
    assert not any("white" in content and "Kite" in content for content in last)  # item 7, held out from user 1


def test_cost_comes_first_and_is_what_the_run_then_asks(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Users 1 and 4 share their group of jugs: 2 + 1 + 3 clusters, 5 questions."""
    engine = FakeEngine(bad=0)
    with AnswerStore(tmp_path / "s.sqlite") as store:
        plan = run(dataset, store, engine, dry_run=True)["plan"]
        assert engine.calls == 0
        assert (plan["users"], plan["nothing_to_say"], plan["clusters"]) == (4, 1, 6)
        assert (plan["cached"], plan["to_generate"]) == (0, 8)
        assert 8 * 100 < plan["cost"]["prompt_tokens"] < 8 * 1000
        summary = run(dataset, store, engine)
        assert (
            "4 users, 1 of them with nothing to say; 6 clusters; 0 calls cached, 8 to make" in capsys.readouterr().err
        )
        assert (summary["generated"], len(engine.asked)) == (8, 8)
        clusters, overall = summary["views"]["user_cluster"], summary["views"]["user_overall"]
        assert (clusters["planned"], clusters["distinct"], clusters["valid"]) == (6, 5, 6)
        assert (overall["items"], overall["no_text"], overall["valid"]) == (4, 1, 3)
        plan = run(dataset, store, engine, dry_run=True)["plan"]
        assert (plan["cached"], plan["to_generate"], plan["cost"]["prompt_tokens"]) == (9, 0, 0)
        assert run(dataset, store, engine)["generated"] == 0
        assert run(dataset, store, FakeEngine(bad=0), limit=2)["views"]["user_overall"]["items"] == 2


def test_grown_history_asks_for_its_changed_cluster_and_its_profile(dataset: Dataset, tmp_path: Path) -> None:
    engine = FakeEngine(bad=0)
    with AnswerStore(None) as store:
        run(dataset, store, engine)
        engine.asked.clear()
        # The event that was held out from validation becomes known: item 3, a jug. The kites stay as they were.
        grown = write_users(tmp_path / "grown", {**USERS, "1": [*USERS["1"], 8]})
        plan = run(grown, store, engine, dry_run=True)["plan"]
        assert plan["to_generate"] == 2
        assert plan["cost"]["seconds"] is not None  # by the rate of the first run
        assert run(grown, store, engine)["generated"] == 2
        cluster, overall = (request.messages[-1].content for request in engine.asked)
        assert "- Jug in blue\n- Jug in green\n- Jug in white\n" in cluster
        kites = store.valid_texts(users_of("wares"), "user_cluster", ["1#1"])["1#1"]
        assert kites in overall
        # Back again, and a repeated latest event: nothing new to say.
        assert run(dataset, store, engine)["generated"] == 0


def test_new_user_and_edited_template(dataset: Dataset, tmp_path: Path) -> None:
    engine = FakeEngine(bad=0)
    with AnswerStore(None) as store:
        run(dataset, store, engine)
        more = write_users(tmp_path / "more", {**USERS, "5": [6, 8, 1, 2]})
        assert run(more, store, engine)["generated"] == 2
        prompts = UserPrompts.load()
        text = prompts.overall.path.read_text()
        file = tmp_path / "v1.j2"
        file.write_text(text.rstrip() + " Be brief.\n")
        edited = UserPrompts.load([file])
        views = profile_users(histories(more), engine, store, edited, RunOptions())["views"]
        assert (views["user_cluster"]["generated"], views["user_overall"]["generated"]) == (0, 4)


def test_user_whose_summaries_all_fail_has_no_profile(dataset: Dataset, tmp_path: Path) -> None:
    class NoJugs(FakeEngine):
        def batch(self, requests, sampling):
            answers = super().batch(requests, sampling)
            bad = ["Jug in red" in request.messages[-1].content for request in requests]
            return [Answer("", "stop") if no else answer for no, answer in zip(bad, answers)]

    with AnswerStore(None) as store:
        before = write_users(tmp_path / "before", {"2": [8, 4, 1]})  # knows item 8 alone, and gets a profile
        run(before, store, NoJugs(bad=0))
        assert export_users(before, store, tmp_path / "p.parquet") == {"user_overall": 1}
        summary = run(dataset, store, NoJugs(bad=0), attempts=2)
        assert summary["views"]["user_cluster"]["invalid_kinds"] == {"too_short": 1}
        assert summary["views"]["user_overall"]["no_text"] == 2
        export_users(dataset, store, tmp_path / "p.parquet")
        assert pd.read_parquet(tmp_path / "p.parquet")["user_id"].tolist() == ["1", "4"]


def test_blocks_of_users_do_not_matter(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with AnswerStore(None) as store:
        run(dataset, store, FakeEngine(bad=0))
        monkeypatch.setattr(users_module, "BLOCK_USERS", 3)
        assert [len(block) for block in histories(dataset).blocks()] == [3, 1]
        assert run(dataset, store, FakeEngine(bad=0))["generated"] == 0


def test_items_and_users_of_the_same_id_stay_apart(dataset: Dataset, tmp_path: Path) -> None:
    with AnswerStore(None) as store:
        run(dataset, store, FakeEngine(bad=0))
        with pytest.raises(Exception, match="no valid profile of data set"):
            export_profiles(ItemRows(dataset.path), store, tmp_path / "items.parquet")
        assert store.item_profiles("wares", "1") == []
    with AnswerStore(None) as store, pytest.raises(Exception, match="of a user of data set"):
        export_users(dataset, store, tmp_path / "users.parquet")


def test_workers_give_what_one_engine_gives(dataset: Dataset, tmp_path: Path) -> None:
    with AnswerStore(None) as alone, AnswerStore(None) as spread:
        expected = profile_users(histories(dataset), SteadyEngine(), alone, UserPrompts.load(), RunOptions())
        pool = InProcessPool([SteadyEngine, SteadyEngine])
        engine = DistributedEngine(SteadyEngine(), pool, tmp_path / "shards")
        summary = profile_users(histories(dataset), engine, spread, UserPrompts.load(), RunOptions())
        assert (summary["generated"], summary["valid"]) == (expected["generated"], expected["valid"]) == (8, 9)
        assert spread.digest() == alone.digest()


@pytest.mark.parametrize(
    "death",
    ["batch:1:after", "add_answers:2:before", "set_profiles:4:after", "batch:4:before", "add_parses:5:after"],
)
def test_killed_run_ends_as_an_unbroken_one(dataset: Dataset, tmp_path: Path, death: str) -> None:
    everyone = [str(user) for user in dataset.user_ids]
    with AnswerStore(tmp_path / "whole.sqlite") as whole:
        expected = run(dataset, whole, FakeEngine(chunk=2))
        digest, profiles = whole.digest(), whole.valid_texts(users_of("wares"), "user_overall", everyone)
    store_file = tmp_path / "s.sqlite"
    command = [sys.executable, "-m", "tests.profiling.run_users_and_die", str(dataset.path), str(store_file), death]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    with AnswerStore(store_file) as store:
        had = len(store.all_answers())
        resumed = run(dataset, store, FakeEngine(chunk=2))
        assert store.digest() == digest
        assert store.valid_texts(users_of("wares"), "user_overall", everyone) == profiles
        assert resumed["generated"] == expected["generated"] - had
    assert len(profiles) == 3


def test_what_the_engine_gave_up_on_is_asked_again_on_request(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class NoKites(FakeEngine):
        def batch(self, requests, sampling):
            answers = super().batch(requests, sampling)
            down = ["Kite" in request.messages[-1].content for request in requests]
            return [Answer("HTTP 503", "failed") if no else answer for no, answer in zip(down, answers)]

    engines = iter([NoKites(bad=0), FakeEngine(bad=0), FakeEngine(bad=0), FakeEngine(bad=0)])
    monkeypatch.setattr("semacdr.profiling.engines.make_engine", lambda *_, **__: next(engines))
    monkeypatch.setattr("semacdr.profiling.clusters.Clusters.of", lambda *_: np.array([*CLUSTERS.values()]))
    build_table(dataset, FakeEncoder(), tmp_path / "items")
    command = ["profile", "users", "--dataset", str(dataset.path), "--embeddings", str(tmp_path / "items"), "--json"]
    command += ["--store", str(tmp_path / "s.sqlite"), "--attempts", "1"]
    found = []
    for more in ([], [], ["--dry-run", "--retry-failed"], ["--retry-failed"]):
        assert main([*command, *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["views"]["user_cluster"]["invalid_kinds"] == {"failed": 2}
    assert (found[1]["generated"], found[1]["views"]["user_cluster"]["invalid"]) == (0, 2)
    # the two groups of kites, and the two users whose overall question they are part of
    assert found[2]["plan"]["to_generate"] == found[3]["generated"] == 4
    assert found[3]["views"]["user_cluster"]["invalid"] == 0


def test_command_export_and_table_of_users(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("semacdr.profiling.engines.make_engine", lambda *_, **__: FakeEngine(bad=0))
    monkeypatch.setattr("semacdr.embedding.encoder.SentenceEncoder", lambda name: FakeEncoder())
    build_table(dataset, FakeEncoder(), tmp_path / "items")
    data, store = ["--dataset", str(dataset.path)], ["--store", str(tmp_path / "s.sqlite")]
    command = ["profile", "users", *data, *store, "--embeddings", str(tmp_path / "items"), "--clusters", "2"]

    before = sorted(tmp_path.iterdir())
    assert main([*command, "--dry-run"]) == 0
    assert "4 users, 1 of them with nothing to say" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before
    assert main([*command, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["views"]["user_overall"]["valid"] == 3
    assert summary["plan"]["to_generate"] == summary["generated"]
    [kept] = tmp_path.glob("s.sqlite.clusters-*.npy")
    assert main(command) == 0
    assert "user_overall: 100.0% valid (3 of 3); 0 invalid; 3 cached; 0 generated" in capsys.readouterr().out
    # Centres that are kept decide, whatever the table would give now: here one of them is far from everything.
    np.save(kept, np.array([[1, 1, 1, 1], [1e9, 1e9, 1e9, 1e9]], np.float32))
    assert main([*command, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["clusters"] == 3

    out = ["--out", str(tmp_path / "u.parquet")]
    assert main(["profile", "export", *data, *store, *out, "--users"]) == 0
    assert "user_overall: 3 of 4 users have a valid profile" in capsys.readouterr().out
    frame = pd.read_parquet(tmp_path / "u.parquet")
    assert frame.drop(columns="text").to_numpy().tolist() == [[user, "user_overall"] for user in ("1", "2", "4")]

    profiles = ["--profiles", str(tmp_path / "u.parquet")]
    assert main(["embed", *data, *profiles, "--out", str(tmp_path / "users")]) == 0
    assert "user_overall: 3 of 4 users have a vector" in capsys.readouterr().out
    table = EmbeddingTable.load(tmp_path / "users", "users")
    assert (table.item_ids.tolist(), table.views) == (["1", "2", "3", "4"], ("user_overall",))
    assert table.matrix("user_overall")[:, 0].tolist() == [*frame["text"].str.len()[:2], 0, len(frame["text"][2])]
    # The ids of users and items agree here: a table of users must not pass for one of items.
    assert main([*command[:-4], "--embeddings", str(tmp_path / "users")]) == 2
    assert "a table of users, where one of items is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--view", "contents"], "content"),
        (["--prompts", "{item_prompt}"], "user_cluster"),
        (["--limit", "0"], "--limit"),
        (["--embeddings", "nowhere"], "not an embedding table"),
    ],
)
def test_wrong_use(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], says: str
) -> None:
    build_table(dataset, FakeEncoder(), tmp_path / "items")
    command = ["profile", "users", "--dataset", str(dataset.path), "--store", str(tmp_path / "s.sqlite")]
    command += ["--embeddings", str(tmp_path / "items"), "--engine", "recorded", "--model", "ml-100k"]
    shipped = str(prompts_folder() / "item" / "domain_specific")
    before = sorted(tmp_path.iterdir())
    assert main([*command, *(argument.format(item_prompt=shipped) for argument in extra)]) == 2
    assert says in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
