"""Prompt templates: one versioned ``.j2`` file each, with its schema, decoding and examples in the front matter.

What goes into a template is data: a title that holds template syntax or chat markers stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from semacdr.config import Settings, build
from semacdr.data.item_text import cut
from semacdr.errors import InputError, nearest
from semacdr.files import canonical_json, fingerprint
from semacdr.profiling.engines.base import Message, Request, Sampling
from semacdr.profiling.words import content_words, singular, words
from semacdr.resources import prompts_folder

ITEM_VIEWS = ("domain_specific", "domain_agnostic")
DEFAULT_KIND = "item"
_MARKER = re.compile(r"<\|[^|>]*\|?>?")  # <|im_start|> and its like open a new turn in many chat templates
_FIELD_LIMIT = {"title": 200, "description": 500}
_OTHER_LIMIT = 120


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
    """An invented item and the description that it should get."""

    item: dict[str, str]
    description: str


class FrontMatter(Settings):
    """What stands above a template."""

    name: str
    version: str
    view: str
    json_schema: dict[str, Any]
    min_words: int
    max_words: int
    forbid: tuple[Literal["domain", "title"], ...]
    prefix: str = ""
    """The start of the answer, for models that are not decoded by the schema."""
    structured: bool = False
    """Whether the answer is decoded by the schema; then there is no prefix."""
    sampling: SamplingSettings
    retry: dict[str, float]
    system: str
    examples: dict[str, tuple[Example, ...]]


@dataclass(frozen=True)
class Kind:
    """A kind of thing: what one is called, and the words that give the domain away."""

    name: str
    words: tuple[str, ...]


class Vocabulary:
    """``vocabulary.yaml``: the kinds of things, and which domain names hold them."""

    def __init__(self, kinds: Mapping[str, Mapping[str, list[str]]]) -> None:
        self.kinds = kinds

    @classmethod
    def load(cls, path: Path | None = None) -> Vocabulary:
        """Reads the vocabulary that ships with the prompts, or another."""
        path = path or prompts_folder() / "item" / "vocabulary.yaml"
        try:
            return cls(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"cannot read the vocabulary ({error})", where=str(path)) from None

    def check_kind(self, name: str | None) -> None:
        """Raises an :class:`InputError` with the nearest name for a kind that is not listed; ``None`` is fine."""
        if name is not None and name not in {*self.kinds, DEFAULT_KIND}:
            raise InputError(f"no kind {name!r} in the vocabulary", fix=nearest(name, [*self.kinds, DEFAULT_KIND]))

    def kind(self, domain: str, name: str | None = None) -> Kind:
        """The kind of the items of a domain; ``name`` overrules what the domain's name says.

        Raises:
            InputError: no kind of that name.
        """
        plain = domain.lower().replace("_", " ").strip()
        self.check_kind(name)
        found = name or next((kind for kind, entry in self.kinds.items() if plain in entry["domains"]), DEFAULT_KIND)
        own = {singular(word) for word in words(plain) if len(word) > 2 and word != "and"}
        listed = self.kinds[found]["words"] if found in self.kinds else []
        return Kind(found, tuple(sorted(own | set(listed))))


@dataclass(frozen=True)
class Forbidden:
    """The words that a description may not hold, by the reason why."""

    domain: tuple[str, ...] = ()
    title: tuple[str, ...] = ()


class Prompt:
    """A loaded template."""

    def __init__(self, path: Path, front: FrontMatter, template: str) -> None:
        self.path, self.front = path, front
        environment = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=False, autoescape=False)
        try:
            self._template = environment.from_string(template.strip())
            self._system = environment.from_string(front.system)
        except TemplateError as error:
            raise InputError(f"not a valid template ({error})", where=str(path)) from None
        self.sampling = Sampling(**front.sampling.model_dump())
        self.retry_sampling = Sampling(**{**front.sampling.model_dump(), **front.retry})

    @property
    def view(self) -> str:
        """The view that the descriptions make up."""
        return self.front.view

    @property
    def label(self) -> str:
        """Name and version, ``item/domain_specific@v1``."""
        return f"{self.front.name}@{self.front.version}"

    @property
    def checks_fingerprint(self) -> str:
        """Hash of what an answer is checked against: schema, limits, forbidden kinds."""
        front = self.front
        return fingerprint([front.json_schema, front.min_words, front.max_words, list(front.forbid)])

    @property
    def example_texts(self) -> list[str]:
        """All descriptions that stand in the prompt as examples."""
        return [example.description for examples in self.front.examples.values() for example in examples]

    def forbidden(self, fields: Mapping[str, str], kind: Kind) -> Forbidden:
        """The words that the description of this item may not hold."""
        return Forbidden(
            kind.words if "domain" in self.front.forbid else (),
            content_words(fields.get("title", "")) if "title" in self.front.forbid else (),
        )

    def request(self, fields: Mapping[str, str], kind: Kind) -> Request:
        """Renders the conversation for one item.

        Args:
            fields: the item's non-empty text fields, from :func:`~semacdr.data.item_text.item_fields`.
            kind: what the item is.

        Raises:
            InputError: the template asks for something that it is not given.
        """
        examples = self.front.examples.get(kind.name) or self.front.examples.get(DEFAULT_KIND, ())
        turns = [Message("system", self._render(self._system, {}, kind))]
        for example in examples:
            turns.append(Message("user", self._render(self._template, example.item, kind)))
            answer = json.dumps({"description": example.description}, ensure_ascii=False)
            turns.append(Message("assistant", answer))
        turns.append(Message("user", self._render(self._template, _as_data(fields), kind)))
        forbidden = self.forbidden(fields, kind)
        return Request(
            messages=tuple(turns),
            prefix=self.front.prefix,
            banned=tuple(sorted({*forbidden.domain, *forbidden.title})),
            schema=canonical_json(self.front.json_schema) if self.front.structured else "",
        )

    def _render(self, template: Any, item: Mapping[str, str], kind: Kind) -> str:
        try:
            return str(template.render(item=item, kind=kind.name)).strip()
        except TemplateError as error:
            raise InputError(f"the template cannot be rendered ({error})", where=str(self.path)) from None


def _as_data(fields: Mapping[str, str]) -> dict[str, str]:
    cleaned = {name: _MARKER.sub(" ", text).strip() for name, text in fields.items()}
    return {name: cut(text, _FIELD_LIMIT.get(name, _OTHER_LIMIT)) for name, text in cleaned.items() if text}


def load_prompt(path: Path) -> Prompt:
    """Reads one template file.

    Raises:
        InputError: no such file, no front matter, an unknown key in it, an example that does not start as the prefix
            says, or a placeholder that nothing fills.
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
    front = build(FrontMatter, values, str(path))
    if front.structured and front.prefix:
        raise InputError("a structured prompt has no prefix: the schema says how the answer starts", where=str(path))
    for examples in front.examples.values():
        for example in examples:
            answer = json.dumps({"description": example.description}, ensure_ascii=False)
            if not answer.startswith(front.prefix):
                raise InputError(f"an example does not start with the prefix {front.prefix!r}", where=str(path))
    prompt = Prompt(path, front, parts[2])
    prompt.request({"title": "any"}, Kind(DEFAULT_KIND, ()))  # a placeholder that nothing fills fails here, not later
    return prompt


