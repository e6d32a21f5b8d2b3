"""Everything that can be wrong with prompts before a model sees them, as a list; nothing is generated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semacdr.errors import InputError
from semacdr.profiling.json_schema import fault
from semacdr.profiling.prompts import DEFAULT_KIND, Prompt, Vocabulary, load_prompt, read_vocabulary
from semacdr.profiling.validate import contract_fault
from semacdr.profiling.words import words
from semacdr.resources import prompts_folder


def prompt_files(paths: list[Path] | None = None) -> list[Path]:
    """The templates of files and folders; by default all that ship with the package.

    Raises:
        InputError: a path that does not exist, or a folder without a template in it.
    """
    files = []
    for path in paths or [prompts_folder()]:
        found = sorted(path.rglob("*.j2")) if path.is_dir() else [path] if path.is_file() else []
        if not found:
            raise InputError("no template here", where=str(path), fix="a file v*.j2, or a folder with such files")
        files += found
    return files


def lint(files: list[Path], vocabulary_file: Path | None = None) -> list[dict[str, str]]:
    """All findings in some templates and the vocabulary, each with its file."""
    vocabulary_file = vocabulary_file or prompts_folder() / "item" / "vocabulary.yaml"
    found = [(vocabulary_file, fault) for fault in vocabulary_faults(vocabulary_file)]
    vocabulary = None if found else Vocabulary.load(vocabulary_file)
    for file in files:
        try:
            prompt = load_prompt(file)
        except InputError as error:
            found.append((file, error.what))
            continue
        found += [(file, fault) for fault in prompt_faults(prompt, vocabulary)]
    return [{"file": str(file), "finding": finding} for file, finding in found]


def prompt_faults(prompt: Prompt, vocabulary: Vocabulary | None) -> Iterator[str]:
    """What is wrong with a template that can be loaded."""
    front = prompt.front
    if front.version != prompt.path.stem:
        yield f"version {front.version!r}, but the file is {prompt.path.name}: answers could not be told apart by it"
    if not 0 < front.min_words < front.max_words:
        yield f"min_words {front.min_words} and max_words {front.max_words} leave no room"
    if not front.name.endswith(prompt.path.parent.name):
        yield f"name {front.name!r}, but the folder is {prompt.path.parent.name!r}"
    yield from _form_faults(prompt)
    if front.repair and "default" not in front.repair:
        yield "repair has no default: a retry after any other failure would not say what was wrong"
    if not front.examples:
        yield "no examples"
    elif vocabulary is not None and DEFAULT_KIND not in front.examples:
        yield f"no examples for the kind {DEFAULT_KIND!r}, which serves every kind without its own"
    for kind, examples in front.examples.items():
        if vocabulary is not None and kind not in {*vocabulary.kinds, DEFAULT_KIND}:
            yield f"examples for {kind!r}, which is no kind in the vocabulary"
            continue
        of = vocabulary.kind(kind, kind) if vocabulary else None
        for number, example in enumerate(examples, start=1):
            where = f"example {number} of {kind}"
            text = prompt.text_of(example.fields)
            broken = fault(dict(example.fields), front.json_schema)
            if broken:
                yield f"{where}: {broken}"
            forbidden = prompt.forbidden(example.variables, of) if of else prompt.forbidden(example.variables)
            broken = contract_fault(text, words(text), prompt, forbidden)
            if broken:
                yield f"{where} breaks the contract ({broken}): {text}"
            if len(example.text) > front.sampling.max_new_tokens * 5:
                yield f"{where} is longer than max_new_tokens lets an answer be"


def _form_faults(prompt: Prompt) -> Iterator[str]:
    """Begun answers and structured ones each have rules of their own."""
    front = prompt.front
    if front.structured:
        if front.sampling.stop or front.sampling.max_sentences:
            yield "a structured answer ends where its schema says: no stop, no max_sentences"
        if front.json_schema.get("additionalProperties", True) is not False:
            yield "a structured schema needs additionalProperties: false; some servers refuse it otherwise"
        absent = sorted(set(front.json_schema.get("properties", {})) - set(front.json_schema.get("required", [])))
        if absent:
            yield f"a structured schema requires all its properties; not so: {', '.join(absent)}"
        yield from _open_strings(front.json_schema, "schema")
    elif not front.prefix:
        yield "neither structured nor a prefix: a model is not held to JSON"
    elif not re.match(r'\{"\w+": "', front.prefix):
        yield f"the prefix {front.prefix!r} does not begin a JSON object with a text in it"
    elif '"' not in front.sampling.stop:
        yield "an answer that is begun for the model needs the stop '\"', which closes its text"


def _open_strings(schema: dict[str, Any], where: str) -> Iterator[str]:
    if schema["type"] == "string" and not ("maxLength" in schema or "enum" in schema):
        yield f"{where}: a text without maxLength can run into max_new_tokens, and then nothing of it can be read"
    if schema["type"] == "array" and "maxItems" not in schema:
        yield f"{where}: a list without maxItems can run into max_new_tokens"
    for name, below in schema.get("properties", {}).items():
        yield from _open_strings(below, f"{where}.{name}")
    if "items" in schema:
        yield from _open_strings(schema["items"], f"{where}[]")


def vocabulary_faults(path: Path) -> Iterator[str]:
    """What is wrong with a vocabulary."""
    try:
        kinds = read_vocabulary(path)
    except InputError as error:
        yield error.what
        return
    if not isinstance(kinds, dict):
        yield "not a mapping of kinds"
        return
    owners: dict[str, str] = {}
    for kind, entry in kinds.items():
        if not isinstance(entry, dict) or set(entry) != {"domains", "words"}:
            yield f"{kind}: needs domains and words, and nothing else"
            continue
        for part in ("domains", "words"):
            listed = entry[part]
            if not isinstance(listed, list) or not all(isinstance(word, str) and word for word in listed):
                yield f"{kind}: {part} is not a list of words"
                break
            for word in listed:
                if word != word.lower():
                    yield f"{kind}: {word!r} is not in lower case, so it would never be found"
                if listed.count(word) > 1:
                    yield f"{kind}: {word!r} stands in {part} {listed.count(word)} times"
        else:
            for domain in entry["domains"]:
                if owners.setdefault(domain, kind) != kind:
                    yield f"the domain {domain!r} belongs to {owners[domain]} and to {kind}"
