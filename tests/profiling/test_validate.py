"""Answers made by hand, each with the kind that it must be given."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.profiling.engines.base import Answer
from semacdr.profiling.engines.sentences import find_end, sentence_ends
from semacdr.profiling.prompts import Forbidden, Vocabulary, load_prompts
from semacdr.profiling.validate import KINDS, VALID, parse
from semacdr.profiling.words import content_words, words

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
