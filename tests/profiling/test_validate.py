"""Answers made by hand, each with the kind that it must be given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.profiling.engines.base import Answer
from semacdr.profiling.engines.sentences import find_end, sentence_ends
from semacdr.profiling.prompts import Forbidden, Vocabulary, load_prompt, load_prompts
from semacdr.profiling.validate import KINDS, VALID, Parse, contract_fault, parse
from semacdr.profiling.words import content_words, words
from semacdr.resources import prompts_folder

SPECIFIC, AGNOSTIC = load_prompts()
FORBIDDEN = Forbidden(Vocabulary.load().kind("thrills").words, content_words("The Sailor's Knot of 1999"))
GOOD = " wish for rest, in a mild mood. It suits tired people."


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (GOOD, VALID),
        (GOOD + '"}', VALID),  # an engine that closes the JSON itself
        ("", "too_short"),
        (" end.", "too_short"),
        (" wish" + " and another one" * 30 + " word" * 60, "too_long"),
        (' wish", "mood": {', "unparseable"),
        (" wish \\q of quiet people at home in the evening", "unparseable"),
        (" wish for films with a slow pace and much air.", "domain_word"),
        (" wish for a Sci-Fi evening in good company.", "domain_word"),
        (" wish for a thrill that comes late at night.", "domain_word"),
        (" need of sailors who want some sleep.", "title_word"),
        (" wish to tie a knot.", "title_word"),
        (" wish to rest, in a mild mood. It suits the wish to rest, in a mild mood.", "repetition"),
        (" dark and dark and dark night of the dark, dark town.", "repetition"),
        (" need to laugh and forget a long day, in a new way.", "copied_example"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert parse(Answer(text, "stop"), AGNOSTIC, FORBIDDEN).kind == kind
    assert kind in (*KINDS, VALID)


def test_finish_decides_first() -> None:
    assert parse(Answer(GOOD, "length"), AGNOSTIC, FORBIDDEN).kind == "unfinished"
    assert parse(Answer("", "refused"), AGNOSTIC, FORBIDDEN).kind == "refused"

    assert parse(Answer("server said no", "failed"), AGNOSTIC, FORBIDDEN) == Parse("failed", "server said no")


EXAMPLE = (
    "A light-footed nineties comedy of errors with clumsy heroes. "
    "It lives from quick dialogue, mix-ups and a bright, good-natured look."
)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"description": "A slow and earnest film about life at sea, for patient people."}, VALID),
        ({"description": ""}, "empty"),
        ({"description": " ... "}, "empty"),
        ({"description": "A slow film."}, "too_short"),
        ({"description": "A slow film about life at sea.", "mood": "calm"}, "wrong_shape"),
        ({"text": "A slow film about life at sea."}, "wrong_shape"),
        ({"description": ["A slow film about life at sea."]}, "wrong_shape"),
        (["A slow film about life at sea."], "unparseable"),
        ({"description": "Ein langsamer Film über das Leben auf dem Meer."}, "wrong_language"),
        ({"description": "Медленный и серьёзный фильм о жизни на море."}, "wrong_language"),
        ({"description": EXAMPLE}, "copied_example"),
        # the example's words in another order: no long run of them is the same
        (
            {"description": "Clumsy heroes, quick dialogue: a comedy of errors, nineties, bright, mix-ups."},
            "near_example",
        ),
        # answers that small models gave in place of a description
        ({"description": "Two short sentences are enough. It is a film about the sea."}, "off_task"),
        ({"description": "The field says what kind of film this is in the words of sailors."}, "off_task"),
        ({"description": "I'm sorry, but a film like this is not one that can be told."}, "off_task"),
        ({"description": "A film about the sea.} Please give the film two bullet points."}, "off_task"),
        ({"description": "As an AI language model there is no film to tell of here."}, "off_task"),
        ({"description": "A sailor says he is sorry, and the film leaves him at sea."}, VALID),
        # what a good answer about a like film shares with the example
        ({"description": "A nineties comedy with quick dialogue about two sisters who inherit a hotel."}, VALID),
        (
            {"description": ("A film about ships. " + "It is long and calm in its way of telling" * 20)[:480]},
            "unfinished",
        ),
    ],
)
def test_structured_answers(value: object, kind: str) -> None:
    prompt = load_prompts(structured=True)[0]
    assert parse(Answer(json.dumps(value), "stop"), prompt, Forbidden()).kind == kind


def test_text_as_long_as_allowed_may_end_there() -> None:
    prompt = load_prompts(structured=True)[0]
    shape = prompt.front.json_schema["properties"]["description"]
    sentence = "A slow and earnest film about one winter at sea and those who wait ashore."
    shape["maxLength"] = len(sentence)
    assert parse(Answer(json.dumps({"description": sentence}), "stop"), prompt, Forbidden()).kind == VALID
    cut = sentence[:-1] + "r"
    assert parse(Answer(json.dumps({"description": cut}), "stop"), prompt, Forbidden()).kind == "unfinished"


def test_every_example_keeps_its_own_contract() -> None:
    for path in sorted(prompts_folder().rglob("v*.j2")):
        prompt = load_prompt(path)
        for kind, examples in prompt.front.examples.items():
            for example in examples:
                text = prompt.text_of(example.fields)
                forbidden = prompt.forbidden(example.variables, Vocabulary.load().kind(kind, kind))
                assert contract_fault(text, words(text), prompt, forbidden) is None, (path, text)


def test_answers_in_another_language_where_the_prompt_asks_for_it(tmp_path: Path) -> None:
    source = (prompts_folder() / "item" / "domain_specific" / "v2.j2").read_text()
    for language, answer in (
        ("de", "Ein ruhiger Film über das Meer und seine Leute."),
        ("zh", "一部关于大海的安静电影。"),
    ):
        (tmp_path / "v1.j2").write_text(source.replace("forbid: []", f"forbid: []\nlanguage: {language}"))
        prompt = load_prompt(tmp_path / "v1.j2")
        assert parse(Answer(json.dumps({"description": answer}), "stop"), prompt, Forbidden()).kind == VALID
        english = Answer(json.dumps({"description": "A quiet film about the sea and its people."}), "stop")
        assert parse(english, prompt, Forbidden()).kind == "wrong_language"


def test_specific_view_may_name_domain_and_title() -> None:
    parsed = parse(Answer("The Sailor's Knot is a quiet\n\nfilm about ropes.", "stop"), SPECIFIC, Forbidden())
    assert parsed.ok
    assert parsed.text == "The Sailor's Knot is a quiet film about ropes."


def test_words_of_a_title() -> None:
    assert content_words("The Sailor's Knot of 1999 (Pack of 4)") == ("knot", "sailor")
    assert content_words("Über-Stadt & Co") == ("stadt", "über", "über-stadt")
    assert words("light-hearted Café's") == ["light-hearted", "light", "hearted", "café"]


def test_kind_of_a_domain() -> None:
    vocabulary = Vocabulary.load()
    assert vocabulary.kind("Movies_and_TV").name == "film"
    garden = vocabulary.kind("Patio_Plants")
    assert (garden.name, garden.words) == ("item", ("patio", "plant"))
    assert "novel" in vocabulary.kind("anything", "book").words


def test_where_an_answer_ends() -> None:
    assert find_end("One. Two. Three.", (), 2) == len("One. Two.")
    assert find_end('One" and two.', ('"',), 2) == 3
    assert find_end("Mr. Smith of St. Ives and J. Doe", (), 1) is None
    assert find_end("It costs 3.5 and more", (), 1) is None


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.text(alphabet='ab. !?"\n', max_size=40), st.integers(1, 3))
def test_end_is_stable_while_the_text_grows(text: str, sentences: int) -> None:
    # Once an answer has ended, more text behind a space does not move the end.
    end = find_end(text, ('"',), sentences)
    if end is not None:
        assert find_end(text + " more", ('"',), sentences) == end
        assert len(sentence_ends(text[:end])) <= sentences


def test_half_a_character_can_be_kept() -> None:
    answer = Answer(" wish for rest \ud83d, in a mild mood. It suits tired people.", "stop")
    assert "\ud83d" not in answer.text
    escaped = parse(Answer(" wish for rest \\ud83d, in a mild mood. It suits people.", "stop"), AGNOSTIC, FORBIDDEN)
    escaped.text.encode("utf-8")
    assert parse(Answer(' wish", "n": ' + "9" * 5000 + "}", "stop"), AGNOSTIC, FORBIDDEN).kind == "unparseable"