def load_prompts(chosen: list[Path] | None = None, structured: bool = False) -> list[Prompt]:
    """The prompts of the given files or folders; by default the newest version of both item views.

    A folder stands for the template with the highest version in it that suits the engine.

    Args:
        chosen: template files or folders.
        structured: whether the engine decodes by a schema; without it, structured versions are passed over.

    Raises:
        InputError: a path without a template, or two prompts for one view.
    """
    paths = chosen or [prompts_folder() / "item" / view for view in ITEM_VIEWS]
    prompts = [load_prompt(path) if path.suffix == ".j2" else _newest(path, structured) for path in paths]
    views = [prompt.view for prompt in prompts]
    for view in views:
        if views.count(view) > 1:
            raise InputError(f"two prompts for the view {view!r}", fix="name one of them")
    return prompts


def _newest(folder: Path, structured: bool) -> Prompt:
    versions = {int(match[1]): file for file in folder.glob("v*.j2") if (match := re.fullmatch(r"v(\d+)", file.stem))}
    if not versions:
        raise InputError("no template v*.j2 in this folder", where=str(folder), fix="see prompts/item/")
    for version in sorted(versions, reverse=True):
        prompt = load_prompt(versions[version])
        if structured or not prompt.front.structured:
            return prompt
    raise InputError(
        "every template in this folder wants structured output, which this engine does not give",
        where=str(folder),
        fix="--engine vllm or openai, or name a template file",
    )
