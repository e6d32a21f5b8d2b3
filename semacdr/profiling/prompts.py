"""Prompt templates: one versioned ``.j2`` file each, with its schema, decoding and examples in the front matter.

What goes into a template is data: a title that holds template syntax or chat markers stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.sandbox import SandboxedEnvironment

from semacdr.errors import InputError, nearest
from semacdr.files import canonical_json, fingerprint
from semacdr.profiling.engines.base import Message, Request, Sampling
from semacdr.profiling.front_matter import DESCRIPTION, FrontMatter, read_template
from semacdr.profiling.json_schema import schema_faults
from semacdr.profiling.kinds import ENGINE_KINDS
from semacdr.profiling.prompt_data import as_data
from semacdr.profiling.words import content_words, singular, words
from semacdr.resources import prompts_folder

ITEM_VIEWS = ("domain_specific", "domain_agnostic")
DEFAULT_KIND = "item"
_PROBES = ({"title": "any"}, {"description": "any"})  # an item may have no other field


@dataclass(frozen=True)
class Kind:
    """A kind of thing: what one is called, and the words that give the domain away."""

    name: str
    words: tuple[str, ...]


def read_vocabulary(path: Path) -> Any:
    """What a vocabulary file holds, whatever that is.

    Raises:
        InputError: it cannot be read, or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the vocabulary ({error})", where=str(path)) from None


class Vocabulary:
    """``vocabulary.yaml``: the kinds of things, and which domain names hold them."""

    def __init__(self, kinds: Mapping[str, Mapping[str, list[str]]]) -> None:
        self.kinds = kinds

    @classmethod
    def load(cls, path: Path | None = None) -> Vocabulary:
        """Reads the vocabulary that ships with the prompts, or another."""
        path = path or prompts_folder() / "item" / "vocabulary.yaml"
        kinds = read_vocabulary(path)
        if not isinstance(kinds, dict) or not all(
            isinstance(entry, dict) and all(isinstance(entry.get(part), list) for part in ("domains", "words"))
            for entry in kinds.values()
        ):
            raise InputError(
                "not a vocabulary of kinds with domains and words",
                where=str(path),
                fix="semacdr profile lint says what is wrong with it",
            )
        return cls(kinds)

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


ANY = Kind(DEFAULT_KIND, ())
"""The kind where there is nothing to say about it."""


@dataclass(frozen=True)
class Forbidden:
    """The words that a description may not hold, by the reason why."""

    domain: tuple[str, ...] = ()
    title: tuple[str, ...] = ()


