"""From an answer to a description, or to the named reason why there is none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semacdr.files import fingerprint
from semacdr.profiling.engines.base import Answer, whole_characters
from semacdr.profiling.json_schema import fault
from semacdr.profiling.kinds import KINDS as KINDS
from semacdr.profiling.kinds import VALID as VALID
from semacdr.profiling.language import is_other_language
from semacdr.profiling.prompts import Forbidden, Prompt
from semacdr.profiling.words import content_words, forms, words

PARSER_VERSION = 3
"""Goes up with any change below; answers that are kept are then parsed again, without a call to a model."""

_PHRASE = 5  # words; a phrase of this length that comes twice is a loop
_COPIED = 8  # words in a row that an example has too
_ECHOED = 5  # words in a row that the instructions have too
_NEAR_WORDS, _NEAR_SHARE = 6, 0.7  # so many content words, and so many of them those of one example
_UNSPACED = ("zh", "ja", "th")  # languages that put no spaces between words
_ASSISTANT = (  # how chat models speak when they do something else than they were asked to, as ``words`` splits it
    "as an ai",
    "language model",
    "i am sorry",
    "i m sorry",
    "i cannot",
    "i can t",
    "i can only",
    "i ve been asked",
    "i have been asked",
)
_MARKUP = frozenset("{}`")  # of the form of an answer, not of a text
_CLOSERS = tuple(".!?…。！？\"'”’»)")


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
    if answer.finish == "failed":
        return Parse("failed", answer.text)
    if answer.finish == "length":
        return Parse("unfinished", answer.text)
    fields = _fields(prompt.front.prefix, answer.text)
    return Parse("unparseable", answer.text) if fields is None else check(fields, answer.text, prompt, forbidden)


def check(fields: Mapping[str, Any], answer: str, prompt: Prompt, forbidden: Forbidden) -> Parse:
    """Checks the fields that an answer was read as."""
    if fault(fields, prompt.front.json_schema):
        return Parse("wrong_shape", answer)
    text = whole_characters(prompt.text_of(fields))
    if _cut_off(fields, prompt.front.json_schema):
        return Parse("unfinished", text)
    used = words(text)
    kind = (
        contract_fault(text, used, prompt, forbidden)
        or task_fault(text, used, prompt)
        or copy_fault(used, text, prompt)
    )
    return Parse(kind or VALID, text)


def contract_fault(text: str, used: Sequence[str], prompt: Prompt, forbidden: Forbidden) -> str | None:
    """What is wrong with a text whose words are ``used``, apart from being an example's."""
    front = prompt.front
    if not used:
        return "empty"
    spaced = front.language not in _UNSPACED
    count = len(text.split()) if spaced else sum(letter.isalpha() for letter in text) // 2
    if count < front.min_words:
        return "too_short"
    if count > front.max_words:
        return "too_long"
    if is_other_language(text, used, front.language):
        return "wrong_language"
    if _repeats(used):
        return "repetition"
    for kind, listed in (("domain_word", forbidden.domain), ("title_word", forbidden.title)):
        if not {form for word in listed for form in forms(word)}.isdisjoint(used):
            return kind
    return None


def task_fault(text: str, used: Sequence[str], prompt: Prompt) -> str | None:
    """Whether a text is about its task: its form, words of the instructions, or what an assistant says of itself."""
    instructions = (prompt.front.system, *prompt.front.repair.values())
    if not _MARKUP.isdisjoint(text) or any(_runs(used, _ECHOED) & _runs(words(said), _ECHOED) for said in instructions):
        return "off_task"
    spoken = f" {' '.join(used)} "
    return "off_task" if any(f" {phrase} " in spoken for phrase in _ASSISTANT) else None


def copy_fault(used: Sequence[str], text: str, prompt: Prompt) -> str | None:
    """Whether a text is an example's, word for word or in other words' order."""
    if any(_runs(used, _COPIED) & _runs(words(example), _COPIED) for example in prompt.example_texts):
        return "copied_example"
    examples = [set(content_words(example)) for example in prompt.example_texts]
    # Words that several examples have belong to the form that the prompt asks for.
    times = Counter(word for example in examples for word in example)
    own = {word for word in content_words(text) if times[word] < 2}
    if len(own) >= _NEAR_WORDS and any(len(own & example) >= _NEAR_SHARE * len(own) for example in examples):
        return "near_example"
    return None


def _fields(prefix: str, text: str) -> dict[str, Any] | None:
    for closing in ("", '"}'):  # the stop rule takes the closing quote away
        try:
            value = json.loads(prefix + text + closing, strict=False)
        except (ValueError, RecursionError):  # ValueError: not JSON, or a number of thousands of digits
            continue
        if isinstance(value, dict):
            return value
    return None


def _cut_off(fields: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Whether a field is as long as decoding lets it be and stops in the middle of a sentence."""
    for name, rule in schema.get("properties", {}).items():
        value = fields.get(name)
        limit = rule.get("maxLength")
        if isinstance(value, str) and limit and len(value) >= limit and not value.endswith(_CLOSERS):
            return True
    return False


def _runs(used: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(used[start : start + length]) for start in range(len(used) - length + 1)}


def _repeats(used: Sequence[str]) -> bool:
    if len(_runs(used, _PHRASE)) < len(used) - _PHRASE + 1:
        return True
    if any(a == b == c for a, b, c in zip(used, used[1:], used[2:])):
        return True
    frequent = Counter(word for word in used if len(word) > 3).most_common(1)
    return bool(frequent) and frequent[0][1] >= 4 and frequent[0][1] > 0.1 * len(used)
