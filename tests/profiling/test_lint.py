"""Each fault that a prompt can have is found and named; the prompts that ship have none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semacdr.cli import main
from semacdr.profiling.lint import lint, prompt_files
from semacdr.resources import prompts_folder


def test_what_ships_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "lint"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(f"{len(list(prompts_folder().rglob('*.j2')))} templates, 0 findings\n")


FAULTS = [
    ("v2", "{{ text }}", "{{ txet }}", "txet"),
    ("v2", "  required: [description]\n", "", "'description'"),
    ("v2", "{type: string, maxLength: 480}", "{type: string, pattern: x}", "'pattern' is not checked"),
    ("v2", "{type: string, maxLength: 480}", "{type: string}", "without maxLength"),
    ("v2", "  additionalProperties: false\n", "", "additionalProperties"),
    ("v2", "repetition_penalty: 1.05}", "max_sentences: 2}", "no stop, no max_sentences"),
    ("v2", "structured: true", "structured: false", "neither structured nor a prefix"),
    ("v2", "structured: true", "structured: true\nprefix: '{'", "has no prefix"),
    ("v2", "  default: ", "  valid: ", "'valid'"),
    ("v2", "version: v2", "version: v3", "version 'v3'"),
    ("v2", "max_words: 80", "max_words: 9", "breaks the contract (too_long)"),
    ("v2", "forbid: []", "forbid: [title]", "(title_word)"),
    ("v2", "told slowly and in earnest", "told slowly, told slowly and told slowly and told slowly", "(repetition)"),
    ("v2", "maxLength: 480", "maxLength: 100", "answer.description in characters"),
    ("v2", "  film:\n", "  flim:\n", "'flim', which is no kind"),
    ("v1", 'stop: [\'"\', "\\n"], ', "", "needs the stop"),
    ("v1", 'prefix: \'{"description": "\'', "prefix: '{'", "does not begin a JSON object"),
    ("v1", "min_words: 5", "min_words: 90", "leave no room"),
]


@pytest.mark.parametrize(("version", "old", "new", "says"), FAULTS)
def test_faults(tmp_path: Path, version: str, old: str, new: str, says: str) -> None:
    source = (prompts_folder() / "item" / "domain_specific" / f"{version}.j2").read_text()
    assert old in source
    folder = tmp_path / "domain_specific"
    folder.mkdir()
    (folder / f"{version}.j2").write_text(source.replace(old, new))
    found = [entry["finding"] for entry in lint(prompt_files([folder]))]
    assert any(says in finding for finding in found), found


def test_forbidden_words_in_an_example(tmp_path: Path) -> None:
    source = (prompts_folder() / "item" / "domain_agnostic" / "v2.j2").read_text()
    folder = tmp_path / "domain_agnostic"
    folder.mkdir()
    changed = source.replace("Easy cheer after", "Easy comedy after").replace(
        "A calm, homely", "A kettle for a calm, homely"
    )
    (folder / "v2.j2").write_text(changed)
    found = [entry["finding"] for entry in lint(prompt_files([folder]))]
    assert [finding.partition(":")[0] for finding in found] == [
        "example 2 of film breaks the contract (domain_word)",
        "example 1 of item breaks the contract (title_word)",
    ]


def test_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.yaml"
    file.write_text(
        "film:\n  domains: [films]\n  words: [Film, plot, plot]\n"
        "item:\n  domains: [films]\n  words: []\nbook:\n  words: [page]\nalbum:\n  domains: [cd]\n  words: [1]\n"
    )
    found = "\n".join(entry["finding"] for entry in lint([], file))
    for says in ("'Film' is not in lower case", "'plot' stands in words 2 times", "book: needs", "album: words is not"):
        assert says in found
    assert "'films' belongs to film and to item" in found
    file.write_text("[]")
    assert [entry["finding"] for entry in lint([], file)] == ["not a mapping of kinds"]


def test_command_lists_every_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (prompts_folder() / "item" / "domain_specific" / "v1.j2").read_text()
    for version, change in (("v1", ("version: v1", "version: x")), ("v2", ("{{ text }}", "{{ txet }}"))):
        (tmp_path / f"{version}.j2").write_text(source.replace(*change))
    assert main(["profile", "lint", str(tmp_path), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert {Path(entry["file"]).name for entry in found["findings"]} == {"v1.j2", "v2.j2"}
    assert main(["profile", "lint", str(tmp_path)]) == 2
    assert f"2 templates, {len(found['findings'])} findings" in capsys.readouterr().out
    assert main(["profile", "lint", str(tmp_path / "absent")]) == 2
    assert "no template here" in capsys.readouterr().err