class Prompt:
    """A loaded template."""

    def __init__(self, path: Path, front: FrontMatter, template: str) -> None:
        self.path, self.front = path, front
        self._environment = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=False, autoescape=False)
        self._template = self._compile(template.strip(), {*front.given, "kind"})
        self._system = self._compile(front.system, {"kind"})
        self._text = self._compile(front.text, set(front.json_schema.get("required", [])))  # what every answer has
        self.sampling = Sampling(**front.sampling.model_dump())
        self.retry_sampling = Sampling(**{**front.sampling.model_dump(), **front.retry})

    def _compile(self, source: str, given: set[str]) -> Any:
        try:
            asked = meta.find_undeclared_variables(self._environment.parse(source))
            compiled = self._environment.from_string(source)
        except TemplateError as error:
            raise InputError(f"not a valid template ({error})", where=str(self.path)) from None
        for name in sorted(asked - given):
            raise InputError(f"nothing fills the placeholder {name!r}", where=str(self.path), fix=nearest(name, given))
        return compiled

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
        """Hash of what an answer is checked against: schema, limits, forbidden kinds, text, language, repairs."""
        front = self.front
        checks: list[Any] = [front.json_schema, front.min_words, front.max_words, list(front.forbid)]
        if front.text != DESCRIPTION:
            checks.append({"text": front.text})
        if front.language != "en":
            checks.append({"language": front.language})
        if front.repair:
            checks.append({"repair": front.repair})
        return fingerprint(checks)

    @cached_property
    def example_texts(self) -> list[str]:
        """The profile texts of all examples that stand in the prompt."""
        return [self.text_of(example.fields) for examples in self.front.examples.values() for example in examples]

    def text_of(self, fields: Mapping[str, Any]) -> str:
        """The text of a profile, from the fields of an answer that is of the schema."""
        return " ".join(self._render(self._text, fields).split())

    def forbidden(self, variables: Mapping[str, Any], kind: Kind = ANY) -> Forbidden:
        """The words that the text about this subject may not hold; title words are those of the item, if it is one."""
        title = variables.get("item", {}).get("title", "") if "title" in self.front.forbid else ""
        return Forbidden(kind.words if "domain" in self.front.forbid else (), content_words(title))

    def request(self, variables: Mapping[str, Any], kind: Kind = ANY) -> Request:
        """Renders the conversation about one subject: an item, or anything else that the template knows to ask about.

        Args:
            variables: what the front matter calls ``given``; for items ``{"item": fields}`` with the fields from
                :func:`~semacdr.data.item_text.item_fields`. They are data and cleaned as such.
            kind: what the item is; it chooses the examples and stands in the template as ``kind``.

        Raises:
            InputError: the template asks for something that it is not given.
        """
        absent = [name for name in self.front.given if name not in variables]
        if absent:
            raise InputError(f"the template is not given {absent[0]!r}", where=str(self.path))
        examples = self.front.examples.get(kind.name) or self.front.examples.get(DEFAULT_KIND, ())
        turns = [Message("system", self._render(self._system, {"kind": kind.name}))]
        for example in examples:
            turns.append(Message("user", self._render(self._template, {**example.variables, "kind": kind.name})))
            turns.append(Message("assistant", example.text))
        turns.append(Message("user", self._render(self._template, {**as_data(variables), "kind": kind.name})))
        forbidden = self.forbidden(variables, kind)
        return Request(
            messages=tuple(turns),
            prefix=self.front.prefix,
            banned=tuple(sorted({*forbidden.domain, *forbidden.title})),
            schema=canonical_json(self.front.json_schema) if self.front.structured else "",
        )

    def repair(self, failure: str) -> str:
        """What a retry adds to the question, so that the model hears what was wrong; empty for prompts without it."""
        if failure in ("", *ENGINE_KINDS):
            return ""
        return self.front.repair.get(failure, self.front.repair.get("default", ""))

    def _render(self, template: Any, values: Mapping[str, Any]) -> str:
        try:
            return str(template.render(values)).strip()
        except TemplateError as error:
            raise InputError(f"the template cannot be rendered ({error})", where=str(self.path)) from None


def load_prompt(path: Path) -> Prompt:
    """Reads one template file.

    Raises:
        InputError: no such file, no front matter, an unknown key in it, a schema beyond what is checked, an example
            that does not start as the prefix says, or a placeholder that nothing fills.
    """
    front, template = read_template(path)
    found = list(schema_faults(front.json_schema))
    if found:
        raise InputError("\n  ".join(found), where=str(path))
    if front.structured and front.prefix:
        raise InputError("a structured prompt has no prefix: the schema says how the answer starts", where=str(path))
    prompt = Prompt(path, front, template)
    examples = [example for listed in front.examples.values() for example in listed]
    for example in examples:
        if not example.text.startswith(front.prefix):
            raise InputError(f"an example does not start with the prefix {front.prefix!r}", where=str(path))
        prompt.request(example.variables)
        prompt.text_of(example.fields)
    if front.given == ("item",):  # a field that not every item has fails here, not at such an item
        for fields in _PROBES:
            prompt.request({"item": fields})
    return prompt


def shipped_prompt(label: str) -> Prompt | None:
    """The prompt of a label such as ``item/attributes@v1``, if it ships with the package."""
    name, _, version = label.partition("@")
    path = prompts_folder() / name / f"{version}.j2"
    return load_prompt(path) if version and path.is_file() else None


def load_prompts(chosen: list[Path] | None = None, structured: bool = False) -> list[Prompt]:
    """The prompts of the given files or folders; by default the newest version of both item views.

    A folder stands for the template with the highest version in it that suits the engine. What is not found as it is
    named is looked for among the prompts that ship with the package, for example ``item/attributes``.

    Args:
        chosen: template files or folders.
        structured: whether the engine decodes by a schema; without it, structured versions are passed over.

    Raises:
        InputError: a path without a template, or two prompts for one view.
    """
    paths = [_find(path) for path in chosen or [prompts_folder() / "item" / view for view in ITEM_VIEWS]]
    prompts = [load_prompt(path) if path.suffix == ".j2" else _newest(path, structured) for path in paths]
    views = [prompt.view for prompt in prompts]
    for view in views:
        if views.count(view) > 1:
            raise InputError(f"two prompts for the view {view!r}", fix="name one of them")
    return prompts


def _find(path: Path) -> Path:
    shipped = prompts_folder() / path
    return shipped if shipped.exists() and not path.exists() else path


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
