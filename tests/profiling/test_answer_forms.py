"""Answers made elsewhere, in the shapes in which models give them."""

from __future__ import annotations

import pytest

from semacdr.profiling.answer_forms import as_answer, form_of, text_of


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('["oak", "boat", "oak"]', "oak, boat"),
        ('```json\n["oak",\n "boat"]\n```', "oak, boat"),
        ('Sure [1], here you are: ["oak", "boat"]. Anything else?', "oak, boat"),
        ('{"attributes": ["oak", "boat"]}', "oak, boat"),
        ("[]", ""),
        ('["oak", "bo', None),
        ("[oak, boat]", None),
        ("I cannot say anything about this thing.", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_lists(answer: str, text: str | None) -> None:
    assert text_of(answer, "list") == text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('{"what": "a boat", "of": ["oak", "tar"], "year": 1990, "maker": null}', "a boat\noak, tar\n1990"),
        ('Here {so}: ```json\n{"what": "a\nboat"}\n```', "a boat"),
        ('{"what": {"it": "boat", "is": "big"}, "for": ""}', "boat\nbig"),
        ("{}", ""),
        ('{"what": "a boat', None),
    ],
)
def test_objects(answer: str, text: str | None) -> None:
    assert text_of(answer, "object") == text


def test_texts() -> None:
    assert text_of("  a boat\n of oak ", "text") == "a boat of oak"
    assert text_of('["kept as it stands"]', "text") == '["kept as it stands"]'


def test_the_form_is_that_of_most() -> None:
    assert form_of(['["a"]', '```json\n["b"]\n```', "no idea"]) == "list"
    assert form_of(['{"a": 1}', '{"b": 1}', '["c"]']) == "object"
    assert form_of(["[a] boat", "a boat"]) == "text"  # half of them is not most
    assert form_of([]) == "text"


def test_values_that_are_no_text_are_kept_as_json() -> None:
    assert as_answer(["größe", 1]) == '["größe", 1]'
    assert as_answer("as it is") == "as it is"
