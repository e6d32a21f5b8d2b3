"""What stands above a template: the form of an answer, its decoding, its contract and the examples."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from semacdr.config import Settings, build
from semacdr.errors import InputError, nearest
from semacdr.profiling.kinds import ENGINE_KINDS, KINDS
from semacdr.profiling.language import LANGUAGES

DESCRIPTION = "{{ description }}"


class SamplingSettings(Settings):
    """The decoding part of a front matter; see :class:`~semacdr.profiling.engines.base.Sampling`."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    stop: tuple[str, ...] = ()
    max_sentences: int = 0


class Example(Settings):
    """Invented variables and the answer that they should get.

    ``item`` is short for ``given`` with the one variable ``item``, ``description`` for an ``answer`` of that one field.
    """

    item: dict[str, str] | None = None
    given: dict[str, Any] | None = None
    description: str | None = None
    answer: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Example:
        if (self.item is None) == (self.given is None):
            raise ValueError("an example has either `item` or `given`")
        if (self.description is None) == (self.answer is None):
            raise ValueError("an example has either `description` or `answer`")
        return self

    @property
    def variables(self) -> Mapping[str, Any]:
        """What the template is given."""
        return {"item": self.item} if self.given is None else self.given

    @property
    def fields(self) -> Mapping[str, Any]:
        """The answer's fields."""
        return {"description": self.description} if self.answer is None else self.answer

    @property
    def text(self) -> str:
        """The answer as the model should write it: fields in the order in which a schema is decoded."""
        return json.dumps(self.fields, ensure_ascii=False, sort_keys=True)


class FrontMatter(Settings):
    """What stands above a template."""

    name: str
    version: str
    view: str
    json_schema: dict[str, Any]
    min_words: int
    max_words: int
    forbid: tuple[Literal["domain", "title"], ...]
    given: tuple[str, ...] = ("item",)
    """The variables that the template is given, besides ``kind``."""
    text: str = DESCRIPTION
    """The text of a profile, a template over the answer's fields: this is checked, and this gets embedded."""
    language: str = "en"
    """The language of that text, one of :data:`~semacdr.profiling.language.LANGUAGES`."""
    prefix: str = ""
    """The start of the answer, for models that are not decoded by the schema."""
    structured: bool = False
    """Whether the answer is decoded by the schema; then there is no prefix."""
    sampling: SamplingSettings
    retry: dict[str, float]
    repair: dict[str, str] = Field(default_factory=dict)
    """What a retry adds to the question, by the kind of failure; ``default`` serves all others. Empty: nothing."""
    system: str
    examples: dict[str, tuple[Example, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_names(self) -> FrontMatter:
        SamplingSettings(**{**self.sampling.model_dump(), **self.retry})
        if self.language not in LANGUAGES:
            raise ValueError(f"language {self.language!r}: {nearest(self.language, LANGUAGES)}")
        for kind in self.repair:
            if kind not in {*KINDS, "default"} - {*ENGINE_KINDS}:
                raise ValueError(f"repair of {kind!r}: {nearest(kind, [*KINDS, 'default'])}")
        return self


def read_template(path: Path) -> tuple[FrontMatter, str]:
    """The front matter of a template file and the template below it.

    Raises:
        InputError: no such file, no front matter, or wrong settings in it (all of them in one message).
    """
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError("no such prompt template", where=str(path)) from None
    parts = re.split(r"^---[ \t]*$", source, maxsplit=2, flags=re.MULTILINE)
    if len(parts) != 3 or parts[0].strip():
        raise InputError("a template starts with a front matter between two lines of ---", where=str(path))
    try:
        values = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        raise InputError(f"the front matter is not valid YAML ({error})", where=str(path)) from None
    if not isinstance(values, dict):
        raise InputError("the front matter is not a mapping", where=str(path))
    values["json_schema"] = values.pop("schema", {})  # pydantic keeps `schema` for itself
    return build(FrontMatter, values, str(path)), parts[2]
