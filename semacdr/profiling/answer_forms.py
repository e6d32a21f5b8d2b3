"""What an answer that was made elsewhere is: a text, a JSON object or a list of texts; and how it reads as a text.

Models wrap JSON in fences and remarks, so the first value of the wanted form counts, wherever in the answer it stands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from semacdr.data.item_text import clean

Form = Literal["text", "object", "list"]
FORMS_VERSION = 1
"""Goes up with any change below, so that an import of the same file is read again."""
FORMS: tuple[Form, ...] = ("text", "object", "list")

_OPENING = {"object": "{", "list": "["}
_TRIES = 50  # openings looked at, so that a text of nothing but brackets costs little
_DECODER = json.JSONDecoder(strict=False)  # models write line ends into strings


def as_answer(value: Any) -> str:
    """The answer as it is kept: a text as it stands, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def form_of(answers: Sequence[str]) -> Form:
    """The form that most answers begin with: JSON of one kind, or else text."""
    starts = [answer.lstrip().removeprefix("```json").removeprefix("```").lstrip()[:1] for answer in answers]
    return next((form for form in ("object", "list") if starts.count(_OPENING[form]) > len(starts) / 2), "text")


def find_json(answer: str, form: Literal["object", "list"]) -> dict[str, Any] | list[str] | None:
    """The first object, or the first list of texts, that stands in an answer; ``None`` where there is none."""
    at = -1
    for _ in range(_TRIES):
        at = answer.find(_OPENING[form], at + 1)
        if at < 0:
            return None
        try:
            value = _DECODER.raw_decode(answer, at)[0]
        except (ValueError, RecursionError):
            continue
        if form == "object" or all(isinstance(entry, str) for entry in value):
            return value
    return None


def text_of(answer: str, form: Form) -> str | None:
    """The answer as a profile text, ``None`` where it is not of the form.

    A list becomes one line, entries parted by commas; of an object each field that is not empty becomes a line.
    """
    if form == "text":
        return clean(answer)
    value = find_json(answer, form)
    if value is None:
        return None
    return "\n".join(_lines(value)) if isinstance(value, dict) else clean(value)


def _lines(value: dict[str, Any]) -> list[str]:
    lines = []
    for field in value.values():
        lines += _lines(field) if isinstance(field, dict) else [clean(field)]
    return [line for line in lines if line]
