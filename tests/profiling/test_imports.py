"""Answers made elsewhere become a view like any other; what is wrong in the file is named, counted and refused."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semacdr.cli import main
from semacdr.data.item_rows import ItemRows
from semacdr.embedding.build import read_profiles, view_texts
from semacdr.errors import InputError
from semacdr.profiling.imports import ImportOptions, import_answers
from semacdr.profiling.prompts import Vocabulary, load_prompt
from semacdr.profiling.store import AnswerStore
from semacdr.resources import prompts_folder
from tests.profiling.small import write_dataset

IDS = [f"f{number}c0" for number in range(6)] + [f"t{number}c0" for number in range(5)]
Line = dict[str, Any] | str | bytes


def put(path: Path, lines: list[Line]) -> Path:
    """JSON lines; a text or bytes stand for a line as it is."""
    raw = [line if isinstance(line, str | bytes) else json.dumps(line, ensure_ascii=False) for line in lines]
    data = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in raw)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def answers(edit: Callable[[dict[str, Any]], Any] | None = None) -> list[Line]:
    """A good row for each item that has a text."""
    rows = [{"item_id": item, "output": f"calm thing number {place}"} for place, item in enumerate(IDS)]
    for row in rows if edit else ():
        edit(row)
    return list(rows)


def imported(folder: Path, lines: list[Line], name: str = "answers.jsonl", **options: Any) -> dict[str, Any]:
    """Imports into ``folder/s.sqlite`` and returns the summary."""
    if not (folder / "data").exists():
        write_dataset(folder / "data")
    settings = ImportOptions(**{"view": "notes", "model": "elsewhere", **options})
    source = put(folder / name, lines)
    return import_answers(ItemRows(folder / "data"), folder / "s.sqlite", source, Vocabulary.load(), settings)


def dump(store: Path) -> str:
    with sqlite3.connect(store) as db:
        return "\n".join(db.iterdump())


def texts(folder: Path) -> dict[str, str]:
    with AnswerStore(folder / "s.sqlite", create=False) as store:
        return {item: text for item, _, text in store.valid_profiles("invented")}


def test_the_command_and_all_that_reads_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_dataset(tmp_path / "data")
    lines = [{"asin": item, "response": ["oak", item]} for item in IDS[:-2]]
    lines += [{"asin": IDS[-2], "response": "no idea"}, {"asin": IDS[-1], "response": "[]"}]
    source = put(tmp_path / "made.jsonl.gz", lines)
    data, store = ["--dataset", str(tmp_path / "data")], ["--store", str(tmp_path / "s.sqlite")]
    command = ["profile", "import", *data, *store, "--input", str(source), "--view", "attributes", "--model", "big"]
    command += ["--revision", "7", "--note", "licence=ours", "--max-bad", "0.1", "--json"]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["valid"], summary["without_text"], summary["rejected"]) == (11, 10, 1, 1)
    assert summary["first_rejected"] == {"unparseable": ["made.jsonl.gz line 10: 'no idea'"]}
    assert (summary["items_without_row"], summary["written"], summary["form"]) == (1, 11, "list")

    before = dump(tmp_path / "s.sqlite")
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["written"], again["unchanged"]) == (0, 11)
    assert dump(tmp_path / "s.sqlite") == before

    assert main(["profile", "status", *store, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert {(row["kind"], row["items"]) for row in status["profiles"]} == {("valid", 10), ("unparseable", 1)}
    assert [(row["file"], row["model"], row["revision"]) for row in status["imports"]] == [
        ("made.jsonl.gz", "big", "7")
    ]
    assert status["imports"][0]["details"]["notes"] == {"licence": "ours"}
    assert main(["profile", "status", *store]) == 0
    assert "made.jsonl.gz" in capsys.readouterr().out
    assert main(["profile", "show", IDS[0], *data, *store]) == 0
    assert "oak, f0c0" in capsys.readouterr().out

    assert main(["profile", "export", *data, *store, "--out", str(tmp_path / "p.parquet")]) == 0
    views = view_texts(dataset, read_profiles(tmp_path / "p.parquet"))
    assert views["attributes"].texts[0] == "oak, f0c0"
    assert views["attributes"].fallback == 2  # the rejected one and the empty list take their content


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('{"item_id": "f0c0", "out', "not parsed"),
        ('["f0c0", "text"]', "not parsed"),
        ({"output": "a calm thing"}, "missing field item_id"),
        ({"item_id": {"is": 1}, "output": "a calm thing"}, "missing field item_id"),
        ({"item_id": "f5c0"}, "missing field output"),
        ({"item_id": "f5c0", "output": None}, "missing field output"),
        ({"item_id": "who", "output": "a calm thing"}, "id unknown"),
        ({"item_id": "f0c0", "output": "a second one"}, "duplicate"),
        ('{"item_id": "f5c0", "output": "bl\xfc"}'.encode("latin-1"), "wrong encoding"),
        ({"item_id": "f5c0", "output": "  "}, "empty"),
        ({"item_id": "f5c0", "output": "a calm", "finish_reason": "length"}, "unfinished"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path: Path, line: Line, kind: str) -> None:
    lines = answers(lambda row: row.update(finish_reason="stop"))
    lines[5] = line
    with pytest.raises(InputError) as caught:
        imported(tmp_path, lines)
    assert f"{kind}: 1\n      answers.jsonl line 6: " in str(caught.value)
    assert "1 bad rows of 11 (9.09%; --max-bad allows 1.00%), nothing written" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    assert not (tmp_path / "s.sqlite").exists()

    assert imported(tmp_path, lines, max_bad=0.1)["rejected_kinds"] == {kind: 1}
    assert len(texts(tmp_path)) == 10
    (tmp_path / "s.sqlite").unlink()
    assert imported(tmp_path, lines, skip_bad=True)["valid"] == 10
    assert texts(tmp_path)["f0c0"] == "calm thing number 0"


def test_kinds_are_counted_together_and_the_first_few_shown(tmp_path: Path) -> None:
    strangers: list[Line] = [{"item_id": f"who{number}", "output": "a thing"} for number in range(9)]
    with pytest.raises(InputError) as caught:
        imported(tmp_path, [*answers(), *strangers, "{", "{"])
    assert str(caught.value).count("id unknown") == 1
    assert "id unknown: 9\n      answers.jsonl line 12:" in str(caught.value)
    assert "not parsed: 2\n      answers.jsonl line 21:" in str(caught.value)
    assert str(caught.value).count("answers.jsonl line") == 5


def test_half_a_file_is_refused_whatever_share_is_allowed(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    for name in ("half.jsonl", "half.jsonl.gz"):
        # Texts that hardly pack, so that half of the packed bytes hold whole lines.
        rows = answers(lambda row: row.update(output=" ".join(str(hash((row["item_id"], n))) for n in range(40))))
        data = put(tmp_path / name, rows).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        options = ImportOptions(view="notes", model="m", max_bad=1.0)
        call = (ItemRows(tmp_path / "data"), tmp_path / "s.sqlite", tmp_path / name, Vocabulary.load())
        with pytest.raises(InputError, match=r"half a file\), nothing written\n +half a file: 1\n"):
            import_answers(*call, options)
        assert not (tmp_path / "s.sqlite").exists()
        kept = import_answers(*call, ImportOptions(view="notes", model="m", skip_bad=True))
        assert 0 < kept["valid"] < 11
        (tmp_path / "s.sqlite").unlink()


def test_fields_by_name_by_path_or_not_at_all(tmp_path: Path) -> None:
    rows: list[Line] = [
        {"custom_id": item, "response": {"body": {"choices": [{"message": {"content": "A calm thing"}}]}}}
        for item in IDS
    ]
    found = imported(tmp_path, rows, answer_field="response.body.choices.0.message.content")
    assert (found["id_field"], found["valid"], found["form"]) == ("custom_id", 11, "text")
    renamed: list[Line] = [{"thing": item, "said": "A calm thing"} for item in IDS]
    with pytest.raises(InputError, match=r"(?s)none of the fields.*--id-field NAME; there are: thing, said"):
        imported(tmp_path, renamed)
    with pytest.raises(InputError, match="did you mean 'said'"):
        imported(tmp_path, renamed, id_field="thing", answer_field="sayd")
    assert imported(tmp_path, renamed, id_field="thing", answer_field="said")["valid"] == 11
    numbers: list[Line] = [{"id": 0, "text": "A calm thing"}]
    with pytest.raises(InputError, match="id = '0'"):
        imported(tmp_path, numbers)


@pytest.mark.parametrize("first", [{"item_id": IDS[0]}, {"item_id": IDS[0], "error": "timeout"}, {"error": "timeout"}])
def test_fields_are_found_where_the_first_row_lacks_them(tmp_path: Path, first: dict[str, Any]) -> None:
    found = imported(tmp_path, [first, *answers()[1:]], skip_bad=True)
    assert (found["id_field"], found["answer_field"], found["valid"], found["rejected"]) == ("item_id", "output", 10, 1)
    deep: list[Line] = [{"item_id": item, "response": {"text": "A calm thing"}} for item in IDS]
    deep[0] = {"item_id": IDS[0], "response": None}
    found = imported(tmp_path, deep, answer_field="response.text", skip_bad=True)
    assert (found["valid"], found["rejected_kinds"]) == (10, {"missing field response.text": 1})


def test_a_template_checks_as_it_checks_what_is_generated(tmp_path: Path) -> None:
    template = load_prompt(prompts_folder() / "item" / "domain_agnostic" / "v1.j2")
    good = "It serves the wish for calm and closeness, in a bright mood."
    said = [f'Sure:\n```json\n{{"description": "{good}"}}\n```'] * len(IDS)
    said[1] = '{"text": "no such field in the schema"}'
    said[2] = '{"description": "Too short."}'
    said[3] = f'{{"description": "{good} It is about paper and films."}}'
    said[4] = f'{{"description": "{good} It feels like a long journey."}}'
    said[5] = f'{{"description": "{good} {good}"}}'
    rows: list[Line] = [{"item_id": item, "answer": answer} for item, answer in zip(IDS, said)]
    found = imported(tmp_path, rows, template=template, prompt=template.label, skip_bad=True)
    kinds = {"wrong_shape": 1, "too_short": 1, "domain_word": 1, "title_word": 1, "repetition": 1}
    assert found["rejected_kinds"] == kinds
    assert texts(tmp_path)["f0c0"] == good
    assert imported(tmp_path, rows, template=template, prompt=template.label, skip_bad=True)["written"] == 0
    # Under a looser contract the same answers are judged anew.
    loose = load_prompt(prompts_folder() / "item" / "domain_specific" / "v1.j2")
    found = imported(tmp_path, rows, template=loose, prompt=template.label, skip_bad=True)
    assert (found["valid"], found["written"]) == (8, 11)


def test_show_makes_up_no_prompt_for_an_imported_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported(tmp_path, answers(), view="domain_specific")
    where = ["--dataset", str(tmp_path / "data"), "--store", str(tmp_path / "s.sqlite")]
    assert main(["profile", "show", "f0c0", *where]) == 0
    shown = capsys.readouterr().out
    assert "calm thing number 0" in shown
    assert "has changed" not in shown
    assert "[user]" not in shown


@pytest.mark.parametrize(
    ("options", "says"),
    [({"view": "content"}, "cannot be named"), ({"view": "a/b"}, "cannot be named"), ({"kind": "flim"}, "film")],
)
def test_wrong_use(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        imported(tmp_path, answers(), **options)
    with pytest.raises(InputError, match="the file has no row"):
        imported(tmp_path, [])
    assert not (tmp_path / "s.sqlite").exists()


def test_a_new_file_replaces_what_it_says_otherwise_and_nothing_else(tmp_path: Path) -> None:
    imported(tmp_path, answers())
    changed = answers()
    changed[3] = {"item_id": IDS[3], "output": "another calm thing"}
    found = imported(tmp_path, changed[:4], name="later.jsonl")
    assert (found["written"], found["unchanged"], found["items_without_row"]) == (1, 3, 8)
    assert texts(tmp_path)[IDS[3]] == "another calm thing"
    assert texts(tmp_path)[IDS[4]] == "calm thing number 4"
    with AnswerStore(tmp_path / "s.sqlite") as store:
        assert [entry.file for entry in store.imports()] == ["answers.jsonl", "later.jsonl"]
        assert sum(row["answers"] for row in store.answer_counts()) == 12  # the old answer stays


def test_gc_leaves_imported_answers_unless_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported(tmp_path, answers())
    imported(tmp_path, [{"item_id": IDS[3], "output": "another calm thing"}], name="later.jsonl")
    command = ["profile", "gc", "--store", str(tmp_path / "s.sqlite")]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "removed: 0 answers" in out
    assert "kept: 1 imported answers that no profile uses; --imported includes them" in out
    with AnswerStore(tmp_path / "s.sqlite") as store:
        assert sum(row["answers"] for row in store.answer_counts()) == 12
    # the first file again: its answer is still there, and has its profile back
    assert imported(tmp_path, answers())["written"] == 1
    assert main([*command, "--imported", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == 1
    assert main([*command, "--imported"]) == 0
    assert "removed: 1 answers" in (said := capsys.readouterr().out)
    assert "kept" not in said
    assert texts(tmp_path)[IDS[3]] == "calm thing number 3"
    with AnswerStore(tmp_path / "s.sqlite") as store:
        assert sum(row["answers"] for row in store.answer_counts()) == 11


def test_an_import_that_breaks_off_is_finished_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semacdr.profiling.staging._BATCH", 4)
    keep = AnswerStore.set_profiles
    calls: list[int] = []

    def once(store: AnswerStore, *args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        keep(store, *args)

    monkeypatch.setattr(AnswerStore, "set_profiles", once)
    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path, answers())
    assert len(texts(tmp_path)) == 4
    monkeypatch.setattr(AnswerStore, "set_profiles", keep)
    found = imported(tmp_path, answers())
    assert (found["written"], found["unchanged"]) == (7, 4)
    assert len(texts(tmp_path)) == 11
    broken = dump(tmp_path / "s.sqlite")
    (tmp_path / "s.sqlite").unlink()
    imported(tmp_path, answers())
    now = dump(tmp_path / "s.sqlite")
    assert [line for line in broken.splitlines() if '"imports"' not in line] == [
        line for line in now.splitlines() if '"imports"' not in line
    ]
