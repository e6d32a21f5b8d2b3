"""From an answer to a description, or to the named reason why there is none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from semacdr.files import fingerprint
from semacdr.profiling.engines.base import Answer
from semacdr.profiling.json_schema import fault
from semacdr.profiling.prompts import Forbidden, Prompt
from semacdr.profiling.words import forms, words

PARSER_VERSION = 1
"""Goes up with any change below; answers that are kept are then parsed again, without a call to a model."""

VALID = "valid"
KINDS = (
    "refused",  # the prompt is longer than the model reads
    "unfinished",  # cut at max_new_tokens
    "unparseable",  # not JSON, or not of the schema
    "too_short",  # empty, or fewer words than min_words
    "too_long",  # more words than max_words
    "repetition",  # a phrase comes twice, or a word again and again
    "copied_example",  # a long run of words from an example of the prompt
    "domain_word",  # a word of the domain in a domain-agnostic text
    "title_word",  # a word of the title in a domain-agnostic text
)

_PHRASE = 5  # words; a phrase of this length that comes twice is a loop
_COPIED = 8  # words in a row that an example has too


@dataclass(frozen=True)
class Parse:
    """A checked answer: ``valid`` with its description, or the kind of failure with what could be read."""

    kind: str
    text: str

    @property
    def ok(self) -> bool:
        """Whether the description can be used."""
        return self.kind == VALID


def parse_key(answer_key: str, prompt: Prompt) -> str:
    """The key of a parse: the answer's, the parser's version and what the prompt asks of an answer."""
    return fingerprint([answer_key, PARSER_VERSION, prompt.checks_fingerprint])


def parse(answer: Answer, prompt: Prompt, forbidden: Forbidden) -> Parse:
    """Reads the description out of an answer and checks it; the first failure names the kind."""
    if answer.finish == "refused":
        return Parse("refused", "")
    if answer.finish == "length":
        return Parse("unfinished", answer.text)
    fields = _fields(prompt.front.prefix, answer.text)
    if fields is None or fault(fields, prompt.front.json_schema):
        return Parse("unparseable", answer.text)
    text = prompt.text_of(fields)
    return Parse(_fault(text, prompt, forbidden) or VALID, text)


def _fields(prefix: str, text: str) -> dict[str, Any] | None:
    for closing in ("", '"}'):  # the stop rule takes the closing quote away
        try:
            value = json.loads(prefix + text + closing, strict=False)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            return value
    return None


def _fault(text: str, prompt: Prompt, forbidden: Forbidden) -> str | None:
    count = len(text.split())
    if count < prompt.front.min_words:
        return "too_short"
    if count > prompt.front.max_words:
        return "too_long"
    used = words(text)
    if _repeats(used):
        return "repetition"
    if any(_runs(used, _COPIED) & _runs(words(example), _COPIED) for example in prompt.example_texts):
        return "copied_example"
    for kind, listed in (("domain_word", forbidden.domain), ("title_word", forbidden.title)):
        if not {form for word in listed for form in forms(word)}.isdisjoint(used):
            return kind
    return None


def _runs(used: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(used[start : start + length]) for start in range(len(used) - length + 1)}


def _repeats(used: Sequence[str]) -> bool:
    if len(_runs(used, _PHRASE)) < len(used) - _PHRASE + 1:
        return True
    if any(a == b == c for a, b, c in zip(used, used[1:], used[2:])):
        return True
    frequent = Counter(word for word in used if len(word) > 3).most_common(1)
    return bool(frequent) and frequent[0][1] >= 4 and frequent[0][1] > 0.1 * len(used)
